"""Tests that the kept region is resized straight into the padded buffer, with torchvision's result."""

import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv
from torchvision.transforms import InterpolationMode

from edge.frames import Pixels
from edge.photos.decode import read_photo
from edge.vision.manifest import InputContract
from edge.vision.preprocess import fill, make_plan, new_buffer

BORDER = (124, 116, 104)
RESNET = InputContract(size=224, resize=256, border=(3, 3), border_rgb=BORDER)
BICUBIC = InputContract(size=224, resize=256, border=(1, 1), border_rgb=BORDER, interpolation="bicubic")
LITE = InputContract(size=224, resize=256, border=(0, 1), border_rgb=(127, 127, 127))


def noise(height: int, width: int) -> Pixels:
    """A picture as smooth as a photo, different everywhere."""
    coarse = np.random.default_rng(height * width).integers(0, 256, (12, 16, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def border_of(pixels: Pixels, contract: InputContract) -> Pixels:
    """Every pixel of the buffer outside the photo."""
    before, size = contract.border[0], contract.size
    mask = np.ones(pixels.shape[1:3], bool)
    mask[before : before + size, before : before + size] = False
    return pixels[0][mask]


@pytest.mark.parametrize("contract", [RESNET, LITE], ids=["both sides", "one side"])
def test_buffer_views_and_tensor_are_one_memory(contract: InputContract) -> None:
    buffer = new_buffer(contract)
    assert buffer.pixels.shape == (1, contract.side, contract.side, 3)
    assert buffer.interior.shape == (224, 224, 3)
    assert np.shares_memory(buffer.pixels, buffer.interior)
    tensor = torch.from_numpy(buffer.pixels)
    assert tensor.data_ptr() == buffer.pixels.ctypes.data
    assert (tensor.dtype, tensor.is_contiguous()) == (torch.uint8, True)


@pytest.mark.parametrize("contract", [RESNET, LITE, BICUBIC], ids=["both sides", "one side", "bicubic"])
@pytest.mark.parametrize("shape", [(480, 640), (1080, 1920), (640, 480), (256, 256), (224, 224), (30, 40), (1, 1)])
def test_filling_writes_the_photo_in_place_and_leaves_the_border(
    contract: InputContract, shape: tuple[int, int]
) -> None:
    buffer = new_buffer(contract)
    buffer.interior[:] = 7  # left over from an earlier frame
    memory = buffer.interior.ctypes.data
    fill(buffer, noise(*shape), contract)
    assert buffer.interior.ctypes.data == memory
    assert (buffer.interior != 7).any()
    start = contract.border[0]
    assert (buffer.pixels[0, start : start + 224, start : start + 224] == buffer.interior).all()
    assert (border_of(buffer.pixels, contract) == contract.border_rgb).all()


@pytest.mark.parametrize("contract", [RESNET, BICUBIC], ids=["bilinear", "bicubic"])
def test_filling_allocates_no_picture(contract: InputContract) -> None:
    """NumPy reports every array to tracemalloc; a picture of 224 × 224 would be 150 kB."""
    buffer, frame = new_buffer(contract), noise(480, 640)
    fill(buffer, frame, contract)
    tracemalloc.start()
    try:
        for _ in range(20):
            fill(buffer, frame, contract)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000


@pytest.mark.parametrize(
    ("height", "width"), [(256, 256), (480, 640), (640, 480), (1080, 1920), (2, 2), (1, 1), (1, 5000), (5000, 3)]
)
def test_what_is_read_lies_inside_the_picture(height: int, width: int) -> None:
    plan = make_plan(height, width, RESNET)
    assert 0 <= plan.top < plan.top + plan.height <= height
    assert 0 <= plan.left < plan.left + plan.width <= width
    assert plan.height >= plan.factor
    assert plan.width >= plan.factor


@pytest.mark.parametrize("shape", [(480, 640), (600, 400), (1080, 1920), (333, 517)])
def test_it_is_what_torchvision_makes_of_the_photo(shape: tuple[int, int]) -> None:
    """torchvision's steps: resize to 256 with antialiasing, then cut out the centre."""
    frame, buffer = noise(*shape), new_buffer(RESNET)
    fill(buffer, frame, RESNET)
    picture = tv.resize(torch.from_numpy(frame).permute(2, 0, 1), [256], antialias=True)
    expected = tv.center_crop(picture, [224]).permute(1, 2, 0).numpy()
    difference = np.abs(buffer.interior.astype(int) - expected.astype(int))
    assert difference.mean() < 1.0
    assert difference.max() <= 12


@pytest.mark.parametrize("name", ["camera", "chelsea", "coffee", "rocket"])
@pytest.mark.parametrize("short", [200, 256, 333, 480, 720, 1080, 3000])
def test_bicubic_is_what_torchvision_makes_of_photos(photos_dir: Path, name: str, short: int) -> None:
    """The bilinear result differs from it by 1 to 2 levels on these photos."""
    (file,) = photos_dir.glob(f"{name}.*")
    photo = read_photo(file)
    factor = short / min(photo.shape[:2])
    frame = cv2.resize(photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA).astype(np.uint8)
    buffer = new_buffer(BICUBIC)
    fill(buffer, frame, BICUBIC)
    picture = tv.resize(torch.from_numpy(frame).permute(2, 0, 1), [256], InterpolationMode.BICUBIC, antialias=True)
    expected = tv.center_crop(picture, [224]).permute(1, 2, 0).numpy()
    difference = np.abs(buffer.interior.astype(int) - expected.astype(int))
    assert difference.mean() < 0.6
    assert difference.max() <= 15


@pytest.mark.parametrize("contract", [RESNET, BICUBIC], ids=["bilinear", "bicubic"])
def test_red_stays_red(contract: InputContract) -> None:
    buffer = new_buffer(contract)
    fill(buffer, np.full((300, 300, 3), (200, 30, 10), np.uint8), contract)
    assert (buffer.interior == (200, 30, 10)).all()


def test_views_turned_and_flipped_are_taken_as_they_are() -> None:
    """The camera's geometry may return a view with any strides."""
    frame = noise(480, 640)
    for view in (frame[::-1, ::-1], frame.transpose(1, 0, 2), frame[::2, ::3]):
        one, other = new_buffer(RESNET), new_buffer(RESNET)
        fill(one, view, RESNET)
        fill(other, np.ascontiguousarray(view), RESNET)
        assert (one.pixels == other.pixels).all()
