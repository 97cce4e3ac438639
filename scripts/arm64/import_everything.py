"""Import the whole package on ARM64, and run a convolution through XNNPACK; `scripts/test-wheels` calls this.

usage: import_everything.py REQUIREMENTS
REQUIREMENTS is the list of wheels.py: each package has to be installed in that version. Exits with 1 where one is not,
or where torch does not reach XNNPACK.
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

PIN = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)


def wrong_versions(requirements: Path) -> list[str]:
    """The packages that are missing, or installed in another version than the pinned one."""
    pins = dict(PIN.findall(requirements.read_text(encoding="utf-8")))
    installed = {found.metadata["Name"].lower().replace("_", "-"): found.version for found in distributions()}
    print(f"{len(pins)} pinned packages: {', '.join(sorted(pins))}")
    found = {name: installed.get(name, "none").partition("+")[0] for name in pins}
    return [f"{name} {version}, not {found[name]}" for name, version in pins.items() if found[name] != version]


def main() -> int:
    """Import, try XNNPACK, compare versions; returns the exit code."""
    began = time.monotonic()
    names = [module.name for module in pkgutil.walk_packages(edge.__path__, "edge.")]
    names.remove("edge.__main__")  # importing it would run the command
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
