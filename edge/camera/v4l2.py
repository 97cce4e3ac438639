"""USB and other V4L2 cameras, through OpenCV."""

from __future__ import annotations

import fcntl
import logging
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2

from edge.camera.geometry import Geometry
from edge.camera.opencv import OpenCVSource
from edge.errors import CameraError
from edge.settings.schema import CameraSettings

logger = logging.getLogger("edge.camera")

DEV = Path("/dev")
VIDIOC_QUERYCAP = 0x80685600  # _IOR('V', 0, struct v4l2_capability), 104 bytes
CAPABILITY = struct.Struct("16s32s32sIII12x")
VIDEO_CAPTURE = 0x00000001 | 0x00001000  # single- or multi-planar
DEVICE_CAPS = 0x80000000
# Drivers of nodes that deliver raw sensor data or belong to an ISP; only libcamera can use them.
NOT_CAMERAS = ("bcm2835-isp", "bcm2835-codec", "unicam", "rp1-cfe", "pispbe", "rpivid", "rpi-hevc-dec", "tegra-video")
VGA = 640 * 480


@dataclass(frozen=True, slots=True)
class Node:
    """What a device node reports about itself."""

    driver: str
    card: str
    captures: bool


def query(path: Path) -> Node:
    """Query the capabilities of a node (VIDIOC_QUERYCAP).

    Raises:
        OSError: it is missing, this user may not open it, or it is no V4L2 device.
    """
    handle = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        answer = fcntl.ioctl(handle, VIDIOC_QUERYCAP, bytes(CAPABILITY.size))
    finally:
        os.close(handle)
    driver, card, _bus, _version, all_caps, node_caps = CAPABILITY.unpack(answer)
    caps = node_caps if all_caps & DEVICE_CAPS else all_caps
    name, title = (raw.split(b"\0")[0].decode(errors="replace") for raw in (driver, card))
    return Node(name, title, bool(caps & VIDEO_CAPTURE))


def stable_name(node: Path, dev: Path = DEV) -> Path | None:
    """The name of `/dev/videoN` that survives a reboot: by the camera's id, or else by the USB port.

    None if udev has made neither.
    """
    for kind in ("by-id", "by-path"):
        folder = dev / "v4l" / kind
        for name in sorted(folder.iterdir()) if folder.is_dir() else []:
            if name.resolve() == node.resolve():
                return name
    return None


def cameras(dev: Path = DEV) -> list[Path]:
    """The cameras of this machine, those with a stable name first."""
    # A udev rule may have made links such as video0_front, which are other names of the same nodes.
    numbered = [node for node in dev.glob("video[0-9]*") if node.name.removeprefix("video").isdecimal()]
    found = []
    for node in sorted(numbered, key=lambda node: int(node.name.removeprefix("video"))):
        try:
            about = query(node)
        except OSError:
            continue
        if about.captures and about.driver not in NOT_CAMERAS:
            found.append(node)
    return sorted((stable_name(node, dev) or node for node in found), key=lambda name: name.parent == dev)


class V4L2Source(OpenCVSource):
    """`v4l2:/dev/v4l/by-id/…`, any other path, or an index N for /dev/videoN.

    The path is resolved at each open, so that a camera is found again when it comes back under another number.

    Args:
        where: what follows `v4l2:`.
        settings: the camera's section.
        geometry: how pictures are turned into frames.
        dev: where device nodes are.
        query_node: queries the capabilities of a node.
        start: opens a node for reading pictures.
    """

    advice = "another program may be using it (fuser -v shows which), or it needs to be unplugged and plugged in"

    def __init__(
        self,
        where: str,
        settings: CameraSettings,
        geometry: Geometry,
        *,
        dev: Path = DEV,
        query_node: Callable[[Path], Node] = query,
        start: Callable[[str], cv2.VideoCapture] = lambda node: cv2.VideoCapture(node, cv2.CAP_V4L2),
    ) -> None:
        super().__init__(f"v4l2:{where}", geometry)
        self._path = dev / f"video{where}" if where.isdigit() else Path(where)
        self._by_number = where.isdigit()
        self._dev = dev
        self._query = query_node
        self._start = start
        self._settings = settings
        self._hinted = False

    def _open_capture(self) -> cv2.VideoCapture:
        node = self._checked_node()
        self._hint(node)
        # OpenCV reads this before its first picture. It makes a read from a silent camera fail instead of block.
        seconds = max(1, int(self._settings.stall_after_s / 2))
        os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(seconds))
        capture = self._start(str(node))
        width, height = self._settings.size
        if width * height > VGA:
            # USB 2 has no room for more than VGA at 30 pictures a second without compression.
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
        return capture

    def _checked_node(self) -> Path:
        node = self._path.resolve()
        try:
            found = self._query(node)
        except FileNotFoundError as error:
            raise CameraError(f"{self.name} is not there; plug the camera in{self._others()}.") from error
        except PermissionError as error:
            raise CameraError(f"{self.name} may not be opened; add this user to the group video.") from error
        except OSError as error:
            raise CameraError(f"{self.name} is no V4L2 device ({error.strerror}){self._others()}.") from error
        if not found.captures:
            raise CameraError(f"{self.name} ({found.card}) does not capture pictures{self._others()}.")
        return node

    def _others(self) -> str:
        names = ", ".join(f"v4l2:{name}" for name in cameras(self._dev))
        return f", or set camera.source to one of {names}" if names else ""

    def _hint(self, node: Path) -> None:
        """Log once, for a source given by its number, which name survives a reboot."""
        if self._by_number and not self._hinted and (name := stable_name(node, self._dev)):
            logger.info("%s may be another camera after a reboot; v4l2:%s stays this one.", self.name, name)
            self._hinted = True
