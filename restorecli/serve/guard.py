"""Who is answered: a browser of this machine that knows the token, and no page of anybody else.

Other web pages can send requests to this machine too. They know neither the token, which is in the
address, nor can they set ``Host`` and ``Origin``, which browsers fill in truly.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OURSELVES = {"same-origin", "none"}  # values of Sec-Fetch-Site; none: typed, or from a bookmark
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(slots=True)
class Keys:
    """The token in the address, and a ticket that opens the page once.

    The ticket is what the browser's command line shows to other users of the machine.
    """

    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    ticket: str | None = field(default_factory=lambda: secrets.token_urlsafe(24))

    def is_token(self, text: str) -> bool:
        """Whether ``text`` is the token; takes as long for any text."""
        return hmac.compare_digest(text.encode(), self.token.encode())

    def takes_ticket(self, text: str) -> bool:
        """Whether ``text`` is the ticket, which is of no use after that."""
        if self.ticket is None or not hmac.compare_digest(text.encode(), self.ticket.encode()):
            return False
        self.ticket = None
        return True


class Guard:
    """Refuses what is not meant for the page, and adds headers that keep browsers strict."""

    def __init__(self, app: ASGIApp, keys: Keys, hosts: Collection[str]) -> None:
        self._app = app
        self._keys = keys
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the page answer."""
        if scope["type"] != "http":
            return
        answer: ASGIApp | None = self._refusal(scope)
        if answer is None:
            first, slash, rest = scope["path"].removeprefix("/").partition("/")
            if first == "open" and self._keys.takes_ticket(rest):
                answer = RedirectResponse(f"/{self._keys.token}/", status_code=303)
            elif not self._keys.is_token(first):
                answer = refused(404, "There is nothing here. Use the address that was printed.")
            elif not slash:
                answer = RedirectResponse(f"/{self._keys.token}/", status_code=307)
            else:
                answer = self._app
                scope = {**scope, "path": f"/{rest}", "raw_path": None}
        await answer(scope, receive, _strict(send))

    def _refusal(self, scope: Scope) -> Response | None:
        """Why a request is not answered at all."""
        headers = Headers(scope=scope)
        hosts = [host.lower() for host in headers.getlist("host")]
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return refused(403, f"This page answers at {', '.join(sorted(self._hosts))} only.")
        origins = set(headers.getlist("origin"))
        is_safe = scope["method"] in {"GET", "HEAD"}
        if origins - {f"http://{hosts[0]}"} or not (origins or is_safe):
            return refused(403, "Another page may not do this.")
        site = headers.get("sec-fetch-site", "none")
        is_visit = is_safe and headers.get("sec-fetch-mode") == "navigate"
        if site not in OURSELVES and not is_visit:
            return refused(403, "Another page may not ask for this.")
        return None


def refused(status: int, sentence: str) -> Response:
    """One sentence."""
    return PlainTextResponse(f"{sentence}\n", status_code=status)


def _strict(send: Send) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return with_headers
