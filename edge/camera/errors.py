"""What can go wrong with a camera beside a plain `CameraError`, after which it is closed and opened again."""

from __future__ import annotations

from edge.errors import CameraError


class UnreadablePictureError(CameraError):
    """One picture cannot be decoded, and the next may well be; the source goes on."""


class LostCameraError(CameraError):
    """The camera is gone, and calling into its driver again would hang or abort: only a new process helps."""
