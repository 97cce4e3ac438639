"""The Raspberry Pi's cameras, through picamera2 and libcamera."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from edge.camera.geometry import FrameBuffers, Geometry
from edge.camera.source import LostCameraError, UnreadablePictureError
from edge.errors import CameraError
from edge.frames import Pixels
from edge.settings.schema import CameraSettings

# picamera2 raises these for a camera that is missing, busy or unplugged; libcamera's own errors are RuntimeErrors.
FAILURES = (RuntimeError, OSError, IndexError, TimeoutError, ValueError)
# libcamera names formats by the order in a little-endian word: its BGR888 is R, G, B in memory.
RED_GREEN_BLUE = "BGR888"
PICTURE_BUFFERS = 4  # of the camera: with fewer than 3 the sensor skips frames while one is being read


def import_picamera2() -> Any:
    """Import picamera2, which apt installs and pip cannot.

    Raises:
        CameraError: it is not installed, or does not work in this Python.
    """
    # libcamera writes a dozen lines to stderr at each open. Keep only its errors.
    os.environ.setdefault("LIBCAMERA_LOG_LEVELS", "*:ERROR")
    try:
        return importlib.import_module("picamera2")
    except (ImportError, ValueError) as error:  # ValueError: numpy 2 from PyPI under apt's simplejpeg
        raise CameraError(
            f"picamera2 cannot be imported ({error}); install it with apt install python3-picamera2, make the venv"
            " with --system-site-packages, and take numpy and OpenCV from apt as well."
        ) from error


def cameras(picamera2: Any) -> list[int]:
    """The numbers of the cameras on a ribbon cable, without the USB cameras, which V4L2 handles better."""
    found = picamera2.Picamera2.global_camera_info()
    return [int(camera["Num"]) for camera in found if "usb" not in str(camera.get("Id", "")).lower()]


class Picamera2Source:
    """`picamera2` or `picamera2:N`. The ISP scales to `size`, and a grabbed request is mapped, not copied."""

    live = True
    moment_s = 0.0

    def __init__(self, number: int, settings: CameraSettings, geometry: Geometry) -> None:
        self.name = f"picamera2:{number}"
        self._number = number
        self._geometry = geometry
        width, height = settings.size
        self._size = (width - width % 2, height - height % 2)  # the ISP writes even sizes only
        self._timeout_s = settings.stall_after_s * 0.6  # below the limit at which the watchdog ends the process
        self._camera: Any = None
        self._request: Any = None
        self._mapped: Any = None
        self._nodes: list[Path] = []

    def open(self) -> None:
        """Start the camera."""
        self.close()
        picamera2 = import_picamera2()
        self._mapped = picamera2.MappedArray
        try:
            camera = picamera2.Picamera2(self._number)
        except FAILURES as error:
            raise CameraError(
                f"{self.name} cannot be opened ({error}); check the ribbon cable, and that no other program uses it."
            ) from error
        self._camera = camera
        numbers = camera.camera_properties.get("SystemDevices", ())
        self._nodes = [Path(f"/sys/dev/char/{os.major(number)}:{os.minor(number)}") for number in numbers]
        try:
            main = {"format": RED_GREEN_BLUE, "size": self._size}
            # queue=False: a request waits for the next picture and does not return one that was taken before.
            configuration = camera.create_video_configuration(main=main, buffer_count=PICTURE_BUFFERS, queue=False)
            camera.configure(configuration)
            # libcamera may choose another format than requested, without an error.
            if (settled := camera.camera_configuration()["main"]["format"]) != RED_GREEN_BLUE:
                raise ValueError(f"it delivers {settled}, in which red and blue would be taken for each other")
            camera.start()
        except FAILURES as error:
            self.close()
            raise CameraError(f"{self.name} cannot be started ({error}); another camera.size may be needed.") from error

    def grab(self) -> bool:
        """Wait for the next picture; the camera is lost if none comes and its device nodes have disappeared."""
        if self._camera is None:
            raise CameraError(f"{self.name} is not open.")
        self._release_request()
        try:
            self._request = self._camera.capture_request(wait=self._timeout_s)
        except FAILURES as error:
            if not all(node.exists() for node in self._nodes):
                # Closing an unplugged camera hangs in picamera2, or aborts the process in libcamera's assertions.
                self._camera = None
                raise LostCameraError(f"{self.name} was unplugged; check the ribbon cable.") from error
            raise CameraError(f"{self.name} has stopped delivering pictures; check the ribbon cable.") from error
        return True

    def retrieve(self, buffers: FrameBuffers) -> Pixels:
        """Turn the camera's own memory into a frame, and return that memory to the camera."""
        if self._request is None:
            raise UnreadablePictureError(f"{self.name} has no picture.")
        try:
            with self._mapped(self._request, "main", write=False) as mapped:
                return self._geometry.apply(mapped.array, buffers, rgb=True)
        except FAILURES as error:
            raise UnreadablePictureError(f"{self.name} delivered a picture that cannot be mapped ({error}).") from error
        finally:
            self._release_request()

    def close(self) -> None:
        """Stop the camera. If it was unplugged, this blocks inside picamera2 until the process ends.

        Raises:
            CameraError: libcamera cannot release it.
        """
        camera, self._camera = self._camera, None
        if camera is None:
            return
        try:
            self._release_request()
            camera.close()
        except FAILURES as error:
            raise CameraError(f"{self.name} could not be closed ({error}).") from error

    def _release_request(self) -> None:
        request, self._request = self._request, None
        if request is not None:
            request.release()
