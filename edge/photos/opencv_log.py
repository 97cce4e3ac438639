"""Keeps OpenCV's and FFmpeg's own messages out of the log."""

from __future__ import annotations

import os
from collections.abc import Callable


def quiet_opencv() -> None:
    """Keep OpenCV and FFmpeg from writing to stderr what our own errors say once, in one sentence.

    They write at each attempt to open, hundreds of lines an hour with a camera unplugged.
    """
    # PyPI's wheels have it in cv2.utils.logging, Debian's module at its top.
    import cv2  # only where it is needed: the command line and the tests of delivery do without

    set_level: Callable[[int], object] = (
        cv2.utils.logging.setLogLevel if hasattr(cv2.utils, "logging") else getattr(cv2, "setLogLevel")  # noqa: B009
    )
    set_level(0)  # silent
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET; read at FFmpeg's first use
