"""Checks that this Python's torch runs INT8 models on this machine; prints one sentence.

Builds of torch differ: Debian's for arm64 has no INT8 kernels, and PyPI's for ARM has no XNNPACK from 2.13 on. The
installer runs `python -m edge.vision.int8_check` in the checkout when only torch is installed, so neither this
module nor what it imports may need another package. `doctor` calls `main` in a child process, because a torch that was
built for another processor may crash.

Exit codes:
    0  INT8 runs
    1  it does not, or torch cannot be imported
    2  it runs, but on ARM without XNNPACK, and so takes several times as long
"""

from __future__ import annotations

import sys

WITHOUT_XNNPACK = 2


def main() -> int:
    """Print the sentence and return the exit code."""
    try:
        import torch

        from edge.board.processor import host_target
        from edge.errors import BundleError
        from edge.vision.engines.torch_kernels import host_kernels, use_kernels
        from edge.vision.torch_compat import runs_qint8
    except (ImportError, OSError) as error:
        print(f"{sys.executable} cannot import torch ({error}).")
        return 1
    try:
        target = host_target()
        use_kernels(host_kernels(target))  # as for a bundle that this machine exports
    except BundleError:
        engines = ", ".join(torch.backends.quantized.supported_engines)
        print(f"torch {torch.__version__} has no INT8 kernels for this processor (its engines: {engines})")
        return 1
    # A build for another processor can be imported and crashes at its first convolution.
    torch.nn.functional.conv2d(torch.ones(1, 8, 8, 8), torch.ones(8, 8, 3, 3))
    if target == "arm64" and not runs_qint8():
        print(f"torch {torch.__version__} does not reach XNNPACK; INT8 takes several times as long.")
        return WITHOUT_XNNPACK
    print(f"torch {torch.__version__} with the kernels for {torch.backends.cpu.get_cpu_capability()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
