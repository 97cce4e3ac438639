"""Makes each engine's own file of the same FP32 weights, in the way its documentation recommends."""

from __future__ import annotations

import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge.frames import Pixels
from edge.photos.decode import read_photo

Floats = npt.NDArray[np.float32]
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
SIDE = 224
CALIBRATION_PHOTOS = 100  # of the folder; enough for min-max ranges


def cropped(pixels: Pixels) -> Pixels:
    """(224, 224, 3) of a photo, (height, width, 3) uint8 RGB: short side 256, centre."""
    height, width = pixels.shape[:2]
    scale = 256 / min(height, width)
    size = (max(SIDE, round(width * scale)), max(SIDE, round(height * scale)))
    resized = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = (size[1] - SIDE) // 2, (size[0] - SIDE) // 2
    return resized[top : top + SIDE, left : left + SIDE]


def normalised(pixels: Pixels) -> Floats:
    """(1, 3, 224, 224) float32 of a photo, (height, width, 3) uint8 RGB: cropped and normalised."""
    floats = cropped(pixels).astype(np.float32) / 255
    return np.ascontiguousarray(((floats - MEAN) / STD).transpose(2, 0, 1)[None])


def calibration(folder: Path) -> Iterator[Floats]:
    """The calibration photos as the engines take them."""
    for photo in sorted(folder.iterdir())[:CALIBRATION_PHOTOS]:
        yield normalised(read_photo(photo))


def torchvision_resnet18(weights: Path) -> Any:
    """The FP32 network in eager mode."""
    import torch
    import torchvision

    network = torchvision.models.resnet18()
    state = torch.load(weights, weights_only=True, map_location="cpu")
    network.load_state_dict(state, strict=False)  # batch norms may lack their counters
    return network.eval()


def make_bundle(weights: Path, photos: Path, into: Path) -> None:
    """This project's, as `edge-classifier export` makes it: no calibration photos."""
    from edge.workshop.export.exporter import export_bundle
    from edge.workshop.export.weights.state_dict import read_weights

    del photos
    (into / "bundle").symlink_to(export_bundle(read_weights(weights, "resnet18"), into).directory.name)


def make_torchscript(weights: Path, photos: Path, into: Path) -> None:
    """Traced, as the tutorials do; and traced, frozen and optimised, the best that FP32 TorchScript can be."""
    import torch

    del photos
    traced = torch.jit.trace(torchvision_resnet18(weights), torch.zeros(1, 3, SIDE, SIDE))
    traced.save(str(into / "fp32.ts"))


def make_onnx(weights: Path, photos: Path, into: Path) -> None:
    """FP32, and QDQ with INT8 activations and INT8 weights per channel, calibrated by min and max."""
    import torch
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Photos(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._photos = calibration(photos)

        def get_next(self) -> dict[str, Floats] | None:
            photo = next(self._photos, None)
            return None if photo is None else {"input": photo}

    float_model, clean = into / "fp32.onnx", into / "clean.onnx"
    torch.onnx.export(
        torchvision_resnet18(weights),
        (torch.zeros(1, 3, SIDE, SIDE),),
        str(float_model),
        dynamo=False,
        input_names=["input"],
        output_names=["logits"],
        opset_version=17,
    )
    quant_pre_process(str(float_model), str(clean), skip_symbolic_shape=True)
    # u8 × s8 is what x86's VNNI multiplies, s8 × s8 what ARM does; ONNX Runtime recommends them so.
    for file, activations in (("int8.onnx", QuantType.QUInt8), ("int8-arm64.onnx", QuantType.QInt8)):
        quantize_static(
            str(clean),
            str(into / file),
            Photos(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=activations,
            weight_type=QuantType.QInt8,
        )


def make_executorch(weights: Path, photos: Path, into: Path) -> None:
    """XNNPACK, symmetric per channel, static activations."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from executorch.exir import to_edge_transform_and_lower
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    example = (torch.zeros(1, 3, SIDE, SIDE),)
    exported = torch.export.export(torchvision_resnet18(weights), example).module()
    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(exported, quantizer)
    with torch.no_grad():
        for photo in calibration(photos):
            prepared(torch.from_numpy(photo))
    converted = torch.export.export(convert_pt2e(prepared), example)
    program = to_edge_transform_and_lower(converted, partitioner=[XnnpackPartitioner()]).to_executorch()
    (into / "int8.pte").write_bytes(program.buffer)


def make_ncnn(weights: Path, photos: Path, into: Path) -> None:
    """FP32 through pnnx, and INT8 from it."""
    import pnnx
    import torch

    from benchmarks.ncnn_int8 import quantize

    torch.jit.trace(torchvision_resnet18(weights), torch.zeros(1, 3, SIDE, SIDE)).save(str(into / "ncnn.pt"))
    converter = Path(pnnx.__file__).parent / "pnnx"
    shape = f"inputshape=[1,3,{SIDE},{SIDE}]"
    subprocess.run([converter, "ncnn.pt", shape, "fp16=0"], cwd=into, check=True, capture_output=True)
    quantize(into / "ncnn.ncnn.param", into / "ncnn.ncnn.bin", calibration(photos), into / "ncnn-int8")


MAKERS: dict[str, Callable[[Path, Path, Path], None]] = {
    "bundle": make_bundle,
    "torchscript": make_torchscript,
    "onnx": make_onnx,
    "executorch": make_executorch,
    "ncnn": make_ncnn,
}


if __name__ == "__main__":
    import sys

    warnings.simplefilter("ignore")
    MAKERS[sys.argv[1]](*(Path(argument) for argument in sys.argv[2:5]))
