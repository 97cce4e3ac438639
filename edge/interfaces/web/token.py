"""The one secret of the page: a token in a file, as a bearer or behind a cookie."""

from __future__ import annotations

import hashlib
import hmac
from http.cookies import CookieError, SimpleCookie
from pathlib import Path

from edge.errors import ConfigError

COOKIE = "edge_session"
COOKIE_AGE_S = 30 * 24 * 3600
MIN_TOKEN = 16


def read_token(file: str) -> str:
    """The token in `file`, or "" where none is set: then whoever can connect may look.

    Raises:
        ConfigError: the file cannot be read, or what it holds is easily guessed.
    """
    if not file:
        return ""
    try:
        token = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"web.token_file {file} cannot be read ({error}); make it readable for the daemon."
        ) from error
    if len(token) < MIN_TOKEN:
        raise ConfigError(
            f"web.token_file {file} holds fewer than {MIN_TOKEN} characters; make one with `openssl rand -hex 16`."
        )
    return token


def session_of(token: str) -> str:
    """What the cookie holds: proof of the token, without the token."""
    return hmac.new(token.encode(), b"edge-classifier session", hashlib.sha256).hexdigest()


def is_token(candidate: str, token: str) -> bool:
    """Whether somebody gave the token; takes the same time for every wrong one."""
    # Of equal length, so that not even the length is told; bytes, because compare_digest refuses other text.
    return hmac.compare_digest(hashlib.sha256(candidate.encode()).digest(), hashlib.sha256(token.encode()).digest())


def is_allowed(authorization: str, cookie: str, token: str) -> bool:
    """Whether these two headers carry the token, or proof of it."""
    scheme, _, bearer = authorization.partition(" ")
    if scheme.lower() == "bearer" and is_token(bearer.strip(), token):
        return True
    try:
        morsel = SimpleCookie(cookie).get(COOKIE)
    except CookieError:
        return False
    return morsel is not None and is_token(morsel.value, session_of(token))
