"""What tests show the model: four CC0 photos of scikit-image's wheel, and pictures and a video that are made of them.

`./install.sh --dev` brings the photos. What both EfficientNet-Lite0 and ResNet-18 say of them, by a good lead:
"""

from pathlib import Path

import cv2
import numpy as np

from edge.frames import Pixels
from edge.photos.decode import quiet_opencv

PHOTOS = Path(__file__).parents[1] / ".venv" / "photos"
LABELS = {"camera": "tripod", "coffee": "espresso", "rocket": "missile"}  # and of chelsea, some cat
INDEXES = {"camera": 872, "chelsea": 282, "coffee": 967, "rocket": 657}  # of ImageNet's classes

VARIANTS = 60
VIDEO_FRAMES, VIDEO_SIZE = 240, (320, 240)


def read(name: str) -> Pixels:
    """One of the photos as BGR pixels (height, width, 3)."""
    (file,) = PHOTOS.glob(f"{name}.*")
    pixels = cv2.imread(str(file), cv2.IMREAD_COLOR)
    assert pixels is not None, file
    return pixels


def write_variants(folder: Path) -> None:
    """Write `VARIANTS` JPEGs named `NN-NAME.jpg`: the photos in turn, closer, mirrored, darker and smaller."""
    names = sorted(INDEXES)
    photos = {name: read(name) for name in names}
    for number in range(VARIANTS):
        name, step = names[number % len(names)], number // len(names)
        height, width = photos[name].shape[:2]
        top, left = (int(side * 0.01 * (step % 5)) for side in (height, width))
        pixels = photos[name][top : height - top, left : width - left]
        if step % 2:
            pixels = pixels[:, ::-1]
        pixels = cv2.convertScaleAbs(pixels, alpha=1 - 0.04 * (step % 4))
        pixels = cv2.resize(pixels, None, fx=1 - 0.03 * step, fy=1 - 0.03 * step, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(folder / f"{number:02d}-{name}.jpg"), pixels, [cv2.IMWRITE_JPEG_QUALITY, 92])


def write_video(file: Path) -> None:
    """Write `VIDEO_FRAMES` frames at 10 a second that pan over one photo after the other."""
    quiet_opencv()
    video = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, VIDEO_SIZE)
    width, height = VIDEO_SIZE
    per_photo = VIDEO_FRAMES // len(INDEXES)
    for name in sorted(INDEXES):
        photo = cv2.resize(read(name), (width + per_photo, height))
        for step in range(per_photo):
            video.write(np.ascontiguousarray(photo[:, step : step + width]))
    video.release()
