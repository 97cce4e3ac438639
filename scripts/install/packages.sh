# shellcheck shell=bash disable=SC2154  # broker, host and stack are set by scripts/install/service, which sources this
# Finds out what the machine is, and installs the packages that it needs from Debian.

# shellcheck source=scripts/install/apt.sh
. scripts/install/apt.sh

# os_release KEY: prints a value of os-release, because apt's package lists may be empty or old. The file is read, never
# sourced: with --root it comes from another machine.
os_release() {
    tr -d '\r' <"$host/etc/os-release" | sed -n "s/^$1=//p" | tail -n 1 |
        sed "s/^\([\"']\)\(.*\)\1\$/\2/; s/\\\\\([\"\$\`\\\\]\)/\1/g"
}

is_jetson() { [ -e "$host/etc/nv_tegra_release" ] || grep -qs 'NVIDIA.*Jetson' "$host/proc/device-tree/model"; }

# Prints the name of the board or PC.
board() {
    local file
    for file in "$host/proc/device-tree/model" "$host/sys/class/dmi/id/product_name"; do
        [ ! -r "$file" ] || { tr -d '\0' <"$file" | head -n 1 && return; }
    done
    echo "this machine"
}

# Prints the stack of this machine, which decides where numpy, OpenCV and torch come from:
#   trixie    everything from Debian; torch too, if choose_torch finds that it runs INT8
#   bookworm  numpy, OpenCV and picamera2 from Debian, where they were built for each other; torch and the rest from PyPI
#   jetson    torch and OpenCV as NVIDIA built them, with CUDA and GStreamer, never replaced; the rest from PyPI
#   pypi      everything from PyPI
stack_here() {
    if is_jetson; then
        echo jetson
        return
    fi
    case $(os_release VERSION_CODENAME) in
        trixie | forky | sid) echo trixie ;;
        bookworm) echo bookworm ;;
        *) echo pypi ;;
    esac
}

dpkg_architecture() { sed -n '/^Package: dpkg$/,/^$/s/^Architecture: //p' "$host/var/lib/dpkg/status" 2>/dev/null; }

# Prints aarch64 or x86_64. dpkg's architecture counts, because a 64-bit kernel may run 32-bit programs, and --root
# names another machine.
machine_here() {
    case $(dpkg_architecture) in
        arm64) echo aarch64 ;;
        amd64) echo x86_64 ;;
        *) uname -m ;;
    esac
}

# torch_for STACK MACHINE ENGINE: prints where torch is expected to come from: debian, pypi, or none with ONNX Runtime in
# its place. Debian's for arm64 has no kernels for INT8 (debian/rules of pytorch 2.6.0+dfsg-7: USE_PYTORCH_QNNPACK for
# amd64 only).
torch_for() {
    case "${3:-torchscript} $1 $2" in
        onnxruntime*) echo none ;;
        "torchscript trixie x86_64") echo debian ;;
        *) echo pypi ;;
    esac
}

# needs_pypi STACK TORCH_FROM MACHINE: whether anything of a release comes from PyPI. Debian's ONNX Runtime 1.21 for arm64
# computes in half precision while it is loaded: on a Pi 4 or a Zero 2 W importing it is an illegal instruction.
needs_pypi() { case "$1 $2 $3" in "trixie debian "* | "trixie none x86_64") return 1 ;; esac; }

# Sets torch_from to debian, pypi or none. No version number says whether a torch runs INT8, so one that is installed is
# tried.
choose_torch() {
    torch_from=$(torch_for "$stack" "$(machine_here)" "$engine")
    [ "$torch_from" != none ] || return 0
    if [ "$stack" = trixie ] && [ -z "$host" ] && is_installed python3-torch; then
        torch_from=debian
        runs_int8 "$(release_python)" >/dev/null 2>&1 || torch_from=pypi
    fi
}

# runs_int8 PYTHON: whether its torch runs INT8 on this machine; prints a sentence. Runs in the checkout, and needs none
# of this package's dependencies but torch.
runs_int8() { "$1" -B -m edge.vision.int8_check; }

# Installs Debian's torch before all other packages, where it is expected to run INT8, and tries it. Where it does not,
# torch_from becomes pypi.
try_debian_torch() {
    if [ "$torch_from" != debian ] || is_installed python3-torch; then return; fi
    step "$(title_for python3 python3-torch), to try this torch" install_packages python3 python3-torch
    [ "$dry_run" = no ] || return 0
    runs_int8 "$(release_python)" >>"$log" 2>&1 || {
        torch_from=pypi
        say "  Debian's torch does not run INT8 on this processor, so torch comes from PyPI."
    }
}

engine_in_words() { if [ "$torch_from" = none ]; then echo "ONNX Runtime"; else echo torch; fi; }
without_torch() { [ "$torch_from" != none ] || echo ", without torch"; }

# describe_stack STACK: prints it in words.
describe_stack() {
    case $1 in
        trixie)
            if [ "$torch_from $(machine_here)" = "none x86_64" ]; then
                echo "ONNX Runtime and everything else from Debian, without torch"
            elif [ "$torch_from" = none ]; then
                echo "ONNX Runtime from PyPI, because Debian's needs a newer processor than a Pi 4's, and everything else from Debian, without torch"
            elif [ "$torch_from" = debian ]; then
                echo "torch and everything else from Debian"
            else
                echo "torch from PyPI, because Debian's has no kernels for INT8 here, and everything else from Debian"
            fi
            ;;
        bookworm) echo "numpy and OpenCV from Debian, $(engine_in_words) and the rest from PyPI$(without_torch)" ;;
        jetson)
            if [ "$torch_from" = none ]; then
                echo "OpenCV stays NVIDIA's, ONNX Runtime and the rest from PyPI"
            else
                echo "torch and OpenCV stay NVIDIA's, the rest from PyPI"
            fi
            ;;
        pypi) echo "$(engine_in_words) and everything else from PyPI$(without_torch)" ;;
    esac
}

# packages_for STACK TORCH_FROM MACHINE: prints the packages that come from Debian, one a line, but for mosquitto and its
# clients.
packages_for() {
    local -a packages=(python3 python3-venv)
    case "$1 $2 $3" in
        *" debian "*) packages+=(python3-torch) ;;
        "trixie none x86_64") packages+=(python3-onnxruntime) ;;
    esac
    case $1 in
        trixie)
            packages+=(python3-numpy python3-opencv python3-paho-mqtt python3-pydantic python3-tqdm python3-fastapi
                python3-uvicorn python3-python-multipart python3-prometheus-client python3-systemd python3-setuptools
                python3-wheel)
            ;;
        bookworm) packages+=(python3-numpy python3-opencv python3-systemd) ;;
        jetson) packages+=(python3-systemd) ;;
    esac
    printf '%s\n' "${packages[@]}"
}

# Prints the packages that are not installed yet, on one line.
missing_packages() {
    local package wanted missing=""
    wanted="$(packages_for "$stack" "$torch_from" "$(machine_here)") mosquitto-clients"
    [ "$broker" != local ] || wanted+=" mosquitto"
    # Raspberry Pi OS offers picamera2 for its cameras, Debian does not.
    case $stack in
        trixie | bookworm) if is_offered python3-picamera2; then wanted+=" python3-picamera2"; fi ;;
    esac
    for package in $wanted; do
        is_installed "$package" || missing+=" $package"
    done
    echo "${missing# }"
}

debian_architecture() { if [ "$(machine_here)" = aarch64 ]; then echo arm64; else echo amd64; fi; }

# is_offered PACKAGE: whether apt's package lists have it; a fresh card has no lists yet.
is_offered() {
    local -a of=()
    [ -z "$host" ] || of=(-o "Dir=$host/" -o "Dir::State::status=$host/var/lib/dpkg/status" \
        -o "APT::Architecture=$(debian_architecture)" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=)
    apt-cache show "$1" "${of[@]}" >/dev/null 2>&1
}

# Warns where picamera2 cannot be installed on a Raspberry Pi, whose own cameras need it.
warn_of_no_picamera2() {
    case $stack in trixie | bookworm) ;; *) return 0 ;; esac
    if [[ $(board) != "Raspberry Pi"* ]] || is_installed python3-picamera2 || is_offered python3-picamera2; then return; fi
    if [ "$dry_run" = yes ]; then
        say "  ${in_plan}python3-picamera2 too, where apt offers it once its lists are fetched"
    else
        say "  apt does not offer python3-picamera2, so the Pi's own cameras cannot be used; Raspberry Pi OS has it."
    fi
}

# title_for PACKAGE...: prints a step's title, with the packages' names in a plan, and otherwise with the download's
# size.
title_for() {
    local size=""
    if [ "$dry_run" = yes ]; then
        echo "From Debian: $*"
        return
    fi
    size=$(LC_ALL=C apt-get install --assume-no --no-install-recommends -o Debug::NoLocking=1 "$@" 2>/dev/null |
        sed -n 's/.* \([0-9]*\) newly installed.*/\1 packages/p; s/^Need to get \(.*\) of archives.*/, \1 to fetch/p' |
        tr -d '\n') || true
    echo "From Debian: ${size:-$# packages and what they need}"
}

is_installed() {
    local -a of=()
    [ ! -d "$host/var/lib/dpkg" ] || of=(--admindir "$host/var/lib/dpkg")
    dpkg-query "${of[@]}" -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'
}

# install_packages PACKAGE...: installs them, and notes in $from_debian those that were not there before.
install_packages() {
    local package
    local -a new=()
    for package; do is_installed "$package" || new+=("$package"); done
    apt_get install -y --no-install-recommends "$@"
    install -d -m 755 "$root"
    printf '%s\n' "${new[@]}" >>"$from_debian"
}

# Prints the Python that a release is made with: the system's, unless nothing comes from its packages.
release_python() {
    case $stack in
        pypi) find_python ;;
        *) PYTHON=${PYTHON:-/usr/bin/python3} find_python ;;
    esac
}

python_version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

# Prints the version of a release's Python, such as 3.13; of another machine, from the link that its python3 is.
version_here() {
    local python
    if [ -L "$host/usr/bin/python3" ] && [ -n "$host" ]; then
        basename "$(readlink "$host/usr/bin/python3")" | sed 's/^python//'
        return
    fi
    python=$(release_python) || return
    python_version "$python"
}

# nvidia_pins PYTHON: prints the versions of its torch and torchvision as name==version. Where torch, if it is used, is
# not NVIDIA's, or OpenCV is without GStreamer, which a CSI camera needs, prints a sentence and returns 1.
nvidia_pins() {
    "$1" - "$1" "$torch_from" <<'END'
import importlib.metadata
import sys

advice = "https://docs.nvidia.com/deeplearning/frameworks/install-pytorch-jetson-platform/"
remedy = f"install NVIDIA's with sudo pip3, as {advice} says, and run this again."


def stop(sentence):
    print(sentence)
    sys.exit(1)


def check_torch():
    try:
        import torch
    except (ImportError, OSError) as error:
        stop(f"{sys.argv[1]} cannot import torch ({error}); {remedy}")
    if not torch.cuda.is_available():
        stop(f"The torch {torch.__version__} of {sys.argv[1]} does not see the GPU; {remedy}")
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):
        stop(f"The torch {torch.__version__} of {sys.argv[1]} is older than 2.6; {remedy}")


if sys.argv[2] != "none":
    check_torch()
try:
    import cv2
except (ImportError, OSError) as error:
    stop(f"{sys.argv[1]} cannot import OpenCV ({error}); run: sudo apt-get install nvidia-opencv")
if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
    stop(
        f"The OpenCV {cv2.__version__} in {cv2.__file__} is without GStreamer, which JetPack's is not; uninstall the"
        " one from pip, and run: sudo apt-get install nvidia-opencv"
    )
pins = []
for package in ("torch", "torchvision"):
    try:
        pins.append(f"{package}=={importlib.metadata.version(package)}")
    except importlib.metadata.PackageNotFoundError:
        pass  # torchvision is not needed
print(*pins)
END
}

# Fails where torch or ONNX Runtime comes from PyPI and PyPI does not answer. Not checked while Python is not installed.
check_pypi() {
    local reason
    [ -z "$host$offline" ] && needs_pypi "$stack" "$torch_from" "$(machine_here)" && [ -n "$python_there" ] || return 0
    reason=$("$python_there" scripts/install/weights.py pypi) ||
        fail 69 "PyPI, where $(engine_in_words) comes from here, does not answer ($reason); connect this machine, or see --offline in --help."
}

# Fails where a Jetson has no torch and OpenCV of NVIDIA's. Another machine's Python cannot be run, so it is not
# checked.
check_nvidia() {
    local sentence python
    [ -z "$host" ] || [ -n "${PYTHON:-}" ] || return 0
    python=$(release_python)
    sentence=$(nvidia_pins "$python") || fail 69 "$sentence"
}
