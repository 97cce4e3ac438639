# shellcheck shell=bash disable=SC2154  # the variables are set by scripts/install/service, which sources this
# Saves what a release runs with besides its code (unit, drop-ins, model) before another release replaces it, and restores
# it for --rollback and where the new release does not run.

# remember RELEASE: saves into its directory the unit, those of its drop-ins that are installed, and the model's links.
remember() {
    local kept=$1/ran-with drop_in link
    rm -rf "$kept" "$kept.new"
    install -d "$kept.new/drop-ins" "$kept.new/models"
    [ ! -e "$unit" ] || cp -p "$unit" "$kept.new/"
    for drop_in in "$1"/systemd/drop-ins/*.conf; do
        drop_in=$unit.d/$(basename "$drop_in")
        [ ! -e "$drop_in" ] || cp -p "$drop_in" "$kept.new/drop-ins/"
    done
    for link in "$state/models/current" "$state/models/previous"; do
        [ ! -L "$link" ] || cp -P "$link" "$kept.new/models/"
    done
    mv -T "$kept.new" "$kept"
}

# put_back_models RELEASE: restores the model's links that `remember` saved.
put_back_models() {
    local link
    for link in "$1"/ran-with/models/*; do
        # Nothing may have been saved, or the model may have been removed since; then the one in use stays.
        if [ ! -L "$link" ] || [ ! -e "$state/models/$(readlink "$link")" ]; then continue; fi
        cp -P --remove-destination "$link" "$state/models/.put-back" || return 1
        mv -T "$state/models/.put-back" "$state/models/$(basename "$link")" || return 1
    done
}

# put_back RELEASE LEFT: switches to RELEASE and restores what it ran with, in place of what LEFT installed. Drop-ins of
# other names belong to the operator. Each command has `|| return`, because callers use this as a condition, where bash
# ignores set -e.
put_back() {
    local kept=$1/ran-with drop_in old_unit
    switch_to "$1" || return 1
    for drop_in in "$2"/systemd/drop-ins/*.conf; do
        # The password belongs to the config, which stays as it is.
        case $drop_in in
            */mqtt-password.conf) ;;
            *) rm -f "$unit.d/$(basename "$drop_in")" || return 1 ;;
        esac
    done
    old_unit=$kept/$name.service
    [ -e "$old_unit" ] || old_unit=$1/systemd/$name.service # an older installer saved nothing
    install -m 644 "$old_unit" "$unit" || return 1
    for drop_in in "$kept"/drop-ins/*.conf; do
        [ ! -e "$drop_in" ] || install -D -m 644 "$drop_in" "$unit.d/$(basename "$drop_in")" || return 1
    done
    put_back_models "$1" || return 1
    systemctl daemon-reload
}

roll_back() {
    local previous current
    previous=$(readlink "$root/previous" || true)
    [ -d "$previous" ] || fail 69 "There is no previous release to go back to."
    current=$(readlink "$root/current")
    step "Saving unit and model links of $(basename "$current")" remember "$current"
    step "Back to $(basename "$previous"), its unit and its model" put_back "$previous" "$current"
    step "Noting $(basename "$current") for the next --rollback" ln -sfn "$current" "$root/previous"
    step "Starting it, and watching it for $watch_s s" start_again "$previous" "$current"
}

# start_again RELEASE LEFT: starts and watches RELEASE; where it does not run, prints how to return to LEFT.
start_again() {
    start_and_watch && return
    journalctl --no-pager -n 15 -o cat -u "$name"
    echo "$(basename "$1") does not run: the lines above show why." \
        "To go back to $(basename "$2"): sudo ./install.sh --rollback"
    return 1
}
