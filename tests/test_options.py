"""docs/options.md has every option of every command, as the code declares it.

``python -m tests.test_options`` writes the page anew.
"""

from __future__ import annotations

import typer

from restorecli import cli as command_line
from restorecli.commands.help import described, guide_of
from restorecli.commands.settings import options_of, variable_of
from restorecli.errors import EXIT_CODES
from tests.test_docs import DOCS
from tests.test_help import COMMANDS, TREE

PAGE = DOCS / "options.md"
START = "<!-- options: python -m tests.test_options -->\n"


def exit_codes():
    rows = ["## Exit codes", "", "| code | meaning |", "|---|---|"]
    return [*rows, *(f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()), ""]


def cell(text):
    return text.replace("|", "\\|")


def table(path):
    """The rows of one command, without its name."""
    command, context = TREE[path]
    settable = options_of(command)
    rows = ["| option | what it does | default | variable |", "|---|---|---|---|"]
    for param in command.get_params(context):
        one = described(param)
        if one is None:
            continue
        variable = f"`{variable_of(one.key)}`" if param.name in settable else ""
        cells = (f"`{one.names}`", one.text, f"`{one.default}`" if one.default else "", variable)
        rows.append("| " + " | ".join(map(cell, cells)) + " |")
    codes = ", ".join(map(str, guide_of(command).codes))
    return "\n".join([*rows, "", f"Exit codes: {codes}.", ""])


def page():
    alike = {}  # commands by their table: those of the tasks are the same
    for path in ["", *COMMANDS]:
        alike.setdefault(table(path), []).append(path)
    parts = ["\n".join(exit_codes())]
    for rows, paths in alike.items():
        parts.append(
            "## " + ", ".join(f"`{' '.join(('restore', path)).strip()}`" for path in paths) + "\n"
        )
        if len(paths) == 1:
            parts.append(f"{TREE[paths[0]][0].get_short_help_str(limit=1000)}\n")
        parts.append(rows)
    return PAGE.read_text(encoding="utf-8").partition(START)[0] + START + "\n".join(parts)


def test_the_page_of_options_is_what_the_code_declares():
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m tests.test_options"


def test_every_option_of_every_command_is_on_the_page():
    text = PAGE.read_text(encoding="utf-8")
    for path, (command, _) in TREE.items():
        for param in command.params:
            if param.hidden:
                continue
            for name in param.opts:
                shown = name if name.startswith("-") else param.metavar
                assert shown in text, (path, name)


def test_variables_are_named_by_their_options():
    root = typer.main.get_command(command_line.app)
    assert variable_of("max-memory") == "RESTORE_MAX_MEMORY"
    assert variable_of("licence", ("models", "import")) == "RESTORE_MODELS_IMPORT_LICENCE"
    derain = {option.key for option in options_of(root.commands["derain"]).values()}
    assert {"device", "model", "format", "json"} <= derain
    assert not {"output", "overwrite", "in-place", "name", "resume", "quality"} & derain


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
