"""What a PyTorch file would do when it is loaded, found out before anything of it is.

PyTorch's restricted unpickler runs nothing, but it builds what it is told to: a few hundred bytes
can describe a key whose hash takes years, or a storage of terabytes. Here the instructions are
followed with stand-ins for what they would make.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

MOST_BYTES = 2**22  # of instructions; a published checkpoint has 300 kB at most
MOST_RECORDS = 20_000
OLD_FORMAT_PARTS = 5  # magic number, version, system, content, names of storages
PLAIN_CALLS = {
    "collections OrderedDict",
    "torch Size",
    "torch device",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
}
SCALARS = {
    "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4",
    "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING",
    "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
MARK: Final = object()
MADE: Final = object()  # a list, a table, a tensor or a storage


@dataclass(frozen=True, slots=True)
class Named:
    """Something that the file names instead of holding it."""

    name: str


def refuse_hostile(data: bytes) -> None:
    """Raise ``ValueError`` or ``UnpicklingError`` unless ``data`` can be loaded in measure.

    Keys of tables are strings or numbers, storages hold no more than the file, nothing unfolds.
    """
    if data[:2] == b"PK":
        for instructions in _of_archive(data):
            _Follower(most_values=len(data)).follow(io.BytesIO(instructions))
        return
    if data[257:262] == b"ustar":
        raise pickle.UnpicklingError("a tar archive")
    stream = io.BytesIO(data)
    follower = _Follower(most_values=len(data))
    for _ in range(OLD_FORMAT_PARTS):
        follower.follow(stream)


def _of_archive(data: bytes) -> list[bytes]:
    """Instructions in a zip archive, whose records could unfold to any size."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        records = archive.infolist()
        if any(record.compress_type != zipfile.ZIP_STORED for record in records):
            raise ValueError("its records are compressed, which PyTorch never does")
        if len(records) > MOST_RECORDS or sum(r.file_size for r in records) > len(data):
            raise ValueError("its records claim more than the file holds")
        found = [record for record in records if record.filename.endswith(".pkl")]
        if any(record.file_size > MOST_BYTES for record in found):
            raise ValueError("it has more instructions than any checkpoint needs")
        return [archive.read(record) for record in found]


@dataclass(slots=True)
class _Follower:
    """The stack and the memory of an unpickler, with stand-ins."""

    most_values: int  # that all storages together may claim
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    storages: dict[str, int] = field(default_factory=dict)

    def follow(self, stream: io.BytesIO) -> None:
        """Follow the instructions from here to their end."""
        self.stack, self.memo = [], {}
        begun = stream.tell()
        try:
            for opcode, argument, _ in pickletools.genops(stream):
                if stream.tell() - begun > MOST_BYTES:
                    raise ValueError("it has more instructions than any checkpoint needs")
                self._step(opcode.name, argument)
        except (IndexError, KeyError, TypeError, UnicodeDecodeError) as error:
            raise pickle.UnpicklingError("its instructions are damaged") from error

    def _step(self, name: str, argument: Any) -> None:
        if name in SCALARS:
            self.stack.append(CONSTANTS.get(name, argument))
        elif name in TUPLES:
            count = TUPLES[name]
            self.stack[len(self.stack) - count :] = [tuple(self._last(count))]
        elif name in {"BINGET", "LONG_BINGET", "GET"}:
            self.stack.append(self.memo[int(argument)])
        elif name in {"BINPUT", "LONG_BINPUT", "PUT"}:
            self.memo[int(argument)] = self.stack[-1]
        elif name not in {"PROTO", "FRAME", "STOP"}:
            STEPS.get(name, _Follower.refuse)(self, argument)

    def refuse(self, argument: Any) -> None:
        """An instruction that no file of plain tensors needs."""
        raise pickle.UnpicklingError("not made of plain tensors")

    def mark(self, argument: Any) -> None:
        """Remember this height of the stack."""
        self.stack.append(MARK)

    def memoize(self, argument: Any) -> None:
        """Remember the last value under the next number."""
        self.memo[len(self.memo)] = self.stack[-1]

    def make(self, argument: Any) -> None:
        """An empty list or table."""
        self.stack.append(MADE)

    def name(self, argument: Any) -> None:
        """Something outside the file."""
        self.stack.append(Named(str(argument)))

    def name_on_stack(self, argument: Any) -> None:
        """The same, from two strings."""
        module, name = self._pop(2)
        self.stack.append(Named(f"{module} {name}"))

    def tuple_of_marked(self, argument: Any) -> None:
        """What came since the last mark, as a tuple."""
        self.stack.append(tuple(self._since_mark()))

    def list_of_marked(self, argument: Any) -> None:
        """The same as a list."""
        self._since_mark()
        self.stack.append(MADE)

    def table_of_marked(self, argument: Any) -> None:
        """The same as a table of keys and values."""
        self._check_keys(self._since_mark()[::2])
        self.stack.append(MADE)

    def drop(self, argument: Any) -> None:
        """Forget the last value, which a list or an object takes."""
        self._pop(1)

    def drop_marked(self, argument: Any) -> None:
        """Forget what came since the last mark."""
        self._since_mark()

    def set_item(self, argument: Any) -> None:
        """A key and its value into a table."""
        self._check_keys(self._pop(2)[:1])

    def set_items(self, argument: Any) -> None:
        """Several of them."""
        self._check_keys(self._since_mark()[::2])

    def call(self, argument: Any) -> None:
        """Call something named with a tuple of arguments."""
        called, arguments = self._pop(2)
        name = called.name if isinstance(called, Named) else "what is in it"
        if name not in PLAIN_CALLS:
            raise pickle.UnpicklingError(f"GLOBAL {name.replace(' ', '.')} is called")
        if name == "collections OrderedDict" and (arguments is MADE or len(arguments)):
            raise pickle.UnpicklingError("a table is made at once")
        self.stack.append(MADE)

    def storage(self, argument: Any) -> None:
        """Values that lie elsewhere in the file: of which kind, where, and how many."""
        (reference,) = self._pop(1)
        if not (isinstance(reference, tuple) and len(reference) >= 5 and reference[0] == "storage"):
            raise pickle.UnpicklingError("a reference that is no storage")
        key, count = reference[2], reference[4]
        if not isinstance(key, str) or not isinstance(count, int):
            raise pickle.UnpicklingError("a storage without a name or a size")
        self.storages[key] = max(count, self.storages.get(key, 0))
        if count < 0 or sum(self.storages.values()) > self.most_values:
            raise ValueError("its tensors claim more values than the file holds")
        self.stack.append(MADE)

    def _last(self, count: int) -> list[Any]:
        if count > len(self.stack):
            raise IndexError
        return self.stack[len(self.stack) - count :]

    def _pop(self, count: int) -> list[Any]:
        values = self._last(count)
        del self.stack[len(self.stack) - count :]
        return values

    def _since_mark(self) -> list[Any]:
        values = []
        while (value := self.stack.pop()) is not MARK:
            values.append(value)
        return values[::-1]

    @staticmethod
    def _check_keys(keys: list[Any]) -> None:
        if not all(isinstance(key, (str, int, float)) for key in keys):
            raise ValueError("its keys are no strings")


STEPS: dict[str, Callable[[_Follower, Any], None]] = {
    "MARK": _Follower.mark,
    "MEMOIZE": _Follower.memoize,
    "EMPTY_LIST": _Follower.make,
    "EMPTY_DICT": _Follower.make,
    "GLOBAL": _Follower.name,
    "STACK_GLOBAL": _Follower.name_on_stack,
    "TUPLE": _Follower.tuple_of_marked,
    "LIST": _Follower.list_of_marked,
    "DICT": _Follower.table_of_marked,
    "POP": _Follower.drop,
    "POP_MARK": _Follower.drop_marked,
    "APPEND": _Follower.drop,
    "APPENDS": _Follower.drop_marked,
    "BUILD": _Follower.drop,
    "SETITEM": _Follower.set_item,
    "SETITEMS": _Follower.set_items,
    "REDUCE": _Follower.call,
    "BINPERSID": _Follower.storage,
}
