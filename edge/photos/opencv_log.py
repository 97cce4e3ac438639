"""Silences OpenCV's and FFmpeg's own messages on stderr."""

from __future__ import annotations

import os
from collections.abc import Callable


def quiet_opencv() -> None:
    """Silence OpenCV and FFmpeg; the project's own errors report the same faults.

    They write at each attempt to open a camera, hundreds of lines an hour while it is unplugged.
    """
    import cv2

    # PyPI's wheels have the function in cv2.utils.logging, Debian's package in cv2.

    set_level: Callable[[int], object] = (
        cv2.utils.logging.setLogLevel if hasattr(cv2.utils, "logging") else getattr(cv2, "setLogLevel")  # noqa: B009
    )
    set_level(0)  # silent
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET; read at FFmpeg's first use
