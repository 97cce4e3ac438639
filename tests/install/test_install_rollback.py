"""Tests that a release that does not run is undone: the previous one runs again with its unit, drop-ins and model."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.installer import CHECKOUT, program

NAME = "edge-classifier"
# The state of the service in each second, as the lines of `seconds`.
SECONDS = """#!/bin/sh
case $1 in
    show)
        [ "$2" != -P ] || exec echo 0
        set -- $(sed -n "$(wc -l <{home}/passed) p" {home}/seconds)
        printf 'NRestarts=%s\nExecMainStatus=%s\nActiveState=%s\nSubState=%s\n' $1 $2 $3 $4
        [ "$5" != ended ] || exec echo "StatusText=The source has ended"
        echo "StatusText=Restarting because $5 has not moved for 6 s" ;;
esac
"""
# A release's service runs only with its own unit and model; the new one's only if it is not marked broken.
SYSTEMCTL = """#!/bin/sh
case $1 in
    restart)
        release=$(basename "$(readlink {root}/current)")
        [ -e {root}/releases/$release/broken ] && exit 1
        grep -q "^# $release$" {unit} && [ "$(readlink {state}/models/current)" = "bundle-of-$release" ] ;;
    show) [ "$2" = -P ] && echo 0 || printf 'NRestarts=0\nExecMainStatus=0\nActiveState=active\nSubState=running\n' ;;
esac
"""


class Machine:
    """A machine's files, and a service that runs only with its own release's unit and model; `old` runs there."""

    def __init__(self, home: Path) -> None:
        self.root, self.state, self.unit = home / "opt", home / "state", home / f"{NAME}.service"
        self.drop_ins = home / f"{NAME}.service.d"
        self.command = home / "usr" / "local" / "bin" / NAME
        self.command.parent.mkdir(parents=True)
        self.drop_ins.mkdir()
        (self.state / "models").mkdir(parents=True)
        (self.root / "releases").mkdir(parents=True)
        for stand_in in ("journalctl", "sleep"):
            program(home / "bin" / stand_in, "#!/bin/sh\n")
        program(home / "bin" / "systemctl", SYSTEMCTL.format(root=self.root, unit=self.unit, state=self.state))
        self.path = f"{home / 'bin'}:{os.environ['PATH']}"
        self.comes("old", "no-wx.conf")
        self.links(self.root, current=str(self.release("old")))
        (self.drop_ins / "override.conf").write_text("# the operator's\n")

    def release(self, name: str) -> Path:
        return self.root / "releases" / name

    def comes(self, name: str, *drop_ins: str) -> None:
        """What the installer does with a release before it is started."""
        shutil.copytree(CHECKOUT / "systemd", self.release(name) / "systemd")
        self.unit.write_text(f"# {name}\n")
        for drop_in in drop_ins:
            (self.drop_ins / drop_in).write_text(f"# {name}\n")
        (self.state / "models" / f"bundle-of-{name}").mkdir()
        self.links(self.state / "models", current=f"bundle-of-{name}")

    def links(self, directory: Path, **targets: str) -> None:
        for link, target in targets.items():
            (directory / link).unlink(missing_ok=True)
            (directory / link).symlink_to(target)

    def runs_with(self) -> dict[str, str]:
        """The release, and everything that is installed with it."""
        found = {file.name: file.read_text() for file in (self.unit, *self.drop_ins.iterdir())}
        links = (self.root / "current", *(self.state / "models").iterdir())
        return found | {str(link): str(link.readlink()) for link in links if link.is_symlink()}

    def stage(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run functions of the installer."""
        script = (
            f"name={NAME} root={self.root} state={self.state} unit={self.unit} release={self.release('new')}"
            f" command_link={self.command}"
            f" log={self.root}/log dry_run=no\n"
            f"for stage in common release rollback; do . scripts/install/$stage.sh; done; {command}"
        )
        return subprocess.run(
            ["bash", "-euc", script],
            cwd=CHECKOUT,
            env=os.environ | {"PATH": self.path},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def remember(machine: Machine) -> None:
    result = machine.stage(f"remember {machine.release('old')}")
    assert result.returncode == 0, result.stderr


def test_a_release_that_does_not_run_is_replaced_by_the_one_before_with_its_unit_and_its_model(
    machine: Machine,
) -> None:
    before = machine.runs_with()
    remember(machine)
    machine.comes("new", "no-wx.conf", "jetson.conf")
    (machine.release("new") / "broken").touch()
    result = machine.stage("start_release")
    assert result.returncode == 1
    assert result.stdout.splitlines()[-1] == (
        "The new release did not run; old runs again, with the unit and the model it had."
    )
    assert machine.runs_with() == before
    assert not machine.release("new").exists()


def test_a_release_whose_installer_kept_nothing_is_put_back_with_the_model_in_use(machine: Machine) -> None:
    (machine.release("old") / "systemd" / f"{NAME}.service").write_text("# old\n")
    machine.comes("new")
    machine.links(machine.state / "models", current="bundle-of-old")
    (machine.release("new") / "broken").touch()
    result = machine.stage("start_release")
    assert "The new release did not run; old runs again" in result.stdout, result.stdout + result.stderr
    assert machine.runs_with()[str(machine.root / "current")] == str(machine.release("old"))


@pytest.mark.parametrize("before", ["older", ""])
def test_roll_back_goes_to_what_ran_whether_the_watch_is_cut_off_or_the_release_fails(
    machine: Machine, before: str
) -> None:
    if before:
        machine.links(machine.root, previous=str(machine.release(before)))
    remember(machine)
    machine.comes("new")
    previous = machine.root / "previous"
    assert machine.stage("start_and_watch() { exit 130; }; start_release").returncode == 130  # Ctrl-C
    assert previous.readlink() == machine.release("old")
    machine.links(machine.root, current=str(machine.release("old")))
    if before:
        machine.links(machine.root, previous=str(machine.release(before)))
    else:
        previous.unlink()
    (machine.release("new") / "broken").touch()
    assert "old runs again" in machine.stage("start_release").stdout
    assert (previous.readlink() if previous.is_symlink() else None) == (machine.release(before) if before else None)


def test_an_upgrade_that_ends_before_its_release_leaves_the_model_that_ran(machine: Machine) -> None:
    before = machine.runs_with()
    old, new = machine.release("old"), machine.release("new")
    switches = f"ln -sfn bundle-of-new {machine.state}/models/current"
    result = machine.stage(f"remember {old}; mkdir {new}; sweep_at_exit {new} {old}; {switches}; exit 78")
    assert result.returncode == 78
    assert machine.runs_with() == before
    assert not new.exists()


def test_where_the_one_before_does_not_run_either_a_sentence_says_so(machine: Machine) -> None:
    remember(machine)
    machine.comes("new")
    for name in ("old", "new"):
        (machine.release(name) / "broken").touch()
    result = machine.stage("start_release")
    assert result.returncode == 1
    assert result.stdout.splitlines()[-1] == (
        "Neither the new release nor old, which was put back, runs: the lines above show why."
        " Correct that, and start it with: sudo systemctl restart edge-classifier"
    )


def test_a_first_install_that_fails_leaves_nothing_to_go_back_to_and_again_says_the_same(machine: Machine) -> None:
    shutil.rmtree(machine.release("old"))  # nothing was ever installed
    (machine.root / "current").unlink()
    shutil.rmtree(machine.state / "models")
    for left_by_an_older_installer in (False, True):
        if left_by_an_older_installer:
            machine.links(machine.root, current=str(machine.release("failed")))
        (machine.state / "models").mkdir(parents=True)
        machine.comes("new")
        (machine.release("new") / "broken").touch()
        result = machine.stage("start_release")
        assert (result.returncode, result.stdout) == (1, "The release did not run; it is stopped.\n")
        assert not (machine.root / "current").is_symlink()
        assert not machine.unit.exists()
        assert not machine.command.is_symlink()  # it would point at a missing release
        assert not machine.release("new").exists()
        shutil.rmtree(machine.state / "models")


RUNS = ("0 0 active running",)
HANGS = ("0 75 deactivating stop-sigterm", *["0 75 activating auto-restart camera"] * 2)
ENDS = ("0 0 deactivating stop-sigterm ended", *["0 0 activating auto-restart ended"] * 2)
ENDS_AGAIN = ("1 0 activating auto-restart ended", "2 0 activating start", "2 0 active running")
AGAIN = ("1 0 activating start", "1 0 activating start", "1 0 active running")
HANGS_AGAIN = ("1 75 activating auto-restart camera", "2 0 activating start", "2 0 active running")


@pytest.mark.parametrize(
    ("seconds", "runs"),
    [
        (RUNS, True),
        ((*RUNS, "0 3 activating auto-restart", "1 0 active running"), False),
        ((*RUNS, "0 75 activating auto-restart inference", *AGAIN), False),
        ((*RUNS, "1 0 active running"), False),  # a restart that was too quick to be seen
        ((*RUNS, "0 0 inactive dead"), False),
        # A file that is not looped has ended, and is started again.
        ((*RUNS, *ENDS, *AGAIN, *RUNS, *ENDS_AGAIN), True),
        ((*RUNS, "0 0 activating auto-restart"), False),  # it ended for an unknown reason
        # A read of the camera does not return, which is no fault of the release.
        ((*RUNS, *HANGS, *AGAIN), True),
        ((*RUNS, *HANGS, *AGAIN, *HANGS_AGAIN), True),
        ((*RUNS, *HANGS, *AGAIN, "1 3 activating auto-restart", "2 0 activating start"), False),
        ((*RUNS, *HANGS, *AGAIN, "2 0 active running"), False),
    ],
)
def test_a_release_is_not_to_blame_for_a_camera_that_hangs(
    machine: Machine, seconds: tuple[str, ...], runs: bool
) -> None:
    home = machine.unit.parent
    (home / "seconds").write_text("\n".join((*seconds, *[seconds[-1]] * 30)) + "\n")
    (home / "passed").touch()
    program(home / "bin" / "systemctl", SECONDS.format(home=home))
    program(home / "bin" / "sleep", f"#!/bin/sh\necho >>{home}/passed\n")
    assert (machine.stage("start_and_watch").returncode == 0) is runs


def test_roll_back_takes_the_unit_and_the_model_along_and_again_returns(machine: Machine) -> None:
    old = machine.runs_with()
    remember(machine)
    machine.comes("new", "jetson.conf")
    (machine.drop_ins / "no-wx.conf").unlink()
    assert machine.stage("start_release").returncode == 0
    # A password that was given later belongs to the config, which stays.
    (machine.drop_ins / "mqtt-password.conf").write_text("# given\n")
    new = machine.runs_with()
    result = machine.stage("roll_back")
    assert result.returncode == 0, result.stderr
    assert machine.runs_with() == old | {"mqtt-password.conf": "# given\n"}
    assert machine.stage("roll_back").returncode == 0
    assert machine.runs_with() == new


def test_roll_back_to_a_release_that_does_not_run_says_how_to_return(machine: Machine) -> None:
    remember(machine)
    machine.comes("new")
    assert machine.stage("start_release").returncode == 0
    (machine.release("old") / "broken").touch()
    result = machine.stage("roll_back")
    assert result.returncode == 1
    assert "old does not run" in result.stderr
    assert "To go back to new: sudo ./install.sh --rollback" in result.stderr


def test_there_is_no_way_back_to_a_release_that_was_deleted(machine: Machine) -> None:
    machine.links(machine.root, previous=str(machine.release("deleted")))
    before = machine.runs_with()
    result = machine.stage("roll_back")
    assert (result.returncode, result.stderr) == (69, "install.sh: There is no previous release to go back to.\n")
    assert machine.runs_with() == before
