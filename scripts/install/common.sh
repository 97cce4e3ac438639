# shellcheck shell=bash disable=SC2154  # log belongs to who sources this
# What the ways of install.sh share; sourced, with `log` naming the file that takes what the steps say.

say() { printf '%s\n' "$*"; }

# fail CODE SENTENCE
fail() {
    printf 'install.sh: %s\n' "$2" >&2
    exit "$1"
}

# step TITLE COMMAND...: one line while it runs and how long it took; what it says goes to the log, and its end is
# shown when it fails. At a terminal the line shows that it lives. With dry_run=yes only the line, after in_plan.
in_plan="would do: "
step() {
    local title=$1 started=$SECONDS code ticker="" said
    shift
    if [ "${dry_run:-no}" = yes ]; then
        printf '  %s%s\n' "$in_plan" "$title"
        return
    fi
    if [ -t 1 ]; then
        said=$(stat -c %s "$log" 2>/dev/null || echo 0)
        tell_progress "$title" "$said" &
        ticker=$!
    else
        printf '  %-60s' "$title"
    fi
    # In a subshell that ends at the first command that fails; after `||` bash would go on inside a function.
    set +e
    (
        set -e
        "$@"
    ) >>"$log" 2>&1 </dev/null
    code=$?
    set -e
    if [ -n "$ticker" ]; then
        kill "$ticker" 2>/dev/null || true
        wait "$ticker" 2>/dev/null || true
        printf '\r\033[K  %-60s' "$title"
    fi
    if [ "$code" -ne 0 ]; then
        printf 'failed\n\n'
        tail -n 20 "$log" >&2 || true
        fail "$code" "The step \"$title\" failed; the whole story is in $log."
    fi
    printf '%4d s\n' "$((SECONDS - started))"
}

# tell_progress TITLE BYTES: one line, written anew each second: how long it has taken, and what was said last, after the
# first BYTES of the log. It ends with the installer, whose Ctrl-C does not reach what bash runs in the background.
tell_progress() {
    local started=$SECONDS width last line
    width=$(tput cols 2>/dev/null || echo 80)
    while kill -0 $$ 2>/dev/null; do
        last=$(tail -c "+$(($2 + 1))" "$log" 2>/dev/null | tail -n 1 | sed 's/.*\r\(.\)/\1/' | tr -d '\r' || true)
        line="  $1: $((SECONDS - started)) s"
        [ "$((width - ${#line}))" -lt 16 ] || line+="  $last" # where some words of it can be read
        printf '\r\033[K%s' "${line:0:$((width - 1))}"
        sleep 1
    done
}

readonly cpu_index=https://download.pytorch.org/whl/cpu

# PyPI's torch for x86_64 brings CUDA along; PyTorch's own index has it without, but not every network reaches it.
# reaches_cpu_index PYTHON
reaches_cpu_index() {
    "$1" -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=5)' "$cpu_index/torch/" >>"$log" 2>&1
}

# Whether torch comes from there: PyPI's for other processors is without CUDA. A torch that came from there stays.
# takes_cpu_index PYTHON MACHINE
takes_cpu_index() {
    [ "$2" = x86_64 ] || return 1
    "$1" -c 'import sys; from importlib.metadata import version; sys.exit("+cpu" not in version("torch"))' 2>/dev/null ||
        reaches_cpu_index "$1"
}

# install_pinned PYTHON DIR [PIP OPTION...]: what wheels.py wrote into DIR, and nothing else. Each file is held to the
# sha256 in constraints.txt, torch from PyTorch's own index to the one that this index gives.
install_pinned() {
    local python=$1 wanted=$2
    shift 2
    local -a pip=("$python" -m pip install --disable-pip-version-check --no-input --no-deps)
    if [ -e "$wanted/cpu.txt" ]; then
        "${pip[@]}" --index-url "$cpu_index" --requirement "$wanted/cpu.txt" "$@"
    fi
    "${pip[@]}" --require-hashes --requirement "$wanted/requirements.txt" "$@"
}

# The first Python in the supported range: python3 is what a person expects, the others are what may be beside it.
find_python() {
    local candidate found=""
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        # A shim of a version manager may exist and not run.
        if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
        found="$candidate is $("$candidate" -V 2>&1 | head -n 1)"
    done
    fail 69 "Python 3.10 to 3.13 is needed${found:+, and $found}; install one, or name it: PYTHON=python3.12 ./install.sh"
}

# What find_python finds, or nothing where no Python is installed yet and Debian's will be.
find_python_there() { if [ -n "${PYTHON:-}" ] || command -v python3 >/dev/null; then find_python; fi; }
