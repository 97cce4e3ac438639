"""Network cameras over RTSP, through OpenCV's FFmpeg."""

from __future__ import annotations

import cv2

from edge.camera.geometry import Geometry
from edge.camera.opencv import OpenCVSource
from edge.settings import CameraSettings
from edge.settings_file import mask


class RtspSource(OpenCVSource):
    """`rtsp://user:password@host/stream`; the stream's own size, shrunk to fit `size`.

    FFmpeg's time-outs are set below `stall_after_s`, so that a camera that falls silent is opened again here
    and does not have to be taken for one that blocks for ever.
    """

    def __init__(self, settings: CameraSettings, geometry: Geometry) -> None:
        super().__init__(mask(settings.source), geometry)
        self._url = settings.source
        self._timeout_ms = int(settings.stall_after_s * 600)

    def _open_capture(self) -> cv2.VideoCapture:
        timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, self._timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, self._timeout_ms]
        return cv2.VideoCapture(self._url, cv2.CAP_FFMPEG, timeouts)

    def _advice(self) -> str:
        return "check its address, user and password, and that the camera and the network are up"
