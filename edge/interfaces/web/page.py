"""The page itself: a few static files, read once, and the login form."""

from __future__ import annotations

import asyncio
import hashlib
from importlib.resources import files
from urllib.parse import parse_qs

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

from edge.interfaces.web.token import COOKIE, COOKIE_AGE_S, is_token, session_of

JAVASCRIPT = "text/javascript; charset=utf-8"
MEDIA_TYPES = {"page.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"} | dict.fromkeys(
    ("page.js", "plots.js", "photos.js", "bars.js", "words.js"), JAVASCRIPT
)
HTML = "text/html; charset=utf-8"
# The answer to a wrong token is delayed, so that guessing takes too long.
WRONG_TOKEN_S = 1.0
MAX_FORM_BYTES = 4096


def read_static(name: str) -> bytes:
    """One of the package's static files."""
    return (files("edge.interfaces.web") / "static" / name).read_bytes()


def add(app: FastAPI, token: str) -> None:
    """Add the page, its files and, if there is a token, the login form."""
    contents = {name: read_static(name) for name in MEDIA_TYPES}
    page = read_static("page.html")

    @app.get("/", include_in_schema=False)
    async def root(request: Request) -> Response:
        return _unless_cached(request, page, HTML)

    @app.get("/static/{name}", include_in_schema=False)
    async def static(request: Request, name: str) -> Response:
        if name not in contents:
            raise HTTPException(404, "There is no such file.")
        return _unless_cached(request, contents[name], MEDIA_TYPES[name])

    if token:
        _add_login(app, token)


def _unless_cached(request: Request, content: bytes, media_type: str) -> Response:
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media_type, headers=headers)


def _add_login(app: FastAPI, token: str) -> None:
    form = read_static("login.html")

    @app.get("/login", include_in_schema=False)
    async def show() -> Response:
        return Response(form, media_type=HTML)

    @app.post("/login", include_in_schema=False)
    async def login(request: Request) -> Response:
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > MAX_FORM_BYTES:
                raise HTTPException(413, "A login form is smaller.")
        given = parse_qs(body.decode(errors="replace")).get("token", [""])[0].strip()
        if not is_token(given, token):
            await asyncio.sleep(WRONG_TOKEN_S)
            return Response(form.replace(b" hidden", b""), 401, media_type=HTML)
        response = RedirectResponse("/", 303)
        secure = request.url.scheme == "https"  # as the reverse proxy reports it
        response.set_cookie(
            COOKIE, session_of(token), COOKIE_AGE_S, httponly=True, samesite="strict", secure=secure, path="/"
        )
        return response
