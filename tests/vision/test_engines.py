"""Tests that engines are one module each: nothing else names one, and bundles are handled without their libraries."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from edge.vision.engines import ENGINES, cuda, onnxruntime, torchscript
from edge.vision.engines.engine import Engine
from tests.daemon_process import CHECKOUT, environment
from tests.vision.signed import install

NAMES = {*ENGINES, "onednn", "fbgemm", "qnnpack", "xnnpack", "tensorrt"}
LIBRARIES = {"torch", "onnxruntime", "torch_tensorrt", "torchvision"}
ROOMS = ("edge/vision/engines/", "edge/workshop/export/", "edge/kernels/")
# What else is about one engine, and why.
OTHERS = {
    "edge/vision/manifest.py": "reads schema 1, whose engines have fixed names",
    "edge/vision/int8_check.py": "what the engines of torch call; the installer runs it too",
    "edge/vision/torch_compat.py": "what the engines of torch and `export` share",
    "edge/commands/doctor_checks/model.py": "looks at a Jetson's parts, which only torch uses",
    "edge/settings/schema.py": "`model.device` is called cuda",
    "edge/vision/classifier.py": "`model.device` is called cuda",
    "edge/workshop/bench/machine.py": "the name of a GPU",
    "edge/workshop/evaluate/evaluate.py": "computes FP32",
}


def named(tree: ast.Module) -> Iterator[str]:
    """The engines and libraries that a module's code names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in NAMES:
            yield str(node.value)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in LIBRARIES)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            of_engine = node.module.startswith("edge.vision.engines.") and node.module != "edge.vision.engines.engine"
            from_all = node.module == "edge.vision.engines" and {alias.name for alias in node.names} & {*ENGINES}
            if of_engine or from_all or node.module.partition(".")[0] in LIBRARIES:
                yield node.module


def test_nothing_outside_asks_for_an_engine_by_its_name() -> None:
    found = {}
    for file in sorted((CHECKOUT / "edge").rglob("*.py")):
        path = file.relative_to(CHECKOUT).as_posix()
        if not path.startswith(ROOMS) and (names := sorted(set(named(ast.parse(file.read_text(encoding="utf-8")))))):
            found[path] = names
    assert {path: names for path, names in found.items() if path not in OTHERS} == {}
    assert OTHERS.keys() - found.keys() == set(), "no longer needed"


def test_every_engine_has_the_whole_interface() -> None:
    engines: list[Engine] = [torchscript, onnxruntime, cuda]  # mypy compares them with the protocol
    wanted = {name for name in vars(Engine) if not name.startswith("_")}
    assert {"check", "load", "describe", "check_beside", "self_check"} <= wanted
    for engine in engines:
        assert wanted - vars(engine).keys() == set(), engine


BUNDLES = """\
import sys
from pathlib import Path
from edge.cli import main
from edge.vision.bundle import load_bundle
from edge.vision.engines import ENGINES, engine_named, engine_of

bundle = load_bundle(Path(sys.argv[1]))
engine_of(bundle.manifest).check(bundle.manifest)
for name in ENGINES:
    engine_named(name)
assert main(["models", "list"]) == 0
print([name for name in ("torch", "onnxruntime", "torchvision") if name in sys.modules])
"""


def test_bundles_are_listed_read_and_checked_without_any_engines_library(bundle_dir: Path, tmp_path: Path) -> None:
    install(tmp_path / "models", bundle_dir)
    state = {"STATE_DIRECTORY": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", BUNDLES, bundle_dir],
        env=environment() | state,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"* {bundle_dir.name} " in ran.stdout
    assert ran.stdout.splitlines()[-1] == "[]"
