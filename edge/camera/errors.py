"""Kinds of `CameraError` that the capture thread treats differently. After any other it opens the source again."""

from __future__ import annotations

from edge.errors import CameraError


class UnreadablePictureError(CameraError):
    """One picture cannot be decoded. The source stays open, and the next picture is tried."""


class LostCameraError(CameraError):
    """The camera is gone, and another call into its driver would hang or abort. Only a new process helps."""
