"""The command against a server of the S3 protocol on loopback, which fails now and then."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import pytest

from restorecli.errors import OutputError
from restorecli.files import addresses as storage
from restorecli.files.addresses import path_of

pytest.importorskip("s3fs", reason="needs restorecli[remote]")
moto_server = pytest.importorskip("moto.server", reason="needs moto[server]")
serving = pytest.importorskip("werkzeug.serving")

pytestmark = pytest.mark.cluster
READ_TIMEOUT_S = 10
MEGABYTE = 2**20


@dataclass
class Faulty:
    """The server with faults: (method, part of the path, kind of fault, how often)."""

    app: object
    planned: list[list] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    requests: list[str] = field(default_factory=list)

    def plan(self, method, part, kind, times):
        self.planned.append([method, part, kind, times])

    def __call__(self, environ, start_response):
        method = environ["REQUEST_METHOD"]
        path = f"{environ['PATH_INFO']}?{environ['QUERY_STRING']}"
        with self.lock:
            self.requests.append(f"{method} {path}")
            kind = self._due(method, path)
        if kind is None:
            return self.app(environ, start_response)
        return getattr(self, kind)(environ, start_response)

    def _due(self, method, path):
        for plan in self.planned:
            if plan[0] == method and plan[1] in path and plan[3]:
                plan[3] -= 1
                return plan[2]
        return None

    def slow_down(self, environ, start_response):
        self._drain(environ)
        return self._error(start_response, "503 Slow Down", "SlowDown")

    def denied(self, environ, start_response):
        self._drain(environ)
        return self._error(start_response, "403 Forbidden", "AccessDenied")

    def timeout(self, environ, start_response):
        self._drain(environ)
        time.sleep(READ_TIMEOUT_S + 1)
        return self._error(start_response, "500 Too Late", "InternalError")

    def cut_upload(self, environ, start_response):
        environ["wsgi.input"].read(100)
        environ["werkzeug.socket"].close()
        raise ConnectionError("cut")

    def cut_download(self, environ, start_response):
        body = b"".join(self.app(environ, start_response))
        return iter([body[: len(body) // 2]])  # its length was promised already

    @staticmethod
    def _drain(environ):
        ended = environ.get("wsgi.input_terminated")
        environ["wsgi.input"].read(*() if ended else (int(environ["CONTENT_LENGTH"] or 0),))

    @staticmethod
    def _error(start_response, status, code):
        body = f"<Error><Code>{code}</Code><Message>planned</Message></Error>".encode()
        start_response(
            status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
        )
        return [body]


class Quiet(serving.WSGIRequestHandler):
    """Faults are meant: nothing is said of them."""

    def log(self, type, message, *args):
        pass


@pytest.fixture(scope="module")
def server():
    application = moto_server.DomainDispatcherApplication(moto_server.create_backend_app)
    faulty = Faulty(application)
    made = serving.make_server("127.0.0.1", 0, faulty, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{made.server_port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        timeouts = {"connect_timeout": 5, "read_timeout": READ_TIMEOUT_S}
        patch.setitem(storage.OPTIONS, "s3", {"config_kwargs": timeouts})
        yield faulty
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def bucket(server):
    """A new bucket, and a server without faults."""
    server.planned.clear()
    server.requests.clear()
    system = path_of("s3://any").system
    name = f"bucket{time.monotonic_ns()}"
    system.mkdir(name)
    return f"s3://{name}"


@pytest.fixture
def derain(cli, random_weights):
    return lambda *arguments: cli("derain", *arguments, "--weights", random_weights)


@pytest.fixture
def photos(photo_file, tmp_path):
    for i in range(4):
        photo_file(f"in/{i}.png", 32, 24 + i)
    return tmp_path / "in"


@pytest.fixture
def whole(derain, photos, tmp_path):
    """What the pictures become on this machine."""
    assert derain(photos, "-o", tmp_path / "whole", "--threads", 1).exit_code == 0
    return {p.name: p.read_bytes() for p in (tmp_path / "whole").glob("*.png")}


def put(folder, bucket):
    for path in folder.iterdir():
        (path_of(bucket) / "in" / path.name).write_bytes(path.read_bytes())


def results(address):
    return {
        path.name: path.read_bytes() for path, _ in storage.files(path_of(address), recursive=False)
    }


def test_from_bucket_to_bucket_with_a_report_there(derain, bucket, photos, whole):
    put(photos, bucket)
    report = f"{bucket}/reports/run.json"
    outcome = derain(f"{bucket}/in", "-o", f"{bucket}/out", "--threads", 1, "--report", report)
    assert outcome.exit_code == 0, outcome.stderr
    assert results(f"{bucket}/out") == whole
    assert path_of(report).read_bytes().count(b'"status": "ok"') == 4
    again = derain(f"{bucket}/in", "-o", f"{bucket}/out", "--resume", "--json")
    assert again.lines[-1]["counts"] == {"ok": 0, "failed": 0, "skipped": 4}
    refused = derain(f"{bucket}/in", "-o", f"{bucket}/out")
    assert refused.exit_code == OutputError.exit_code


@pytest.mark.parametrize(
    ("method", "kind", "times"),
    [
        ("PUT", "slow_down", 3),
        ("GET", "slow_down", 3),
        ("PUT", "timeout", 1),
        ("GET", "timeout", 1),
        ("PUT", "cut_upload", 2),
        ("GET", "cut_download", 2),
    ],
)
def test_faults_that_pass_are_not_seen(derain, bucket, server, photos, whole, method, kind, times):
    put(photos, bucket)
    server.plan(method, ".png", kind, times)
    outcome = derain(f"{bucket}/in", "-o", f"{bucket}/out", "--threads", 1, "--json")
    assert outcome.exit_code == 0, outcome.stderr
    assert results(f"{bucket}/out") == whole
    assert [plan[3] for plan in server.planned] == [0]
    assert outcome.lines[-1]["counts"] == {"ok": 4, "failed": 0, "skipped": 0}


def test_a_fault_that_stays_fails_its_picture_alone(derain, bucket, server, photos, whole):
    put(photos, bucket)
    server.plan("PUT", "/out/2.png", "denied", 1000)
    outcome = derain(f"{bucket}/in", "-o", f"{bucket}/out", "--threads", 1, "--json")
    assert outcome.exit_code == 1
    errors = [row["error"] for row in outcome.lines[:-1] if row["error"]]
    assert len(errors) == 1
    assert f"Cannot write {bucket}/out/2.png" in errors[0]
    server.planned.clear()
    again = derain(f"{bucket}/in", "-o", f"{bucket}/out", "--threads", 1, "--resume", "--json")
    assert again.lines[-1]["counts"] == {"ok": 1, "failed": 0, "skipped": 3}
    assert results(f"{bucket}/out") == whole


def test_an_upload_in_parts_is_visible_only_when_complete(bucket, server):
    place = path_of(f"{bucket}/large.bin")
    data = bytes(101 * MEGABYTE)  # s3fs cuts at 50 MB
    server.plan("PUT", "partNumber=2", "denied", 1000)
    with pytest.raises(OSError, match="planned"):
        storage.upload(place, data, overwrite=True)
    assert not place.exists()
    assert any(
        request.startswith("PUT") and "partNumber=1" in request for request in server.requests
    )
    assert any(
        request.startswith("DELETE") and "uploadId" in request for request in server.requests
    )
    server.planned.clear()
    server.plan("PUT", "partNumber=3", "slow_down", 2)
    storage.upload(place, data, overwrite=True)
    assert place.stat().st_size == len(data)


def test_the_store_itself_refuses_to_replace(bucket):
    place = path_of(f"{bucket}/a.bin")
    storage.upload(place, b"first", overwrite=False)
    with pytest.raises(FileExistsError):
        storage.upload(place, b"second", overwrite=False)
    assert place.read_bytes() == b"first"


def test_ray_works_on_buckets_too(cli, bucket, photos, whole, random_weights):
    pytest.importorskip("ray")
    put(photos, bucket)
    command = ("derain", f"{bucket}/in", "-o", f"{bucket}/out", "--weights", random_weights)
    on_ray = ("--engine", "ray", "--actors", 2, "--json")
    outcome = cli(*command, *on_ray)
    assert outcome.exit_code == 0, outcome.stderr
    assert results(f"{bucket}/out") == whole
    again = cli(*command, "--resume", *on_ray)
    assert again.lines[-1]["counts"] == {"ok": 0, "failed": 0, "skipped": 4}


def test_a_bucket_that_is_not_there(derain, server, photos):
    outcome = derain(photos, "-o", "s3://nobody-has-this/out")
    assert outcome.exit_code == OutputError.exit_code
    assert "s3://nobody-has-this/out" in outcome.stderr
    assert "Traceback" not in outcome.stderr
