# shellcheck shell=bash disable=SC2154  # the variables belong to scripts/install/service, which sources this
# What `install.sh --uninstall [--purge]` does.

uninstall_service() {
    local packages
    packages=$([ ! -e "$from_debian" ] || sort -u "$from_debian" | tr '\n' ' ')
    if [ -x "$command_link" ]; then
        step "Stopping the service" stop_service # a running daemon would publish its retained topics again
        if [ "$dry_run" = yes ]; then
            step "Asking the broker to forget this box" forget
        else
            forget
        fi
    fi
    step "Removing the service and $root" remove_service
    if [ "$purge" = yes ]; then
        step "Removing its config, its state with what waits there, and its user" remove_traces
        [ "$dry_run" = yes ] || rm -f "$log" # not before: a step that fails shows its end
    fi
    [ -z "$packages" ] || say "Debian's packages stay, because something else may use them by now. To remove those" \
        "that came with it: sudo apt-get remove --autoremove ${packages% }"
}

stop_service() { systemctl stop "$name" || [ ! -e "$unit" ]; }

# A broker that is away shall not keep anyone from removing the box, so this is no step that can fail.
forget() {
    "$command_link" forget >>"$log" 2>&1 ||
        say "  The broker could not be asked to forget this box; docs/operating.md tells how to do that from elsewhere."
}

remove_service() {
    systemctl disable --now "$name" || [ ! -e "$unit" ]
    rm -rf "$unit" "$unit.d" "$command_link" "$root"
    systemctl daemon-reload
}

remove_traces() {
    rm -rf "$(dirname "$config")" "$state" "${state%/*}/.$name-"*
    # What an operator put in its place is the operator's.
    if cmp -s deploy/mosquitto/loopback.conf "$broker_config"; then
        rm -f "$broker_config"
        systemctl try-restart mosquitto || true # it may have been removed
    fi
    if getent passwd "$name" >/dev/null; then userdel "$name"; fi
    if getent group "$name" >/dev/null; then groupdel "$name"; fi
}
