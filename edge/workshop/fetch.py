"""Fetch a file over HTTP, hashing what comes."""

from __future__ import annotations

import hashlib
import urllib.request
from collections.abc import Callable
from pathlib import Path

TIMEOUT_S = 20.0
CHUNK_BYTES = 1 << 18

Progress = Callable[[int, int], None]  # bytes so far, bytes in all (0: not known)


def fetch(url: str, file: Path, progress: Progress, at_most_bytes: int | None = None) -> str:
    """Write what `url` serves to `file`; returns its sha256.

    Raises:
        OSError, http.client.HTTPException: it cannot be reached, broke off, or has more than `at_most_bytes`.
    """
    digest = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response, file.open("wb") as out:
        total, done = int(response.headers.get("Content-Length") or 0), 0
        while chunk := response.read(CHUNK_BYTES):
            done += len(chunk)
            if at_most_bytes is not None and max(done, total) > at_most_bytes:
                raise ConnectionError(f"it has more than {at_most_bytes >> 20} MB")
            out.write(chunk)
            digest.update(chunk)
            progress(done, total)
    if done < total:
        raise ConnectionError(f"it broke off after {done} of {total} bytes")
    return digest.hexdigest()
