# shellcheck shell=bash disable=SC2154  # broker, host and stack belong to scripts/install/service, which sources this
# The stage of install.sh that looks at the machine, and brings what it needs from Debian.

# A value of os-release; the machine says what it is, because apt's lists may be empty or old. It is read and not sourced:
# with --root it is somebody else's.
os_release() {
    tr -d '\r' <"$host/etc/os-release" | sed -n "s/^$1=//p" | tail -n 1 |
        sed "s/^\([\"']\)\(.*\)\1\$/\2/; s/\\\\\([\"\$\`\\\\]\)/\1/g"
}

is_jetson() { [ -e "$host/etc/nv_tegra_release" ] || grep -qs 'NVIDIA.*Jetson' "$host/proc/device-tree/model"; }

board() {
    local file
    for file in "$host/proc/device-tree/model" "$host/sys/class/dmi/id/product_name"; do
        [ ! -r "$file" ] || { tr -d '\0' <"$file" | head -n 1 && return; }
    done
    echo "this machine"
}

# Where numpy and OpenCV come from; the rest that is in neither place comes from PyPI.
#   trixie    everything from Debian, torch too where choose_torch finds that it serves
#   bookworm  numpy, OpenCV and picamera2 from Debian, which belong together; torch from PyPI
#   jetson    torch and OpenCV as NVIDIA built them, with CUDA and with GStreamer; never another's over them
#   pypi      all from PyPI
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

# aarch64 or x86_64, of the programs and not of the kernel, which may be another's; --root's machine says it in its dpkg's files.
machine_here() {
    case $(dpkg_architecture) in
        arm64) echo aarch64 ;;
        amd64) echo x86_64 ;;
        *) uname -m ;;
    esac
}

# torch_for MACHINE: where trixie's torch comes from on a machine that cannot be asked. Debian's for arm64 is built
# without kernels for INT8 (debian/rules of pytorch 2.6.0+dfsg-7: USE_PYTORCH_QNNPACK for amd64 only).
torch_for() { if [ "$1" = x86_64 ]; then echo debian; else echo pypi; fi; }

# Sets torch_from. Whether a torch has kernels for INT8 only that torch can tell, so one that is there is asked, whatever
# its version; where there is none, see torch_for and settle_torch.
choose_torch() {
    torch_from=pypi
    [ "$stack" = trixie ] || return 0
    torch_from=$(torch_for "$(machine_here)")
    [ -z "$host" ] || return 0
    if is_installed python3-torch; then
        torch_from=debian
        torch_serves >/dev/null 2>&1 || torch_from=pypi
    fi
}

torch_serves() { "$(release_python)" -B scripts/ask_torch.py; }

# Where Debian's torch is expected to serve it comes before all other packages, and is asked before they follow.
settle_torch() {
    if [ "$stack" != trixie ] || [ "$torch_from" != debian ] || is_installed python3-torch; then return; fi
    step "$(title_for python3 python3-torch), to ask this torch" install_packages python3 python3-torch
    [ "$dry_run" = no ] || return 0
    torch_serves >>"$log" 2>&1 || {
        torch_from=pypi
        say "  Debian's torch does not run INT8 on this processor, so torch comes from PyPI."
    }
}

say_stack() {
    case $1 in
        trixie)
            if [ "$torch_from" = debian ]; then
                echo "torch and everything else from Debian"
            else
                echo "torch from PyPI, because Debian's has no kernels for INT8 here, and everything else from Debian"
            fi
            ;;
        bookworm) echo "numpy and OpenCV from Debian, torch and the rest from PyPI" ;;
        jetson) echo "torch and OpenCV stay NVIDIA's, the rest from PyPI" ;;
        pypi) echo "torch and everything else from PyPI" ;;
    esac
}

# What comes from Debian on a stack.
packages_for() {
    echo python3 python3-venv mosquitto-clients
    case $1 in
        trixie)
            [ "$torch_from" != debian ] || echo python3-torch
            echo python3-numpy python3-opencv python3-paho-mqtt python3-pydantic python3-tqdm \
                python3-fastapi python3-uvicorn python3-python-multipart python3-prometheus-client python3-systemd \
                python3-setuptools python3-wheel
            ;;
        bookworm) echo python3-numpy python3-opencv python3-systemd ;;
        jetson) echo python3-systemd ;;
    esac
}

# Those that are not installed yet, on one line.
missing_packages() {
    local package wanted missing=""
    wanted=$(packages_for "$stack")
    [ "$broker" != local ] || wanted+=" mosquitto"
    # Raspberry Pi OS has it, for its own cameras; Debian has not.
    case $stack in
        trixie | bookworm) if is_offered python3-picamera2; then wanted+=" python3-picamera2"; fi ;;
    esac
    for package in $wanted; do
        is_installed "$package" || missing+=" $package"
    done
    echo "${missing# }"
}

debian_architecture() { if [ "$(machine_here)" = aarch64 ]; then echo arm64; else echo amd64; fi; }

# By the lists of packages that are there, which on a fresh card are none.
is_offered() {
    local -a of=()
    [ -z "$host" ] || of=(-o "Dir=$host/" -o "Dir::State::status=$host/var/lib/dpkg/status" \
        -o "APT::Architecture=$(debian_architecture)" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=)
    apt-cache show "$1" "${of[@]}" >/dev/null 2>&1
}

# A Pi's own cameras are reached through picamera2 alone, so that it is not left out unsaid.
tell_of_picamera2() {
    case $stack in trixie | bookworm) ;; *) return 0 ;; esac
    if [[ $(board) != "Raspberry Pi"* ]] || is_installed python3-picamera2 || is_offered python3-picamera2; then return; fi
    if [ "$dry_run" = yes ]; then
        say "  ${in_plan}python3-picamera2 too, where apt offers it once its lists are fetched"
    else
        say "  apt does not offer python3-picamera2, so the Pi's own cameras cannot be used; Raspberry Pi OS has it."
    fi
}

# title_for PACKAGE...: by their names in a plan; by how much is fetched while that is waited for.
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

# install_packages PACKAGE...: those that were there before are not named for removal.
install_packages() {
    local package
    local -a new=()
    for package; do is_installed "$package" || new+=("$package"); done
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
    install -d -m 755 "$root"
    printf '%s\n' "${new[@]}" >>"$from_debian"
}

# The Python of a release: the system's, where its packages shall be seen.
release_python() {
    case $stack in
        pypi) find_python ;;
        *) PYTHON=${PYTHON:-/usr/bin/python3} find_python ;;
    esac
}

python_version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

# The version of a release's Python; that of another machine is told by the link of its python3.
version_here() {
    local python
    if [ -L "$host/usr/bin/python3" ] && [ -n "$host" ]; then
        basename "$(readlink "$host/usr/bin/python3")" | sed 's/^python//'
        return
    fi
    python=$(release_python) || return
    python_version "$python"
}

# nvidia_pins PYTHON: its torch, as constraints that keep pip from another; or a sentence, and 1, where it is not
# NVIDIA's or OpenCV is without GStreamer, which the CSI camera needs.
nvidia_pins() {
    "$1" - "$1" <<'END'
import importlib.metadata
import sys

advice = "https://docs.nvidia.com/deeplearning/frameworks/install-pytorch-jetson-platform/"
remedy = f"install NVIDIA's with sudo pip3, as {advice} says, and run this again."


def stop(sentence):
    print(sentence)
    sys.exit(1)


try:
    import torch
except (ImportError, OSError) as error:
    stop(f"{sys.argv[1]} cannot import torch ({error}); {remedy}")
if not torch.cuda.is_available():
    stop(f"The torch {torch.__version__} of {sys.argv[1]} does not see the GPU; {remedy}")
if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):
    stop(f"The torch {torch.__version__} of {sys.argv[1]} is older than 2.6; {remedy}")
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
        pass  # torchvision is needed by nothing here
print(*pins)
END
}

# Fails early where PyPI cannot be reached; skipped where Python is not installed yet.
check_pypi() {
    local reason
    [ -z "$host$offline" ] && [ "$stack $torch_from" != "trixie debian" ] && [ -n "$python_there" ] || return 0
    reason=$("$python_there" scripts/install/weights.py pypi) ||
        fail 69 "PyPI, where torch comes from here, does not answer ($reason); connect this machine, or see --offline in --help."
}

# Before anything is done; another machine's Python cannot be asked.
check_nvidia() {
    local sentence python
    [ -z "$host" ] || [ -n "${PYTHON:-}" ] || return 0
    python=$(release_python)
    sentence=$(nvidia_pins "$python") || fail 69 "$sentence"
}
