"""What is not typed comes from variables, then restore.toml, then the code; and it can be seen."""

from __future__ import annotations

import os

import pytest

from restorecli.errors import UsageError


@pytest.fixture
def settings(own_folder):
    """Write restore.toml where this user has it."""

    def write(text):
        path = own_folder / "restore.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def shown(cli, key, *command):
    command = command or ("derain",)
    found = cli("config", "show", *command, "--json").lines[0]["settings"]
    one = found[" ".join(command)][key]
    return one["value"], one["origin"]


def test_the_command_line_beats_variables_beat_the_file_beats_what_is_built_in(
    cli, photo_file, settings, monkeypatch
):
    assert shown(cli, "threads") == (None, "built in")
    path = settings("threads = 3\n[derain]\nthreads = 4\n")
    assert shown(cli, "threads") == (4, f"{path} [derain]")
    assert shown(cli, "threads", "denoise") == (3, str(path))
    monkeypatch.setenv("RESTORE_THREADS", "5")
    assert shown(cli, "threads") == (5, "RESTORE_THREADS")
    monkeypatch.setenv("RESTORE_DERAIN_THREADS", "6")
    assert shown(cli, "threads") == (6, "RESTORE_DERAIN_THREADS")
    refused = cli("derain", photo_file(), "--engine", "ray")
    assert refused.exit_code == UsageError.exit_code
    assert "--threads was set by RESTORE_DERAIN_THREADS." in refused.stderr
    typed = cli("derain", photo_file(), "--engine", "ray", "--threads", "1")
    assert "was set by" not in typed.stderr


def test_settings_reach_the_run(cli, photo_file, settings, identity_weights, monkeypatch):
    settings(f'weights = "{identity_weights.as_posix()}"\n[derain]\nformat = "webp"\njson = true\n')
    outcome = cli("derain", photo_file("a.png"))
    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.lines[0]["output"].endswith("a.derain.webp")
    monkeypatch.setenv("RESTORE_FORMAT", "png")
    monkeypatch.setenv("RESTORE_JSON", "no")
    again = cli("derain", photo_file("b.png"), "--format", "tiff")
    assert again.stdout == ""
    assert "b.derain.tif" in again.stderr


def test_what_is_typed_sends_a_rival_away(cli, photo_file, settings, identity_weights):
    settings('effort = "best"\n')
    outcome = cli("derain", photo_file(), "--weights", identity_weights)
    assert outcome.exit_code == 0, outcome.stderr


def test_quiet_that_is_typed_sends_verbose_away(cli, photo_file, settings, identity_weights):
    settings("verbose = true\n")
    run = ("derain", photo_file(), "--weights", identity_weights)
    assert cli(*run, "-q").stderr == ""
    assert "Device cpu" in cli(*run, "--overwrite").stderr


def test_what_loses_files_cannot_be_set_in_advance(cli, photo_file, settings, monkeypatch):
    path = photo_file("a.png")
    path.with_name("a.derain.png").write_bytes(b"precious")
    for name in ("RESTORE_OVERWRITE", "RESTORE_IN_PLACE", "RESTORE_OUTPUT"):
        monkeypatch.setenv(name, "1")
    assert cli("derain", path).exit_code == 2
    assert path.with_name("a.derain.png").read_bytes() == b"precious"
    settings("overwrite = true\n")
    refused = cli("derain", path)
    assert refused.exit_code == 2
    assert "there is no setting 'overwrite'" in refused.stderr


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("thread = 1", "there is no setting 'thread'.\n  Did you mean 'threads'?"),
        ("[derian]\nthreads = 1", "there is no setting 'derian'.\n  Did you mean 'derain'?"),
        ("[derain]\nagainst = 'x'", "[derain]: there is no setting 'against'"),
        ("derain = 1", "A command has a table: [derain]."),
        ("threads = 'many'", "threads = 'many' does not fit: --threads takes a whole number."),
        ("threads = 1.5", "--threads takes a whole number."),
        ("threads = true", "--threads takes a whole number."),
        ("threads = 0", "--threads takes a number from 1."),
        ("quiet = 1", "--quiet takes true or false."),
        ("device = [1]", "--device takes a text."),
        ("[bench]\nsize = 1", "there is no setting 'size'"),
        ("format = 'gif'", "--format takes one of source, png,"),
        ("[spectral]\nformat = 'png'", "--format takes one of img, tif,"),
        ("threads = = 1", "Cannot read the settings of"),
        ("threads = 1\nthreads = 2", "Cannot read the settings of"),
    ],
)
def test_a_bad_file_of_settings_is_one_sentence_and_code_2(
    cli, photo_file, settings, text, sentence
):
    path = settings(text)
    outcome = cli("derain", photo_file())
    assert outcome.exit_code == UsageError.exit_code
    assert sentence in outcome.stderr
    assert str(path) in outcome.stderr
    assert outcome.stderr.startswith("Error: ")
    assert cli("derain", "--help").exit_code == 0


def test_files_that_cannot_be_read_are_one_sentence(cli, photo_file, own_folder, monkeypatch):
    (own_folder / "restore.toml").write_bytes(b"\xff\xfe\x00")
    assert "Cannot read the settings of" in cli("derain", photo_file()).stderr
    monkeypatch.setenv("RESTORE_CONFIG", str(own_folder / "none.toml"))
    outcome = cli("derain", photo_file())
    assert outcome.exit_code == 2
    assert "RESTORE_CONFIG: there is no file" in outcome.stderr
    if hasattr(os, "mkfifo"):
        os.mkfifo(own_folder / "none.toml")
        outcome = cli("derain", photo_file())
        assert outcome.exit_code == 2
        assert "it is a pipe, not a file" in outcome.stderr
    monkeypatch.setenv("RESTORE_CONFIG", os.devnull)
    assert shown(cli, "threads") == (None, "built in")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("RESTORE_THREADS", "x", "RESTORE_THREADS: threads = 'x' does not fit"),
        ("RESTORE_DERAIN_FORMAT", "img", "RESTORE_DERAIN_FORMAT: format = 'img' does not fit"),
        ("RESTORE_FORMAT", "gif", "RESTORE_FORMAT: format = 'gif' does not fit"),
        ("RESTORE_DEVICE", "toaster", "--device was set by RESTORE_DEVICE."),
    ],
)
def test_a_bad_variable_is_one_sentence_and_names_itself(
    cli, photo_file, monkeypatch, name, value, sentence
):
    monkeypatch.setenv(name, value)
    outcome = cli("derain", photo_file())
    assert outcome.exit_code in (2, 5)
    assert sentence in outcome.stderr


def test_a_value_for_all_goes_where_it_fits(cli, settings):
    settings('format = "png"\n')
    assert shown(cli, "format")[0] == "png"
    assert shown(cli, "format", "spectral") == ("img", "built in")


def test_config_says_where_the_file_is_and_what_holds(cli, settings, own_folder, monkeypatch):
    assert cli("config", "path").stdout == f"{own_folder / 'restore.toml'}\n"
    monkeypatch.setenv("COLUMNS", "80")
    told = cli("config", "show")
    assert "(there is none yet)" in told.stdout
    assert "every task" in told.stdout
    settings('device = "cpu"\n')
    monkeypatch.setenv("RESTORE_CONFIG", str(own_folder))
    told = cli("config", "show", "derain").stdout
    assert "there is none" not in told
    assert "cpu" in told
    assert cli("config", "show", "nothing").exit_code == 2


def test_without_a_home_folder_nothing_is_set(cli, monkeypatch):
    from restorecli.machine import folders

    monkeypatch.setattr(folders, "configuration_folder", lambda: None)
    assert shown(cli, "threads") == (None, "built in")
    assert cli("config", "path").exit_code == 2
