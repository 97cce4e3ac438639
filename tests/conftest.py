"""Fixtures for all tests: the test data, a bundle exported from real weights, brokers and configs."""

import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import samples
from tests.broker import Brokers, brokers_in
from tests.networks import NETWORKS, TESTDATA, bundle_of, lite0_file
from tests.skips import NoOtherSkips
from tests.vision.signed import small_bundle
from tests.workers import made_once

Configure = Callable[..., Path]

# Threads that wait for each other at the end of an operator sleep. If they spin, as OpenMP does by default, a test
# takes up to 25 times the processor time when another process uses one of the cores. torch reads this when imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.umask(0o022)  # bundles that tests copy and make are refused where a group may write to them


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--may-skip", metavar="FILE", help="fail each test that skips and is not named there")


def pytest_configure(config: pytest.Config) -> None:
    if (file := config.getoption("--may-skip")) is not None:
        config.pluginmanager.register(NoOtherSkips(Path(file)))


def pytest_report_header() -> str:
    return f"networks with real weights: {', '.join(NETWORKS)}; photos and videos: {TESTDATA or samples.PHOTOS}"


@pytest.fixture(scope="session")
def testdata() -> Path:
    """A folder with ResNet-18's weights, hundreds of labelled photos, and videos, which are not part of the project."""
    if not TESTDATA:
        pytest.skip("EDGE_CLASSIFIER_TESTDATA is not set: no labelled photos and no weights of a ResNet-18 here")
    return Path(TESTDATA)


@pytest.fixture(scope="session")
def photos_dir() -> Path:
    """The folder with the photos of `samples`."""
    if not samples.PHOTOS.is_dir():
        pytest.skip("there are no photos in .venv/photos; ./install.sh --dev brings them")
    return samples.PHOTOS


@pytest.fixture(scope="session")
def variants(photos_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """`samples.VARIANTS` pictures made from the photos, sorted."""
    return sorted(made_once(tmp_path_factory, "variants", samples.write_variants).iterdir())


@pytest.fixture(scope="session")
def photo_video(photos_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of `samples.VIDEO_FRAMES` frames."""
    return made_once(tmp_path_factory, "video", lambda home: samples.write_video(home / "pan.avi")) / "pan.avi"


@pytest.fixture(scope="session")
def weights_file() -> Path:
    """Real FP32 weights of EfficientNet-Lite0."""
    return lite0_file()


@pytest.fixture(scope="session")
def bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for this machine, made once for the whole run; a test that changes it has to copy it first."""
    return bundle_of("efficientnet_lite0", tmp_path_factory)


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """Restores logging, because a command run in this process logs to a stderr that is closed after the test."""
    log, root = logging.getLogger("edge"), logging.getLogger()
    before, of_root = (log.handlers[:], log.level, log.propagate), root.handlers[:]
    hooks = threading.excepthook, sys.unraisablehook
    yield
    logging.captureWarnings(False)
    threading.excepthook, sys.unraisablehook = hooks
    log.handlers[:], log.level, log.propagate = before
    root.handlers[:] = [handler for handler in root.handlers if handler in of_root]


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[Brokers]:
    """Starts real brokers and subscribers, and stops them after the test."""
    with brokers_in(tmp_path) as started:
        yield started


@pytest.fixture(scope="session")
def light_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for the daemon without torch."""
    return small_bundle(tmp_path_factory.mktemp("light"), b"black\ndarkest\ndarker\ndark\nlight\nlighter\nwhite\n")


@pytest.fixture
def configure(tmp_path: Path, request: pytest.FixtureRequest) -> Configure:
    """Writes a config; the keyword arguments are `section_key`."""

    def write(**changes: object) -> Path:
        bundle = changes.pop("model_bundle", None) or request.getfixturevalue("bundle_dir")
        sections: dict[str, dict[str, object]] = {
            "device": {"name": "porch"},
            "camera": {},
            "model": {"bundle": str(bundle), "threads": 1},
            "decision": {"smoothing_s": 0, "hold_s": 0},
            "mqtt": {},
            "fallback": {"path": str(tmp_path / "state" / "fallback.db")},
            "web": {"enabled": False},
        }
        for name, value in changes.items():
            section, key = name.split("_", 1)
            sections.setdefault(section, {})[key] = value
        text = "".join(
            f"[{section}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
            for section, keys in sections.items()
        )
        path = tmp_path / "config.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def may_be_anybody() -> bool:
    """Whether this process is root on a machine or container that has other users too."""
    others = int(Path("/proc/self/uid_map").read_text(encoding="utf-8").split()[2])
    return os.geteuid() == 0 and others > 65534


@contextmanager
def somebody_else() -> Iterator[None]:
    """The id of a user who is not root: as root, a test could read every file."""
    if not may_be_anybody():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
