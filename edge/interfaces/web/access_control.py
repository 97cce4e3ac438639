"""Checks host, origin and token of every request, and adds the security headers to every response."""

from __future__ import annotations

import ipaddress
from http import HTTPStatus
from urllib.parse import urlsplit

from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.interfaces.web.problem_details import problem_response
from edge.interfaces.web.token import is_token, session_of, sessions_in, token_of
from edge.interfaces.web.wrong_tokens import WrongTokens

# Open to monitors, under any host name, because their answers contain no secret.
PROBES = {"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"}
# What the login form loads.
LOGIN_FILES = ("page.css", "icon.svg", "login.js", "dom.js", "net.js", "words.js")
# Open without the token: the probes, the login form and its files.
OPEN_PATHS = PROBES | {"/login"} | {f"/static/{name}" for name in LOGIN_FILES}
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
# In a header line separate from Bearer, because FFmpeg reads the first scheme of a line only.
BASIC = 'Basic realm="edge-classifier", charset="UTF-8"'
# Parsed by libraries in a time that grows with the square of their length, which is seconds at 60 kB: cookies by Python
# before 3.11.10 and 3.12.6, for every route, and ranges by Starlette before 0.49.1. No route reads them.
NOT_PASSED_ON = {b"cookie", b"range"}
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:;"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # no-referrer would make the login form's Origin "null"
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class AccessControl:
    """ASGI middleware that every request passes first.

    Args:
        app: the application that it protects.
        token: required of each request; "" allows every request that names this machine itself as its host.
        wrong_tokens: delays the answers to wrong tokens.
    """

    def __init__(self, app: ASGIApp, token: str, wrong_tokens: WrongTokens) -> None:
        self._app = app
        self._token = token
        self._wrong_tokens = wrong_tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(SECURITY_HEADERS)
                # A file's ETag lets the browser keep it and ask at each use whether it has changed.
                headers.setdefault("Cache-Control", "no-cache" if "ETag" in headers else "no-store")
            await send(message)

        refusal = self._refusal(Request(scope))
        # A request of another site is refused before its token is looked at.
        looked_at = refusal is not None and refusal.status_code != HTTPStatus.FORBIDDEN
        if self._token and looked_at and _gives_token(Headers(scope=scope)):
            await self._wrong_tokens.delay(scope, receive)
        scope = {**scope, "headers": [header for header in scope["headers"] if header[0] not in NOT_PASSED_ON]}
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> Response | None:
        headers, method, path = request.headers, request.method, request.scope["path"]
        if not self._token and path not in PROBES and not _is_this_machine(headers.get("host", "")):
            # DNS rebinding: another site's page, whose host name now resolves to this address.
            sentence = "Without web.token_file the page answers to localhost and loopback addresses."
            return problem_response(403, sentence, path=path)
        if method not in SAFE_METHODS and _is_foreign(headers):
            return problem_response(403, "This request comes from another site's page.", path=path)
        if not self._token or path in OPEN_PATHS or _proves_token(headers, self._token):
            return None
        if path == "/" and method == "GET":
            return RedirectResponse("/login", 303)
        wrong = "This is not the token in web.token_file, or it was changed after the login. "
        way = "Send the token as `Authorization: Bearer …` or as the password of Basic, or log in at /login."
        sentence = (wrong if _gives_token(headers) else "") + way
        refusal = problem_response(401, sentence, path=path)
        refusal.headers.append("WWW-Authenticate", "Bearer")
        if not _is_browser(headers):
            refusal.headers.append("WWW-Authenticate", BASIC)
        return refusal


def _is_this_machine(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or name.endswith(".localhost") or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _gives_token(headers: Headers) -> bool:
    return "authorization" in headers or bool(sessions_in(headers.getlist("cookie")))


def _proves_token(headers: Headers, token: str) -> bool:
    given = token_of(headers.get("authorization", ""))
    session = session_of(token)
    return is_token(given, token) or any(is_token(one, session) for one in sessions_in(headers.getlist("cookie")))


def _is_browser(headers: Headers) -> bool:
    # A browser that is offered Basic covers the page with its own dialog, even for what a script of the page fetches.
    return "mozilla/" in headers.get("user-agent", "").lower() or "sec-fetch-mode" in headers


def _is_foreign(headers: Headers) -> bool:
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    try:
        return origin is not None and urlsplit(origin).netloc != headers.get("host", "")
    except ValueError:  # not a URL, such as http://[
        return True
