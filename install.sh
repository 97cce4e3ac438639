#!/usr/bin/env bash
# Installs edge-classifier: as a system service, into .venv here to try it or to test it, or as a download for a machine
# without internet.
# usage: see ./install.sh --help
# Exits with 0 when it is done, and otherwise with the codes of sysexits.h: 64 for a wrong option, 65 or 66 for a file
# that is damaged or missing, 69 if something that it needs is missing, 73 if it cannot write, 77 without root; 1 if the
# answer was no or a release did not run. If a step fails, it exits with the step's own code.
set -euo pipefail

export CALLED_FROM=$PWD # FILE and DIR of the options are relative to it
cd "$(dirname "$(realpath "${BASH_SOURCE[0]}")")"
# shellcheck source=scripts/install/common.sh
. scripts/install/common.sh

usage() {
    cat <<'EOF'
Usage: sudo ./install.sh [OPTION...]
       sudo ./install.sh --rollback
       sudo ./install.sh --uninstall [--purge]
       ./install.sh --download DIR [--for SUITE] [--weights FILE]
                    [--engine NAME] [--bundle FILE]
       ./install.sh --try [OPTION...]
       ./install.sh --dev

  Without --try it installs or upgrades the system service, on Debian and its
  derivatives: /opt/edge-classifier, the config in /etc/edge-classifier, the
  model and the log in /var/lib/edge-classifier. It may be repeated; if the
  new release does not run, the previous one is restored.
    --broker URL          mqtt://host:1883 or mqtts://host:8883 (default: a
                          mosquitto that only this machine can reach)
    --user NAME           the broker's user, and
    --password-file FILE  its password, which only the service can read
    --device NAME         part of every topic (default: from the machine id)
    --source URI          the camera (default: the first that is found)
    --web                 open the page to other machines, with a token
    --engine NAME         torchscript, the default, or onnxruntime, which needs
                          no torch and a third of the memory
    --bundle FILE         a model that was made elsewhere
    --weights FILE        FP32 weights of ImageNet's 1,000 classes to make the
                          model from; for other classes see docs/operating.md
    --offline DIR         without internet, from what --download fetched
    --upgrade             fail if it is not installed yet; otherwise the same
    --yes                 at a terminal, do not ask for confirmation
    --dry-run             print every step and do nothing
    --root DIR            with --dry-run: for the machine whose /etc and /proc
                          are in DIR, such as a card in a reader

  --rollback              go back to the previous release
  --uninstall             remove the service; --purge: config and state too

  --download DIR          fetch all that --offline needs, except Debian's
                          packages; needs no root
    --for SUITE[/MACHINE] trixie, bookworm, noble, jammy or jetson, on aarch64
                          or x86_64 (default: a machine like this one)

  --try   Run it in the foreground: installs into .venv here, makes the INT8
          model once, and prints each event that a broker delivers. It needs no
          root, systemd, camera or broker; Ctrl-C stops everything, and
          `rm -rf .venv` removes it. OPTIONs go to `edge-classifier try`:
            --source URI  a camera or file instead of what is found
            --count N     stop after N events
  --dev   Install what the tests need into .venv, and stop; see scripts/test.

PYTHON in the environment names the Python to use (3.10 to 3.13).
EOF
}

make_venv() {
    local python
    .venv/bin/python -c 'import pip' 2>/dev/null && return
    python=$(find_python)
    # On Debian venv is a separate package; without it `python3 -m venv` leaves half an environment behind.
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail 69 "Python's venv module is missing; run: sudo apt-get install $("$python" -c \
            'import sys; print("python3.%d-venv" % sys.version_info[1])')"
    rm -rf .venv
    mkdir .venv
    step "Making .venv with $("$python" -V)" "$python" -m venv .venv
}

# Builds with the pinned setuptools, which is installed by then.
install_itself() {
    .venv/bin/python -I -m pip install --disable-pip-version-check --no-input --no-deps --no-build-isolation --editable .
}

# install_packages EXTRA,...: installs into .venv, unless the same was installed before.
install_packages() {
    local extras=$1 stamp=.venv/installed-$1 wanted size="0.3 GB"
    local -a index=() names
    IFS=, read -ra names <<<"$extras"
    log=$PWD/.venv/install.log
    make_venv
    take_pip_settings .venv/bin/python
    wanted=$(cat setup.cfg constraints.txt edge/__init__.py | cksum)
    [ "$(cat "$stamp" 2>/dev/null || true)" = "$wanted" ] && return
    local -x TMPDIR=$PWD/.venv/tmp # trixie keeps /tmp in memory, which a large wheel would fill
    mkdir -p "$TMPDIR"
    if takes_cpu_index .venv/bin/python "$(uname -m)"; then
        index=(--cpu-index "$cpu_index")
    elif [ "$(uname -m)" = x86_64 ]; then
        say "  PyTorch's own index cannot be reached, and PyPI's torch includes CUDA."
        size="3 GB, unless they are cached"
    fi
    .venv/bin/python scripts/install/wheels.py wanted .venv/wanted --extra "${names[@]}" "${index[@]}"
    step "PyTorch and the other packages (about $size)" install_pinned .venv/bin/python .venv/wanted
    step "edge-classifier" install_itself
    build_kernels .venv/bin/python
    rm -rf "$TMPDIR"
    printf '%s\n' "$wanted" >"$stamp"
}

# Fetches a few photos for tests, and for machines without a camera, from scikit-image's wheel, which is not installed.
fetch_photos() {
    [ -d .venv/photos ] && return
    step "A few photos (from scikit-image, 14 MB)" unpack_photos
}

unpack_photos() {
    rm -rf .venv/wheel .venv/photos.part
    .venv/bin/python scripts/install/wheels.py download .venv/wheel --only scikit-image
    .venv/bin/python - .venv/wheel/wheels .venv/photos.part <<'EOF'
import sys, zipfile
from pathlib import Path
wheel, photos = next(Path(sys.argv[1]).glob("*.whl")), Path(sys.argv[2])
photos.mkdir()
for name in ("camera.png", "chelsea.png", "coffee.png", "rocket.jpg"):
    (photos / name).write_bytes(zipfile.ZipFile(wheel).read(f"skimage/data/{name}"))
EOF
    rm -rf .venv/wheel
    mv .venv/photos.part .venv/photos
}

have_mosquitto() { PATH=$PATH:/usr/sbin:/usr/local/sbin command -v mosquitto >/dev/null; }

run_try() {
    local extras=export
    have_mosquitto || extras=export,try
    install_packages "$extras"
    fetch_photos
    # Everything that it makes stays in .venv.
    export STATE_DIRECTORY=$PWD/.venv/state XDG_CACHE_HOME=$PWD/.venv/cache
    exec .venv/bin/edge-classifier try --photos .venv/photos "$@"
}

main() {
    case ${1:-} in
        --try)
            shift
            run_try "$@"
            ;;
        --dev)
            install_packages dev,export,try
            fetch_photos
            ;;
        --help | -h) usage ;;
        *) exec scripts/install/service "$@" ;;
    esac
}

main "$@"
