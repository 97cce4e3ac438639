# shellcheck shell=bash disable=SC2154  # the variables are set by scripts/install/service, which sources this
# Removes the service, for `install.sh --uninstall`, and with --purge its config, state and user.

uninstall_service() {
    local packages
    packages=$([ ! -e "$from_debian" ] || sort -u "$from_debian" | tr '\n' ' ')
    if [ -x "$command_link" ]; then
        step "Stopping the service" stop_service # or it would publish its retained topics again
        if [ "$dry_run" = yes ]; then
            step "Removing this box's messages from the broker" forget
        else
            forget
        fi
    fi
    step "Removing the service and $root" remove_service
    if [ "$purge" = yes ]; then
        step "Removing its config, its state and its user" remove_traces
        [ "$dry_run" = yes ] || rm -f "$log" # last, because a step that fails shows the end of it
    fi
    [ -z "$packages" ] || say "Debian's packages stay, because other programs may use them. To remove those" \
        "that it installed: sudo apt-get remove --autoremove ${packages% }"
}

stop_service() { systemctl stop "$name" || [ ! -e "$unit" ]; }

# Not a step that can fail: the service must be removable while the broker is away.
forget() {
    "$command_link" forget >>"$log" 2>&1 ||
        say "  The box's messages could not be removed from the broker; docs/operating.md describes how to do that from another machine."
}

remove_service() {
    systemctl disable --now "$name" || [ ! -e "$unit" ]
    rm -rf "$unit" "$unit.d" "$command_link" "$root"
    systemctl daemon-reload
}

remove_traces() {
    rm -rf "$(dirname "$config")" "$state" "${state%/*}/.$name-"*
    # A broker config that the operator changed stays.
    if cmp -s deploy/mosquitto/loopback.conf "$broker_config"; then
        rm -f "$broker_config"
        systemctl try-restart mosquitto || true # mosquitto may have been removed
    fi
    if getent passwd "$name" >/dev/null; then userdel "$name"; fi
    if getent group "$name" >/dev/null; then groupdel "$name"; fi
}
