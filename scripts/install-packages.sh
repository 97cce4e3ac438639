# shellcheck shell=bash disable=SC2154  # broker belongs to scripts/install-system, which sources this
# The stage of install.sh that looks at the machine, and brings what it needs from Debian.

# What comes from Debian. Where it has torch itself (trixie and later) that is everything, and nothing comes from PyPI.
packages_for() {
    echo python3 python3-venv mosquitto-clients
    case $1 in
        trixie)
            echo python3-torch python3-numpy python3-opencv python3-paho-mqtt python3-pydantic python3-tqdm \
                python3-fastapi python3-uvicorn python3-python-multipart python3-prometheus-client python3-systemd \
                python3-setuptools python3-wheel
            ;;
    esac
}

# The release of Debian as packages_for knows it. Told by the system, because apt's lists may be empty or old.
suite() (
    # shellcheck source=/dev/null
    . /etc/os-release
    case ${VERSION_CODENAME:-} in
        trixie | forky | sid) echo trixie ;;
        *) echo older ;;
    esac
)

# Those that are not installed yet, on one line.
missing_packages() {
    local package wanted missing=""
    wanted=$(packages_for "$(suite)")
    [ "$broker" != local ] || wanted+=" mosquitto"
    # Raspberry Pi OS has it, for its own cameras; Debian has not.
    if apt-cache show python3-picamera2 >/dev/null 2>&1; then wanted+=" python3-picamera2"; fi
    for package in $wanted; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=" $package"
    done
    echo "${missing# }"
}

# install_packages PACKAGE...
install_packages() {
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}
