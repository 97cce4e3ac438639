"""The token that protects the web server: read from a file, sent by programs, and proven by a browser's cookie.

The installer's `--web` writes the file, `server.py` reads it at the start, `page.py` sets the cookie after a login, and
`access_control.py` checks each request.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import math
import re
import stat
from collections.abc import Iterable
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

from edge.errors import ConfigError
from edge.text_file import NotTextError, read_text

COOKIE = "edge_session"
COOKIE_AGE_S = 30 * 24 * 3600
MAX_SESSIONS = 4
MIN_TOKEN = 16
MIN_BITS = 40.0  # as `_bits` counts; 16 random hexadecimal digits have about 50
HOW_TO_MAKE = "make one with `openssl rand -hex 16`."
# What people write where a token is asked for; guessed first.
_WORDS = re.compile(r"(?i)pass(word|wort|phrase)?|secret|token|admin|change[-_ ]?(me|it)|default|welcome|letmein|"
                    r"edge|classifier|raspberry|camera|qwerty|azerty|test|example")  # fmt: skip


class TokenFault(NamedTuple):
    """Why a token protects less than it should."""

    what: str
    remedy: str


def read_token(file: str) -> str:
    """The token in `file`; "" if no file is set, and then no token is required.

    Raises:
        ConfigError: the file cannot be read, or the token is too short.
    """
    if not file:
        return ""
    try:
        token = read_text(Path(file)).strip()
    except NotTextError as error:
        raise ConfigError(f"web.token_file {file} {error}.") from error
    except OSError as error:
        raise ConfigError(
            f"web.token_file {file} cannot be read ({error.strerror}); make it readable for the daemon."
        ) from error
    if len(token) < MIN_TOKEN:
        raise ConfigError(f"web.token_file {file} holds fewer than {MIN_TOKEN} characters; {HOW_TO_MAKE}")
    return token


def token_faults(file: str, token: str) -> list[TokenFault]:
    """What is wrong with a token that is used all the same.

    Args:
        file: where it was read.
        token: what `read_token` returned.
    """
    found = []
    if token and Path(file).stat().st_mode & stat.S_IROTH:
        found.append(TokenFault(f"Every user of this machine may read web.token_file {file}.", f"chmod o= {file}"))
    if token and _bits(token) < MIN_BITS:
        found.append(TokenFault(f"The token in web.token_file {file} can be guessed.", f"Instead, {HOW_TO_MAKE}"))
    return found


def _bits(token: str) -> float:
    """An upper limit of how random a token is: words, repetitions and rows such as 1234 count once."""
    rest = _WORDS.sub("", token)
    period = (rest + rest).find(rest, 1) if rest else 0
    piece = rest[:period]
    steps = [ord(second) - ord(first) for first, second in pairwise(piece)]
    in_a_row = sum(step == next_step and step in (-1, 0, 1) for step, next_step in pairwise(steps))
    return (len(piece) - in_a_row) * math.log2(max(1, len(set(piece))))


def token_of(authorization: str) -> str:
    """The token in an `Authorization` header, as a bearer or as the password of Basic; "" if there is none.

    Args:
        authorization: the header's bytes as Latin-1, as Starlette decodes them.
    """
    scheme, _, value = authorization.partition(" ")
    given = value.strip().encode("latin-1")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).partition(b":")[2]  # of any user
        except binascii.Error:
            return ""
    elif scheme.lower() != "bearer":
        return ""
    try:
        return given.decode()
    except UnicodeDecodeError:  # several programs send the password of Basic as Latin-1
        return given.decode("latin-1")


def sessions_in(cookies: Iterable[str]) -> list[str]:
    """The values of COOKIE in `Cookie` headers; the first few, as a browser sends one for each path at most."""
    pairs = (pair.partition("=") for header in cookies for pair in header.split(";"))
    return list(islice((value.strip(' \t"') for name, _, value in pairs if name.strip() == COOKIE), MAX_SESSIONS))


def session_of(token: str) -> str:
    """The cookie's value: it proves that the browser had the token, without containing it."""
    return hmac.new(token.encode(), b"edge-classifier session", hashlib.sha256).hexdigest()


def is_token(candidate: str, token: str) -> bool:
    """Whether `candidate` is the token, in constant time."""
    # Digests have equal lengths, which hides the token's; and compare_digest refuses text that is not ASCII.
    return hmac.compare_digest(hashlib.sha256(candidate.encode()).digest(), hashlib.sha256(token.encode()).digest())
