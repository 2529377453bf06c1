"""The photographs on the page, and what has become of each: one lock, one number that counts up.

Every tab shows the same album. Threads of the server and of the worker change it through its
methods only.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from restorecli.errors import UsageError
from restorecli.report import Row
from restorecli.report.words import printable
from restorecli.serve.finding import Finding
from restorecli.serve.settings import Wish

RunState = Literal["waiting", "working", "done", "failed", "cancelled"]
OPEN: tuple[RunState, ...] = ("waiting", "working")


@dataclass(slots=True, kw_only=True, eq=False)
class Shown:
    """What a browser shows of a picture."""

    path: Path | None = None
    reduced: bool = False  # a smaller copy, as browsers do not know the format


@dataclass(slots=True, kw_only=True, eq=False)
class Run:
    """One way to restore a photograph: what was wished, and what came of it."""

    photo: Upload
    wish: Wish
    id: str = field(default_factory=lambda: secrets.token_hex(6))
    state: RunState = "waiting"
    share: float = 0.0  # of the network's work
    started_s: float = 0.0
    elapsed_s: float | None = None
    result: Path | None = None
    shown: Shown = field(default_factory=Shown)
    finding: Finding | None = None  # where nothing was wished for but to check
    notes: tuple[str, ...] = ()
    error: str = ""

    def data(self) -> dict[str, Any]:
        """For the page."""
        elapsed_s = self.elapsed_s
        if self.state == "working":
            elapsed_s = time.monotonic() - self.started_s
        return {
            "id": self.id,
            "tasks": self.wish.tasks,
            "models": self.wish.models,
            "strength": self.wish.strength,
            "state": self.state,
            "share": round(self.share, 3),
            "elapsed": None if elapsed_s is None else round(elapsed_s, 1),
            "file": printable(self.result.name) if self.result else None,
            "reduced": self.shown.reduced,
            "shown": self.shown.path is not None,
            "finding": self.finding.data() if self.finding else None,
            "notes": [printable(note) for note in self.notes],
            "error": printable(self.error),
        }


@dataclass(slots=True, kw_only=True, eq=False)
class Upload:
    """A photograph that came from a browser."""

    name: str
    place: Path  # of all uploads
    id: str = field(default_factory=lambda: secrets.token_hex(6))
    size_bytes: int = 0
    size: tuple[int, int] | None = None  # height, width
    looked_at: bool = False
    thumbnail: Path | None = None
    shown: Shown = field(default_factory=Shown)
    runs: list[Run] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """Of its own, for the original and its copies."""
        return self.place / self.id

    @property
    def path(self) -> Path:
        """The original."""
        return self.folder / self.name

    def told(self, text: str) -> str:
        """``text`` that speaks of the photograph by the name it came with."""
        return text.replace(str(self.path), self.name)

    def data(self) -> dict[str, Any]:
        """For the page."""
        height, width = self.size or (None, None)
        return {
            "id": self.id,
            "name": printable(self.name),
            "bytes": self.size_bytes,
            "width": width,
            "height": height,
            "thumbnail": self.thumbnail is not None,
            "shown": self.shown.path is not None,
            "reduced": self.shown.reduced,
            "runs": [run.data() for run in self.runs],
        }


class Album:
    """All photographs of the page, in the order they came."""

    def __init__(self, uploads: Path, *, most: int) -> None:
        self._uploads = uploads
        self._most = most
        self._photos: dict[str, Upload] = {}
        self._coming: set[Upload] = set()  # whose bytes are being received
        self._queue: deque[Run] = deque()  # in the order in which they will be done
        self._changed = threading.Condition()
        self._version = 1
        self._ended = False

    # ---- what the server does

    def receive(self, name: str) -> Upload:
        """Room for a photograph that is about to come; ``UsageError`` if the page is full."""
        with self._changed:
            if len(self._photos) + len(self._coming) >= self._most:
                raise UsageError(
                    f"There are {self._most} photographs on the page, which is its limit.",
                    hint="Remove some, or begin with a larger --max-files.",
                )
            photo = Upload(name=name, place=self._uploads)
            self._coming.add(photo)
            return photo

    def give_up(self, photo: Upload) -> None:
        """What was to come does not come, or is of no use."""
        with self._changed:
            self._coming.discard(photo)

    def add(self, photo: Upload, wish: Wish | None) -> None:
        """The photograph has come."""
        with self._changed:
            self._coming.discard(photo)
            self._photos[photo.id] = photo
            if wish is not None:
                self._append(photo, wish)
            self._tell()

    def again(self, photo: Upload, wish: Wish) -> Run:
        """Restore a photograph once more; the same wish twice is one run."""
        with self._changed:
            for run in photo.runs:
                if run.wish == wish and run.state in {*OPEN, "done"}:
                    return run
            run = self._append(photo, wish)
            self._tell()
            return run

    def _append(self, photo: Upload, wish: Wish) -> Run:
        run = Run(photo=photo, wish=wish)
        photo.runs.append(run)
        self._queue.append(run)
        return run

    def cancel(self, runs: list[Run]) -> None:
        """End these runs, as far as they are not done."""
        with self._changed:
            for run in runs:
                if run.state in OPEN:
                    run.state = "cancelled"  # the worker sees it, if it is at work on it
            self._tell()

    def remove(self, photo: Upload) -> None:
        """Take a photograph from the page. Its results stay where they are."""
        self.cancel(photo.runs)
        with self._changed:
            self._photos.pop(photo.id, None)
            self._tell()

    def photo(self, photo_id: str) -> Upload | None:
        """The photograph of this id."""
        with self._changed:
            return self._photos.get(photo_id)

    def photos(self) -> list[Upload]:
        """All of them."""
        with self._changed:
            return list(self._photos.values())

    def run(self, run_id: str) -> Run | None:
        """The run of this id."""
        return next((run for run in self.runs() if run.id == run_id), None)

    def runs(self) -> list[Run]:
        """All runs of all photographs."""
        with self._changed:
            return [run for photo in self._photos.values() for run in photo.runs]

    def snapshot(self, since: int) -> dict[str, Any] | None:
        """All that a tab shows; ``None`` if nothing has changed since it had number ``since``."""
        with self._changed:
            if since == self._version:
                return None
            photos = [photo.data() for photo in self._photos.values()]
            return {"version": self._version, "photos": photos}

    # ---- what the worker does

    def next_run(self) -> Run | None:
        """The run that has waited longest, which now is at work; ``None`` when all ends."""
        with self._changed:
            while not self._ended:
                while self._queue:
                    run = self._queue.popleft()
                    if run.state == "waiting":
                        run.state, run.started_s = "working", time.monotonic()
                        self._tell()
                        return run
                self._changed.wait()
            return None

    def advance(self, run: Run, share: float) -> bool:
        """``share`` more of ``run`` is done; whether it is still wanted."""
        with self._changed:
            run.share = min(1.0, run.share + share)
            self._version += 1
            return run.state == "working" and not self._ended

    def finish(self, run: Run, row: Row, shown: Shown) -> None:
        """``run`` has come to its end: a result, or why there is none."""
        with self._changed:
            run.elapsed_s = time.monotonic() - run.started_s
            if row.status == "ok" and row.output:
                run.state, run.share = "done", 1.0
                run.result, run.shown, run.notes = Path(row.output), shown, row.notes
                if row.height_px and row.width_px:
                    run.photo.size = (row.height_px, row.width_px)
            else:
                run.state, run.error = "failed", row.error or "It failed."
            self._tell()

    def tell(self, run: Run, finding: Finding) -> None:
        """``run`` has found out what is wrong."""
        with self._changed:
            run.elapsed_s = time.monotonic() - run.started_s
            run.state, run.share, run.finding = "done", 1.0, finding
            self._tell()

    def change(self, how: Callable[[], None]) -> None:
        """Do ``how`` while nobody else reads or changes anything."""
        with self._changed:
            how()
            self._tell()

    def end(self) -> list[Run]:
        """Nothing is begun any more; the runs that are cut off."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
            return [run for run in self.runs() if run.state in OPEN]

    def _tell(self) -> None:
        self._version += 1
        self._changed.notify_all()
