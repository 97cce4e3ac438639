"""Which requests are allowed, and the security headers of every response."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.interfaces.web.problem_details import problem_response
from edge.interfaces.web.token import is_allowed

# Open to monitors, under any host name: their answers hold no secret.
PROBES = {"/healthz", "/readyz"}
# The login form and what it loads.
OPEN_PATHS = PROBES | {"/login", "/static/page.css", "/static/icon.svg"}
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
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
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        path, method = scope["path"], scope["method"]
        if not self._token and path not in PROBES and not _is_this_machine(headers.get("host", "")):
            # DNS rebinding: another site's page, whose host name now resolves to this address.
            return problem_response(403, "Without web.token_file the page answers to localhost and loopback addresses.")
        if method not in SAFE_METHODS and _is_foreign(headers):
            return problem_response(403, "This request comes from another site's page.")
        if not self._token or path in OPEN_PATHS:
            return None
        if is_allowed(headers.get("authorization", ""), headers.get("cookie", ""), self._token):
            return None
        if path == "/" and method == "GET":
            return RedirectResponse("/login", 303)
        return problem_response(
            401, "Send the token as `Authorization: Bearer …`, or log in at /login.", {"WWW-Authenticate": "Bearer"}
        )


def _is_this_machine(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or name.endswith(".localhost") or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _is_foreign(headers: Headers) -> bool:
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host", "")
