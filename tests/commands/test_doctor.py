"""Tests doctor's checks: one line for each, with a remedy for each problem."""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from edge.board.child_process import run_apart
from edge.commands import doctor
from edge.commands.doctor_checks import camera, disk, machine, model, page, service
from edge.commands.doctor_checks.finding import Finding, our_command
from edge.settings.schema import CameraSettings, FallbackSettings, ModelSettings, Settings, WebSettings
from tests.broker import free_port
from tests.conftest import may_be_anybody
from tests.installer import program

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.parametrize(("bits", "message"), [("50005", "The supply sags"), ("50000", "since boot")])
def test_a_supply_that_sags_is_seen_and_remembered(tmp_path: Path, bits: str, message: str) -> None:
    firmware = tmp_path / "sys/devices/platform/soc/soc:firmware"
    firmware.mkdir(parents=True)
    (firmware / "get_throttled").write_text(f"{bits}\n")
    finding = machine.power(tmp_path)
    assert finding.severity == "warning"
    assert message in finding.sentence
    assert "supply" in finding.remedy


def test_a_board_without_sensors_is_no_fault(tmp_path: Path) -> None:
    assert machine.power(tmp_path).severity == "ok"


def test_a_disk_smaller_than_the_log_may_grow_is_reported(tmp_path: Path) -> None:
    settings = FallbackSettings(path=tmp_path / "not" / "yet" / "log.db", max_bytes=2**60)
    finding = disk.space(settings)
    assert finding.severity == "warning"
    assert "fallback.max_bytes" in finding.remedy


@pytest.mark.parametrize(
    ("token", "mode", "message"),
    [
        ("9f86d081884c7d659a2feaa0c55ad015", 0o640, ""),
        ("9f86d081884c7d65", 0o600, ""),
        ("9f86d081884c7d659a2feaa0c55ad015", 0o644, "Every user of this machine may read web.token_file"),
        ("changemechangeme", 0o600, "can be guessed"),
        ("1234567890123456", 0o600, "can be guessed"),
        ("short", 0o600, "fewer than 16 characters"),
    ],
)
def test_a_token_that_does_not_protect_the_page_is_reported(
    tmp_path: Path, token: str, mode: int, message: str
) -> None:
    file = tmp_path / "token"
    file.write_text(token)
    file.chmod(mode)
    finding = page.page(WebSettings(token_file=str(file)))
    assert (finding.severity, bool(finding.remedy)) == (("warning", True) if message else ("ok", False))
    assert message in finding.sentence


def test_a_page_without_a_token_is_for_this_machine_only_and_a_page_that_is_off_for_nobody() -> None:
    assert page.page(WebSettings()) == Finding("page", "ok", "127.0.0.1:5000, for every user of this machine")
    assert page.page(WebSettings(enabled=False)).severity == "ok"


@pytest.mark.parametrize("address", ["198.51.100.77", "does-not-exist.invalid"])
def test_a_page_at_an_address_that_this_machine_does_not_have_is_reported(address: str) -> None:
    finding = page.page(WebSettings(listen=f"{address}:5000", token_file="token"))
    assert finding.severity == "warning"
    assert finding.sentence.startswith(f"{address}:5000 cannot be used (")
    assert "web.listen" in finding.sentence


def disk_of(directory: Path, root: Path, *, megabytes: int) -> None:
    """A /sys in which the disk of `directory` has this many bytes written."""
    device = directory.stat().st_dev
    stat = root / f"sys/dev/block/{os.major(device)}:{os.minor(device)}/stat"
    stat.parent.mkdir(parents=True)
    stat.write_text(f"   10  0  80  5  20  0  {megabytes * 10**6 // 512}  9  0  9  14\n")


@pytest.mark.parametrize(("megabytes", "severity"), [(20, "ok"), (1000, "warning")])
def test_an_sd_card_that_is_written_to_death_is_seen(tmp_path: Path, megabytes: int, severity: str) -> None:
    disk_of(tmp_path, tmp_path / "root", megabytes=megabytes)
    settings = FallbackSettings(path=tmp_path / "log.db")
    finding = disk.writes(settings, tmp_path / "root", uptime_s=2 * 3600.0)
    assert finding.severity == severity
    assert f"{12 * megabytes:,} MB a day" in finding.sentence


def test_what_boot_writes_says_nothing_about_a_day(tmp_path: Path) -> None:
    disk_of(tmp_path, tmp_path / "root", megabytes=1000)
    settings = FallbackSettings(path=tmp_path / "log.db")
    assert disk.writes(settings, tmp_path / "root", uptime_s=60.0).severity == "ok"


def test_an_illegal_instruction_becomes_a_sentence() -> None:
    ran = run_apart("import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    assert ran.code != 0
    assert "illegal instruction" in ran.last_line


@pytest.mark.skipif(not may_be_anybody(), reason="only root has rights to lay down")
@pytest.mark.skipif(not os.access("/usr/bin/python3", os.X_OK), reason="no Python here that every user may run")
def test_root_tries_a_model_with_the_rights_of_the_user_who_may_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    who = "import os; print(*os.getresuid(), *os.getresgid(), 0 in os.getgroups())"
    with tempfile.TemporaryDirectory() as place:
        bundle = Path(place) / "models" / "bundle"
        bundle.mkdir(parents=True)
        assert run_apart(who, code=bundle).output.startswith("0 0 0 ")
        os.chown(bundle.parent, 65533, 65534)
        for given in (bundle, bundle.parent / "not-there"):
            assert run_apart(who, code=given).output == "65533 65533 65533 65534 65534 65534 False"
        (Path(place) / "current").symlink_to(bundle)
        assert run_apart(who, code=Path(place) / "current").output.startswith("65533 ")


def gpu(**changes: object) -> str:
    """A program that prints what torch and TensorRT report on a healthy Jetson, changed by the keyword arguments."""
    well = {"torch": "2.9.1", "cuda": "12.6", "reached": True, "runtime": True, "broken": ""}
    return f"print({json.dumps(json.dumps(well | changes))})"


@pytest.mark.parametrize(
    ("changes", "severity", "says"),
    [
        ({}, "ok", "fit together"),
        ({"cuda": ""}, "warning", "without CUDA"),
        ({"cuda": "13.0"}, "warning", "this JetPack has 12.6.68"),
        ({"reached": False}, "warning", "does not reach the GPU"),
        ({"runtime": False}, "warning", "Torch-TensorRT is not installed, so the GPU runs FP16 only"),
        ({"broken": "libnvinfer.so.8: cannot open"}, "warning", "not with TensorRT 10.3.0.30 (libnvinfer.so.8: cannot"),
    ],
)
def test_the_parts_of_a_jetson_have_to_go_together(
    tmp_path: Path, changes: dict[str, object], severity: str, says: str
) -> None:
    (tmp_path / "usr/local/cuda").mkdir(parents=True)
    (tmp_path / "usr/local/cuda/version.json").write_text('{"cuda": {"name": "CUDA SDK", "version": "12.6.68"}}')
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/status").write_text(
        "Package: zlib1g\nStatus: install ok installed\nVersion: 1:1.2\n\n"
        "Package: libnvinfer10\nStatus: install ok installed\nVersion: 10.3.0.30-1+cuda12.5\n\n"
    )
    finding = model.jetson(tmp_path, gpu(**changes))
    assert (finding.severity, says in finding.sentence) == (severity, True), finding


def test_a_jetson_is_known_by_its_release_file(tmp_path: Path) -> None:
    assert not model.is_jetson(tmp_path)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R36 (release), REVISION: 4.3\n")
    assert model.is_jetson(tmp_path)


def test_the_programs_that_examine_torch_and_tensorrt_use_their_real_interfaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no Jetson here, but a torch, and a library in the place of Torch-TensorRT's."""
    finding = model.jetson(tmp_path)
    assert finding.severity == "warning"
    assert "CUDA" in finding.sentence, finding
    assert json.loads(run_apart(model.GPU).output)["runtime"] is False
    library = tmp_path / "torch_tensorrt/lib/libtorchtrt_runtime.so"
    library.parent.mkdir(parents=True)
    (library.parents[1] / "__init__.py").write_text("raise AssertionError('the compiler is not imported')")
    library.write_bytes(b"no library")
    monkeypatch.syspath_prepend(tmp_path)
    found = json.loads(run_apart(model.GPU).output)
    assert found["runtime"] is True
    assert found["broken"].startswith(f"{library}: "), found


def test_a_restart_is_reported_with_its_time_its_reason_and_the_last_lines() -> None:
    failed = {"__REALTIME_TIMESTAMP": "1795348800000000", "UNIT_RESULT": "watchdog", "MESSAGE": "Failed …"}
    reason = service.last_failure(json.dumps(failed))
    assert "2026-11-22" in reason or "2026-11-23" in reason
    assert "hung" in reason
    assert service.last_error('{"MESSAGE": "Restarting because camera has not moved for 12 s."}') == (
        " (Restarting because camera has not moved for 12 s.)"
    )
    for wordless in ("", "\n \n", [255, 10], None):
        assert service.last_error(json.dumps({"MESSAGE": wordless})) == ""
    assert service.last_failure("") == service.last_error("") == ""


def test_a_remedy_names_the_program_that_is_asked(tmp_path: Path) -> None:
    own, link = Path(sys.prefix, "bin", "edge-classifier"), tmp_path / "link"
    assert our_command(link) == str(own)  # in a clone, where nothing is installed
    link.symlink_to("/bin/sh")
    assert our_command(link) == str(own)  # also if another is installed
    link.unlink()
    link.symlink_to(own)
    assert our_command(link) == "sudo edge-classifier"


def test_torch_is_imported_in_a_separate_process_and_its_version_reported() -> None:
    finding = model.library()
    assert finding.severity == "ok", finding
    assert finding.sentence.startswith("torch 2.")


def test_a_torch_without_int8_is_reported_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    # As Debian's build for arm64 is.
    crippled = "import torch\ntype(torch.backends.quantized).supported_engines = ('none',)\n"
    monkeypatch.setattr(model, "SELF_CHECK", crippled + model.SELF_CHECK)
    finding = model.library()
    assert finding.severity == "failure"
    assert "has no INT8 kernels for this processor (its engines: none)" in finding.sentence
    assert "sudo ./install.sh" in finding.remedy
    assert "export" not in finding.remedy


def test_a_torch_without_xnnpack_on_arm_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    # As PyPI's 2.13 is.
    on_arm = (
        "import platform; platform.machine = lambda: 'aarch64'\n"
        "import edge.vision.torch_compat as compat; compat.runs_qint8 = lambda: False\n"
    )
    monkeypatch.setattr(model, "SELF_CHECK", on_arm + model.SELF_CHECK)
    finding = model.library()
    assert finding.severity == "warning", finding
    assert "does not reach XNNPACK; INT8 takes several times as long." in finding.sentence
    assert "sudo ./install.sh" in finding.remedy


@pytest.mark.parametrize(
    ("loop", "installed", "advised"), [(False, True, True), (True, True, False), (False, False, False)]
)
def test_the_remedy_for_a_service_whose_file_ends_is_loop(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, loop: bool, installed: bool, advised: bool
) -> None:
    state = "loaded" if installed else "not-found"
    program(tmp_path / "systemctl", f"#!/bin/sh\ncase $3 in LoadState) echo {state} ;; *) echo inactive ;; esac\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    finding = camera.camera(CameraSettings(source="file:/nowhere", loop=loop), None)
    assert ("loop = true" in finding.remedy) is advised


def test_a_missing_bundle_is_a_failure_in_one_sentence(tmp_path: Path) -> None:
    settings = Settings(model=ModelSettings(bundle=tmp_path / "nothing"))
    finding = model.model(settings)
    assert finding.severity == "failure"
    assert "export" in finding.sentence


def test_a_bundle_is_judged_by_its_golden_photo(bundle_dir: Path) -> None:
    finding = model.model(Settings(model=ModelSettings(bundle=bundle_dir)))
    assert finding.severity == "ok", finding
    assert bundle_dir.name in finding.sentence


@pytest.mark.parametrize("as_json", [False, True])
def test_the_exit_code_follows_the_gravest_finding(tmp_path: Path, as_json: bool) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[model]\nbundle = "{tmp_path}/nothing"\n[mqtt]\nurl = "mqtt://127.0.0.1:{free_port()}"\n')
    result = subprocess.run(
        [sys.executable, "-m", "edge", "doctor", "--config", str(config), *(["--json"] if as_json else [])],
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 69, result.stderr
    assert result.stderr == ""
    if as_json:
        findings = json.loads(result.stdout)["findings"]
        fields = {field.name for field in dataclasses.fields(Finding)}
        assert all(set(finding) == fields for finding in findings)
        assert [finding["check"] for finding in findings] == [
            *("userland", "torch", "model", "camera", "colours", "broker", "access", "twin"),
            *("page", "clock", "power", "disk", "writes", "service", "restarts"),
        ]
    else:
        assert any(line.startswith("FAIL  model") for line in result.stdout.splitlines())


def test_the_sentences_are_below_each_other_also_where_the_library_has_a_long_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [Finding("onnxruntime", "failure", "It does.", "Do that."), Finding("model", "ok", "It does.")]
    monkeypatch.setattr(doctor, "findings", lambda *_: found)
    assert doctor.run(argparse.Namespace(json=False, config=None), Settings()) == 69
    library, remedy, model = capsys.readouterr().out.splitlines()
    assert library.index("It") == model.index("It") == len(remedy) - len(remedy.lstrip())
