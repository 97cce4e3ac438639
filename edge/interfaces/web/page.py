"""The page itself: its static files, and the login form."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import parse_qs

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles

from edge.interfaces.web.token import COOKIE, COOKIE_AGE_S, is_token, session_of
from edge.interfaces.web.wrong_tokens import WrongTokens

STATIC = Path(__file__).parent / "static"
MAX_FORM_BYTES = 4096


class _Files(StaticFiles):
    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        # Starlette 0.46, Debian trixie's, raises ValueError for a zero byte.
        return ("", None) if "\0" in path else super().lookup_path(path)


def add(app: FastAPI, token: str, wrong_tokens: WrongTokens) -> None:
    """Add the page, its files and, if there is a token, the login form."""
    static = _Files(directory=STATIC)
    app.mount("/static", static)

    @app.get("/", include_in_schema=False)
    async def root(request: Request) -> Response:
        return await static.get_response("page.html", request.scope)

    if token:
        _add_login(app, static, token, wrong_tokens)


def _add_login(app: FastAPI, static: StaticFiles, token: str, wrong_tokens: WrongTokens) -> None:
    @app.get("/login", include_in_schema=False)
    async def show(request: Request) -> Response:
        return await static.get_response("login.html", request.scope)

    @app.post("/login", include_in_schema=False)
    async def login(request: Request) -> Response:
        body = await _body(request)
        given = parse_qs(body.decode(errors="replace")).get("token", [""])[0].strip()
        if not is_token(given, token):
            await wrong_tokens.delay(request.scope, request.receive)
            form = (STATIC / "login.html").read_text(encoding="utf-8")
            return HTMLResponse(form.replace(" hidden", ""), 401)
        response = RedirectResponse("/", 303)
        secure = request.scope["scheme"] == "https"  # as the reverse proxy reports it
        response.set_cookie(
            COOKIE, session_of(token), COOKIE_AGE_S, httponly=True, samesite="strict", secure=secure, path="/"
        )
        return response


async def _body(request: Request) -> bytes:
    body = b""
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > MAX_FORM_BYTES:
                raise HTTPException(413, "A login form is smaller.")
    except ClientDisconnect as error:
        raise HTTPException(400, "The client went away while sending.") from error
    return body
