"""Tests `edge-classifier bench` on a real bundle, with a real broker and without one."""

import json
import re
import shutil
import socket
from pathlib import Path

import pytest

from edge.settings.defaults import default_device_name
from edge.settings.schema import CameraSettings, MqttSettings, Settings
from edge.vision.bundle import GOLDEN
from edge.workshop.bench.benchmark import run_benchmark
from edge.workshop.bench.result import STAGES, Result, read_result
from tests.broker import Brokers, free_port
from tests.daemon_process import run_command
from tests.workshop.bench.results import CALM

SECONDS = "0.2"  # each figure has a minimum number of measurements, however short the run


def check(result: Result) -> None:
    """Check what holds on every machine."""
    assert set(result.stages) == set(STAGES)
    assert all(0 < one.p50 <= one.p95 <= one.p99 for one in result.stages.values())
    assert result.cold_start_s > 0
    assert result.import_library_s > 0
    assert result.sustained_fps > 0
    assert result.from_memory_fps > 0
    assert result.captured.endswith(", read and decoded anew for each frame")
    assert result.peak_memory_mb >= result.steady_memory_mb > 50
    assert result.upload is not None
    assert result.upload.answered == result.upload.requests
    assert result.batch_per_s is not None
    assert result.batch_per_s > 0
    assert [count.threads for count in result.thread_counts] == list(range(1, result.machine.processors + 1))
    for count in result.thread_counts:
        assert count.cpu_ms is not None
        assert count.busy_cpu_ms is not None
        assert count.busy_p50_ms is not None
        assert min(count.cpu_ms, count.busy_cpu_ms, count.busy_p50_ms) > 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_json_compare_and_plot_in_a_row(bundle_dir: Path, tmp_path: Path) -> None:
    nobody = {"EDGE_CLASSIFIER_MQTT_URL": f"mqtt://127.0.0.1:{free_port()}"}
    common = ("bench", "--model", bundle_dir, "--seconds", SECONDS)
    first = run_command(*common, "--json", **nobody)
    assert (first.returncode, first.stderr) == (0, "")
    result = Result.model_validate_json(first.stdout)
    check(result)
    assert result.model == bundle_dir.name
    assert result.stages["publish"].what.startswith("to outbox, no broker at 127.0.0.1")
    assert next(iter(json.loads(first.stdout))) == "schema"
    old = tmp_path / "old.json"
    old.write_text(first.stdout)
    second = run_command(*common, "--json", "--compare", old, "--plot", tmp_path / "chart.svg", **nobody)
    assert (second.returncode, second.stderr) == (0, "")
    comparison = Result.model_validate_json(second.stdout).comparison
    assert comparison is not None
    assert comparison.older == result
    assert comparison.now_over_before["inference p50"] > 0
    assert (tmp_path / "chart.svg").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_events_go_to_a_broker_that_answers(bundle_dir: Path, photos_dir: Path, brokers: Brokers) -> None:
    broker = brokers.start()
    heard = brokers.subscribe(broker)
    settings = Settings(mqtt=MqttSettings(url=broker.url), camera=CameraSettings(size=(320, 240)))
    conditions = iter([CALM, CALM.model_copy(update={"throttled": True})])
    result = run_benchmark(
        settings, bundle_dir, float(SECONDS), photos=photos_dir, read_condition=lambda: next(conditions)
    )
    check(result)
    assert result.stages["publish"].what == f"to the PUBACK of 127.0.0.1:{broker.port}"
    assert result.after.strained
    assert not result.before.strained
    # Nothing else is published under the box's name, and nothing is retained.
    assert {message.topic for message in heard.received} == {f"edge/{settings.device.name}/bench"}
    assert not any(message.retain for message in heard.received)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_configured_file_that_ends_is_measured_and_its_broken_photo_passed_over(
    bundle_dir: Path, photos_dir: Path, tmp_path: Path
) -> None:
    photo = (photos_dir / "rocket.jpg").read_bytes()
    (tmp_path / "0.jpg").write_bytes(photo[:3000])
    (tmp_path / "1.jpg").write_bytes(photo)
    camera = CameraSettings(source=f"file:{tmp_path}", loop=False)
    nobody = MqttSettings(url=f"mqtt://127.0.0.1:{free_port()}")
    check(run_benchmark(Settings(mqtt=nobody, camera=camera), bundle_dir, float(SECONDS), configured_camera=True))


def addresses() -> set[str]:
    """What identifies this machine: hardware addresses, serial numbers, the machine's id."""
    files = [
        *Path("/sys/class/net").glob("*/address"),
        *map(Path, ("/etc/machine-id", "/proc/device-tree/serial-number", "/sys/class/dmi/id/product_uuid")),
    ]
    found = {file.read_text(errors="replace").strip("\0\n ") for file in files if file.exists()}
    return found - {"", "00:00:00:00:00:00"}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_shared_file_names_neither_the_box_nor_its_user_and_is_never_overwritten(
    bundle_dir: Path, tmp_path: Path
) -> None:
    photos, file, port = tmp_path / "telltale-photos", tmp_path / "telltale-share.json", free_port()
    photos.mkdir()
    shutil.copy(bundle_dir / GOLDEN, photos / "telltale-photo.jpg")
    box = {
        "EDGE_CLASSIFIER_DEVICE_NAME": "telltale-porch",
        "EDGE_CLASSIFIER_MQTT_URL": f"mqtt://127.0.0.1:{port}",
        "EDGE_CLASSIFIER_MQTT_USERNAME": "telltale-account",
        "LOGNAME": "telltale-login",
    }
    arguments = ("bench", "--model", bundle_dir, "--photos", photos, "--seconds", SECONDS, "--share", file)
    done = run_command(*arguments, **box)
    assert done.returncode == 0, done.stderr
    assert "without a name of this box" in done.stderr
    assert "telltale-photos" in done.stdout  # the table on the box itself has the name
    text = file.read_text(encoding="utf-8")
    names = {"telltale", "127.0.0.1", "localhost", str(port), str(tmp_path), str(bundle_dir.parent), str(Path.home())}
    for name in names | addresses() | {socket.gethostname(), default_device_name()}:
        assert not re.search(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", text, re.IGNORECASE), name
    result = read_result(file)
    check(result.model_copy(update={"captured": "x, read and decoded anew for each frame"}))
    assert result.machine.kernel
    assert result.machine.cpu_features
    assert result.machine.memory_mb
    again = run_command(*arguments, **box)
    assert (again.returncode, file.read_text(encoding="utf-8")) == (78, text)
    assert "exists already; name another file" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--share", "nowhere/share.json"), 78, "There is no directory"),
        (("--compare", "nowhere.json"), 78, "nowhere.json cannot be read"),
        (("--photos", "nowhere"), 78, "There is no nowhere"),
        (("--plot", "chart.gif"), 2, "must end in .svg or .png"),
        (("--seconds", "0"), 2, "must be more than 0"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_measured(
    arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = run_command("bench", *arguments)
    assert done.returncode == code
    assert words in done.stderr
