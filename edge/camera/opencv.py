"""The base class of the sources that read through OpenCV's VideoCapture: V4L2, RTSP, CSI and video files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import cv2
import numpy.typing as npt

from edge.camera.geometry import FrameBuffers, Geometry
from edge.camera.source import UnreadablePictureError
from edge.errors import CameraError
from edge.frames import Pixels
from edge.photos.decode import quiet_opencv


class OpenCVSource(ABC):
    """Reads pictures from a VideoCapture, which a subclass opens."""

    live = True
    moment_s = 0.0
    advice: str  # what to do when it cannot be opened, as the second half of a sentence

    def __init__(self, name: str, geometry: Geometry) -> None:
        self.name = name
        self._geometry = geometry
        self._capture: cv2.VideoCapture | None = None
        self._decoded: npt.NDArray[Any] | None = None  # filled again by each retrieve

    @abstractmethod
    def _open_capture(self) -> cv2.VideoCapture:
        """Open the device; `open` checks that it worked."""

    def _upright(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A decoded picture, turned as its device or file asks if OpenCV has not done so."""
        return image

    def open(self) -> None:
        """Open the device."""
        self.close()
        quiet_opencv()
        self._capture = self._open_capture()
        if not self._capture.isOpened():
            self.close()
            raise CameraError(f"{self.name} cannot be opened; {self.advice}.")

    def grab(self) -> bool:
        """Wait for the next picture."""
        if not self._opened().grab():
            raise CameraError(f"{self.name} has stopped delivering pictures; check its cable, power and network.")
        return True

    def retrieve(self, buffers: FrameBuffers) -> Pixels:
        """Decode the grabbed picture."""
        try:
            found, image = self._opened().retrieve(self._decoded)
        except cv2.error:  # such as a JPEG that ends in the middle
            found = False
        if not found:
            raise UnreadablePictureError(f"{self.name} delivered a picture that cannot be decoded.")
        self._decoded = image
        return self._geometry.apply(self._upright(image), buffers)

    def close(self) -> None:
        """Release the device."""
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.release()

    def _opened(self) -> cv2.VideoCapture:
        if self._capture is None:
            raise CameraError(f"{self.name} is not open.")
        return self._capture
