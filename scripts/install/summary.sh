# shellcheck shell=bash disable=SC2154  # the variables are set by scripts/install/service, which sources this
# Prints the last screen of install.sh: the state of the service, and what to do next.

# of_config KEY: prints the value in force; of a key that several sections have, that of the first section.
of_config() { "$command_link" config show | sed -n "s/^$1 = \"\(.*\)\"/\1/p" | head -n 1; }

# page STATUS: prints the page's address and how to log in.
page() {
    local listen port address
    if [[ $1 = *"The page is off"* ]]; then
        echo "off; the first line says why"
        return
    fi
    listen=$(of_config listen)
    port=${listen##*:}
    case $listen in
        127.* | localhost:* | "[::1]":*)
            echo "http://$listen, from this machine alone (--web: from others too)"
            return
            ;;
        0.0.0.0:* | "[::]":*)
            # The address that other machines see: that of the default route, else the first one, else the host name.
            address=$(ip -4 route get 192.0.2.1 2>/dev/null | sed -n 's/.* src \([0-9.]*\).*/\1/p' || true)
            [ -n "$address" ] || address=$(hostname -I | tr ' ' '\n' | sed -n '/\./{p;q}')
            echo "http://${address:-$(hostname)}:$port"
            ;;
        *) echo "http://$listen" ;;
    esac
    echo "                 log in with the token: sudo cat $(of_config token_file)"
    echo "                 (not encrypted: outside a network that you trust, see docs/web.md)"
}

# Prints the broker's URL, and how to use it safely from other machines.
broker_in_use() {
    local url
    url=$(of_config url)
    case $url in
        mqtt://localhost* | mqtt://127.*)
            echo "$url, from this machine alone"
            echo "                 (for others, with TLS and passwords: deploy/mosquitto/tls.conf)"
            ;;
        mqtt://*)
            echo "$url"
            echo "                 (not encrypted: outside a network that you trust, see deploy/mosquitto)"
            ;;
        *) echo "$url" ;;
    esac
}

# Prints the model's name, and where it is not the network that was wanted, what to do about it.
model_in_use() {
    local bundle wanted
    bundle=$(realpath "$state/models/current")
    wanted=$(sed -n 's/.*"instead_of": "\(.*\)".*/\1/p' "$bundle/bundle.json" 2>/dev/null || true)
    basename "$bundle"
    [ -z "$wanted" ] || cat <<END
                 (not $wanted, whose weights could not be fetched; bring them, and:
                 sudo ./install.sh --weights FILE)
END
}

# what_is_missing STATUS: prints what doctor finds, where camera, broker or events are missing. That is not a failure,
# because the service waits for them.
what_is_missing() {
    local found
    if [[ $1 = *"camera online, broker online"* && $1 != *", 0 events"* && $1 != *"|"* ]]; then return; fi
    echo
    echo "Something is missing. Running sudo edge-classifier doctor, which takes half a minute:"
    echo
    found=$("$command_link" doctor 2>>"$log" | awk '/^(WARN|FAIL)/ { show = 1 } /^ok/ { show = 0 } show { print "  " $0 }') || true
    echo "${found:-  It finds nothing. Perhaps it only takes longer; look again: systemctl status $name}"
}

summary() {
    local device status update="git pull && sudo ./install.sh"
    [ -z "$offline" ] || update="carry a new DIR here, and in it: sudo ./source/install.sh --offline ."
    status=$(systemctl show -P StatusText "$name")
    device=$("$command_link" config show | sed -n '/^\[device\]/,/^\[/s/^name = "\(.*\)"/\1/p')
    printf '\nedge-classifier runs: %s\n' "$status"
    what_is_missing "$status"
    cat <<END

  what it says   mosquitto_sub -t '$(of_config base)/$device/#' -v
  the broker     $(broker_in_use)
  the page       $(page "$status")
  the model      $(model_in_use)
  how it is      systemctl status $name
  its log        journalctl -u $name -f
  change it      sudo nano $config && sudo systemctl restart $name
  update it      $update
  go back        sudo ./install.sh --rollback
  remove it      sudo ./install.sh --uninstall [--purge]

More: $root/current/docs/operating.md
END
}
