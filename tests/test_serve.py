"""`restore serve`: who is answered, what is refused, and what becomes of photographs."""

from __future__ import annotations

import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from restorecli.errors import UsageError
from restorecli.serve.addresses import check_host, hosts
from restorecli.serve.names import plain_name
from restorecli.serve.uploads import remove_abandoned, uploads
from tests.conftest import pixels_of
from tests.serving import Asker, serving


def png(picture, height=24, width=32, **options):
    stream = io.BytesIO()
    Image.fromarray(picture(height, width)).save(stream, "PNG", **options)
    return stream.getvalue()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One page for all questions that leave nothing behind."""
    folder = tmp_path_factory.mktemp("served")
    with serving(folder, limits={"file_bytes": 20_000, "pixels": 5_000, "photos": 3}) as asker:
        yield asker, folder


@pytest.fixture
def asker(shared):
    yield shared[0]
    for photo in shared[0].photos():
        shared[0].ask("DELETE", f"photos/{photo['id']}")


@pytest.fixture
def folder(shared):
    return shared[1]


# ---- who is answered


def test_the_page_is_there_and_lets_nothing_else_in(asker):
    answer = asker.get("")
    assert answer.status == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    text = answer.body.decode()
    assert not re.search(r"(src|href)=\"(https?:)?//", text)  # nothing of other machines
    for part in re.findall(r'(?:src|href)="(parts/[^"]+)"', text):
        assert asker.get(part).status == 200


@pytest.mark.parametrize(
    "path", ["/", "/x/", "/{}x/", "/{half}/", "//{}/", "/open/x", "/state", "/%2e%2e/{}/"]
)
def test_a_wrong_token_finds_nothing(asker, path):
    path = path.format(asker.token, half=asker.token[:-1])
    answer = asker.get(path, whole=True)
    assert answer.status == 404
    assert asker.token.encode() not in answer.body


def test_the_ticket_opens_the_page_once(asker):
    ticket = asker.page.opening.removeprefix(asker.origin)
    answer = asker.get(ticket, whole=True)
    assert answer.status == 303
    assert answer.headers["location"] == f"/{asker.token}/"
    assert asker.get(ticket, whole=True).status == 404


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "[::1]:8770", ""])
def test_other_hosts_are_refused(asker, host):
    assert asker.get("", host=host or " ").status == 403


def test_localhost_is_this_machine_too(asker):
    assert asker.get("", host=f"LOCALHOST:{asker.host.split(':')[1]}").status == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1", None])
def test_other_pages_can_change_nothing(asker, picture, origin):
    for path in ("photos?name=a.png&task=derain", "cancel"):
        assert asker.ask("POST", path, png(picture), Origin=origin).status == 403
    assert asker.photos() == []


def test_other_pages_can_read_nothing(asker):
    assert asker.get("state", Origin="http://evil.example").status == 403
    assert asker.get("state", Sec_Fetch_Site="cross-site").status == 403
    assert asker.get("state", Sec_Fetch_Site="same-site").status == 403
    assert asker.get("state", Sec_Fetch_Site="same-origin").status == 200
    assert asker.get("", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate").status == 200


@pytest.mark.parametrize(
    "path", ["parts/../page.py", "parts/serve.html", "photos/..", "runs/x/file"]
)
def test_there_are_no_ways_to_other_files(asker, path):
    assert asker.get(path).status in {404, 405}


# ---- what is refused


@pytest.mark.parametrize(
    "name",
    ["../a.png", "/etc/a.png", "a/b.png", "..\\a.png", "C:\\a.png", "a\0.png", "..", ".", ""],
)
def test_names_that_lead_elsewhere_are_refused(asker, folder, picture, name):
    before = sorted(folder.rglob("*"))
    answer = asker.send(png(picture), name)
    assert answer.status == 400
    assert "is no plain file name" in answer.error
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("photo.png", "photo.png"),
        ("Übung 1.JPG", "Übung 1.JPG"),
        (".hidden.png", "hidden.png"),
        ("a:b*?.png", "a_b__.png"),
        ("con.png", "_con.png"),
        ("a\n\u202eb.png", "a__b.png"),
        ("...", "photograph"),
        ("x" * 300 + ".jpeg", "x" * 175 + ".jpeg"),
        ("雨" * 100 + ".png", "雨" * 58 + ".png"),
    ],
)
def test_odd_names_become_plain_ones(name, plain):
    assert plain_name(name) == plain


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"<html>hello</html>", "is a web page (HTML), not a picture"),
        (b"hello", "is not a picture"),
        (b"%PDF-1.7 ....", "not a picture"),
        (b"\x89PNG\r\n\x1a\n" + bytes(30), "damaged"),
    ],
)
def test_what_is_no_picture_is_refused_and_leaves_nothing(asker, folder, data, words):
    answer = asker.send(data, "odd.png")
    assert answer.status == 415
    assert words in answer.error
    assert "odd.png" in answer.error
    assert str(folder) not in answer.error
    assert asker.photos() == []
    assert [p for p in folder.rglob("*") if p.name == "odd.png"] == []


def test_more_bytes_than_the_limit_are_refused_before_and_while_they_come(asker, folder):
    answer = asker.send(bytes(20_001))
    assert answer.status == 413
    assert "more than 0 MB" in answer.error
    chunk = b"8000\r\n" + bytes(0x8000) + b"\r\n"
    path = "photos?name=a.png&task=derain"
    with socket.create_connection(asker.host.split(":"), timeout=20) as raw:
        head = f"POST /{asker.token}/{path} HTTP/1.1\r\nHost: {asker.host}\r\n"
        raw.sendall(f"{head}Origin: {asker.origin}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        raw.sendall(chunk)
        assert b" 413 " in raw.recv(100)
    assert [p for p in folder.rglob("*") if p.name == "a.png"] == []


def test_more_pixels_than_the_limit_are_refused_by_the_header(asker, picture):
    answer = asker.send(png(picture, 100, 60, compress_level=9), "large.png")
    assert answer.status == 415, answer.json
    assert "60×100 pixels" in answer.error
    assert asker.photos() == []


def test_a_large_photograph_is_looked_at_in_its_turn(asker, picture, monkeypatch):
    monkeypatch.setattr("restorecli.serve.looking.AT_ONCE_PIXELS", 1_000)
    assert asker.send(png(picture, 50, 60), "large.png").status == 201
    (shown,) = asker.settled()
    assert (shown["height"], shown["width"], shown["thumbnail"]) == (50, 60, True)
    assert shown["runs"][0]["state"] == "done"


def test_more_photographs_than_the_limit_are_refused(asker, picture):
    data = png(picture)
    assert [asker.send(data).status for _ in range(4)] == [201, 201, 201, 400]
    assert "limit" in asker.send(data).error
    asker.settled()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"task": "nonsense"}, "There is no task"),
        ({"task": ""}, "There is no task"),
        ({"model": "hint-denoise-packed"}, "no network for derain"),
        ({"model": "../x"}, "no network for derain"),
        ({"strength": "0"}, "The strength is"),
        ({"then": "derain"}, "cannot be done twice"),
        ({"then": "nonsense"}, "There is no task"),
        ({"strength": "nan"}, "The strength is"),
        ({"strength": "2"}, "The strength is"),
    ],
)
def test_wishes_that_cannot_be_are_refused(asker, picture, words, said):
    answer = asker.send(png(picture), **words)
    assert answer.status == 400
    assert said in answer.error
    assert asker.photos() == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"1" * 5000])
def test_what_is_no_request_is_refused(asker, picture, body):
    photo = asker.send(png(picture)).json["id"]
    assert asker.ask("POST", f"photos/{photo}/runs", body).status == 400
    asker.settled()


def test_a_photograph_that_is_gone_is_not_found(asker):
    for method, path in (
        ("DELETE", "photos/x"), ("GET", "photos/x/picture"), ("POST", "photos/x/runs"),
        ("POST", "runs/x/cancel"), ("GET", "runs/x/file"), ("GET", "results.zip"),
    ):  # fmt: skip
        assert asker.ask(method, path, b"{}" if method == "POST" else None).status == 404


# ---- what becomes of photographs


def test_a_result_is_that_of_the_command_and_can_be_had(asker, folder, picture, cli, tmp_path):
    data = png(picture, pnginfo=None, dpi=(300, 300))
    photo = asker.send(data, "one.png").json["id"]
    (shown,) = asker.settled()
    (run,) = shown["runs"]
    assert (run["state"], run["share"], run["file"]) == ("done", 1, "one.derain.png")
    assert (shown["width"], shown["height"], shown["thumbnail"]) == (32, 24, True)
    (tmp_path / "one.png").write_bytes(data)
    assert cli("derain", tmp_path / "one.png", "--threads", "1", "-q").exit_code == 0
    result = (tmp_path / "one.derain.png").read_bytes()
    assert (folder / "one.derain.png").read_bytes() == result
    got = asker.get(f"runs/{run['id']}/file")
    assert got.body == result
    assert "attachment" in got.headers["content-disposition"]
    assert asker.get(f"runs/{run['id']}/picture").headers["content-type"] == "image/png"
    assert asker.get(f"photos/{photo}/picture").body == data
    assert asker.get(f"photos/{photo}/thumbnail").headers["content-type"] == "image/webp"


def test_names_that_are_taken_get_a_number_and_all_go_into_one_zip(asker, folder, picture):
    data = png(picture)
    for _ in range(2):
        asker.send(data, "same.png")
    photo = asker.photos()[0]["id"]
    again = f'{{"task": "derain", "strength": 0.5, "model": "{default("derain")}"}}'.encode()
    first = asker.ask("POST", f"photos/{photo}/runs", again)
    assert first.status == 201
    assert asker.ask("POST", f"photos/{photo}/runs", again).json == first.json  # not twice
    asker.settled()
    got = asker.get("results.zip")
    with zipfile.ZipFile(io.BytesIO(got.body)) as archive:
        assert archive.testzip() is None
        names = set(archive.namelist())
        assert names == {"same.derain.png", "same.derain-2.png", "same.derain-50.png"}
        for name in names:
            assert archive.read(name) == (folder / name).read_bytes()
    whole, half = (pixels_of(folder / f"same.derain{n}.png").astype(int) for n in ("", "-50"))
    before = pixels_of(io.BytesIO(data)).astype(int)
    assert np.abs(half - (whole + before) / 2).max() <= 1


def default(task):
    from restorecli.serve.settings import networks

    return networks(task)[0].id


def test_a_check_says_what_the_command_says_and_makes_no_file(asker, folder, cli):
    dark = np.full((60, 60, 3), 6, np.uint8) + np.arange(60, dtype=np.uint8)[:, None, None] // 12
    stream = io.BytesIO()
    Image.fromarray(dark).save(stream, "PNG")
    before = sorted(folder.glob("*.png"))
    asker.send(stream.getvalue(), "night.png", "check")
    (shown,) = asker.settled()
    (run,) = shown["runs"]
    path = folder.parent / "night.png"
    path.write_bytes(stream.getvalue())
    (said, *_) = cli("check", path, "--json").lines
    assert run["state"] == "done"
    assert run["file"] is None
    assert run["finding"]["task"] == said["task"] == "lowlight"
    assert run["finding"]["sentence"] == said["sentence"].partition(":")[0] + "."
    assert sorted(folder.glob("*.png")) == before


def test_two_tasks_are_done_one_after_the_other(asker, folder, picture, cli, tmp_path):
    data = png(picture)
    asker.send(data, "two.png", "derain", then="denoise")
    (shown,) = asker.settled()
    assert shown["runs"][0]["file"] == "two.derain-denoise.png"
    (tmp_path / "two.png").write_bytes(data)
    ended = cli("run", tmp_path / "two.png", "--task", "derain,denoise", "--threads", "1", "-q")
    assert ended.exit_code == 0
    result = (tmp_path / "two.derain-denoise.png").read_bytes()
    assert (folder / "two.derain-denoise.png").read_bytes() == result


def test_formats_that_browsers_do_not_know_are_shown_as_copies(asker, picture):
    stream = io.BytesIO()
    Image.fromarray(picture(24, 32)).save(stream, "TIFF")
    photo = asker.send(stream.getvalue(), "scan.tif").json["id"]
    (shown,) = asker.settled()
    assert shown["reduced"]
    assert shown["runs"][0]["file"] == "scan.derain.tif"
    for path in (f"photos/{photo}/picture", f"runs/{shown['runs'][0]['id']}/picture"):
        assert asker.get(path).headers["content-type"] == "image/webp"


def test_removing_deletes_the_original_and_keeps_the_result(asker, folder, picture):
    photo = asker.send(png(picture), "kept.png").json["id"]
    asker.settled()
    assert [p.name for p in folder.rglob("kept.png")] == ["kept.png"]
    assert asker.ask("DELETE", f"photos/{photo}").status == 204
    assert list(folder.rglob("kept.png")) == []
    assert (folder / "kept.derain.png").exists()


def test_nothing_is_told_twice(asker, picture):
    asker.send(png(picture))
    asker.settled()
    version = asker.get("state").json["version"]
    assert asker.get(f"state?since={version}").status == 204
    assert asker.get("state?since=x").status == 200


def test_cancelling_ends_what_waits_and_what_is_under_way(tmp_path, picture):
    with serving(tmp_path) as asker:
        for _ in range(3):
            asker.send(png(picture, 600, 800), "large.png", "denoise")
        photos = asker.until(lambda runs: runs[0]["state"] == "working" and runs[0]["share"] > 0)
        asker.ask("POST", f"runs/{photos[1]['runs'][0]['id']}/cancel")
        asker.ask("POST", f"runs/{photos[0]['runs'][0]['id']}/cancel")
        asker.until(lambda runs: runs[2]["state"] == "working")
        asker.ask("POST", "cancel")
        states = [p["runs"][0]["state"] for p in asker.settled()]
        assert states == ["cancelled"] * 3
        asker.send(png(picture), "small.png")  # and it goes on
        assert asker.settled()[-1]["runs"][0]["state"] == "done"
        assert [p.name for p in tmp_path.glob("*.png")] == ["small.derain.png"]


def test_a_fault_of_the_tool_ends_one_run_only(tmp_path, picture, monkeypatch):
    from restorecli.runs import local

    def broken(*arguments):
        raise ValueError("oh")

    with serving(tmp_path) as asker, monkeypatch.context() as patched:
        patched.setattr(local, "run_with", broken)
        asker.send(png(picture))
        (photo,) = asker.settled()
        assert "ValueError: oh" in photo["runs"][0]["error"]
        patched.undo()
        asker.send(png(picture))
        assert asker.settled()[1]["runs"][0]["state"] == "done"


def test_fifty_pictures_leave_memory_as_it_was(tmp_path, picture):
    process = psutil.Process()
    with serving(tmp_path, limits={"photos": 60}) as asker:
        held = []
        for number in range(50):
            asker.send(png(picture, 24, 24 + number % 3 * 8), f"{number}.png", "denoise")
            asker.settled()
            held.append(process.memory_info().rss)
        assert all(photo["runs"][0]["state"] == "done" for photo in asker.photos())
        grown = (max(held[30:]) - max(held[10:20])) / 1e6
        assert grown < 10, [round(h / 1e6) for h in held]


# ---- the folder of originals


def test_originals_go_when_the_page_ends(tmp_path, picture):
    with serving(tmp_path) as asker:
        asker.send(png(picture), "mine.png")
        asker.settled()
        (place,) = tmp_path.glob(".restore-uploads-*")
        assert os.name == "nt" or place.stat().st_mode & 0o077 == 0
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".restore.")] == [
        "mine.derain.png"
    ]


def test_what_a_killed_server_left_goes_and_what_lives_stays(tmp_path):
    with uploads(tmp_path) as place:
        dead = Path(re.sub(r"-\d+-", f"-{2**22 + 1}-", str(place)))
        dead.mkdir()
        (dead / "x.png").write_bytes(b"x")
        other = tmp_path / ".restore-uploads-00000000-1-0000000000000000"
        other.mkdir()
        remove_abandoned(tmp_path)
        assert (place.exists(), dead.exists(), other.exists()) == (True, False, True)


# ---- the command


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], "can be reached from other machines"),
        (["--host", "example.org"], "is no address"),
        (["--max-size", "many"], "--max-size 'many' is not an amount"),
        (["--max-memory", "2"], "--max-memory '2' is not an amount"),
        (["-o", __file__], "is a file, not a folder"),
        (["-o", "s3://bucket/x"], "folder of this machine"),
    ],
)
def test_what_cannot_be_served_is_told_in_a_sentence(cli, arguments, said):
    ended = cli("serve", "--no-open", *arguments)
    assert ended.exit_code == 2
    assert said in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_a_port_that_is_taken_is_told(cli, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = cli("serve", "--no-open", "--port", port, "-o", tmp_path / "out")
    assert ended.exit_code == 2
    assert f"Cannot listen at 127.0.0.1, port {port}" in " ".join(ended.stderr.split())
    assert not (tmp_path / "out").exists()


def test_without_the_libraries_one_sentence_says_what_to_install(cli, monkeypatch):
    monkeypatch.setattr("restorecli.commands.serve.LIBRARIES", ("starlette", "not_there"))
    ended = cli("serve")
    assert ended.exit_code == 2
    assert "The page needs not_there." in ended.stderr
    assert re.search(r"install .*(starlette|serve)", " ".join(ended.stderr.split()))


def test_hosts_are_those_that_reach_the_page():
    assert hosts("127.0.0.1", 1) == ["127.0.0.1:1", "localhost:1"]
    assert hosts("::1", 1) == ["[::1]:1", "localhost:1"]
    assert hosts("127.0.0.1", 80)[2:] == ["127.0.0.1", "localhost"]
    assert "127.0.0.1:1" in hosts("0.0.0.0", 1)
    assert check_host("localhost", exposed=False) == "127.0.0.1"
    assert check_host("0.0.0.0", exposed=True) == "0.0.0.0"
    with pytest.raises(UsageError):
        check_host("192.168.0.1", exposed=False)


class Command:
    """The real command as a process of its own."""

    def __init__(self, folder, *arguments):
        environment = {
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "OMP_NUM_THREADS": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "restorecli", "serve", "--no-open", "-o", folder, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        self.address = self.process.stdout.readline().strip()
        self.asker = Asker(self)
        for _ in range(200):
            try:
                self.asker.get("state")
                return
            except OSError:
                time.sleep(0.05)

    def end(self, number):
        self.process.send_signal(number)
        _, words = self.process.communicate(timeout=60)
        return self.process.returncode, words


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(tmp_path, picture, number):
    command = Command(tmp_path)
    command.asker.send(png(picture), "a.png")
    command.asker.settled()
    code, words = command.end(number)
    assert code == 0
    assert f"Ended. Results are in {tmp_path}." in words
    assert "Traceback" not in words
    assert command.asker.token not in words
    assert list(tmp_path.glob(".restore-uploads-*")) == []


def test_a_signal_during_work_says_what_was_cut_off(tmp_path, picture):
    command = Command(tmp_path, "--threads", "1")
    for _ in range(2):
        command.asker.send(png(picture, 900, 900), "large.png", "denoise")
    command.asker.until(lambda runs: runs[0]["share"] > 0)
    code, words = command.end(signal.SIGINT)
    assert code == 130
    assert "2 had not been finished." in words
    assert "Traceback" not in words
    assert [p.name for p in tmp_path.iterdir() if "uploads" in p.name or "partial" in p.name] == []


def test_killing_it_loses_no_finished_result(tmp_path, picture):
    command = Command(tmp_path)
    for number in range(3):
        command.asker.send(png(picture), f"{number}.png")
    photos = command.asker.settled()
    results = {p["runs"][0]["file"]: command.asker.get(f"runs/{p['runs'][0]['id']}/file").body
               for p in photos}  # fmt: skip
    command.asker.send(png(picture, 900, 900), "large.png", "denoise")
    command.asker.until(lambda runs: runs[3]["state"] == "working")
    command.end(signal.SIGKILL)
    assert {p.name: p.read_bytes() for p in tmp_path.glob("*.png")} == results
    assert len(results) == 3
    assert len(list(tmp_path.glob(".restore-uploads-*"))) == 1
    with serving(tmp_path):
        assert len(list(tmp_path.glob(".restore-uploads-*"))) == 1  # the new one
    assert list(tmp_path.glob(".restore-uploads-*")) == []
    assert {p.name: p.read_bytes() for p in tmp_path.glob("*.png")} == results
