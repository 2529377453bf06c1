"""Answer until somebody ends it: Ctrl-C, SIGTERM, or a closed terminal."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Thread

import uvicorn

from restorecli.files.atomic import remove_leftovers
from restorecli.machine.browser import open_in_browser
from restorecli.serve.addresses import hosts, listen
from restorecli.serve.album import Album
from restorecli.serve.guard import Guard, Keys
from restorecli.serve.settings import Settings
from restorecli.serve.uploads import uploads
from restorecli.serve.web import Pages
from restorecli.serve.worker import Worker

MOST_CONNECTIONS = 128
PATIENCE_S = 3  # for answers that are under way when all ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A page that is ready to answer: `run` does until something ends it."""

    address: str
    opening: str  # the same, for once
    album: Album
    server: uvicorn.Server
    listener: socket.socket

    def run(self) -> None:
        """Answer, in this thread."""
        with suppress(KeyboardInterrupt):  # which uvicorn sends once more when it has ended
            self.server.run(sockets=[self.listener])


@contextmanager
def prepared(settings: Settings) -> Iterator[Served]:
    """A page that listens; at the end the run under way is ended, and originals are removed.

    Raises a ``RestoreError`` for what cannot work at all.
    """
    listener = listen(settings.host, settings.port)
    names = hosts(settings.host, listener.getsockname()[1])
    with listener, uploads(settings.folder) as place:
        remove_leftovers(settings.folder)
        album = Album(place, most=settings.limits.photos)
        worker = Worker(album, settings)
        keys = Keys()
        guard = Guard(Pages(album, worker, settings).app(), keys, names)
        worker.start()
        try:
            yield Served(
                address=f"http://{names[0]}/{keys.token}/",
                opening=f"http://{names[0]}/open/{keys.ticket}",
                album=album,
                server=uvicorn.Server(_config(guard)),
                listener=listener,
            )
        finally:
            album.end()
            worker.join()


def serve(settings: Settings, *, opens: bool, tell: Callable[[str], None]) -> int:
    """Answer until somebody ends it; how many runs were cut off by that.

    Args:
        settings: Where the page is, and what it may do.
        opens: Open the page in the browser of this machine.
        tell: Is called with the page's address, which answers from then on.

    Raises a ``RestoreError`` for what cannot work at all.
    """
    with prepared(settings) as page:
        tell(page.address)
        if opens:
            Thread(target=open_in_browser, args=[page.opening], daemon=True).start()
        page.run()
        return len(page.album.end())


def _config(guard: Guard) -> uvicorn.Config:
    return uvicorn.Config(
        guard,
        http="h11",
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        access_log=False,  # it would show the token
        log_level="error",
        proxy_headers=False,  # whoever asks cannot pretend to be somebody else
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=PATIENCE_S,
    )
