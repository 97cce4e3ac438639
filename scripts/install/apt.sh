# shellcheck shell=bash
# Runs apt-get next to other programs that use apt. Sourced by the installer, and by the scripts that test this package.

lock_wait_s=900 # a first boot's unattended upgrade may take that long on a slow card

# apt_get ARGUMENT...: runs apt-get, and waits while another program uses apt, as unattended-upgrades does at the first
# boot. apt itself waits for dpkg's locks, but not for those of its package lists and of its downloads.
apt_get() {
    local until=$((SECONDS + lock_wait_s)) messages code holder="" before=""
    messages=$(mktemp)
    while true; do
        code=0
        DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout="$lock_wait_s" "$@" 2>"$messages" || code=$?
        holder=$(sed -n 's/^E: \(Could not get lock .*\)/\1/p' "$messages" | head -n 1)
        if [ "$code" -eq 0 ] || [ -z "$holder" ] || [ "$SECONDS" -ge "$until" ]; then break; fi
        [ "$holder" = "$before" ] || echo "Waiting: $holder" >&2
        before=$holder
        sleep 2
    done
    cat "$messages" >&2
    rm -f "$messages"
    return "$code"
}
