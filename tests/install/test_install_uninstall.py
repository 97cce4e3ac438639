"""Tests what --uninstall leaves on the machine and at the broker, and what it prints about it."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.installer import CHECKOUT, program


class Machine:
    """The files of a machine with an installed service."""

    def __init__(self, home: Path, forgets: int) -> None:
        self.home = home
        for file in ("etc/config.toml", "opt/current", "var/state/fallback.db", "var/.edge-classifier-half/model.pt"):
            (home / file).parent.mkdir(parents=True, exist_ok=True)
            (home / file).touch()
        program(home / "bin" / "systemctl", f'#!/bin/sh\necho "systemctl $*" >>{home}/did\n')
        program(home / "edge-classifier", f'#!/bin/sh\necho "$@" >>{home}/did\nexit {forgets}\n')

    def stage(self, command: str) -> str:
        """The output of functions of the installer."""
        script = f"""
            name=edge-classifier root={self.home}/opt state={self.home}/var/state unit={self.home}/unit
            config={self.home}/etc/config.toml broker_config={self.home}/broker.conf command_link={self.home}/$name
            from_debian=$root/from-debian log={self.home}/log dry_run=no purge=no
            for stage in common packages uninstall; do . scripts/install/$stage.sh; done
            is_installed() {{ [ "$1" = python3 ]; }} # what was there before
            getent() {{ return 1; }}; apt-get() {{ :; }}; {command}"""
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=CHECKOUT,
            env=os.environ | {"PATH": f"{self.home / 'bin'}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    def left(self) -> set[str]:
        """The files that are left, without the stand-ins."""
        files = {str(path.relative_to(self.home)) for path in self.home.rglob("*") if path.is_file()}
        return files - {"did", "bin/systemctl"}


@pytest.mark.parametrize(("forgets", "says_so"), [(0, False), (69, True)], ids=["forgotten", "broker away"])
def test_a_box_that_is_uninstalled_does_not_stay_at_the_broker(tmp_path: Path, forgets: int, says_so: bool) -> None:
    machine = Machine(tmp_path, forgets)
    result = machine.stage("uninstall_service")
    # Otherwise the service would publish its retained topics again.
    assert (tmp_path / "did").read_text().splitlines()[:2] == ["systemctl stop edge-classifier", "forget"]
    assert ("could not be removed from the broker; docs/operating.md describes how" in result) is says_so
    assert machine.left() == {"etc/config.toml", "var/state/fallback.db", "var/.edge-classifier-half/model.pt", "log"}


def test_a_purge_leaves_no_files_and_names_what_came_from_debian(tmp_path: Path) -> None:
    machine = Machine(tmp_path, 0)
    machine.stage("install_packages python3 python3-torch mosquitto; install_packages mosquitto-clients")
    text = machine.stage("purge=yes; uninstall_service")
    assert machine.left() == set()
    assert text.splitlines()[-1].endswith("sudo apt-get remove --autoremove mosquitto mosquitto-clients python3-torch")


def test_a_purge_that_fails_says_in_which_step_and_why(tmp_path: Path) -> None:
    machine = Machine(tmp_path, 0)
    fails = "getent() { return 0; }; userdel() { echo 'userdel: user is busy' && return 8; }"
    with pytest.raises(AssertionError, match=r"userdel: user is busy\n.*The step \"Removing its config"):
        machine.stage(f"{fails}; purge=yes; uninstall_service")


def test_what_debian_had_already_is_not_named(tmp_path: Path) -> None:
    assert "apt-get" not in Machine(tmp_path, 0).stage("uninstall_service")
