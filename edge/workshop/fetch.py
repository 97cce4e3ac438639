"""Fetches a file over HTTP and computes its sha256 on the way; makes the progress bar of downloads."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

TIMEOUT_S = 20.0
CHUNK_BYTES = 1 << 18

Progress = Callable[[int, int], None]  # bytes so far, bytes in all (0: not known)


def fetch(url: str, file: Path, progress: Progress, at_most_bytes: int | None = None) -> str:
    """Write what `url` serves to `file`; returns its sha256.

    Raises:
        OSError: it cannot be reached or written, the connection broke, or it has more than `at_most_bytes`.
    """
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response, file.open("wb") as out:
            total, done = int(response.headers.get("Content-Length") or 0), 0
            while chunk := response.read(CHUNK_BYTES):
                done += len(chunk)
                if at_most_bytes is not None and max(done, total) > at_most_bytes:
                    raise ConnectionError(f"it has more than {at_most_bytes >> 20} MB")
                out.write(chunk)
                digest.update(chunk)
                progress(done, total)
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        raise OSError(getattr(error, "reason", None) or error) from error
    if done < total:
        raise ConnectionError(f"it broke off after {done} of {total} bytes")
    return digest.hexdigest()


@contextmanager
def progress_bar(description: str | None = None) -> Iterator[Progress]:
    """A bar on a terminal, from half a second on; nothing anywhere else."""
    with tqdm(unit="B", unit_scale=True, desc=description, leave=False, disable=None, delay=0.5) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total or None
            bar.update(done - bar.n)

        yield show
