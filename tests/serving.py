"""A page that answers in this process, and somebody who asks it things."""

from __future__ import annotations

import http.client
import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from restorecli.serve.server import prepared
from restorecli.serve.settings import Limits, Settings


@dataclass
class Answer:
    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        return self.json["error"]


@dataclass
class Asker:
    """What a browser of this machine can ask."""

    page: object
    threads: list = field(default_factory=list)

    def __post_init__(self):
        parts = urlsplit(self.page.address)
        self.host, self.token = parts.netloc, parts.path.strip("/")
        self.origin = f"http://{self.host}"

    def ask(self, method, path, body=None, *, whole=False, host=None, **headers):
        connection = http.client.HTTPConnection(*self.host.split(":"), timeout=30)
        path = path if whole else f"/{self.token}/{path}"
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", host or self.host)
        if method not in {"GET", "HEAD"}:
            headers = {"Origin": self.origin, **headers}
        if body is not None:
            headers = {"Content-Length": str(len(body)), **headers}
        for name, value in headers.items():
            if value is not None:
                connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(body)
        answer = connection.getresponse()
        found = Answer(answer.status, dict(answer.getheaders()), answer.read())
        connection.close()
        return found

    def get(self, path, **headers):
        return self.ask("GET", path, **headers)

    def send(self, data, name="photo.png", task="derain", **words):
        words = {"name": name, "task": task, **words}
        query = "&".join(f"{key}={quote(str(value), safe='')}" for key, value in words.items())
        return self.ask("POST", f"photos?{query}", data)

    def photos(self):
        return self.get("state").json["photos"]

    def settled(self, seconds=60):
        """All photographs, once nothing waits or works any more."""
        return self.until(lambda runs: all(r["state"] not in {"waiting", "working"} for r in runs),
                          seconds)  # fmt: skip

    def until(self, holds, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            photos = self.photos()
            if holds([run for photo in photos for run in photo["runs"]]):
                return photos
            time.sleep(0.02)
        raise AssertionError(f"never so: {photos}")


@contextmanager
def serving(folder, **changes):
    """An `Asker` of a page whose results go to ``folder``."""
    limits = Limits(**changes.pop("limits", {}))
    settings = Settings(folder=folder, port=changes.pop("port", None), limits=limits, threads=1)
    with prepared(settings) as page:
        thread = threading.Thread(target=page.run)
        thread.start()
        try:
            yield Asker(page)
        finally:
            page.server.should_exit = True
            thread.join()
