"""Tests that a bundle is accepted if all its checksums match, and otherwise refused with one sentence."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import BundleError
from edge.vision.bundle import GOLDEN, HEAD, LABELS, TRUNK, Bundle, load_bundle
from edge.vision.installed import Installed
from edge.vision.manifest import DIGEST, MANIFEST
from tests.conftest import may_be_anybody
from tests.refusals import one_sentence
from tests.vision.signed import MODEL, signed, signed_text, small_bundle

STRANGER = 61234  # a user that no machine has


@pytest.fixture
def copy(bundle_dir: Path, tmp_path: Path) -> Path:
    """A copy of a bundle that a test may damage."""
    return Path(shutil.copytree(bundle_dir, tmp_path / bundle_dir.name))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a few bytes that is valid except for its model, which is never run; needs no real weights."""
    return small_bundle(tmp_path_factory.mktemp("small"))


def refusal(directory: Path) -> str:
    return one_sentence(BundleError, lambda: load_bundle(directory))


def test_a_whole_bundle_is_loaded_with_the_bytes_that_were_hashed(bundle_dir: Path, weights_file: Path) -> None:
    bundle = load_bundle(bundle_dir)
    assert bundle.name == bundle_dir.name
    assert bundle.name.startswith("efficientnet_lite0-int8-")
    assert hashlib.sha256((bundle_dir / MANIFEST).read_bytes()).hexdigest().startswith(bundle.name[-6:])
    assert bundle.files.keys() == {"trunk", "head", "labels", "golden"}
    for role, content in bundle.files.items():
        assert hashlib.sha256(content).hexdigest() == bundle.manifest.files[role].sha256
        assert (bundle_dir / bundle.manifest.files[role].name).read_bytes() == content
    assert len(bundle.labels) == 1000
    assert bundle.manifest.input.side == 225
    assert bundle.manifest.weights.source == weights_file.name


def test_current_names_the_bundle_that_it_points_at(copy: Path) -> None:
    assert Installed(copy.parent).switch(copy.name) is None
    assert load_bundle(copy.parent / "current").name == copy.name


@pytest.mark.parametrize("file", [TRUNK, HEAD, LABELS, GOLDEN, MANIFEST])
@pytest.mark.parametrize("damage", ["missing", "truncated", "tampered", "longer", "empty", "a directory"])
def test_each_damaged_file_is_refused(copy: Path, file: str, damage: str) -> None:
    content = (copy / file).read_bytes()
    (copy / file).unlink()
    if damage == "a directory":
        (copy / file).mkdir()
    elif damage != "missing":
        tampered = content[:100] + bytes([content[100] ^ 1]) + content[101:]
        changed = {"truncated": content[:-1], "tampered": tampered, "longer": content + b"\n", "empty": b""}
        (copy / file).write_bytes(changed[damage])
    message = refusal(copy)
    assert file in message or copy.name in message
    if damage == "missing":
        assert "edge-classifier export" in message


def test_a_renamed_directory_is_refused(copy: Path) -> None:
    assert copy.name in refusal(copy.rename(copy.parent / "resnet18-int8-000000"))


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    assert "edge-classifier export" in refusal(tmp_path / "none")
    # Not the first missing parent directory.
    assert f"There is no bundle {tmp_path}/no/state/models/current;" in refusal(tmp_path / "no/state/models/current")
    assert f"There is no {tmp_path / MANIFEST}" in refusal(tmp_path)
    (tmp_path / "file").touch()
    assert "is not a bundle's directory" in refusal(tmp_path / "file")
    (tmp_path / "loop").symlink_to("loop")
    assert "cannot be read" in refusal(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to("gone")
    assert "gone" in refusal(tmp_path / "dangling")


def test_a_manifest_with_the_same_six_digits_is_another(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another manifest with the same 24 bits can be found; `bundle.sha256` has all digits, as `sha256sum` reads it."""
    assert (copy / DIGEST).read_text() == f"{hashlib.sha256((copy / MANIFEST).read_bytes()).hexdigest()}  {MANIFEST}\n"
    monkeypatch.setattr("edge.vision.bundle.bundle_name", lambda *_: copy.name)
    document = json.loads((copy / MANIFEST).read_text())
    (copy / MANIFEST).write_text(json.dumps(document | {"torch": "0.0.0"}))
    assert f"does not have the sha256 in {DIGEST}" in refusal(copy)


@pytest.mark.parametrize("text", ["", "0" * 64, "bundle.json"])
def test_a_digest_that_is_damaged_refuses_the_bundle(copy: Path, text: str) -> None:
    (copy / DIGEST).write_text(text)
    assert DIGEST in refusal(copy)


def test_a_bundle_from_before_there_was_a_digest_is_known_by_its_name(copy: Path) -> None:
    (copy / DIGEST).unlink()
    assert load_bundle(copy).name == copy.name


@pytest.mark.parametrize("place", ["", MANIFEST, DIGEST, TRUNK, HEAD, LABELS, GOLDEN, ".."])
@pytest.mark.parametrize("mode", [0o002, 0o020])
def test_a_bundle_that_others_may_change_is_refused(copy: Path, place: str, mode: int) -> None:
    """TorchScript is code: a user who may change it executes code as the daemon."""
    path = (copy / place).resolve()
    path.chmod(path.stat().st_mode | mode)
    assert f"chmod go-w {path}" in refusal(copy)
    path.chmod(path.stat().st_mode & ~mode)
    assert load_bundle(copy).name == copy.name


@pytest.mark.skipif(not may_be_anybody(), reason="only root can give a file to another user")
@pytest.mark.parametrize("place", ["", MANIFEST, TRUNK, HEAD, LABELS, GOLDEN, ".."])
def test_a_bundle_of_a_stranger_is_refused(copy: Path, place: str) -> None:
    path = (copy / place).resolve()
    os.chown(path, STRANGER, -1)
    said = refusal(copy)
    assert f"{path} belongs to the user {STRANGER}" in said
    assert "models add" in said
    assert load_bundle(copy, given=True).name == copy.name  # a path given by the user is trusted


@pytest.mark.skipif(not may_be_anybody(), reason="only root can give a file to another user")
def test_a_bundle_of_the_user_that_the_state_directory_belongs_to_is_the_daemons(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    home = Path(shutil.move(copy, state / "models" / copy.name))
    for path in (state, home.parent, home, *home.iterdir()):
        os.chown(path, STRANGER, -1)
    assert "belongs to" in refusal(home)
    monkeypatch.setenv("STATE_DIRECTORY", str(state))
    assert load_bundle(home).name == home.name


def test_what_everyone_may_write_to_is_refused_even_when_it_is_named_on_the_command_line(copy: Path) -> None:
    (copy / TRUNK).chmod(0o664)
    assert load_bundle(copy, given=True).name == copy.name
    (copy / TRUNK).chmod(0o666)
    with pytest.raises(BundleError, match="chmod go-w"):
        load_bundle(copy, given=True)


def test_a_state_directory_in_which_everybody_may_rename_is_refused(copy: Path, tmp_path: Path) -> None:
    """A user who may rename `models/` can put another in its place."""
    home = Path(shutil.move(copy, tmp_path / "state" / "models" / copy.name))
    assert load_bundle(home).name == home.name
    (tmp_path / "state").chmod(0o777)
    assert f"chmod go-w {tmp_path / 'state'}" in refusal(home)


@pytest.mark.parametrize("file", [MANIFEST, DIGEST, TRUNK, HEAD, LABELS, GOLDEN])
def test_a_link_or_a_pipe_in_a_bundle_is_refused_and_never_waited_for(copy: Path, tmp_path: Path, file: str) -> None:
    (copy / file).rename(tmp_path / "elsewhere")
    (copy / file).symlink_to(tmp_path / "elsewhere")
    assert "is a link" in refusal(copy)
    (copy / file).unlink()
    os.mkfifo(copy / file)
    assert "is not a file" in refusal(copy)


def test_a_shared_sticky_directory_above_it_is_fine(copy: Path) -> None:
    copy.parent.chmod(0o1777)  # such as /tmp
    assert load_bundle(copy).name == copy.name


@pytest.mark.parametrize(
    ("engine", "named"),
    [("onednn", "torchscript onednn"), ("qnnpack", "torchscript qnnpack"), ("tensorrt", "cuda tensorrt")],
)
def test_a_bundle_of_schema_1_is_read_as_one_of_schema_2(small: Path, tmp_path: Path, engine: str, named: str) -> None:
    bundle = load_bundle(signed(small, tmp_path, set_key("engine", engine)))
    assert str(bundle.manifest.engine) == named
    assert bundle.manifest.engine.library == "torch 2.6.0"
    assert bundle.files == {"model": b"model", "labels": b"cat\ndog\nowl\n", "golden": b"photo"}
    assert bundle.manifest.features is None


def test_what_a_later_minor_version_adds_is_kept_and_shown(copy: Path, tmp_path: Path) -> None:
    def later(document: dict[str, Any]) -> None:
        document["surprise"] = {"é": [1, None]}
        document["engine"]["tuned"] = True
        document["files"]["notes"] = {"name": "notes.txt", "sha256": hashlib.sha256(b"hello").hexdigest()}

    (copy / "notes.txt").write_bytes(b"hello")
    bundle = load_bundle(signed(copy, tmp_path / "later", later))
    shown = bundle.manifest.model_dump(mode="json", by_alias=True)
    assert shown["surprise"] == {"é": [1, None]}
    assert shown["engine"]["tuned"] is True
    assert bundle.files["notes"] == b"hello"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema", 3),
        ("surprise", float("inf")),
        ("engine.options", {"kernels": ["onednn"]}),
        ("engine.name", "../evil"),
        ("features", None),
        ("features", 0),
        ("files.trunk.name", "../trunk.ts"),
        ("files.trunk.name", "labels.txt"),
        ("files.trunk.name", MANIFEST),
        ("files.trunk.sha256", "0" * 64),
        ("files.more", {"name": "more.txt"}),
        ("measured", {"ms": -1.0, "threads": 1, "board": "Pi"}),
    ],
)
def test_a_manifest_of_schema_2_that_makes_no_sense_is_refused(
    copy: Path, tmp_path: Path, path: str, value: object
) -> None:
    assert "export" in refusal(signed(copy, tmp_path / "signed", set_key(path, value)))


def test_the_name_of_a_role_cannot_move_the_cursor(copy: Path, tmp_path: Path) -> None:
    home = signed(copy, tmp_path / "signed", lambda document: document["files"].update({"\x1b[2J": None}))
    assert refusal(home).isprintable()


@pytest.mark.parametrize("role", ["trunk", "head", "labels", "golden"])
def test_a_bundle_without_one_of_its_parts_is_refused(copy: Path, tmp_path: Path, role: str) -> None:
    home = signed(copy, tmp_path / "signed", lambda document: document["files"].pop(role))
    assert "names other files" in refusal(home)


def set_key(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        *above, last = path.split(".")
        for key in above:
            document = document[key]
        document[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema", 2),
        ("precision", "fp32"),
        ("target", "riscv64"),
        ("engine", "../../evil.so"),
        ("surprise", 1),
        ("input.size", 0),
        ("input.size", 512),
        ("input.border", [-300, 3]),
        ("input.border", [3, 1 << 40]),
        ("input.border_rgb", [256, 0, 0]),
        ("input.colour", "BGR"),
        ("input.dtype", "float32"),
        ("golden", []),
        ("golden", [{"index": 1, "confidence": 50.0}] * 3),
        ("quantization", None),
        ("precision", "fp16"),
        ("agreement", {"photos": -4, "top1": 99.0, "confidence_difference": 1.0}),
        ("agreement", {"photos": 4, "top1": 1e9, "confidence_difference": 1.0}),
        ("agreement", {"photos": 4, "top1": float("nan"), "confidence_difference": 1.0}),
        ("golden", [{"index": i, "confidence": 50.0} for i in (-1, 0, 1)]),
        ("golden", [{"index": i, "confidence": 50.0} for i in (0, 1, 3)]),
        ("golden", [{"index": i, "confidence": float("nan")} for i in (0, 1, 2)]),
        ("files", {}),
        ("files", {MODEL: "0" * 64}),
        ("architecture", 5),
    ],
)
def test_a_manifest_of_another_kind_is_refused_even_when_signed(
    small: Path, tmp_path: Path, path: str, value: object
) -> None:
    assert "export" in refusal(signed(small, tmp_path, set_key(path, value)))


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "extra.bin", "..", "a/b", "model.ts\0"])
def test_a_manifest_that_names_other_files_is_refused(small: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "outside").write_bytes(b"secret")

    def change(document: dict[str, Any]) -> None:
        document["files"][name] = hashlib.sha256(b"secret").hexdigest()

    assert "names other files" in refusal(signed(small, tmp_path, change))


@pytest.mark.parametrize("architecture", ["../../outside", "..", "/", ""])
def test_an_architecture_that_is_a_path_leads_nowhere(small: Path, tmp_path: Path, architecture: str) -> None:
    refusal(signed(small, tmp_path / "models", set_key("architecture", architecture)))


def test_labels_that_are_not_text_are_refused(small: Path, tmp_path: Path) -> None:
    assert "is not UTF-8" in refusal(signed(small, tmp_path, labels=b"cat\n\xff\xfe\nowl\n"))


@pytest.mark.parametrize("name", [b"", b"\x1b[2J", b"a\0b", b"x" * 201, "one\u2028two".encode()])
def test_an_unreadable_label_is_refused(small: Path, tmp_path: Path, name: bytes) -> None:
    assert "line 2, is no name" in refusal(signed(small, tmp_path, labels=b"cat\n" + name + b"\nowl\n"))


def test_what_a_bundle_says_of_its_weights_cannot_move_the_cursor(small: Path, tmp_path: Path) -> None:
    bundle = load_bundle(signed(small, tmp_path, set_key("weights.source", "\x1b[2K\rfake\n* evil")))
    assert bundle.manifest.weights.source == "?[2K?fake?* evil"


def test_too_few_labels_are_refused(small: Path, tmp_path: Path) -> None:
    assert "has 2 labels" in refusal(signed(small, tmp_path, labels=b"cat\ndog\n"))


def test_an_unreadable_bundle(copy: Path) -> None:
    (copy / TRUNK).chmod(0)
    (copy / MANIFEST).chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root reads everything
    try:
        assert "Permission denied" in refusal(copy)
    finally:
        os.seteuid(user)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


def loaded_or_refused(small: Path, text: bytes) -> None:
    """Fail on any other outcome than a Bundle or a BundleError."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "bundles" / small.name
        shutil.copytree(small, home)
        with contextlib.suppress(BundleError):
            assert isinstance(load_bundle(signed_text(home, text)), Bundle)


@settings(max_examples=100, deadline=None)
@given(
    place=st.integers(0),
    cut=st.integers(0),
    put=st.binary(max_size=6) | st.sampled_from([b"{", b'"', b"1e999", b"NaN", b"\\ud800", b"null", b"[" * 5000]),
)
def test_mutated_text_is_a_bundle_or_refused(small: Path, place: int, cut: int, put: bytes) -> None:
    text = (small / MANIFEST).read_bytes()
    at = place % len(text)
    loaded_or_refused(small, text[:at] + put + text[at + cut % 8 :])


@settings(max_examples=150, deadline=None)
@given(data=st.data(), value=JSON)
def test_mutated_values_are_a_bundle_or_refused(small: Path, data: st.DataObject, value: object) -> None:
    document = json.loads((small / MANIFEST).read_bytes())
    inner: Any = document
    for _ in range(3):
        key = data.draw(st.sampled_from(sorted(inner) if isinstance(inner, dict) else range(len(inner))))
        if not isinstance(inner[key], (dict, list)) or not inner[key] or data.draw(st.booleans()):
            break
        inner = inner[key]
    inner[key] = value
    loaded_or_refused(small, json.dumps(document).encode("utf-8", "surrogatepass"))
