# shellcheck shell=bash disable=SC2154  # the variables are set by scripts/install/service, which sources this
# Makes the system user, the config, its secrets and the broker.

make_user() {
    getent group "$name" >/dev/null || groupadd --system "$name"
    getent passwd "$name" >/dev/null ||
        useradd --system --gid "$name" --home-dir "$state" --no-create-home --shell /usr/sbin/nologin "$name"
    # The user who runs sudo may read the config.
    [ -z "${SUDO_USER:-}" ] || [ "$SUDO_USER" = root ] || usermod --append --groups "$name" "$SUDO_USER"
}

make_config_directory() { install -d -m 750 -o root -g "$name" "$(dirname "$config")"; }

# Refuses before anything is done what edge/settings/schema.py would refuse after everything is installed.
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

# Checks --source and adds its settings to keys. A file gets its absolute path and is looped, because a daemon ends with
# its source and systemd would restart it endlessly; a camera that replaces a file gets the defaults back. A file that
# the service's user cannot read, or that its sandbox hides, is refused.
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
        find -L "$path" -maxdepth 1 -type f -regextype posix-extended -iregex '.*/[^./][^/]*\.(jpe?g?|jfif|mpo|png|webp|bmp|tiff?|gif|avif)' | grep -q . ||
            fail 66 "$path holds no photos (JPEG, PNG, WebP, BMP or TIFF); --source file: looks at those in the folder itself."
    else
        [ -f "$path" ] || fail 66 "$path is no file; --source file: takes a video, a photo or a folder of photos."
    fi
    unreadable=$(first_unreadable "$path") || return 0
    fail 66 "The service's user cannot read $unreadable; let everyone read it, such as with sudo chmod -R a+rX '$path'."
}

# Prints the settings that a file needs: its own frame rate, because the daemon would otherwise read it as fast as it
# can; and for photos, which follow each other once a second, neither smoothing nor a hold time.
keys_for_file() {
    "$release/venv/bin/python" - "$source" <<'END'
import sys
from pathlib import Path

from edge.camera.source import make_source
from edge.errors import CameraError
from edge.photos.folders import PHOTO_SUFFIXES
from edge.settings.schema import CameraSettings

camera = make_source(CameraSettings(source=sys.argv[1], loop=True))
try:
    camera.open()
    # By their timestamps, not by what a header claims; reading over damage repeats one.
    moments = sorted({camera.moment_s for _ in range(100) if camera.grab()})
except (CameraError, OSError) as error:
    sys.exit(str(error))
if len(moments) < 2:
    sys.exit(f"{sys.argv[1]} shows no pictures that follow each other; give another file.")
path = Path(sys.argv[1].removeprefix("file:"))
fps = (len(moments) - 1) / (moments[-1] - moments[0])
print(f"camera.fps:={min(max(0.01, round(fps, 3)), 240.0)}")
if path.is_dir() or path.suffix.lower() in PHOTO_SUFFIXES:
    print("decision.smoothing_s:=0.0", "decision.hold_s:=0.0")
END
}

# first_unreadable PATH: prints the first file that the service's user (or nobody, before that user exists) may not
# read. Returns 1 where there is none, and without root, which alone can try.
first_unreadable() {
    local found code=0 user=$name
    [ "$(id -u)" -eq 0 ] || return 1
    getent passwd "$user" >/dev/null || user=nobody
    found=$(setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups \
        find -L "$1" \( -type f -o -type d \) ! -readable -print -quit 2>&1) || code=$?
    [ -n "$found" ] || [ "$code" -ne 0 ] || return 1
    if [ "$code" -eq 0 ]; then echo "$found"; else echo "$1"; fi
}

# Writes the commented default config where there is none, then sets the keys that were given; all other lines stay as
# they are. A config that the new release refuses does not replace the old one.
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

from edge.text_file import NotTextError, read_text


def first(lines, pattern):
    return next((i for i, line in enumerate(lines) if re.match(pattern, line)), None)


file = Path(sys.argv[1])
try:
    lines = read_text(file).split("\n")
except NotTextError as error:
    sys.exit(f"{file} {error}.")
if not lines[-1]:
    lines.pop()
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
# The new file gets the owner and the mode of the old one.
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
        echo "$config stays as it was; the refused one is $file.new."
        return 78
    fi
    mv -f "$file.new" "$file" # atomic, even if the power is cut
}

# Runs before the config names the token. An existing token stays, because a new one would end every session.
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

# Only root may read the password; systemd passes it to the service as a credential.
write_password() {
    install -m 600 -o root -g root "$password_file" "$(dirname "$config")/mqtt-password"
    install -D -m 644 systemd/drop-ins/mqtt-password.conf "$unit.d/mqtt-password.conf"
}

# Decides about a broker where none was named: a first install makes one, unless this machine's mosquitto is set up.
choose_broker() {
    [ "$broker" != given ] || return 0
    if [ -d "$host$root/current/" ] || names_a_broker "$host$config"; then return; fi
    broker=local
    [ -z "$(operators_broker)" ] || broker=operators
}

# names_a_broker CONFIG: whether it names another broker than the one that the installer makes.
names_a_broker() {
    grep -sE '^[[:space:]]*url[[:space:]]*=' "$1" | grep -qvE "[\"']mqtt://(localhost|127\.0\.0\.1)(:1883)?/?[\"']"
}

# Prints the file that sets up this machine's mosquitto, if any. Its access rules are valid for all listeners, so a file
# of ours would open the operator's listener, or be closed by the operator's rules.
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
