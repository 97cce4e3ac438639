"""Tests that a bundle that could not be tried is reported in a sentence with its name, the reason and the remedy."""

import os
from pathlib import Path

import pytest

from edge.errors import BundleError
from edge.settings.schema import ModelSettings
from edge.vision import trial as tried
from edge.vision.trial import verify_bundle

REMEDY = "; free some memory and try again, or export it again."


@pytest.mark.parametrize(
    ("program", "why", "remedy"),
    [
        ("import os; os.kill(os.getpid(), 9)", "ended by signal 9 (Killed), as the system does where memory", REMEDY),
        ("import os; os.kill(os.getpid(), 4)", "illegal instruction", "; export it again on this machine."),
        ("print('driver: no', file=sys.stderr); import os; os.abort()", "signal 6 (Aborted): driver: no", REMEDY),
        ("raise RuntimeError('cannot allocate 46 MB')", "(RuntimeError: cannot allocate 46 MB)", REMEDY),
        ("sys.stderr.buffer.write(bytes([255])); sys.exit(3)", "(\ufffd)", REMEDY),
        ("sys.exit(3)", "(exit code 3)", REMEDY),
        ("import time; time.sleep(60)", "(no answer within 1 s)", REMEDY),
    ],
    ids=["memory", "instruction", "abort", "traceback", "no text", "wordless", "stuck"],
)
def test_what_kept_a_bundle_from_being_tried_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str, why: str, remedy: str
) -> None:
    monkeypatch.setattr(tried, "PROGRAM", program)
    monkeypatch.setattr(tried, "WITHIN_S", 1.0 if "sleep" in program else 60.0)
    (tmp_path / "current").symlink_to("resnet18-int8-3fa9c1")
    with pytest.raises(BundleError) as raised:
        verify_bundle(tmp_path / "current", ModelSettings())
    assert str(raised.value).startswith("The bundle 'resnet18-int8-3fa9c1' could not be tried (")
    assert why in str(raised.value)
    assert str(raised.value).endswith(remedy)


def test_what_is_wrong_with_a_bundle_is_the_loaders_message(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "bundle.json")
    with pytest.raises(BundleError) as raised:
        verify_bundle(tmp_path, ModelSettings())
    assert "could not be tried" not in str(raised.value)
    assert "bundle.json" in str(raised.value)
    assert str(raised.value).endswith(".")
