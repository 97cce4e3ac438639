"""Tests that a shared result has what matters for speed, and no text that names a box, a user, a file or a network."""

import resource
from pathlib import Path

import pytest

from edge.errors import ConfigError, StateError
from edge.workshop.bench.result import Candidate, Made, read_result
from edge.workshop.bench.share import refuse_to_overwrite, shared, without, write_shared
from tests.workshop.bench.results import result


def telling(**changes: object) -> dict[str, object]:
    """Changes of a result that put a name into each of its free texts."""
    one = result()
    stages = one.stages | {
        "capture": one.stages["capture"].model_copy(update={"what": "grabbed to RGB, telltale.jpg"}),
        "publish": one.stages["publish"].model_copy(update={"what": "to the PUBACK of telltale.example:1883"}),
    }
    kernel = one.machine.model_copy(update={"kernel": "6.12.47-telltale-v8"})
    return {"photos": "/home/telltale", "machine": kernel, "stages": stages, "no_upload": "telltale", **changes}


def test_every_free_text_is_replaced() -> None:
    for captured in ("rtsp://telltale:554 gave 29.9 a second", "telltale.jpg, read and decoded anew for each frame"):
        one = shared(result(**telling(captured=captured)), ["telltale"])
        assert "telltale" not in one.to_json()
    assert one.stages["publish"].what == "to the broker's PUBACK"
    assert one.machine.kernel == "6.12.47-…-v8"
    assert one.captured == "read and decoded anew for each frame"


def test_the_figures_and_the_machine_stay() -> None:
    one, before = shared(result(), ["pi", "raspberry"]), result()
    assert one.machine.board == before.machine.board  # "Raspberry" is the board's name, not the user's
    assert one.machine.cpu_features == before.machine.cpu_features
    assert one.stages["inference"] == before.stages["inference"]
    assert (one.upload, one.thread_counts, one.before) == (before.upload, before.thread_counts, before.before)
    assert one.captured == "the camera gave 29.9 a second"
    assert one.time == "2026-11-22"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("There is no /home/ada/x.ts; make it", "There is no … make it"),
        ("ada@porch is away", "… is away"),
        ("broker.example:8883 is down", "… is down"),
        ("192.168.1.7 and dc:a6:32:01:02:03 and fe80::1", "… and … and …"),
        ("porch has no kernels: fbgemm is missing", "… has no kernels: fbgemm is missing"),
        ("sandporch", "sandporch"),
        ("/home/my telltale dir/models/resnet18-int8-3fa9c1 was changed", "… was changed"),
        ("/a b/x.so cannot be loaded (y: bad); run: sudo /e f/python", "… cannot be loaded (y: bad); run: sudo …"),
    ],
)
def test_paths_addresses_and_names_are_removed_from_a_reason(text: str, expected: str) -> None:
    assert without(text, ["porch", "ada"]) == expected


def test_the_candidates_of_the_export_are_shared_without_paths() -> None:
    """They decide which kernels are chosen on a board."""
    candidates = (
        Candidate(engine="torchscript edge", ms=31.2, agrees=True, reason=""),
        Candidate(engine="torchscript qnnpack", ms=None, agrees=False, reason="ada's /opt/x.so cannot be loaded"),
    )
    kind = Made(precision="int8", activations="qint8", library="torch 2.9.1", board="Raspberry Pi 4", threads=4)
    one = shared(result(made=kind.model_copy(update={"candidates": candidates})), ["ada"])
    assert one.made is not None
    assert one.made.candidates[0] == candidates[0]
    assert one.made.candidates[1].reason == "…'s … cannot be loaded"


def test_it_is_read_like_any_result_and_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "share.json"
    write_shared(result(), file, [])
    assert read_result(file).sustained_fps == result().sustained_fps
    before = file.read_bytes()
    with pytest.raises(StateError, match="cannot be written"):
        write_shared(result(sustained_fps=1.0), file, [])
    assert file.read_bytes() == before


def test_a_place_that_cannot_be_written_to_is_refused_before_the_measurement(tmp_path: Path) -> None:
    for file in (tmp_path / f"{'a' * 300}.json", Path("/proc/share.json")):
        with pytest.raises(ConfigError, match="cannot be written"):
            refuse_to_overwrite(file)
    refuse_to_overwrite(tmp_path / "share.json")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_half_of_a_file(tmp_path: Path) -> None:
    """It would be in the way of the next run, and would be no JSON."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(StateError, match="cannot be written"):
            write_shared(result(), tmp_path / "share.json", [])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
