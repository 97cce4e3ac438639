"""Tests that the installer does the same whatever the environment of the one who calls it holds for other programs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.install.test_pins import wheel_of, wheels
from tests.installer import CHECKOUT, program

STAGES = "dry_run=no host= broker=given; for stage in common packages; do . scripts/install/$stage.sh; done"


def stage(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run functions of the installer."""
    return subprocess.run(
        ["bash", "-euc", f"{STAGES}; {script}"],
        cwd=CHECKOUT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


PIP_CONF = """\
[global]
quiet = 3
user = true
require-hashes = true
constraint = /nothing
find-links = {wheels}
no-index = true
[install]
target = {elsewhere}
dry-run = true
"""
ELSEWHERE = {
    "PIP_USER": "1",
    "PIP_TARGET": "{elsewhere}",
    "PIP_PREFIX": "{elsewhere}",
    "PIP_ROOT": "{elsewhere}",
    "PIP_DRY_RUN": "1",
    "PIP_NO_BINARY": ":all:",
    "PIP_CONSTRAINT": "/nothing",
    "PIP_PYTHON": "/nothing",
    "PIP_REQUIRE_VIRTUALENV": "1",
    "PYTHONHOME": "/nothing",
    "PYTHONSAFEPATH": "1",
    "PYTHONWARNINGS": "error",
    "TMPDIR": "/nothing",
    "CDPATH": "/",
    "LC_ALL": "de_DE.ISO-8859-1",
}


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("release") / "venv"
    subprocess.run([sys.executable, "-m", "venv", made], check=True)
    return made


@pytest.mark.parametrize("case", ["pip.conf", "no-index", "a short PATH", "variables"])
def test_pip_installs_into_the_release_whatever_its_user_has_set(tmp_path: Path, venv: Path, case: str) -> None:
    digest = wheel_of(tmp_path, case := case.replace(" ", "").replace(".", "").replace("-", ""), "1.0")
    pin = wheels.Pin(case, "1.0", (f"sha256:{digest}",), frozenset())
    wheels.write_wanted(tmp_path / "wanted", {case: pin}, from_cpu_index=False)
    elsewhere, home = tmp_path / "elsewhere", tmp_path / "home"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": str(tmp_path), "HOME": str(home)}
    environment |= {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0"}
    if case == "pipconf":
        conf = tmp_path / "pip.conf"
        conf.write_text(PIP_CONF.format(wheels=tmp_path, elsewhere=elsewhere))
        environment |= {"PIP_CONFIG_FILE": str(conf), "PIP_FIND_LINKS": "", "PIP_INDEX_URL": ""}
    elif case == "noindex":
        environment |= {"PIP_NO_INDEX": "1"}
    elif case == "ashortPATH":
        environment |= {"PATH": "/nothing"}
    else:
        environment |= {name: value.format(elsewhere=elsewhere) for name, value in ELSEWHERE.items()}
    python = venv / "bin" / "python"
    install = f"take_pip_settings {python}; install_pinned {python} {tmp_path}/wanted"
    command = ["/bin/bash", "-euc", f"{STAGES}; log={tmp_path}/log; {install}"]
    result = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert len([*venv.rglob(f"{case}.py")]) == 1
    assert not [*tmp_path.rglob(f"{case}.py")]


def test_pip_keeps_what_leads_it_to_an_index(tmp_path: Path) -> None:
    conf = tmp_path / "pip.conf"
    conf.write_text(
        "[global]\nindex-url = https://me:it's@pypi.example/simple\nextra-index-url = https://a.example\n"
        "    https://b.example\nuser = true\n[install]\ntrusted-host = a.example\nno-index = true\n"
    )
    show = f"take_pip_settings {sys.executable}; env | grep ^PIP_ | sort"
    environment = dict.fromkeys((name for name in os.environ if name.startswith("PIP_")), "")
    shown = stage(show, **environment, PIP_CONFIG_FILE=str(conf), PIP_PROXY="http://proxy:3128", PIP_USER="1").stdout
    settings = shown.splitlines()  # with those of this machine's /etc/pip.conf
    assert {
        "PIP_CONFIG_FILE=/dev/null",
        "PIP_EXTRA_INDEX_URL=https://a.example https://b.example",
        "PIP_INDEX_URL=https://me:it's@pypi.example/simple",
        "PIP_PROXY=http://proxy:3128",
        "PIP_TRUSTED_HOST=a.example",
    } <= set(settings)
    assert not [setting for setting in settings if "USER" in setting]


@pytest.mark.parametrize("locale", [{"LC_ALL": "de_DE.ISO-8859-1"}, {"LANG": "de_DE.ISO-8859-1", "LC_ALL": ""}])
def test_programs_speak_english_in_the_terminal_s_own_encoding(locale: dict[str, str]) -> None:
    shown = stage("env", **locale, LC_CTYPE="").stdout.splitlines()
    assert {"LC_CTYPE=de_DE.ISO-8859-1", "LC_MESSAGES=C"} <= set(shown)
    assert not [line for line in shown if line.startswith("LC_ALL=")]


def test_a_pip_conf_that_cannot_be_read_fails_in_pip_s_words(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_bytes(b"user = 1\n")
    result = stage(f"take_pip_settings {sys.executable}; echo went on", PIP_CONFIG_FILE=str(tmp_path / "pip.conf"))
    assert result.returncode != 0
    assert "Configuration file could not be loaded" in result.stderr
    assert "went on" not in result.stdout


# As apt 2.6 behaves: dpkg's locks are waited for with its option, the others are not.
APT = """#!/bin/sh
echo "$*" >>{calls}
[ "$(wc -l <{calls})" -gt {refusals} ] && {{ echo "Setting up mosquitto (2.0.21-1) ..."; exit 0; }}
echo "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 4711 (apt-get)" >&2
echo "E: Unable to lock directory /var/lib/apt/lists/" >&2
exit 100
"""


def test_a_lock_of_apt_is_waited_for_and_the_log_says_who_has_it(tmp_path: Path) -> None:
    program(tmp_path / "apt-get", APT.format(calls=tmp_path / "calls", refusals=3))
    script = f"log={tmp_path}/log; sleep() {{ :; }}; step 'From Debian' apt_get install -y mosquitto"
    result = stage(script, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert result.returncode == 0, result.stderr
    log = (tmp_path / "log").read_text()
    waiting = "Waiting: Could not get lock /var/lib/apt/lists/lock. It is held by process 4711 (apt-get)\n"
    assert log.count(waiting) == 1
    assert "Setting up mosquitto" in log
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == ["-o DPkg::Lock::Timeout=900 install -y mosquitto"] * 4


def test_a_lock_that_is_never_released_ends_the_step_with_apt_s_sentence(tmp_path: Path) -> None:
    program(tmp_path / "apt-get", APT.format(calls=tmp_path / "calls", refusals=1000))
    script = f"log={tmp_path}/log; sleep() {{ SECONDS=1000; }}; step 'From Debian' apt_get update"
    result = stage(script, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert result.returncode == 100
    assert "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 4711 (apt-get)" in result.stderr
    assert "install.sh: The step" in result.stderr.splitlines()[-1]


def test_another_failure_of_apt_is_not_repeated_and_its_last_lines_are_shown(tmp_path: Path) -> None:
    program(
        tmp_path / "apt-get",
        f"#!/bin/sh\necho >>{tmp_path}/calls\nseq 30\necho 'E: Unable to locate package mosquitto' >&2\nexit 100\n",
    )
    before = "step 'The one before' echo of the step before"
    script = f"log={tmp_path}/log; {before}; step 'From Debian' apt_get install mosquitto"
    result = stage(script, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert result.returncode == 100
    assert len((tmp_path / "calls").read_text()) == 1
    *shown, _, reason = [line for line in result.stderr.splitlines() if line][-21:]
    assert "E: Unable to locate package mosquitto" in result.stderr
    assert "30" in shown
    assert "step before" not in result.stderr
    assert str(tmp_path / "log") in reason
    assert "\n1\n" in (tmp_path / "log").read_text()


def test_a_log_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    result = stage(f"log={tmp_path}/none/log; step 'From Debian' touch {tmp_path}/done")
    assert (result.returncode, result.stdout) == (73, "")
    assert len(result.stderr.splitlines()) == 1
    assert f"The log {tmp_path}/none/log cannot be written" in result.stderr
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ("echo 'The kernels are built: ARM64.'", ""),
        (
            "echo 'There is no C compiler; to have it, run: this.'; exit 69",
            "  There is no C compiler; to have it, run: this.\n",
        ),
        ("echo 'Traceback' >&2; exit 1", "  The kernels were not built; see {log}.\n"),
    ],
    ids=["built", "no compiler", "a crash"],
)
def test_kernels_that_cannot_be_built_are_one_sentence_and_no_failure(tmp_path: Path, ends: str, said: str) -> None:
    log = tmp_path / "install.log"
    python = program(tmp_path / "python", f'#!/bin/sh\necho "$*" >{tmp_path}/asked; {ends}\n')
    done = stage(f"log={log}; build_kernels {python}")
    assert (done.returncode, done.stdout) == (0, said.format(log=log))
    assert (tmp_path / "asked").read_text() == "-I -m edge.kernels.build\n"
