"""The standard streams: they never end a run by what they cannot show, and closed ones are told."""

from __future__ import annotations

import codecs
import io
import os
import signal
import sys
from contextlib import suppress
from typing import Any

from restorecli.errors import InputError, OutputError

SHOWABLE = "restorecli.showable"
LOOK_ALIKES = {
    "→": "->", "∞": "inf", "−": "-", "–": "-", "—": "-", "×": "x", "…": "...", "·": "|",
    "≥": ">=", "≤": "<=", "²": "^2", "³": "^3", "Δ": "D", "“": '"', "”": '"', "’": "'",
}  # fmt: skip


def prepare() -> None:
    """Make the streams of this process safe to use. To be called before anything is written.

    Characters that a stream's encoding does not have become look-alikes, or escapes. In the place
    of a closed stream is one that says so when it is needed (standard input and output), or that
    says nothing (standard error).
    """
    codecs.register_error(SHOWABLE, _replaced)
    _fill_descriptors()
    if sys.stdin is None:
        sys.stdin = _ClosedInput()
    if sys.stdout is None:
        sys.stdout = _ClosedOutput()
    elif type(sys.stdout) is io.TextIOWrapper:
        sys.stdout = _again(sys.stdout, _Output)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 (to the end)
    elif type(sys.stderr) is io.TextIOWrapper:
        sys.stderr = _again(sys.stderr, _Words)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=SHOWABLE)


def end_as_interrupted() -> None:
    """Let SIGTERM and SIGHUP, which a closed terminal sends, end a run as Ctrl-C does.

    What is ignored stays ignored: ``nohup`` asks for it.
    """
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def read_input() -> bytes:
    """All of standard input; ``InputError`` when it is closed or cannot be read."""
    try:
        return sys.stdin.buffer.read()
    except OSError as error:
        raise InputError(
            f"Cannot read standard input: {error.strerror or error}.",
            hint="Pipe a picture into it, or name files instead of -.",
        ) from error


def read_into(view: memoryview) -> int:
    """Fill ``view`` from standard input as far as something is there: its bytes, 0 at the end.

    Raises ``InputError`` when it is closed or cannot be read.
    """
    buffer: Any = sys.stdin.buffer
    source: Any = getattr(
        buffer, "raw", buffer
    )  # a thread that waits in it holds no lock of Python's
    try:
        return int(source.readinto(view))
    except OSError as error:
        raise InputError(f"Cannot read standard input: {error.strerror or error}.") from error


def write_output(data: bytes) -> None:
    """``data`` to standard output, at once; ``OutputError`` when it cannot be written there."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # its reader has seen enough
        raise
    except OSError as error:
        raise _cannot_write(error) from error


def check_output() -> None:
    """Raise ``OutputError`` if standard output is closed; to be asked before any work."""
    if isinstance(sys.stdout, _ClosedOutput):
        sys.stdout.write("")


def input_is_a_terminal() -> bool:
    """Whether a person would have to type what is read from standard input."""
    return sys.stdin.isatty()


def output_is_a_terminal() -> bool:
    """Whether a person would see what is written to standard output."""
    is_terminal = getattr(sys.stdout, "isatty", None)
    return is_terminal is not None and bool(is_terminal())


def finish() -> None:
    """Write what waits to be written; ``OutputError`` if that is not possible."""
    if not isinstance(sys.stdout, _ClosedOutput):
        sys.stdout.flush()


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that an encoding does not have."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    shown = [
        LOOK_ALIKES.get(character) or character.encode("ascii", "backslashreplace").decode()
        for character in characters
    ]
    return "".join(shown), error.end


def _fill_descriptors() -> None:
    """Let no file that is opened get the number of a closed standard stream."""
    opened = os.open(os.devnull, os.O_RDWR)
    while opened <= 2:
        opened = os.open(os.devnull, os.O_RDWR)
    os.close(opened)


def _cannot_write(error: OSError) -> OutputError:
    _send_away(1)
    return OutputError(
        f"Cannot write to standard output: {error.strerror or error}.",
        hint="Is its disk full?",
    )


def _send_away(descriptor: int) -> None:
    """Let what else is written to ``descriptor`` vanish: the end of Python flushes once more."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def _again(stream: io.TextIOWrapper, kind: type[io.TextIOWrapper]) -> io.TextIOWrapper:
    """The same stream with manners of ``kind``."""
    stream.flush()
    encoding, buffering = stream.encoding, stream.line_buffering
    return kind(stream.detach(), encoding=encoding, line_buffering=buffering)


class _Output(io.TextIOWrapper):
    """Standard output: what it cannot take is a failure that a user can act on."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _cannot_write(error) from error

    def flush(self) -> None:
        try:
            super().flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _cannot_write(error) from error


class _Words(io.TextIOWrapper):
    """Standard error: when nobody can read it any more, as after a hang-up, work goes on."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            _send_away(2)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            _send_away(2)


class _ClosedInput(io.StringIO):
    """Standard input that was closed when the command began."""

    @property
    def buffer(self) -> io.BufferedReader:
        raise InputError(
            "Standard input is closed: nothing can be read from it.",
            hint="Pipe a picture into it, or name files instead of -.",
        )


class _ClosedOutput(io.StringIO):
    """Standard output that was closed when the command began."""

    def write(self, text: str) -> int:
        raise self._refusal()

    @property
    def buffer(self) -> io.BufferedWriter:
        raise self._refusal()

    @staticmethod
    def _refusal() -> OutputError:
        return OutputError(
            "Standard output is closed: the answer cannot be written to it.",
            hint="Leave out >&-, or name a file with -o or --report.",
        )
