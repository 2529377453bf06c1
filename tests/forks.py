"""The command in a fork of the test: everything is loaded already, and surroundings can be odd."""

from __future__ import annotations

import os
import sys
import traceback
from dataclasses import dataclass

from restorecli import cli as command_line


@dataclass
class Ended:
    code: int
    out: bytes
    err: str


def forked(folder, *arguments, before=lambda: None, encoding="utf-8", closed=(), output=None):
    """Run the command in ``folder`` and say how it ended.

    ``before`` runs in the fork; streams with the numbers in ``closed`` are closed; standard output
    goes to the path ``output`` if one is given.
    """
    names = [folder / f".{number}" for number in (1, 2)]
    for name in names:
        name.write_bytes(b"")
        name.chmod(0o666)
    process_id = os.fork()
    if process_id == 0:
        code = 99
        try:
            os.chdir(folder)
            _redirect(names, encoding, closed, output)
            before()
            sys.argv = ["restore", *map(str, arguments)]
            command_line.main()
        except SystemExit as ended:
            code = ended.code or 0
        except BaseException:
            with names[1].open("a") as file:
                traceback.print_exc(file=file)
        finally:
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except Exception as error:
                    names[1].open("a").write(f"Exception ignored at the end: {error}")
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1])
    out, err = (name.read_bytes() for name in names)
    said = err.decode(encoding)
    assert "Traceback" not in said, said
    assert "Exception ignored" not in said, said
    return Ended(code, out, said)


def _redirect(names, encoding, closed, output):
    for number, name in ((1, output or names[0]), (2, names[1])):
        descriptor = os.open(name, os.O_WRONLY)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding=encoding, closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding=encoding, closefd=False)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if number in closed:
            os.close(number)
            setattr(sys, name, None)


def become_a_stranger(**variables):
    """Be a user that the system does not know, with nothing but ``variables``."""
    os.setgroups([])
    os.setgid(54_321)
    os.setuid(54_321)
    os.environ.clear()
    os.environ.update(variables)
