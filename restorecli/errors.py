"""Every failure a user can act on, and the exit code it maps to.

      0  success                          RestoreError
      1  some inputs failed, the others   ├── OutputError    2  results cannot be written there
         are done                         ├── UsageError     2  options that contradict or misfit
      2  usage, or colliding outputs      ├── InputError     3  no usable image
    130  interrupted                      ├── WeightsError   4  unknown, corrupt or unfit checkpoint
                                          ├── DeviceError    5  no such device, or out of memory
                                          └── QualityError   6  a score is below --fail-under

Anything else is a bug in restorecli: it keeps its traceback.
"""

from __future__ import annotations

from typing import ClassVar

EXIT_OK = 0
EXIT_SOME_FAILED = 1
EXIT_INTERRUPTED = 130
EXIT_CODES = {  # as help and documentation say them
    0: "done",
    1: "some pictures failed, the others are done",
    2: "usage, settings, or results that cannot be written",
    3: "no usable picture",
    4: "a network is unknown, missing or damaged",
    5: "no such device, or too little memory",
    6: "a score is below --fail-under",
    130: "interrupted",
}


class RestoreError(Exception):
    """A failure with one sentence for the user and, if there is one, what to do about it."""

    exit_code: ClassVar[int] = EXIT_SOME_FAILED

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def message(self) -> str:
        """What went wrong, where, and what was expected."""
        return str(self.args[0])

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


class UsageError(RestoreError):
    """Options that contradict each other or have an impossible value."""

    exit_code = 2


class OutputError(RestoreError):
    """A result cannot be written where it should go."""

    exit_code = 2


class InputError(RestoreError):
    """An input is missing, unreadable or not an image."""

    exit_code = 3


class WeightsError(RestoreError):
    """A checkpoint is unknown, missing, corrupt or does not fit its network."""

    exit_code = 4


class DeviceError(RestoreError):
    """The device does not exist or has too little memory."""

    exit_code = 5


class QualityError(RestoreError):
    """A score is below what was asked for."""

    exit_code = 6
