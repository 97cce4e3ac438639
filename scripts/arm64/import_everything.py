"""Import the whole package on ARM64, and run a convolution through XNNPACK; `scripts/test-wheels` calls this.

usage: import_everything.py CONSTRAINTS   (what is installed has to have the versions that are pinned for ARM64 there)
"""

import importlib
import pkgutil
import platform
import re
import sys
import time
from importlib.metadata import distributions
from pathlib import Path

import edge

PIN = re.compile(r"^([\w.-]+)==([\w.]+)(?:; platform_machine (==|!=) \"aarch64\")?$", re.MULTILINE)


def wrong_versions(constraints: Path) -> list[str]:
    """What is installed in another version than the one pinned."""
    pins = {
        name.lower(): version
        for name, version, machine in PIN.findall(constraints.read_text(encoding="utf-8"))
        if machine != "!="
    }
    installed = {found.metadata["Name"].lower().replace("_", "-"): found.version for found in distributions()}
    print(f"{len(pins.keys() & installed.keys())} pinned packages: {', '.join(sorted(pins.keys() & installed.keys()))}")
    return [
        f"{name} {version}, not {installed[name]}"
        for name, version in pins.items()
        if name in installed and installed[name].partition("+")[0] != version
    ]


def main() -> int:
    """Import, run, compare."""
    began = time.monotonic()
    names = [module.name for module in pkgutil.walk_packages(edge.__path__, "edge.")]
    names.remove("edge.__main__")  # it would run the command
    for name in names:
        importlib.import_module(name)
    import torch

    from edge.vision.torch_compat import runs_qint8

    torch.backends.quantized.engine = "qnnpack"
    problems = wrong_versions(Path(sys.argv[1]))
    if not runs_qint8():
        problems.append("torch has no qint8 convolution, so it does not reach XNNPACK")
    where = f"{platform.machine()}, Python {platform.python_version()}"
    print(f"{where}: {len(names)} modules of the package imported in {time.monotonic() - began:.0f} s")
    print(*problems, sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
