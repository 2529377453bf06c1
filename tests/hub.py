"""A server on loopback that speaks the part of the Hub's protocol that downloads need."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the server has, how it misbehaves, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)  # "owner/name/file" → bytes
    statuses: list[int] = field(default_factory=list)  # answers to the next GETs or HEADs
    always: int | None = None  # this answer to everything
    cuts: list[int] = field(default_factory=list)  # the next GETs end after so many bytes
    always_cut: int | None = None
    redirect_to: str = ""  # "cdn": GETs are sent to another host
    claimed_size: int | None = None  # what HEAD says
    served: bytes | None = None  # instead of the file
    ranges: bool = True
    pause_s: float = 0.0  # between pieces
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    url: str = ""
    cdn: str = ""

    @property
    def gets(self):
        """Headers of every request for a file's content."""
        return [
            headers
            for method, path, headers in self.asked
            if method == "GET" and not path.startswith("/api/")
        ]

    @property
    def sent_ranges(self):
        return [headers["range"] for headers in self.gets if "range" in headers]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body):
        hub = self.hub
        headers = {key.lower(): value for key, value in self.headers.items()}
        hub.asked.append((self.command, self.path, headers))
        status = hub.always or (hub.statuses.pop(0) if hub.statuses else 0)
        if status:
            return self.refuse(status)
        if self.path.startswith("/cdn/"):
            name = self.path.removeprefix("/cdn/")
        else:
            name, _, tail = self.path.lstrip("/").partition("/resolve/")
            revision, _, file = tail.partition("/")
            if revision not in {COMMIT, "main"}:
                return self.refuse(404, "RevisionNotFound")
            name = f"{name}/{file}"
        if name not in hub.files:
            return self.refuse(404, "EntryNotFound")
        data = hub.files[name]
        etag = hashlib.sha256(data).hexdigest()
        if hub.redirect_to and not self.path.startswith("/cdn/"):
            self.send_response(302)
            self.send_header("Location", f"{hub.cdn}/cdn/{name}")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("X-Linked-Etag", f'"{etag}"')
            self.send_header("X-Linked-Size", str(hub.claimed_size or len(data)))
            self.send_header("Content-Length", "0")
            return self.end_headers()
        return self.send(hub.served if hub.served is not None and body else data, etag, body=body)

    def refuse(self, status, code=""):
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send(self, data, etag, *, body):
        hub = self.hub
        start = 0
        wanted = self.headers.get("Range")
        if wanted and hub.ranges and body:
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            if start >= len(data):
                return self.refuse(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        size = len(data) - start if body else hub.claimed_size or len(data)
        self.send_header("Content-Length", str(size))
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if not body:
            return None
        cut = hub.cuts.pop(0) if hub.cuts else hub.always_cut
        rest = data[start : max(start, cut)] if cut is not None else data[start:]
        for at in range(0, len(rest), 65536):
            try:
                self.wfile.write(rest[at : at + 65536])
                self.wfile.flush()
            except OSError:  # the client has heard enough
                break
            time.sleep(hub.pause_s)
        if len(rest) < len(data) - start:
            self.close_connection = True
        return None


def started():
    """A running hub, and what stops it."""
    hub = Hub()
    handler = type("HubHandler", (Handler,), {"hub": hub})
    servers = [ThreadingHTTPServer((host, 0), handler) for host in ("127.0.0.1", "127.0.0.1")]
    for server in servers:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    hub.url = f"http://127.0.0.1:{servers[0].server_port}"
    hub.cdn = f"http://localhost:{servers[1].server_port}"

    def stop():
        for server in servers:
            server.shutdown()
            server.server_close()

    return hub, stop
