"""Tokens go where they belong, downloads end where they should, and no secret is ever shown."""

from __future__ import annotations

import errno
import io

import fsspec
import pytest
from huggingface_hub import constants

from restorecli.files import addresses

HUB = "https://huggingface.co"


@pytest.fixture
def asked(monkeypatch):
    """What the file system of ``hf://`` is given instead of a connection."""
    found = []
    monkeypatch.setattr(fsspec, "filesystem", lambda *_, **options: found.append(options))
    addresses._system.cache_clear()
    yield found
    addresses._system.cache_clear()


@pytest.mark.parametrize(
    ("endpoint", "variable", "token"),
    [
        (HUB, None, None),  # the client's own choice: the saved one
        (HUB + "/", None, None),
        ("https://hub.example", None, False),
        ("https://huggingface.co.example", None, False),
        ("http://huggingface.co", None, False),
        ("https://hub.example", "hf_given", "hf_given"),
    ],
)
def test_a_saved_token_goes_to_the_public_hub_only_also_for_pictures(
    asked, monkeypatch, tmp_path, endpoint, variable, token
):
    (tmp_path / "token").write_text("hf_saved")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    if variable:
        monkeypatch.setenv("HF_TOKEN", variable)
    addresses.path_of("hf://datasets/owner/name/a.png")
    assert asked[0]["token"] is token if token is None else asked[0]["token"] == token


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:pass@a.example/b.png", "https://…@a.example/b.png"),
        ("s3://key:secret@bucket/b.png failed", "s3://…@bucket/b.png failed"),
        ("https:/user:pass@a.example/b.png", "https:/…@a.example/b.png"),
        (
            "Cannot read 'https://a.example/b.png?X-Amz-Signature=abc&X=1': no",
            "Cannot read 'https://a.example/b.png?…': no",
        ),
        ("https://a.example/b.png?sig=a%2Fb (403)", "https://a.example/b.png?… (403)"),
        ("two: ftp://a:b@c/d and http://e/f?g", "two: ftp://…@c/d and http://e/f?…"),
        ("what is it? a question", "what is it? a question"),
        ("C:/photos/a.png", "C:/photos/a.png"),
    ],
)
def test_passwords_and_signatures_are_left_out(text, shown):
    assert addresses.redacted(text) == shown


def test_no_output_holds_a_password_or_a_signature(cli, tmp_path, identity_weights):
    pytest.importorskip("aiohttp")
    address = "http://user:hunter2@127.0.0.1:9/a.png?X-Amz-Signature=5ec2e7&key=5ec2e7"
    outcome = cli(
        "derain", address, "-o", tmp_path / "out.png", "--weights", identity_weights, "--json",
        "--report", tmp_path / "r.json",
    )  # fmt: skip
    assert outcome.exit_code in {1, 3}
    told = outcome.stdout + outcome.stderr
    told += "".join(path.read_text(errors="replace") for path in tmp_path.glob("*.json"))
    assert "127.0.0.1:9" in told
    assert "hunter2" not in told
    assert "5ec2e7" not in told
    assert "Traceback" not in told


class Liar(io.RawIOBase):
    """A file whose server promised ten bytes and sends for ever."""

    def __init__(self, size):
        self.size, self.sent = size, 0

    def readable(self):
        return True

    def read(self, size=-1):
        if size < 0:
            raise AssertionError("everything was asked for")
        self.sent += size
        return bytes(size)


@pytest.mark.parametrize("size", [10, None])
@pytest.mark.parametrize("count", [-1, 1 << 20])
def test_no_more_is_read_than_was_promised(monkeypatch, size, count):
    monkeypatch.setattr(addresses, "MOST_UNPROMISED_BYTES", 1 << 16)
    liar = Liar(size)
    with pytest.raises(OSError, match="sends more than") as ended:
        io.BufferedReader(addresses._Promised(liar), 4_096).read(count)
    assert ended.value.errno == errno.EFBIG
    assert liar.sent <= (1 << 20) + 4_096
