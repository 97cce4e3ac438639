# shellcheck shell=bash disable=SC2154  # the variables belong to scripts/install-system, which sources this
# The stage of install.sh that makes the user, the config, its secrets and the broker.

make_user() {
    getent group "$name" >/dev/null || groupadd --system "$name"
    getent passwd "$name" >/dev/null ||
        useradd --system --gid "$name" --home-dir "$state" --no-create-home --shell /usr/sbin/nologin "$name"
    # Whoever installs it may read its config.
    [ -z "${SUDO_USER:-}" ] || [ "$SUDO_USER" = root ] || usermod --append --groups "$name" "$SUDO_USER"
}

make_config_directory() { install -d -m 750 -o root -g "$name" "$(dirname "$config")"; }

# The commented default at first, then only the keys that were given; a person's other lines stay as they are. What the
# release refuses never comes into its place.
write_config() {
    local file
    make_config_directory
    [ -f "$config" ] || install -m 640 -o root -g "$name" deploy/config.toml "$config"
    file=$(realpath "$config")
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
    new = [f"{key} = {json.dumps(value)}"]
    lines[begin : begin + len(ours)] = new + ours if at is None else ours[:at] + new + ours[at + 1 :]
# For the same eyes as before.
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
