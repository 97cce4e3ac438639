"""Measures how well INT8 follows FP32 with each processor and engine that this machine can provide or imitate.

    python -m benchmarks.agreement PHOTOS --weights resnet18=FILE --weights efficientnet_lite0=FILE --trixie ROOT

PHOTOS is a folder. With --views four views of each photo (mirrored, two crops, the middle) are measured too, which
takes five times as long. On a processor with VNNI, one without it is imitated: oneDNN is limited to AVX2, and VNNI is
removed from the flags that the recipe reads. ROOT is a Debian trixie with python3-torch, as scripts/test-xnnpack makes
it (needs root): its torch has oneDNN and, on x86, XNNPACK, whose integer results are those of ARM. The kernels of
edge/kernels/ are compiled here; where this is no ARM64, in plain C, which gives the same and takes a second a photo.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edge.vision.manifest import Activations
from edge.workshop.export.network.architectures import architecture
from edge.workshop.export.quantize.kernels_network import unserved

if TYPE_CHECKING:
    import torch

    from edge.workshop.export.network.float_network import FloatNetwork

OWN = "own kernels"
# The activations for x86 and for ARM; ONNX Runtime runs both here.
ONNX: dict[str, Activations] = {"ONNX Runtime, uint8": "quint8", "ONNX Runtime, int8": "qint8"}
CASES = {  # name of the row: target, ONEDNN_MAX_CPU_ISA
    "x86 with VNNI": ("x86_64", ""),
    "x86 without VNNI": ("x86_64", "AVX2"),
    "XNNPACK": ("arm64", ""),
    OWN: (OWN, ""),
    "ONNX Runtime with VNNI": ("ONNX Runtime, uint8", ""),
    "ONNX Runtime without VNNI": ("ONNX Runtime, uint8", "AVX2"),  # its weights; no VNNI is hidden from it
    "ONNX Runtime on ARM": ("ONNX Runtime, int8", ""),
}


def main() -> None:
    """Print a table; each cell is measured in a separate process, because torch has one engine a process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--weights", action="append", required=True, metavar="ARCHITECTURE=FILE")
    parser.add_argument("--views", action="store_true")
    parser.add_argument("--trixie", type=Path, metavar="ROOT")
    arguments = parser.parse_args()
    print("| network | library | kernels | same top-1 | of views | logits' correlation |")
    print("|---|---|---|--:|--:|--:|")
    for pair in arguments.weights:
        name, _, file = pair.partition("=")
        for root in [None, arguments.trixie] if arguments.trixie else [None]:
            for case in CASES:
                if CASES[case][0] in ONNX and root is not None:
                    continue
                if case == OWN and (root is not None or unserved(architecture(name))):
                    continue
                if case != "XNNPACK" or root is not None:  # PyPI's torch has none for x86
                    cell = _apart(root, case, name, Path(file).resolve(), arguments.photos.resolve(), arguments.views)
                    plain, views = cell["photos"], cell.get("views")
                    of_views = f"{views['top1']:.1f} % of {views['photos']}" if views else "–"
                    print(
                        f"| {name} | {cell['library']} | {case} | {plain['top1']:.1f} % of {plain['photos']} |"
                        f" {of_views} | {plain['correlation']:.4f} |",
                        flush=True,
                    )


def _apart(
    root: Path | None, case: str, name: str, weights: Path, photos: Path, views: bool
) -> dict[str, dict[str, float]]:
    """`_measure` in a process, in the system below `root` if there is one."""
    target, isa = CASES[case]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | ({"ONEDNN_MAX_CPU_ISA": isa} if isa else {})
    arguments = [target, isa, name, "views" if views else ""]
    if root is None:
        command = [sys.executable, "-m", "benchmarks.agreement", "--measure", *arguments, str(weights), str(photos)]
    else:
        mounts = (
            'mount -t proc proc "$1/proc"; mount --rbind /sys "$1/sys"; mount --bind . "$1/srv";'
            ' mount --bind "$3" "$1/mnt"; cp "$2" "$1/tmp/weights.pth"; root=$1;'
            ' shift 3; cd /; PYTHONPATH=/srv exec chroot "$root" python3 -B -m'
            ' benchmarks.agreement --measure "$@" /tmp/weights.pth /mnt'
        )
        command = ["unshare", "--mount", "bash", "-euc", mounts, "-", str(root), str(weights), str(photos), *arguments]
    ran = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, dict[str, float]] = json.loads(ran.stdout)
    return answer


def _measure(target: str, isa: str, name: str, with_views: str, weights: str, photos: str) -> None:
    """Export for this processor, or one without VNNI, and hold it against FP32; prints JSON."""
    import numpy as np
    import torch

    from edge.events import Probabilities
    from edge.frames import Pixels
    from edge.photos.decode import read_photo
    from edge.photos.folders import photos_in
    from edge.vision.head import Head
    from edge.workshop.export.exporter import buffer_of
    from edge.workshop.export.judge.agreement import measure_agreement
    from edge.workshop.export.network.batch_norm_folding import fold_batch_norms
    from edge.workshop.export.weights.state_dict import read_weights

    def views(pixels: Pixels) -> Iterator[Pixels]:
        height, width = pixels.shape[:2]
        yield pixels[:, ::-1]
        yield pixels[: height * 4 // 5, : width * 4 // 5]
        yield pixels[height * 3 // 10 :, width * 3 // 10 :][:, ::-1]
        yield pixels[height // 6 : height - height // 6, width // 6 : width - width // 6]

    network = fold_batch_norms(architecture(name), read_weights(Path(weights), name).state)
    contract = network.architecture.contract
    files = photos_in(Path(photos))
    made_by, trunk = _trunk(target, isa, network, torch.from_numpy(buffer_of(read_photo(files[0]), contract)))
    head = Head(*(tensor.numpy() for tensor in network.head.linear))

    def int8(buffer: Pixels) -> Probabilities:
        with torch.inference_mode():
            return head.probabilities(trunk(torch.from_numpy(buffer))[0].numpy())

    plain = (buffer_of(read_photo(file), contract) for file in files)
    measured = {"photos": measure_agreement([int8], network, plain, len(files))[0].model_dump()}
    if with_views:
        others = (buffer_of(np.ascontiguousarray(view), contract) for file in files for view in views(read_photo(file)))
        measured["views"] = measure_agreement([int8], network, others, 4 * len(files))[0].model_dump()
    print(json.dumps({"library": made_by} | measured))


def _trunk(
    target: str, isa: str, network: FloatNetwork, example: torch.Tensor
) -> tuple[str, Callable[[torch.Tensor], torch.Tensor]]:
    """The library that computes INT8, and the features (1, features) of a buffer (1, side, side, 3)."""
    import torch

    from edge.kernels import library
    from edge.kernels.build import build
    from edge.vision.engines.torch_kernels import host_activations, host_kernels, use_kernels
    from edge.vision.torch_compat import load_script
    from edge.workshop.export.quantize import kernels_network, onnx_network
    from edge.workshop.export.quantize.int8_network import trunk_bytes
    from edge.workshop.export.quantize.ranges import data_free_ranges

    ranges = data_free_ranges(network)
    if target in ONNX:
        runtime = importlib.import_module("onnxruntime")
        model = onnx_network.trunk_bytes(network, ranges, ONNX[target], small_pairs=bool(isa))
        session = runtime.InferenceSession(model)
        return f"onnxruntime {runtime.__version__}", lambda pixels: torch.from_numpy(
            session.run(None, {"pixels": pixels.numpy()})[0]
        )
    if target == OWN:
        with tempfile.TemporaryDirectory() as folder:
            library.DIRECTORY = Path(folder)
            build()
            return f"torch {torch.__version__}", load_script(kernels_network.trunk_bytes(network, ranges))
    kernels = host_kernels(target)  # type: ignore[arg-type]
    use_kernels(kernels)
    activations = host_activations(target)  # type: ignore[arg-type]
    model = trunk_bytes(network, ranges, example, kernels, activations, small_pairs=bool(isa))
    return f"torch {torch.__version__}", load_script(model)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        _measure(*sys.argv[2:])
    else:
        main()
