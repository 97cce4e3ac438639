"""The token that protects the web server: read from a file, sent by programs, and proven by a browser's cookie.

The installer's `--web` writes the file, `server.py` reads it at the start, `page.py` sets the cookie after a login, and
`access_control.py` checks each request.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from edge.errors import ConfigError

COOKIE = "edge_session"
COOKIE_AGE_S = 30 * 24 * 3600
MIN_TOKEN = 16


def read_token(file: str) -> str:
    """The token in `file`; "" if no file is set, and then no token is required.

    Raises:
        ConfigError: the file cannot be read, or the token is too short.
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
    """The cookie's value: it proves that the browser had the token, without containing it."""
    return hmac.new(token.encode(), b"edge-classifier session", hashlib.sha256).hexdigest()


def is_token(candidate: str, token: str) -> bool:
    """Whether `candidate` is the token, in constant time."""
    # Digests have equal lengths, which hides the token's; and compare_digest refuses text that is not ASCII.
    return hmac.compare_digest(hashlib.sha256(candidate.encode()).digest(), hashlib.sha256(token.encode()).digest())
