"""The CSI camera of a Jetson, through GStreamer's nvarguscamerasrc (experimental: never run on a real board)."""

from __future__ import annotations

import cv2

from edge.camera.geometry import Geometry
from edge.camera.opencv import OpenCVSource
from edge.errors import CameraError
from edge.settings.schema import CameraSettings

# Every sensor that Jetsons are sold with has this mode.
SENSOR_MODE = (1920, 1080)
SENSOR_FPS = 30


def has_gstreamer() -> bool:
    """Whether this OpenCV was built with GStreamer. PyPI's wheels are not, JetPack's and Debian's are."""
    return cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER)


class CsiSource(OpenCVSource):
    """`csi://0`. The ISP scales, and the pipeline keeps only the newest picture."""

    advice = "check the ribbon cable, and restart nvargus-daemon if another program crashed while using the camera"

    def __init__(self, sensor: int, settings: CameraSettings, geometry: Geometry) -> None:
        super().__init__(settings.source, geometry)
        self._sensor = sensor
        # The size is one of the sensor's aspect, because nvvidconv distorts. The frame rate stays the sensor's: the
        # capture thread limits it, since it may change while the pipeline runs.
        self._width, self._height = (n - n % 2 for n in geometry.fitted(*SENSOR_MODE))

    def pipeline(self) -> str:
        """The GStreamer pipeline, from sensor to BGR."""
        width, height = SENSOR_MODE
        return (
            f"nvarguscamerasrc sensor-id={self._sensor}"
            f" ! video/x-raw(memory:NVMM),width={width},height={height},framerate={SENSOR_FPS}/1"
            f" ! nvvidconv ! video/x-raw,format=BGRx,width={self._width},height={self._height}"
            " ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
        )

    def _open_capture(self) -> cv2.VideoCapture:
        if not has_gstreamer():
            raise CameraError(
                f"{self.name} needs an OpenCV with GStreamer, and this one has none; on a Jetson use JetPack's"
                " python3-opencv (make the venv with --system-site-packages and do not install"
                " opencv-python-headless there)."
            )
        return cv2.VideoCapture(self.pipeline(), cv2.CAP_GSTREAMER)
