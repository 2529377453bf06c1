"""The page's address book: what each request does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from restorecli.errors import InputError, OutputError, RestoreError, UsageError
from restorecli.images import identify
from restorecli.report.pictures import BROWSER_FORMATS
from restorecli.serve.album import Album, Run, Upload
from restorecli.serve.archive import zipped
from restorecli.serve.looking import kind_of
from restorecli.serve.names import plain_name
from restorecli.serve.page import PARTS, page
from restorecli.serve.settings import CHECK, WHOLE, Settings, Wish, offers
from restorecli.serve.worker import Worker

MOST_WORDS_BYTES = 4096  # of a request that is no photograph
GONE = "That photograph is not on the page any more."
BAD_REQUEST, NOT_FOUND, CONFLICT, TOO_LARGE, NO_PICTURE, NO_ROOM = 400, 404, 409, 413, 415, 507
Answer = Callable[[Request], Awaitable[Response]]


class TooLargeError(InputError):
    """More bytes than the page takes."""


class Pages:
    """Answers requests that the guard has let through."""

    def __init__(self, album: Album, worker: Worker, settings: Settings) -> None:
        self._album = album
        self._worker = worker
        self._settings = settings

    def app(self) -> Starlette:
        """All addresses below the token."""
        routes = {
            "GET /": self.show,
            "GET /parts/{name}": self.part,
            "GET /state": self.state,
            "POST /photos": self.receive,
            "DELETE /photos/{photo}": self.remove,
            "POST /photos/{photo}/runs": self.again,
            "GET /photos/{photo}/thumbnail": self.thumbnail,
            "GET /photos/{photo}/picture": self.original,
            "POST /runs/{run}/cancel": self.cancel,
            "POST /cancel": self.cancel_all,
            "GET /runs/{run}/picture": self.result,
            "GET /runs/{run}/file": self.download,
            "GET /results.zip": self.download_all,
        }
        found = []
        for where, answer in routes.items():
            method, path = where.split()
            found.append(Route(path, _in_words(answer), methods=[method]))
        return Starlette(routes=found)

    # ---- the page

    async def show(self, request: Request) -> Response:
        """The page itself."""
        return HTMLResponse(await run_sync(page, self._settings, offers()))

    async def part(self, request: Request) -> Response:
        """A style or a script of the page."""
        name = request.path_params["name"]
        if name not in PARTS:
            raise MissingError("There is no such part of the page.")
        kind, text = PARTS[name]
        return Response(text(), media_type=kind)

    async def state(self, request: Request) -> Response:
        """All that a tab shows, if it has changed since the tab asked last."""
        since = request.query_params.get("since", "0")
        found = self._album.snapshot(int(since) if since.isdecimal() else 0)
        return Response(status_code=204) if found is None else JSONResponse(found)

    # ---- photographs

    async def receive(self, request: Request) -> Response:
        """Take a photograph, as the body of the request, and let it wait for its turn."""
        name = plain_name(request.query_params.get("name", ""))
        wish = wish_of(dict(request.query_params))
        photo = self._album.receive(name)
        try:
            await self._store(request, photo)
            await run_sync(self._examine, photo)
        except BaseException as error:
            self._album.give_up(photo)
            shutil.rmtree(photo.folder, ignore_errors=True)
            if isinstance(error, InputError):
                error.args = (photo.told(error.message),)
            raise
        self._album.add(photo, wish)
        return JSONResponse({"id": photo.id}, status_code=201)

    async def _store(self, request: Request, photo: Upload) -> None:
        """Write what comes to the disk, as it comes; ``TooLargeError`` beyond the limit."""
        most = self._settings.limits.file_bytes
        promised = request.headers.get("content-length", "0")
        if promised.isdecimal() and int(promised) > most:
            raise _too_large(photo, most)
        try:
            photo.folder.mkdir()
            with photo.path.open("xb") as file:
                async for data in request.stream():
                    photo.size_bytes += len(data)
                    if photo.size_bytes > most:
                        raise _too_large(photo, most)
                    await run_sync(file.write, data)
        except OSError as error:
            raise OutputError(
                f"{photo.name} could not be kept: {error.strerror or error}.",
                hint="Make room on the disk, or name another folder with -o.",
            ) from error

    def _examine(self, photo: Upload) -> None:
        """Refuse what is no picture, as far as that can be known beside a run."""
        kind_of(photo.path)
        self._worker.look(photo, at_once=True)

    async def again(self, request: Request) -> Response:
        """Restore a photograph that is here in another way."""
        photo = self._photo(request)
        run = self._album.again(photo, wish_of(await words_of(request)))
        return JSONResponse({"id": run.id}, status_code=201)

    async def remove(self, request: Request) -> Response:
        """Forget a photograph and delete its original here; results stay in their folder."""
        photo = self._photo(request)
        self._album.remove(photo)
        await run_sync(partial(shutil.rmtree, photo.folder, ignore_errors=True))
        return Response(status_code=204)

    async def thumbnail(self, request: Request) -> Response:
        """A small copy."""
        return file_response(self._photo(request).thumbnail, "image/webp")

    async def original(self, request: Request) -> Response:
        """What a browser shows of the original."""
        return await picture_response(self._photo(request).shown.path)

    # ---- results

    async def cancel(self, request: Request) -> Response:
        """End a run."""
        self._album.cancel([self._run(request)])
        return Response(status_code=204)

    async def cancel_all(self, request: Request) -> Response:
        """End whatever waits and what is under way."""
        self._album.cancel(self._album.runs())
        return Response(status_code=204)

    async def result(self, request: Request) -> Response:
        """What a browser shows of a result."""
        return await picture_response(self._run(request).shown.path)

    async def download(self, request: Request) -> Response:
        """A result as the file it is."""
        path = self._run(request).result
        if path is None or not path.is_file():
            raise MissingError("That result is not there.")
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)

    async def download_all(self, request: Request) -> Response:
        """All results that are on the page, in one file."""
        paths = [run.result for run in self._album.runs() if run.result is not None]
        if not paths:
            raise MissingError("There is no result yet.")
        return StreamingResponse(
            zipped(paths),
            media_type="application/zip",
            headers={"Content-Disposition": 'attachment; filename="restored.zip"'},
        )

    def _photo(self, request: Request) -> Upload:
        photo = self._album.photo(request.path_params["photo"])
        if photo is None:
            raise MissingError(GONE)
        return photo

    def _run(self, request: Request) -> Run:
        run = self._album.run(request.path_params["run"])
        if run is None:
            raise MissingError(GONE)
        return run


class MissingError(RestoreError):
    """What was asked for is not there."""


STATUS: dict[type[RestoreError], int] = {
    MissingError: NOT_FOUND,
    TooLargeError: TOO_LARGE,
    InputError: NO_PICTURE,
    OutputError: NO_ROOM,
}


def _in_words(answer: Answer) -> Answer:
    """``answer`` whose failures are told in one sentence, with the status that fits."""

    async def answered(request: Request) -> Response:
        try:
            return await answer(request)
        except ClientDisconnect:  # nobody listens
            return Response(status_code=BAD_REQUEST)
        except RestoreError as error:
            status = next((s for kind, s in STATUS.items() if isinstance(error, kind)), BAD_REQUEST)
            return JSONResponse({"error": str(error)}, status_code=status)

    return answered


async def words_of(request: Request) -> dict[str, Any]:
    """A small object in JSON; ``UsageError`` for anything else."""
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > MOST_WORDS_BYTES:
            raise UsageError(f"A request may have {MOST_WORDS_BYTES} bytes.")
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UsageError("A request is an object in JSON.")
    return found


def wish_of(asked: dict[str, Any]) -> Wish:
    """What is to be done: ``task``, perhaps ``model`` and ``strength``, and what is done ``then``.

    Raises a ``RestoreError`` for what cannot be.
    """
    tasks = [str(asked.get("task", ""))]
    if tasks == [CHECK]:
        return Wish(tasks=(CHECK,), models=())
    if then := str(asked.get("then") or ""):
        tasks.append(then)
    known = offers()
    for task in tasks:
        if task not in known:
            raise UsageError(f"There is no task {task!r}.", hint=f"Tasks: {', '.join(known)}.")
    if len(set(tasks)) < len(tasks):
        raise UsageError(f"{tasks[0]} cannot be done twice.", hint="Choose another second task.")
    models = [known[task][0].id for task in tasks]
    if model := str(asked.get("model") or ""):
        if model not in {entry.id for entry in known[tasks[0]]}:
            raise UsageError(
                f"{model!r} is no network for {tasks[0]} on this machine.",
                hint="`restore models list` shows all.",
            )
        models[0] = model
    return Wish(tasks=tuple(tasks), models=tuple(models), strength=_strength(asked))


def _strength(asked: dict[str, Any]) -> float:
    try:
        strength = float(asked.get("strength", WHOLE))
    except (TypeError, ValueError):
        strength = -1.0
    if not 0 < strength <= WHOLE:  # nor NaN
        raise UsageError("The strength is a number above 0 and up to 1.")
    return strength


def _too_large(photo: Upload, most: int) -> TooLargeError:
    return TooLargeError(
        f"{photo.name} has more than {most / 1e6:,.0f} MB, which is the limit.",
        hint="`restore serve --max-size` raises it.",
    )


def file_response(path: Path | None, kind: str) -> Response:
    """A file that a browser shows; ``MissingError`` if it is not there."""
    if path is None or not path.is_file():
        raise MissingError("That picture cannot be shown.")
    return FileResponse(path, media_type=kind)


async def picture_response(path: Path | None) -> Response:
    """A picture with the type that its content has."""
    kind = await run_sync(identify, path) if path is not None and path.is_file() else None
    return file_response(path, BROWSER_FORMATS.get(kind or "", "application/octet-stream"))
