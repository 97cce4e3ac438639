# shellcheck shell=bash disable=SC2154  # the variables are set by scripts/install/service, which sources this
# Makes a release, switches to it, and goes back to the release before where it does not run.

readonly watch_s=30 # a release that ends within this time of READY is put back

# Installs into a new directory, so that the release that runs is not touched.
make_release() {
    local python machine pins=""
    local -a pip index=() options=()
    local -x TMPDIR=$release/tmp # trixie keeps /tmp in memory, which a large wheel would fill
    python=$(release_python)
    if [ "$stack" = jetson ]; then
        pins=$(nvidia_pins "$python") || { echo "$pins" && return 1; }
    fi
    machine=$(machine_here)
    install -d -m 755 "$root" "$root/releases" "$release" "$TMPDIR"
    # The system's packages can be imported, and are never changed (PEP 668): pip installs into the release only.
    if [ "$stack" = pypi ]; then
        "$python" -m venv "$release/venv"
    else
        "$python" -m venv --system-site-packages "$release/venv"
    fi
    python=$release/venv/bin/python
    pip=("$python" -I -m pip install --disable-pip-version-check --no-input)
    take_pip_settings "$python"
    if needs_pypi "$stack" "$torch_from" "$machine"; then
        if [ -n "$offline" ]; then
            options=(--no-index --find-links "$offline/wheels")
            [ -z "$(find "$offline/wheels" -name 'torch-*+cpu-*')" ] || index=(--cpu-index "$cpu_index")
        elif [ "$torch_from" != none ] && takes_cpu_index "$python" "$machine"; then
            index=(--cpu-index "$cpu_index")
        fi
        # shellcheck disable=SC2046  # several words
        "$python" scripts/install/wheels.py wanted "$release" --machine "$machine" \
            $(wheels_beside "$stack" "$torch_from") "${index[@]}"
        install_pinned "$python" "$release" "${options[@]}"
        if [ "$stack" = jetson ] && [ "$(nvidia_pins "$python")" != "$pins" ]; then
            echo "In the release there is another torch or OpenCV than NVIDIA's: $(nvidia_pins "$python")"
            return 1
        fi
    fi
    # No version number says whether a torch runs INT8, so it is tried.
    if [ "$torch_from" = none ]; then
        # Debian's prints a line for each operator that its two libraries both have.
        ORT_DISABLE_TELEMETRY=1 "$python" -I -c 'import onnxruntime; print("ONNX Runtime", onnxruntime.__version__)' 2> >(sed '/^Schema error:/d; /^$/d')
    elif [ "$stack" != jetson ]; then
        runs_int8 "$python"
    fi
    echo "$torch_from" >"$release/torch-from" # an upgrade keeps the engine
    # Built from a copy, because setuptools writes into the source.
    mkdir "$release/source"
    cp -a edge setup.py setup.cfg pyproject.toml README.md LICENSE NOTICE constraints.txt "$release/source/"
    "${pip[@]}" --no-deps --no-build-isolation "$release/source" # setuptools is Debian's, or the pinned one
    rm -rf "$release/source" "$TMPDIR"
    cp -a docs deploy systemd "$release/"
    chmod -R a+rX "$release" # only its owner may be able to read a checkout
    "$release/venv/bin/$name" --version
}

# Prints where torch comes from and its size, for the title of the step.
torch_to_fetch() {
    [ -z "$offline" ] || return 0
    case "$stack $torch_from $(machine_here)" in
        jetson* | *debian* | "trixie none x86_64") ;;
        *none*) echo ", with ONNX Runtime from PyPI (20 MB)" ;;
        *aarch64) echo ", with torch from PyPI (0.1 GB)" ;;
        *) echo ", with torch (0.2 GB, from PyPI 3 GB)" ;;
    esac
}

# sweep_at_exit RELEASE [REMEMBERED]: runs sweep_unfinished whenever the installer ends.
sweep_at_exit() {
    # shellcheck disable=SC2064  # expanded now, because main's variables are gone by then
    trap "sweep_unfinished '$1' '${2:-}'" EXIT
}

# sweep_unfinished RELEASE REMEMBERED: removes a release that did not become the current one, and gives the release that
# `remember` saved its model back.
sweep_unfinished() {
    if [ "$(readlink "$root/current")" != "$1" ]; then
        rm -rf "$1"
        [ -z "$2" ] || put_back_models "$2"
    fi
    rmdir "$root/releases" "$root" "$state/models" "$state" 2>/dev/null || true
}

# Prints the unit's drop-in for a Jetson, with each of this board's GPU devices and the group that they belong to.
jetson_drop_in() {
    cat systemd/drop-ins/jetson.conf
    if grep -qs '^render:' "$host/etc/group"; then echo "SupplementaryGroups=render"; fi
    find "$host/dev" ! -type d \( -path "$host/dev/nvhost*" -o -path "$host/dev/nvgpu/*" -o -name nvmap -o -name nvsciipc \
        -o -name 'nvidia*' -o -name 'host1x*' -o -path "$host/dev/dri/renderD*" \) -printf 'DeviceAllow=/dev/%P rw\n' | sort
}

# Installs the unit and its drop-ins. Some engines crash under MemoryDenyWriteExecute, so the model is tried with it
# first: before the unit is replaced, so that the old code runs under the new unit only for a moment, and as the
# service's user, because a model is code that this user may have changed. Not on a Jetson, whose model for the GPU
# comes later.
install_unit() {
    local no_wx=no version
    if [ "$stack" != jetson ] && systemd-run --quiet --wait --collect --pipe \
        -p MemoryDenyWriteExecute=yes -p NoNewPrivileges=yes -p User="$name" -p Group="$name" \
        -p SupplementaryGroups=video -p Environment="STATE_DIRECTORY=$state" \
        "$release/venv/bin/$name" classify "$(golden_photo)" --json; then
        no_wx=yes
    fi
    install -m 644 "systemd/$name.service" "$unit"
    use_drop_in no-wx "$no_wx"
    use_drop_in without-torch "$([ "$torch_from" != none ] || echo yes)"
    # An older systemd would warn about its keys at each reload.
    version=$(systemctl --version | sed -n 's/^systemd \([0-9]*\).*/\1/p')
    use_drop_in back-off "$([ "${version:-0}" -lt 254 ] || echo yes)"
    if [ "$stack" = jetson ]; then
        mkdir -p "$unit.d"
        jetson_drop_in >"$unit.d/jetson.conf"
    fi
    systemctl daemon-reload
}

# use_drop_in NAME yes|no: installs or removes a drop-in of the unit.
use_drop_in() {
    if [ "$2" = yes ]; then
        install -D -m 644 "systemd/drop-ins/$1.conf" "$unit.d/$1.conf"
    else
        rm -f "$unit.d/$1.conf"
    fi
}

golden_photo() { find -L "$state/models/current/" -maxdepth 1 \( -name '*.jpg' -o -name '*.png' \) | head -n 1; }

# switch_to RELEASE: makes it the current one, with one atomic rename.
switch_to() {
    ln -sfn "$1" "$root/current.new"
    mv -T "$root/current.new" "$root/current"
}

# Starts the service and fails unless it gets READY in the unit's own time and does not end within watch_s. Two ends are
# excused, because no release can avoid them: exit code 75 (EX_TEMPFAIL) when a read of the camera never returns, and
# the end of a file that is not looped.
start_and_watch() {
    local excused second key value
    local -A is
    systemctl enable "$name" || return 1
    systemctl restart "$name" || return 1
    excused=$(systemctl show -P NRestarts "$name")
    for ((second = 0; second < watch_s; second++)); do
        sleep 1
        while IFS='=' read -r key value; do is[$key]=$value; done < <(
            systemctl show -p NRestarts,ExecMainStatus,ActiveState,SubState,StatusText "$name"
        )
        if [ "${is[SubState]}" = auto-restart ]; then
            case "${is[ExecMainStatus]} ${is[StatusText]}" in
                "75 "*"camera has not moved"* | "0 The source has ended"*) ;;
                *) return 1 ;;
            esac
            excused=$((is[NRestarts] + 1))
        fi
        [ "${is[NRestarts]}" -le "$excused" ] || return 1
        case ${is[ActiveState]} in active | activating | deactivating) ;; *) return 1 ;; esac
    done
}

start_release() {
    local previous older
    previous=$(readlink "$root/current" || true)
    [ -d "$previous" ] || previous="" # a first install that failed has left a link to nothing
    older=$(readlink "$root/previous" || true)
    # Before the switch, so that --rollback works even if this is interrupted while it watches.
    [ -z "$previous" ] || ln -sfn "$previous" "$root/previous"
    switch_to "$release"
    if start_and_watch; then
        ln -sfn "$root/current/venv/bin/$name" "$command_link" # not before, because a release that does not run has no command
        remove_old_releases
        return
    fi
    journalctl --no-pager -n 20 -o cat -u "$name"
    if [ -z "$previous" ]; then
        systemctl disable --now "$name"
        rm -f "$root/current" "$command_link" "$unit"
        systemctl daemon-reload
        echo "The release did not run; it is stopped."
    elif put_back "$previous" "$release" && restore_previous "$older" && systemctl restart "$name"; then
        echo "The new release did not run; $(basename "$previous") runs again, with the unit and the model it had."
    else
        journalctl --no-pager -n 10 -o cat -u "$name"
        echo "Neither the new release nor $(basename "$previous"), which was put back, runs: the lines above show why." \
            "Correct that, and start it with: sudo systemctl restart $name"
    fi
    # On a full disk the link may not have been switched back; then it still names this release, which has to stay.
    if [ -z "$previous" ] || [ "$(readlink "$root/current")" != "$release" ]; then rm -rf "$release"; fi
    return 1
}

# restore_previous RELEASE: makes it the one that --rollback goes to; an empty name: none.
restore_previous() { if [ -n "$1" ]; then ln -sfn "$1" "$root/previous"; else rm -f "$root/previous"; fi; }

remove_old_releases() {
    local directory
    for directory in "$root"/releases/*; do
        case $directory in
            "$(readlink "$root/current")" | "$(readlink "$root/previous" || true)") ;;
            *) rm -rf "$directory" ;;
        esac
    done
}
