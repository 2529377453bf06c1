"""Help as people meet it: in groups, within 80 columns, with examples that can be typed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import pytest
import typer

from restorecli import cli as command_line
from restorecli.commands.help import GROUPS, described, guide_of

MOST_S = 0.3


def tree():
    """Every command by its name, such as ``models list``, with its context."""
    root = typer.main.get_command(command_line.app)
    settings = {"help_option_names": ["-h", "--help"]}
    context = root.context_class(root, info_name="restore", **settings)
    found = {"": (root, context)}
    queue = [("", root, context)]
    while queue:
        prefix, group, parent = queue.pop()
        for name in group.list_commands(parent):
            command = group.get_command(parent, name)
            path = f"{prefix} {name}".strip()
            context = command.context_class(command, info_name=name, parent=parent)
            found[path] = (command, context)
            if hasattr(command, "list_commands"):
                queue.append((path, command, context))
    return found


TREE = tree()
COMMANDS = {path: pair for path, pair in TREE.items() if not hasattr(pair[0], "list_commands")}


@pytest.mark.parametrize("path", TREE)
def test_help_fits_80_columns_and_has_neither_types_nor_cut_sentences(cli, path):
    said = cli(*path.split(), "--help")
    assert said.exit_code == 0
    assert max(map(len, said.stdout.splitlines())) <= 80
    assert not re.search(r"<|\.\.\.\.|\{[A-Z]|\bstr\b|TEXT\b.*\bTEXT|…", said.stdout)
    assert "..." not in re.sub(r"[A-Z]\]?\.\.\.", "", said.stdout)


@pytest.mark.parametrize("path", TREE)
def test_every_option_stands_in_a_group_with_a_sentence(path):
    command, context = TREE[path]
    for param in command.get_params(context):
        assert param.metavar or getattr(param, "is_flag", False) or param.hidden, param.name
        one = described(param)
        if one is None:
            continue
        assert one.group in GROUPS, one
        assert re.fullmatch(r"[A-Z].*\.", one.text, re.DOTALL), one
        assert " " in one.text


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_three_examples_and_its_exit_codes(cli, path):
    guide = guide_of(COMMANDS[path][0])
    assert guide is not None, f"{path}: use @guided"
    assert len(guide.examples) == 3
    assert {0, 2} <= set(guide.codes)
    said = cli(*path.split(), "--help").stdout
    for line, _ in guide.examples:
        assert f"\n  {line}\n" in said
    assert "\nExit codes:\n  0 done · " in said


def typed(line):
    """The words of each call of the command in a line of a shell."""
    for part in re.split(r"&&|[|>]|\$\(", line):
        words = shlex.split(part.replace(")", " "))
        while words and re.match(r"[A-Z_]+=", words[0]):
            del words[0]
        if words[:1] == ["restore"]:
            yield words[1:]


@pytest.mark.parametrize(
    "line",
    sorted({line for c, _ in TREE.values() if (g := guide_of(c)) for line, _ in g.examples}),
)
def test_examples_name_commands_and_options_that_there_are(line):
    calls = list(typed(line))
    assert calls
    for words in calls:
        words = [*words[1:], "--help"] if words[0] == "help" else words
        depth = 1 if words[0] in COMMANDS else 2
        command, context = COMMANDS[" ".join(words[:depth])]
        command.make_parser(context).parse_args(args=words[depth:])


def test_help_and_a_command_is_that_commands_help(cli):
    assert cli("help", "derain").stdout == cli("derain", "--help").stdout
    assert cli("help", "models", "list").stdout == cli("models", "list", "--help").stdout
    assert cli("help").stdout == cli("--help").stdout


@pytest.mark.skipif(sys.platform == "win32", reason="counts the time of children")
@pytest.mark.parametrize("path", ["", "derain", "models import"])
def test_help_is_quick(path):
    """In seconds of a core, and the quickest of several: what else runs here must not count."""
    import resource

    def spent_s():
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    if os.getloadavg()[0] > 2 * (os.cpu_count() or 1):
        pytest.skip("too much else is going on here to measure a time")
    code = f"import sys\nsys.argv = ['restore', *{path.split()!r}, '--help']\n"
    code += "from restorecli.cli import main\nmain()\n"
    seconds = []
    for _ in range(6):
        start = spent_s()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        seconds.append(spent_s() - start)
        if seconds[-1] <= MOST_S:
            return
    assert min(seconds) <= MOST_S
