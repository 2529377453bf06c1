"""Raw frames of a video in, raw frames out: one after the other, in the memory of a few."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from restorecli.engine.chain import Chain
from restorecli.errors import InputError
from restorecli.images import Photo

FORMATS: dict[str, np.dtype[Any]] = {
    "rgb24": np.dtype("u1"),
    "rgb48le": np.dtype("<u2"),
}  # of ffmpeg, to types of values
Read = Callable[[memoryview], int]  # fills it as far as there is something, 0 at the end
Write = Callable[[bytes], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """What raw frames are like, which nothing in them says."""

    size: tuple[int, int]  # (height, width) in pixels
    pix_fmt: str = "rgb24"

    @property
    def size_bytes(self) -> int:
        """Of one frame."""
        return 3 * self.size[0] * self.size[1] * FORMATS[self.pix_fmt].itemsize

    def photo(self, data: bytearray) -> Photo:
        """A frame as a photograph."""
        values = np.frombuffer(data, FORMATS[self.pix_fmt]).reshape(*self.size, 3)
        return Photo(pixels=values.astype(values.dtype.newbyteorder("="), copy=False))

    def data(self, photo: Photo) -> bytes:
        """A photograph as a frame."""
        return photo.pixels.astype(FORMATS[self.pix_fmt], copy=False).tobytes()


@dataclass(slots=True)
class Progress:
    """How many frames there have been, and since when."""

    count: int = 0
    started_s: float = 0.0

    @property
    def elapsed_s(self) -> float:
        """Since the first frame began to be restored."""
        return time.perf_counter() - self.started_s if self.started_s else 0.0

    @property
    def fps(self) -> float:
        """Frames in a second, on average."""
        return self.count / self.elapsed_s if self.count else 0.0


def restore_frames(
    chain: Chain,
    frames: Frames,
    read: Read,
    write: Write,
    on_frame: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Restore frames until there are no more; each as a picture of its own.

    While one is restored the next is read and the last is written: at most three are held.

    Args:
        chain: The networks.
        frames: What the frames are like.
        read: As of a raw stream.
        write: Takes a whole frame.
        on_frame: Told after each frame.

    Raises ``InputError`` when no frame comes, or when the last one is cut off; all before it are
    written then.
    """
    coming = _Ahead(read, frames.size_bytes)
    progress = Progress()
    behind: Future[None] | None = None
    with ThreadPoolExecutor(1, "write") as writer:
        while len(data := coming.take()) == frames.size_bytes:
            progress.started_s = progress.started_s or time.perf_counter()
            photo, _ = chain.restore(frames.photo(data))
            if behind is not None:
                behind.result()
            behind = writer.submit(write, frames.data(photo))
            progress.count += 1
            on_frame(progress)
        if behind is not None:
            behind.result()
    if data:
        raise InputError(
            f"The last frame is cut off: {len(data):,} of {frames.size_bytes:,} bytes came, after "
            f"{progress.count} whole frame(s), which were written.",
            hint="Do -s and --pix-fmt say what comes in?",
        )
    if not progress.count:
        raise InputError(
            "No frame came on standard input.",
            hint="Pipe them into it: ffmpeg -i in.mp4 -f rawvideo -pix_fmt rgb24 - | restore …",
        )
    return progress


class _Ahead:
    """A thread that reads the next frame; it ends with the process, whatever it waits for."""

    def __init__(self, read: Read, size_bytes: int) -> None:
        self._read, self._size_bytes = read, size_bytes
        self._wanted: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._found: queue.SimpleQueue[bytearray | BaseException] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="read", daemon=True).start()
        self._wanted.put(None)

    def take(self) -> bytearray:
        """The next frame, or what there is of it; the one after it begins to be read."""
        found = self._found.get()
        if isinstance(found, BaseException):
            raise found
        if len(found) == self._size_bytes:
            self._wanted.put(None)
        return found

    def _work(self) -> None:
        while True:
            self._wanted.get()
            try:
                data = bytearray(self._size_bytes)
                view, filled = memoryview(data), 0
                while filled < self._size_bytes and (count := self._read(view[filled:])):
                    filled += count
                view.release()
                self._found.put(data if filled == self._size_bytes else data[:filled])
            except BaseException as error:
                self._found.put(error)
                return
