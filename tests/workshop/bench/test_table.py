"""Tests that the table fits a terminal, names the best number of threads, and marks a throttled run."""

import json
from pathlib import Path

import pytest

import edge.workshop.bench
from edge.board.child_process import run_apart
from edge.errors import ConfigError
from edge.vision.bundle import load_bundle
from edge.vision.manifest import Candidate as ManifestCandidate
from edge.vision.manifest import Measured
from edge.workshop.bench.machine import condition, machine, made
from edge.workshop.bench.result import Condition, ThreadCount, latency, read_result
from edge.workshop.bench.table import compared, comparison, table
from tests.vision.signed import signed, small_bundle
from tests.workshop.bench.results import CALM, result


def test_a_table_fits_80_columns_and_says_what_it_ran_on() -> None:
    text = table(result())
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith("resnet18-int8-3fa9c1 on Raspberry Pi 4 Model B Rev 1.4\n")
    for words in ("15.7 fps", "97 % of it", "9.10 s", "288 MB steady", "52 °C", "61 °C", "engine qnnpack"):
        assert words in text
    assert "16.0 fps, all but capture and decoding: 99 % of it" in text
    assert "s to the first label, 6.90 s to import torch\n" in text
    assert "\nframes      a-camera" in text
    for stage in ("capture", "preprocess", "inference", "decision", "publish"):
        assert stage in text


def test_the_best_thread_count_is_marked_be_it_not_the_highest() -> None:
    (best,) = [line for line in table(result()).splitlines() if line.endswith("best")]
    assert best.startswith("3 threads")
    assert result().best_threads == 3


def test_a_bar_shows_the_time_beside_busy_loops_unless_an_older_version_measured() -> None:
    one = ThreadCount(threads=1, p50_ms=9.85, cpu_ms=9.8, busy_p50_ms=20.1, busy_cpu_ms=10.0)
    (bar,) = [line for line in table(result(thread_counts=(one,))).splitlines() if line.startswith("1 thread ")]
    assert bar.startswith("1 thread         9.85 ms, busy    20.10 ms  ██")
    assert "busy" not in table(result())


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("strain", "words"),
    [({"under_voltage": True}, "THROTTLED: under-voltage"), ({"throttled": True}, "THROTTLED: the processor")],
)
def test_a_throttled_run_says_so_in_its_first_line(when: str, strain: dict[str, bool], words: str) -> None:
    strained = result(**{when: CALM.model_copy(update=strain)})
    assert table(strained).splitlines()[0].startswith(words)
    assert comparison(result(), strained).splitlines()[0].startswith(words)
    assert "THROTTLED: the older run was" in comparison(strained, result())


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("0", "50000", "THROTTLED: under-voltage or over-current during the run"),
        ("50000", "50000", ""),  # already set before the run, so it shows nothing about the run
        ("10000", "50000", "THROTTLED: the processor was slowed down during the run"),
        ("0", "0", ""),
    ],
)
def test_a_strain_that_came_and_went_during_the_run_is_in_its_first_line(
    before: str, after: str, words: str, tmp_path: Path
) -> None:
    flags = tmp_path / "sys/devices/platform/soc/soc:firmware/get_throttled"
    flags.parent.mkdir(parents=True)
    seen = []
    for bits in (before, after):
        flags.write_text(f"{bits}\n")
        seen.append(condition(tmp_path).model_copy(update={"load": 0.0}))
    run = result(before=seen[0], after=seen[1])
    assert not run.before.strained
    assert not run.after.strained
    assert table(run).startswith(words or run.model)
    assert ("THROTTLED: the older run was" in comparison(run, result())) == bool(words)


def test_a_jetsons_over_current_during_the_run_is_in_its_first_line() -> None:
    once, again = (CALM.model_copy(update={"over_current_events": events}) for events in (1, 2))
    assert table(result(before=once, after=once)).startswith("resnet18")
    assert table(result(before=once, after=again)).startswith("THROTTLED: under-voltage or over-current during the run")


def test_a_run_next_to_busy_processes_is_marked_in_the_first_line() -> None:
    assert table(result(before=CALM.model_copy(update={"load": 9.0}))).startswith("BUSY: ")


def test_two_runs_side_by_side() -> None:
    text = comparison(result(), result(sustained_fps=31.4))
    assert max(map(len, text.splitlines())) <= 80
    (line,) = [line for line in text.splitlines() if line.startswith("sustained")]
    assert line.split() == ["sustained", "15.7", "fps", "31.4", "fps", "2.00", "×"]


def test_two_runs_are_named_in_full_with_the_engines_that_ran_them() -> None:
    machine = result().machine.model_copy(update={"engine": "onnxruntime", "library": "ONNX Runtime 1.22.1"})
    text = comparison(
        result(model="efficientnet_lite0-int8-91592d"),
        result(model="efficientnet_lite0-int8-505281", machine=machine),
    )
    before, now = (" ".join(part.split()) for part in text.partition("\n\n")[0].split("\nnow "))
    assert before.startswith("before efficientnet_lite0-int8-91592d, qnnpack, ")
    assert now.startswith("efficientnet_lite0-int8-505281, onnxruntime, ")
    assert now.endswith(", ONNX Runtime 1.22.1")
    assert max(map(len, text.splitlines())) <= 80


def test_a_board_without_sensors_has_a_table_too() -> None:
    blind = Condition(temperature_celsius=None, under_voltage=False, throttled=False, load=0.0)
    assert "°C" not in table(result(before=blind, after=blind))


def test_percentiles_are_latencies_that_happened() -> None:
    one = latency([float(n) for n in range(1, 101)], "")
    assert (one.p50, one.p95, one.p99) == (50, 95, 99)
    assert latency([7.0], "").p99 == 7.0


def test_json_comes_back_as_it_went(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text(result().to_json())
    assert read_result(file) == result()


def test_a_comparison_is_in_the_json_too_and_can_be_compared_with_again(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    assert "comparison" not in result().to_json()
    stages = result().stages | {"capture": result().stages["capture"].model_copy(update={"p50": 0.0})}
    second = compared(result(stages=stages), result(sustained_fps=31.4))
    file.write_text(second.to_json())
    assert read_result(file) == second
    third = json.loads(compared(read_result(file), result(cold_start_s=18.2)).to_json())["comparison"]
    assert third["older"]["sustained_fps"] == 31.4
    assert third["older"]["comparison"] is None
    assert (third["now_over_before"]["cold start"], third["now_over_before"]["sustained"]) == (2.0, 0.5)
    assert second.comparison is not None
    assert "capture p50" not in second.comparison.now_over_before


def test_a_file_of_an_older_version_is_read_and_compared(tmp_path: Path) -> None:
    """Schema 1 had torch's version and build apart, and neither uploads nor batches."""
    fields = json.loads(result().to_json())
    machine = fields["machine"]
    machine |= {"torch": "2.6.0", "torch_build": "OpenMP, XNNPACK"}
    del machine["library"], fields["upload"], fields["no_upload"], fields["batch_per_s"]
    for one in fields["stages"].values():
        del one["mean"]
    fields |= {"schema": 1, "import_torch_s": fields.pop("import_library_s")}
    file = tmp_path / "old.json"
    file.write_text(json.dumps(fields))
    old = read_result(file)
    assert old.machine.library == "torch 2.6.0, built with OpenMP, XNNPACK"
    assert (old.import_library_s, old.batch_per_s, old.upload) == (6.9, None, None)
    assert "uploads: not measured, because an older version wrote this" in table(old)
    text = comparison(old, result())
    assert max(map(len, text.splitlines())) <= 80
    assert "upload to answer" not in text
    assert compared(old, result()).comparison is not None


@pytest.mark.parametrize("content", [None, "", "{}", "[1]", '{"schema": 2}', '{"schema": 3}'])
def test_another_file_is_refused_in_a_sentence(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "run.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=r"run\.json .*\.$"):
        read_result(file)


def test_nothing_of_bench_imports_torch_until_a_bundle_needs_it() -> None:
    """A box with ONNX Runtime alone has no torch."""
    names = [f"edge.workshop.bench.{file.stem}" for file in Path(edge.workshop.bench.__path__[0]).glob("[a-z]*.py")]
    program = (
        f"import sys, importlib\nfor name in {names!r}: importlib.import_module(name)\nprint('torch' in sys.modules)"
    )
    assert run_apart(f"{program}").output == "False"


def test_what_export_compared_is_read_from_the_manifest(bundle_dir: Path) -> None:
    manifest = load_bundle(bundle_dir).manifest
    assert made(manifest.model_copy(update={"measured": None})).candidates == ()
    candidates = (ManifestCandidate(engine="torchscript", options={"kernels": "edge"}, ms=31.2, agrees=True),)
    measured = Measured(ms=31.2, threads=4, board="Raspberry Pi 4", candidates=candidates)
    found = made(manifest.model_copy(update={"measured": measured}))
    assert (found.precision, found.board, found.threads) == ("int8", "Raspberry Pi 4", 4)
    assert [(one.engine, one.ms, one.agrees) for one in found.candidates] == [("torchscript edge", 31.2, True)]


def test_the_machine_is_described_from_its_own_files(tmp_path: Path) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_text("Raspberry Pi 5 Model B Rev 1.0\0")
    core = "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd0b\n"
    (tmp_path / "proc/cpuinfo").write_text(f"Features\t: fp asimd asimddp crc32\n{core}Model\t\t: Raspberry Pi 5\n")
    zone, firmware = tmp_path / "sys/class/thermal/thermal_zone0", tmp_path / "sys/devices/platform/soc/soc:firmware"
    zone.mkdir(parents=True)
    (zone / "type").write_text("cpu-thermal\n")
    (zone / "temp").write_text("81500\n")
    firmware.mkdir(parents=True)
    (firmware / "get_throttled").write_text("50004\n")
    small = small_bundle(tmp_path)
    gpu = signed(small, tmp_path / "gpu", lambda document: document.update(engine="tensorrt", target="jetson"))
    described = machine(load_bundle(small).manifest, tmp_path)
    assert described.board == "Raspberry Pi 5 Model B Rev 1.0"
    assert described.cpu_parts == ("0x41 0xd0b",)
    assert described.gpu == ""
    assert machine(load_bundle(gpu).manifest, tmp_path, lambda: "Orin").gpu == "Orin"
    assert described.cpu_features == ("asimd", "asimddp")
    assert condition(tmp_path).temperature_celsius == 81.5
    assert condition(tmp_path).strained
