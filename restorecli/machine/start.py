"""A shorter start: what torch prepares for its compiler is left out of a command that runs once.

Importing torch takes half of a short command, and a quarter of that goes into Python functions that
tell the shapes of results without computing them. Only the compiler and its kin ask for them.
"""

from __future__ import annotations

import sys
from types import ModuleType

# Modules that register such functions when torch imports them, and that offer nothing else.
FOR_THE_COMPILER = ("torch._meta_registrations", "torch.distributed._meta_registrations")


def leave_out_what_compiles() -> None:
    """Let the coming import of torch pass over `FOR_THE_COMPILER`, for this process.

    For a command only: a program that uses us as a library may want to compile.
    """
    if "torch" not in sys.modules:
        for name in FOR_THE_COMPILER:
            sys.modules.setdefault(name, ModuleType(name))
