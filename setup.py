"""The metadata is in setup.cfg; this adds the kernels' library to a wheel that is built on ARM64 with a C compiler.

Such a wheel is tagged for its platform, but for no version of Python, which the library does not use. Everywhere else,
and where the compiler fails, the wheel is pure.
"""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).parent))
from edge.kernels import library
from edge.kernels.build import build


class WithKernels(build_py):
    """Copies the package, then compiles the library beside its sources; an editable one gets it from the installer."""

    def run(self) -> None:
        super().run()
        if library.is_arm64() and not self.editable_mode:
            try:
                build(Path(self.build_lib, "edge", "kernels"))
            except library.KernelsError as error:
                print(f"{error} The wheel is without them.", file=sys.stderr)


class ForThisPlatform(bdist_wheel):
    """Tags the wheel by what was built."""

    def run(self) -> None:
        self.run_command("build")
        if any(Path(self.get_finalized_command("build").build_lib).glob("edge/kernels/*.so")):
            self.root_is_pure = False
            self.distribution.has_ext_modules = lambda: True  # so all files go where a library belongs
        super().run()

    def get_tag(self) -> tuple[str, str, str]:
        python, abi, platform = super().get_tag()
        return (python, abi, platform) if self.root_is_pure else ("py3", "none", platform)


setup(cmdclass={"build_py": WithKernels, "bdist_wheel": ForThisPlatform})
