"""Tests that bundles are installed whole and verified or not at all, and that the current one is never lost."""

import hashlib
import http.server
import io
import json
import multiprocessing
import os
import re
import shutil
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import pytest

from edge.errors import BundleError, StateError
from edge.vision.bundle import GOLDEN, LABELS, load_bundle
from edge.vision.installed import STALE_S, Installed, Purpose
from edge.vision.manifest import DIGEST, MANIFEST
from edge.workshop import add_bundle as room
from edge.workshop.add_bundle import add_bundle
from tests.conftest import may_be_anybody, somebody_else
from tests.vision.signed import MODEL, signed, small_bundle

LITTER = (".new-*", ".remove-*", ".current-*", ".previous-*")


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Installed]:
    """An empty directory for bundles; checks after each test that nothing unfinished is left."""
    place = Installed(tmp_path / "state" / "models")
    yield place
    assert [left for pattern in LITTER for left in place.directory.glob(pattern)] == []


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "made").mkdir()
    return small_bundle(tmp_path / "made")


def add(source: Path | str, installed: Installed, sha256: str = "") -> str:
    return add_bundle(str(source), sha256, installed, lambda done, total: None)


def packed(archive: Path, bundle: Path, mode: str = "w:gz") -> Path:
    with tarfile.open(archive, mode) as tar:  # type: ignore[call-overload]
        tar.add(bundle, bundle.name)
    return archive


@pytest.mark.parametrize("mode", ["directory", "w:", "w:gz", "w:xz", "w:bz2"])
def test_a_bundle_is_installed_from_a_directory_or_an_archive(
    installed: Installed, bundle: Path, tmp_path: Path, mode: str
) -> None:
    source = bundle if mode == "directory" else packed(tmp_path / "bundle.tar", bundle, mode)
    assert add(source, installed) == bundle.name
    assert load_bundle(installed.directory / bundle.name).labels == ("cat", "dog", "owl")
    assert installed.names() == [bundle.name]
    assert installed.current is None  # it is not used yet
    assert add(source, installed) == bundle.name  # again is safe
    (installed.directory / bundle.name / MODEL).write_bytes(b"damaged")
    assert add(source, installed) == bundle.name
    assert load_bundle(installed.directory / bundle.name).files["model"] == b"model"


@pytest.mark.parametrize("mode", ["directory", "w:gz"])
def test_the_whole_sha256_of_the_manifest_is_taken_along_or_made(
    installed: Installed, bundle: Path, tmp_path: Path, mode: str
) -> None:
    """Bundles from older versions have none; if there is one, it has to be right."""

    def source() -> Path:
        return bundle if mode == "directory" else packed(tmp_path / "bundle.tar", bundle, mode)

    right = (bundle / DIGEST).read_text()
    (bundle / DIGEST).write_text(right.replace(right[:8], "00000000"))
    with pytest.raises(BundleError, match="does not have the sha256"):
        add(source(), installed)
    assert installed.names() == []
    (bundle / DIGEST).unlink()
    assert (installed.directory / add(source(), installed) / DIGEST).read_text() == right


def staged(installed: Installed, bundle: Path) -> Path:
    return Path(shutil.copytree(bundle, installed.staging() / bundle.name))


def accept_again(directory: str, bundle: str, rounds: int) -> None:
    """Add the bundle again and again, in a separate process."""
    installed = Installed(Path(directory))
    for _ in range(rounds):
        home = staged(installed, Path(bundle))
        installed.accept(home)
        shutil.rmtree(home.parent)


def test_a_bundle_that_is_made_again_stays_where_it_is_because_it_may_be_in_use(
    installed: Installed, bundle: Path
) -> None:
    add(bundle, installed)
    installed.switch(bundle.name)
    before = (installed.directory / bundle.name / MODEL).stat()
    again = staged(installed, bundle)
    assert installed.accept(again) == installed.directory / bundle.name
    assert (installed.directory / "current" / MODEL).stat().st_ino == before.st_ino
    shutil.rmtree(again.parent)


def test_two_processes_that_install_the_same_bundle_do_not_hinder_each_other(
    installed: Installed, bundle: Path
) -> None:
    installed.prepare()
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=accept_again, args=(str(installed.directory), str(bundle), 30)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert load_bundle(installed.directory / bundle.name).name == bundle.name


def test_whatever_the_umask_is_no_other_user_may_write_above_a_bundle(bundle: Path, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        installed = Installed(tmp_path / "a" / "b" / "models")
        add(bundle, installed)
    finally:
        os.umask(before)
    for path in (tmp_path / "a", tmp_path / "a" / "b", installed.directory, installed.directory / bundle.name):
        assert path.stat().st_mode & 0o022 == 0, path


def test_an_archive_without_a_folder_in_it_is_taken_too(installed: Installed, bundle: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "flat.tar", "w") as tar:
        tar.add(bundle, ".")
    assert add(tmp_path / "flat.tar", installed) == bundle.name


@pytest.fixture
def url(bundle: Path, tmp_path: Path) -> Iterator[str]:
    """The URL of an archive of the bundle."""
    (tmp_path / "served").mkdir()
    packed(tmp_path / "served" / "bundle.tgz", bundle)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path / "served"))  # type: ignore[arg-type]

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/bundle.tgz"
        server.shutdown()
        thread.join(30)


def test_a_url_needs_the_right_sha256(installed: Installed, bundle: Path, url: str, tmp_path: Path) -> None:
    digest = hashlib.sha256((tmp_path / "served" / "bundle.tgz").read_bytes()).hexdigest()
    for source, sha256, message in (
        (url, "", "give the archive's --sha256"),
        (url, "0" * 64, f"has the sha256 {digest[:12]}… instead of 000000000000…"),
        (url + "x", digest, "cannot be fetched (File not found)"),
        ("ftp://127.0.0.1/bundle.tgz", digest, "give http, https, file or a path"),
        (str(tmp_path / "served" / "bundle.tgz"), "0" * 64, "has the sha256"),
        (str(bundle), digest, "is a directory"),
        (str(tmp_path / "none.tgz"), "", "cannot be fetched"),
    ):
        with pytest.raises(BundleError) as refused:
            add(source, installed, sha256)
        assert message in str(refused.value)
    assert installed.names() == []
    assert add(url, installed, digest.upper()) == bundle.name


def test_what_is_too_large_is_not_fetched_or_unpacked(
    installed: Installed, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MAX_BYTES", 1 << 20)
    (tmp_path / "large.tar").write_bytes(bytes(2 << 20))
    with pytest.raises(BundleError, match="more than 1 MB"):
        add(tmp_path / "large.tar", installed)
    (bundle / MODEL).write_bytes(bytes(64 << 20))
    bomb = packed(tmp_path / "bomb.tgz", bundle)
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(BundleError, match="unpacks to more than 1 MB"):
        add(bomb, installed)
    assert list(installed.directory.iterdir()) == []


def member(name: str, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info


EVIL = {
    "absolute": member("/tmp/model.ts"),
    "absolute, flat": member("/model.ts"),
    "upwards": member("../model.ts"),
    "through": member("bundle/../../model.ts"),
    "deeper": member("bundle/inside/model.ts"),
    "a symbolic link": member("bundle/model.ts", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a hard link": member("bundle/model.ts", type=tarfile.LNKTYPE, linkname="bundle/labels.txt"),
    "a device": member("bundle/model.ts", type=tarfile.CHRTYPE),
    "another file": member("bundle/run.sh"),
    "a folder inside": member("bundle/inside", type=tarfile.DIRTYPE),
    "twice": member("bundle/labels.txt"),
}


@pytest.mark.parametrize("evil", EVIL)
def test_an_archive_writes_nothing_but_the_four_files(
    installed: Installed, bundle: Path, tmp_path: Path, evil: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        tar.add(bundle / LABELS, f"bundle/{LABELS}")
        tar.addfile(EVIL[evil], io.BytesIO())
        for name in (MODEL, GOLDEN, MANIFEST):
            tar.add(bundle / name, f"bundle/{name}")
    with pytest.raises(BundleError, match="no part of a bundle"):
        add(tmp_path / "evil.tar", installed)
    assert sorted(set(tmp_path.rglob("*")) - set(before)) == sorted(
        [tmp_path / "evil.tar", tmp_path / "state", installed.directory]
    )


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        ({"GNU.sparse.map": "0,0", "GNU.sparse.size": "2097152"}, "model.ts, which is no part of a bundle"),
        ({"size": str(1 << 40)}, "model.ts of .* unpacks to more than 256 MB"),
    ],
    ids=["sparse", "large"],
)
def test_a_file_that_claims_to_be_large_is_not_written(
    installed: Installed, bundle: Path, tmp_path: Path, claim: dict[str, str], message: str
) -> None:
    """A few bytes in the archive that would fill the disk with zeros."""
    with tarfile.open(tmp_path / "claims.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for name in (LABELS, GOLDEN, MANIFEST):
            tar.add(bundle / name, f"bundle/{name}")
        tar.addfile(member(f"bundle/{MODEL}", pax_headers=claim), io.BytesIO())
    with pytest.raises(BundleError, match=message):
        add(tmp_path / "claims.tar", installed)


@pytest.mark.parametrize(
    ("key", "value"), [("architecture", "resnet\ud800"), ("architecture", "a/b"), ("precision", "\ud800")]
)
def test_a_manifest_that_makes_no_name_is_refused(installed: Installed, bundle: Path, key: str, value: str) -> None:
    document = json.loads((bundle / MANIFEST).read_text()) | {key: value}
    (bundle / MANIFEST).write_text(json.dumps(document))
    with pytest.raises(BundleError, match="names an unknown architecture"):
        add(bundle, installed)


@pytest.mark.parametrize("damage", ["truncated", "no archive", "empty", "one file less", "tampered", "no manifest"])
def test_a_damaged_archive_is_refused_with_a_sentence(
    installed: Installed, bundle: Path, tmp_path: Path, damage: str
) -> None:
    archive = tmp_path / "bundle.tgz"
    if damage == "one file less":
        (bundle / LABELS).unlink()
    elif damage == "tampered":
        (bundle / MODEL).write_bytes(b"MODEL")
    elif damage == "no manifest":
        (bundle / MANIFEST).write_text("[]")
    content = packed(archive, bundle).read_bytes()
    archive.write_bytes({"truncated": content[:-40], "no archive": b"x" * 2000, "empty": b""}.get(damage, content))
    with pytest.raises(BundleError) as refused:
        add(archive, installed)
    assert str(refused.value).endswith(".")
    assert "\n" not in str(refused.value)
    assert installed.names() == []


def test_the_bundle_before_can_be_gone_back_to(installed: Installed, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    names = [add(source, installed) for source in (bundle, small_bundle(tmp_path / "other", b"ash\noak\nyew\n"))]
    assert installed.switch(names[0]) is None
    assert installed.switch(names[1]) == names[0]
    assert (installed.current, installed.previous) == (names[1], names[0])
    installed.switch(names[1])  # again changes nothing
    assert (installed.current, installed.previous) == (names[1], names[0])
    assert load_bundle(installed.directory / "current").labels == ("ash", "oak", "yew")
    for name, message in ((names[0], "rollback"), (names[1], "in use"), ("current", "There is no bundle current here")):
        with pytest.raises(BundleError, match=message):
            installed.remove(name, force=False)
    installed.remove(names[0], force=True)
    assert (installed.names(), installed.previous) == ([names[1]], None)
    installed.remove(names[1], force=True)
    assert (installed.names(), installed.current) == ([], None)


def test_a_bundle_that_is_being_removed_cannot_become_current(
    installed: Installed, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise `current` would name nothing, and the daemon could not start."""
    (tmp_path / "other").mkdir()
    stays, goes = (add(source, installed) for source in (bundle, small_bundle(tmp_path / "other", b"ash\noak\nyew\n")))
    installed.switch(stays)
    staging, switches = installed.staging, []

    def staging_late(purpose: Purpose) -> Path:
        """Starts a switch to the bundle after the links were read and before anything is moved."""
        switches.append(others.submit(Installed(installed.directory).switch, goes))
        with pytest.raises(futures.TimeoutError):
            switches[0].result(timeout=0.3)
        return staging(purpose)

    with futures.ThreadPoolExecutor(1) as others:
        monkeypatch.setattr(installed, "staging", staging_late)
        installed.remove(goes, force=False)
        with pytest.raises(BundleError, match="There is no bundle"):
            switches[0].result(timeout=30)
    assert (installed.names(), installed.current) == ([stays], stays)
    assert (installed.directory / "current").resolve() == installed.directory / stays


def test_what_a_killed_command_left_blocks_nothing_and_is_swept_a_day_later(bundle: Path) -> None:
    with tempfile.TemporaryDirectory() as place:  # pytest's own directories are for its user alone
        Path(place).chmod(0o755)
        installed = Installed(Path(place) / "models")
        add(bundle, installed)
        kinds = ("new", "export", "remove")
        left, at_work = ([installed.directory / f".{kind}-{age}" for kind in kinds] for age in ("old_0000", "young_00"))
        for path in (*left, *at_work):
            (path / "unnamed").mkdir(parents=True)
        for path in left:
            os.utime(path, (0, time.time() - STALE_S - 60))
        for path in (*left, *at_work):
            path.chmod(0)
        with somebody_else():
            assert installed.names() == [bundle.name]
        for path in (*left, *at_work):
            path.chmod(0o700)
        installed.staging().rmdir()
        assert not any(path.exists() for path in left)
        assert all(path.exists() for path in at_work)  # another command may be at work there


@pytest.mark.skipif(not may_be_anybody(), reason="only root can be led astray by another user's links")
def test_root_puts_a_bundle_together_where_the_daemons_user_cannot_put_links_in_its_way(bundle: Path) -> None:
    with tempfile.TemporaryDirectory() as place:
        installed = Installed(Path(place) / "state" / "models")
        installed.directory.mkdir(parents=True)
        os.chown(Path(place) / "state", 65534, 65534)
        staging = installed.staging()
        assert (staging.parent, staging.stat().st_mode & 0o777) == (Path(place), 0o700)
        staging.rmdir()
        assert add(bundle, installed) == bundle.name
        assert installed.names() == [bundle.name]
        installed.remove(bundle.name, force=False)
        assert installed.names() == []
        assert [entry.name for entry in Path(place).iterdir()] == ["state"]
        os.chown(place, 0, 0)


def test_a_bundle_that_says_itself_that_it_follows_fp32_too_little_is_refused(
    installed: Installed, bundle: Path, tmp_path: Path
) -> None:
    agreement = {"photos": 48, "top1": 10.0, "confidence_difference": 40.0, "correlation": 0.1, "on": "shipped"}
    poor = signed(bundle, tmp_path, lambda document: document.update(agreement=agreement))
    with pytest.raises(BundleError, match=r"its logits correlate with FP32's by 0\.100, and 0\.95 is the least"):
        add(poor, installed)
    assert installed.names() == []


def test_a_directory_whose_file_has_no_end_is_refused_before_the_disk_is_full(
    installed: Installed, bundle: Path
) -> None:
    for target in ("/dev/zero", "/nowhere"):
        (bundle / MODEL).unlink()
        (bundle / MODEL).symlink_to(target)
        with pytest.raises(BundleError, match=f"{bundle} is no bundle: it lacks {MODEL}"):
            add(bundle, installed)
    (bundle / MODEL).unlink()
    with (bundle / MODEL).open("wb") as file:
        file.truncate(room.MAX_BYTES + 1)
    with pytest.raises(BundleError, match="has more than 256 MB, which no bundle has"):
        add(bundle, installed)


def test_a_refusal_names_what_was_given(installed: Installed, bundle: Path) -> None:
    (bundle / LABELS).write_bytes(b"others\n")
    with pytest.raises(BundleError, match=re.escape(str(bundle))):
        add(bundle, installed)


def test_a_place_that_cannot_be_written_is_reported(installed: Installed, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the directory should be")
    with pytest.raises(StateError, match="state is no directory; name another place for the models"):
        add(bundle, installed)
