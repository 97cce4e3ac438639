# shellcheck shell=bash disable=SC2154  # the variables belong to scripts/install/service, which sources this
# The stage of install.sh that makes the user, the config, its secrets and the broker.

make_user() {
    getent group "$name" >/dev/null || groupadd --system "$name"
    getent passwd "$name" >/dev/null ||
        useradd --system --gid "$name" --home-dir "$state" --no-create-home --shell /usr/sbin/nologin "$name"
    # Whoever installs it may read its config.
    [ -z "${SUDO_USER:-}" ] || [ "$SUDO_USER" = root ] || usermod --append --groups "$name" "$SUDO_USER"
}

make_config_directory() { install -d -m 750 -o root -g "$name" "$(dirname "$config")"; }

# What edge/settings/schema.py would refuse once everything is fetched is told before anything is done.
check_keys() {
    local key value
    for key in "${keys[@]}"; do
        value=${key#*=}
        case $key in
            device.name=*)
                [[ $value =~ ^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$ ]] ||
                    fail 64 "--device takes 1 to 63 letters, digits, '.', '_' or '-', because it is part of every topic."
                ;;
            mqtt.url=*)
                [[ $value =~ ^mqtts?://(\[[0-9a-fA-F:.]+\]|[^]/@?#:[:space:]]+)(:[0-9]+)?/?$ ]] ||
                    fail 64 "--broker takes mqtt://host:1883, or mqtts://host:8883 for TLS; a user goes into --user."
                ;;
        esac
    done
}

# A file is named as the daemon will see it, and is looped: a service that has looked at all of it would start again and
# again; a camera that takes its place gets the defaults back. What its user cannot read, or its sandbox hides, is said
# before anything is done.
check_source() {
    local path real copy unreadable
    [ -n "$source" ] || return 0
    [[ $source =~ ^(auto|picamera2(:[0-9]+)?|v4l2:([0-9]+|/.+)|rtsps?://.+|csi://[0-9]+|file:.+)$ ]] ||
        fail 64 "--source takes auto, picamera2, v4l2:/dev/v4l/by-id/… (or v4l2:0), rtsp://…, csi://0 or file:PATH."
    case $source in
        file:*) ;;
        *)
            keys+=("camera.source=$source")
            ! grep -qsE "^[[:space:]]*source[[:space:]]*=[[:space:]]*[\"']file:" "$host$config" ||
                keys+=("camera.loop:=false" "camera.fps:=0.0" "decision.smoothing_s:=1.0" "decision.hold_s:=0.5")
            return
            ;;
    esac
    path=${source#file:}
    path=$(given_path "${path#//}")
    source=file:$path
    keys+=("camera.source=$source" "camera.loop:=true")
    [ -n "$host" ] || [ -e "$path" ] ||
        fail 66 "There is no $path; --source file: takes a video, a photo or a folder of photos."
    real=$path
    [ -n "$host" ] || real=$(realpath "$path")
    case $real/ in
        /home/* | /root/* | /run/user/* | /tmp/* | /var/tmp/*)
            copy="sudo cp -rL '$path' /srv/ && sudo ./install.sh --source 'file:/srv/$(basename "$path")'"
            fail 66 "The service's sandbox hides /home, /root, /run/user and /tmp, and so $path; copy it elsewhere: $copy"
            ;;
    esac
    [ -z "$host" ] || return 0
    if [ -d "$path" ]; then
        find -L "$path" -maxdepth 1 -type f -regextype posix-extended -iregex '.*\.(jpe?g|png|bmp)' | grep -q . ||
            fail 66 "$path holds no photos (.jpg, .png or .bmp); --source file: looks at those in the folder itself."
    else
        [ -f "$path" ] || fail 66 "$path is no file; --source file: takes a video, a photo or a folder of photos."
    fi
    unreadable=$(first_unreadable "$path") || return 0
    fail 66 "The service's user cannot read $unreadable; let everyone read it, such as with sudo chmod -R a+rX '$path'."
}

# What suits a file: its own rate, where the daemon would else look as fast as it can, for ever; and photos, one a second,
# have nothing to do with each other, so that nothing is smoothed and no label has to hold.
keys_for_file() {
    "$release/venv/bin/python" - "$source" <<'END'
import sys
from pathlib import Path

from edge.camera.file import PHOTO_SUFFIXES
from edge.camera.source import make_source
from edge.errors import CameraError
from edge.settings.schema import CameraSettings

camera = make_source(CameraSettings(source=sys.argv[1]))
try:
    camera.open()
except CameraError as error:
    sys.exit(str(error))
path = Path(sys.argv[1].removeprefix("file:"))
print(f"camera.fps:={camera.fps}")
if path.is_dir() or path.suffix.lower() in PHOTO_SUFFIXES:
    print("decision.smoothing_s:=0.0", "decision.hold_s:=0.0")
END
}

# first_unreadable PATH: of what the service's user, or nobody where there is none yet, may not read; 1 where all is well,
# or where that is not for us to try.
first_unreadable() {
    local found code=0 user=$name
    [ "$(id -u)" -eq 0 ] || return 1
    getent passwd "$user" >/dev/null || user=nobody
    found=$(setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups \
        find -L "$1" \( -type f -o -type d \) ! -readable -print -quit 2>&1) || code=$?
    [ -n "$found" ] || [ "$code" -ne 0 ] || return 1
    if [ "$code" -eq 0 ]; then echo "$found"; else echo "$1"; fi
}

# The commented default at first, then only the keys that were given; a person's other lines stay as they are. What the
# release refuses never comes into its place.
write_config() {
    local file more
    make_config_directory
    [ -f "$config" ] || install -m 640 -o root -g "$name" deploy/config.toml "$config"
    file=$(realpath "$config")
    if [[ $source = file:* ]]; then
        more=$(keys_for_file) || return
        # shellcheck disable=SC2206  # one word each
        keys+=($more)
    fi
    "$release/venv/bin/python" - "$file" "${keys[@]}" <<'END'
import json
import os
import re
import sys
from pathlib import Path


def first(lines, pattern):
    return next((i for i, line in enumerate(lines) if re.match(pattern, line)), None)


file = Path(sys.argv[1])
lines = file.read_text(encoding="utf-8").splitlines()
for given in sys.argv[2:]:
    path, _, value = given.partition("=")
    path, is_json = path.removesuffix(":"), path.endswith(":")  # KEY=TEXT or KEY:=JSON
    section, _, key = path.partition(".")
    begin = first(lines, rf"\s*\[\s*{section}\s*\]")
    if begin is None:
        lines += ["", f"[{section}]"]
        begin = len(lines) - 1
    begin += 1
    end = first(lines[begin:], r"\s*\[")
    ours = lines[begin:] if end is None else lines[begin : begin + end]
    at = first(ours, rf"\s*{key}\s*=")
    if at is None:
        at = first(ours, rf"\s*#\s*{key}\s*=")  # the default, in a comment
    new = [f"{key} = {value if is_json else json.dumps(value)}"]
    lines[begin : begin + len(ours)] = new + ours if at is None else ours[:at] + new + ours[at + 1 :]
# It keeps the owner and the mode that it had.
new, was = file.with_name(file.name + ".new"), file.stat()
new.unlink(missing_ok=True)
new.touch(0o600)
with new.open("w", encoding="utf-8") as written:
    os.fchown(written.fileno(), was.st_uid, was.st_gid)
    os.fchmod(written.fileno(), was.st_mode & 0o7777)
    written.write("\n".join(lines) + "\n")
    written.flush()
    os.fsync(written.fileno())
END
    if ! "$release/venv/bin/$name" config check --config "$file.new"; then
        echo "$config stays as it was; what was refused is in $file.new."
        return 78
    fi
    mv -f "$file.new" "$file" # whole or not at all, whenever the power is cut
}

# Before the config names it. One that is there stays, because a new one ends every session.
write_token() {
    make_config_directory
    [ ! -s "$token_file" ] || return 0
    (
        umask 077
        "$release/venv/bin/python" -c 'import secrets; print(secrets.token_hex(16))' >"$token_file.new"
    )
    chown "root:$name" "$token_file.new"
    chmod 640 "$token_file.new"
    mv "$token_file.new" "$token_file"
}

# For root alone; systemd hands it to the service, under the name of a credential.
write_password() {
    install -m 600 -o root -g root "$password_file" "$(dirname "$config")/mqtt-password"
    install -D -m 644 systemd/drop-ins/mqtt-password.conf "$unit.d/mqtt-password.conf"
}

# What to do about a broker where none was named: a first install brings one, and leaves alone what is there already.
choose_broker() {
    [ "$broker" != given ] || return 0
    if [ -d "$host$root/current/" ] || names_a_broker "$host$config"; then return; fi
    broker=local
    [ -z "$(operators_broker)" ] || broker=operators
}

# names_a_broker CONFIG: another than the one that the installer makes.
names_a_broker() {
    grep -sE '^[[:space:]]*url[[:space:]]*=' "$1" | grep -qvE "[\"']mqtt://(localhost|127\.0\.0\.1)(:1883)?/?[\"']"
}

# The file in which somebody has set up this machine's mosquitto: who may come in counts for all listeners at once, so
# another file beside it would open theirs, or be closed by it.
operators_broker() {
    local file
    local settings='listener|port|bind_address|allow_|password_file|acl_file|psk_file|(auth_)?plugin|per_listener_settings'
    while read -r file; do
        if [ "$file" = "$host$broker_config" ] && cmp -s deploy/mosquitto/loopback.conf "$file"; then continue; fi
        echo "${file#"$host"}"
        return
    done < <(grep -RslE --include='*.conf' "^[[:space:]]*($settings)" "$host${broker_config%/conf.d/*}" | sort)
}

start_broker() {
    install -m 644 deploy/mosquitto/loopback.conf "$broker_config"
    systemctl enable mosquitto
    systemctl restart mosquitto
}
