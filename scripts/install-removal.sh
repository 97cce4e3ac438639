# shellcheck shell=bash disable=SC2154  # the variables belong to scripts/install-system, which sources this
# What `install.sh --uninstall [--purge]` does.

uninstall_service() {
    if [ "$purge" = yes ] && [ -x "$command_link" ]; then
        step "Stopping the service" systemctl stop "$name"
        if [ "$dry_run" = yes ]; then
            step "Asking the broker to forget this box" forget
        else
            forget
        fi
    fi
    step "Removing the service and $root" remove_service
    [ "$purge" = no ] || step "Removing its config, its state with what waits there, and its user" remove_traces
}

# A broker that is away shall not keep anyone from removing the box, so this is no step that can fail.
forget() {
    "$command_link" forget >>"$log" 2>&1 ||
        say "  The broker could not be asked to forget this box; see deploy/mosquitto and docs/operating.md."
}

remove_service() {
    systemctl disable --now "$name" || [ ! -e "$unit" ]
    rm -rf "$unit" "$unit.d" "$command_link" "$root"
    systemctl daemon-reload
}

remove_traces() {
    rm -rf "$(dirname "$config")" "$state" "$log"
    # What an operator put in its place is the operator's.
    if cmp -s deploy/mosquitto/loopback.conf "$broker_config"; then
        rm -f "$broker_config"
        systemctl restart mosquitto
    fi
    if getent passwd "$name" >/dev/null; then userdel "$name"; fi
    if getent group "$name" >/dev/null; then groupdel "$name"; fi
}
