# shellcheck shell=bash
# Functions that the scripts here, tests/boot/box and tests/device/lab share. Sourced, never run.

# shellcheck source=scripts/install/apt.sh
. "${BASH_SOURCE[0]%/*}/install/apt.sh"

# Sets and exports PYTHON. If the environment's PYTHON has pytest, it is used as it is. Otherwise ./install.sh --dev makes
# .venv with it, or updates .venv, which takes no time when nothing has changed.
choose_python() {
    if [ -z "${PYTHON:-}" ] || ! "$PYTHON" -c 'import pytest' 2>/dev/null; then
        ./install.sh --dev
        PYTHON=$PWD/.venv/bin/python
    fi
    export PYTHON
}

# Sets data: the folder with real weights, photos and videos. Exits with 1 if EDGE_CLASSIFIER_TESTDATA is not set.
need_testdata() {
    data=${EDGE_CLASSIFIER_TESTDATA:?set EDGE_CLASSIFIER_TESTDATA to the folder with weights, photos and video}
}

# Exits with 69 if no Debian system can be made here: that needs root, and a mirror in debian.sources.
need_root_on_debian() {
    [ "$(id -u)" -eq 0 ] && [ -f /etc/apt/sources.list.d/debian.sources ] && return
    echo "${0##*/} makes a Debian system, which needs root, on Debian." >&2
    exit 69
}

# install_debian_packages PACKAGE...: installs them with apt if one is missing; needs root.
install_debian_packages() {
    local installed
    # A removed package whose configuration stayed has a status too, so only "installed" counts.
    installed=$(dpkg-query --show --showformat='${db:Status-Status}\n' "$@" 2>/dev/null | grep -c '^installed$' || true)
    [ "$installed" -lt "$#" ] || return 0
    apt_get update -qq
    apt_get install -qq --no-install-recommends "$@" >/dev/null
}

# debian_sources SUITE: prints apt's sources for SUITE, from this machine's mirror if it runs Debian.
debian_sources() {
    local -r ours=/etc/apt/sources.list.d/debian.sources
    if [ -f "$ours" ]; then
        sed "s/$(. /etc/os-release && echo "$VERSION_CODENAME")/$1/g; /^#/d" "$ours"
    else
        echo "deb http://deb.debian.org/debian $1 main"
    fi
}

# Environment variables that hide VNNI and AVX-512 from oneDNN and FBGEMM; edge-classifier itself reads /proc/cpuinfo.
# shellcheck disable=SC2034 # for those who source this
readonly without_vnni=(FBGEMM_ENABLE_INSTRUCTIONS=AVX2 ONEDNN_MAX_CPU_ISA=AVX2)

# Prints /proc/cpuinfo as on a processor before Ice Lake or Zen 4, which has neither VNNI nor AVX-512.
cpuinfo_without_vnni() { sed -E '/^flags/s/ (avx512|avx_vnni|amx)[^ ]*//g' /proc/cpuinfo; }

# labelled_photos COUNT: prints the first photos of the test data, one a line.
labelled_photos() { find "$data/photos/labelled" -name '*.JPEG' | sort | sed "$1q"; }

# classes_here MODELS OPTION PHOTO...: makes a bundle in the folder MODELS with this machine's `export OPTION`, and prints
# the best class that `classify` gives each photo, joined with commas.
classes_here() {
    mkdir -p "$1"
    "$PYTHON" -m edge export "$2" --output "$1" --json >/dev/null &&
        "$PYTHON" -m edge classify --model "$1/current" --json "${@:3}" | "$PYTHON" -c '
import json, sys

print(",".join(str(json.loads(line)["top"][0]["index"]) for line in sys.stdin))'
}
