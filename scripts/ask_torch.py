"""Says whether a Python's torch runs INT8 models on this machine; exit code 1 and one sentence where it does not.

Builds of torch differ: Debian's for arm64 reaches no INT8 kernels at all, and PyPI's lost XNNPACK with 2.13.
The installer runs it before anything else is there: it needs nothing but torch.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # whoever asks has not installed this package yet


def main() -> int:
    """Choose the engine that a model would get, and try it."""
    try:
        import torch

        from edge.errors import EdgeClassifierError
        from edge.vision.engine import host_activations, host_engine, host_target, use_engine
    except (ImportError, OSError) as error:
        print(f"{sys.executable} cannot import torch ({error}).")
        return 1
    told = f"torch {torch.__version__} (engines: {', '.join(torch.backends.quantized.supported_engines)})"
    try:
        target = host_target()
        engine = host_engine(target)
        use_engine(engine, small_pairs=True)  # as a bundle that is made here would be
    except EdgeClassifierError:
        print(f"{told} has no INT8 kernels for this processor.")
        return 1
    activations = host_activations(target)
    if target == "arm64" and activations != "qint8":
        print(f"{told} does not reach XNNPACK, without which INT8 takes several times as long.")
        return 1
    print(f"{told} runs INT8 with {engine}, {activations}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
