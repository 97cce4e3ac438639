# shellcheck shell=bash disable=SC2154  # log is set by the script that sources this
# Functions that all parts of install.sh share. Sourced; `log` names the file that takes the output of the steps.

# What the caller's environment holds for other programs: a language whose words the installer would have to know,
# directories where cd looks, and what makes Python start elsewhere or not at all. The terminal's encoding stays, and
# PYTHONPATH, as NVIDIA's packages may be there.
LC_CTYPE=${LC_ALL:-${LC_CTYPE:-${LANG:-C}}}
unset LC_ALL
export LC_CTYPE LC_MESSAGES=C LC_COLLATE=C LC_NUMERIC=C
export PYTHONNOUSERSITE=1 # the service's user does not see root's own packages
unset CDPATH GREP_OPTIONS POSIXLY_CORRECT PYTHONHOME PYTHONSAFEPATH PYTHONPLATLIBDIR PYTHONSTARTUP PYTHONINSPECT \
    PYTHONWARNINGS PYTHONOPTIMIZE PYTHONEXECUTABLE
[ -w "${TMPDIR:-/tmp}" ] || unset TMPDIR
PATH=${PATH:+$PATH:}/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin # `su` without `-` leaves out sbin

say() { printf '%s\n' "$*"; }

# fail CODE SENTENCE
fail() {
    printf 'install.sh: %s\n' "$2" >&2
    exit "$1"
}

# step TITLE COMMAND...: runs a command and prints one line with its title and time; at a terminal the line also shows
# progress. The output goes to the log, whose end is shown when the command fails; that ends the installer with the
# command's code. With dry_run=yes it only prints the title, after in_plan.
in_plan="would do: "
step() {
    local title=$1 started=$SECONDS code ticker="" logged
    shift
    if [ "${dry_run:-no}" = yes ]; then
        printf '  %s%s\n' "$in_plan" "$title"
        return
    fi
    printf '\n=== %s  %s\n' "$(date '+%F %T')" "$title" 2>/dev/null >>"$log" ||
        fail 73 "The log $log cannot be written; make room for it, or make its directory writable."
    logged=$(stat -c %s "$log")
    if [ -t 1 ]; then
        show_progress "$title" "$logged" &
        ticker=$!
    else
        printf '  %-60s' "$title"
    fi
    # In a subshell that ends at the first command that fails; with `|| code=$?` bash would ignore set -e inside "$@".
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
        tail -c "+$((logged + 1))" "$log" | tail -n 20 >&2 || true
        fail "$code" "The step \"$title\" failed; the full log is in $log."
    fi
    printf '%4d s\n' "$((SECONDS - started))"
}

# show_progress TITLE BYTES: rewrites one line each second with the time so far and the last line that the log got after
# its first BYTES. It watches for the end of the installer, because Ctrl-C does not reach background jobs of bash.
show_progress() {
    local started=$SECONDS width last line
    width=$(tput cols 2>/dev/null || echo 80)
    while kill -0 $$ 2>/dev/null; do
        last=$(tail -c "+$(($2 + 1))" "$log" 2>/dev/null | tail -n 1 | sed 's/.*\r\(.\)/\1/' | tr -d '\r' || true)
        line="  $1: $((SECONDS - started)) s"
        [ "$((width - ${#line}))" -lt 16 ] || line+="  $last" # only where some words of it fit
        printf '\r\033[K%s' "${line:0:$((width - 1))}"
        sleep 1
    done
}

readonly cpu_index=https://download.pytorch.org/whl/cpu

# reaches_cpu_index PYTHON: whether PyTorch's own index answers. It has torch for x86_64 without CUDA, which PyPI's
# includes, but not every network reaches it.
reaches_cpu_index() {
    "$1" -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=5)' "$cpu_index/torch/" >>"$log" 2>&1
}

# takes_cpu_index PYTHON MACHINE: whether torch comes from PyTorch's own index, as one that is installed may have done.
# For other processors it never does, because PyPI's torch has no CUDA for them.
takes_cpu_index() {
    [ "$2" = x86_64 ] || return 1
    "$1" -c 'import sys; from importlib.metadata import version; sys.exit("+cpu" not in version("torch"))' 2>/dev/null ||
        reaches_cpu_index "$1"
}

# take_pip_settings PYTHON: from now on pip has those of the user's settings, from the environment and from pip.conf, that
# say how it reaches an index, and no others; PIP_USER=1 would install elsewhere.
take_pip_settings() {
    local settings setting
    settings=$("$1" scripts/install/pip_settings.py) || return
    # shellcheck disable=SC2086  # several names, or none
    unset ${!PIP_@}
    export PIP_CONFIG_FILE=/dev/null
    while IFS= read -r setting; do [ -z "$setting" ] || export "${setting?}"; done <<<"$settings"
}

# install_pinned PYTHON DIR [PIP OPTION...]: installs exactly what wheels.py wrote into DIR. pip checks each file
# against the sha256 in constraints.txt, and torch from PyTorch's own index against the one that this index publishes.
install_pinned() {
    local python=$1 wanted=$2
    shift 2
    local -a pip=("$python" -I -m pip install --disable-pip-version-check --no-input --no-deps)
    if [ -e "$wanted/cpu.txt" ]; then
        "${pip[@]}" --index-url "$cpu_index" --requirement "$wanted/cpu.txt" "$@"
    fi
    "${pip[@]}" --require-hashes --requirement "$wanted/requirements.txt" "$@"
}

# build_kernels PYTHON: on ARM64 builds the kernels of our own, if that Python's package is without them. If it cannot, this
# prints why, and torch's kernels run the model.
build_kernels() {
    local sentence
    sentence=$("$1" -I -m edge.kernels.build 2>>"$log") || say "  ${sentence:-The kernels were not built; see $log.}"
}

# Prints the first Python in the supported range, python3 before those with a version in their name.
find_python() {
    local candidate found=""
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        # A version manager's shim may exist without running.
        if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
        found="$candidate is $("$candidate" -V 2>&1 | head -n 1)"
    done
    fail 69 "Python 3.10 to 3.13 is needed${found:+, and $found}; install one, or name it: PYTHON=python3.12 ./install.sh"
}

# Prints what find_python finds, or nothing where no Python is installed and Debian's will be.
find_python_there() { if [ -n "${PYTHON:-}" ] || command -v python3 >/dev/null; then find_python; fi; }
