# Shared by the scripts beside it; to be sourced.
# shellcheck shell=bash

# Exit status of a launch that a signal stopped before the end of training: the same command continues (EX_TEMPFAIL). The
# training processes end with it, too (framework/runtime/stopping.py).
# shellcheck disable=SC2034  # used by those who source this
readonly STOPPED=75

# The run folder in a training command's arguments.
run_folder() {
    local i next out=
    for ((i = 1; i <= $#; i++)); do
        case ${!i} in
            --out=*) out=${!i#--out=} ;;
            --out) next=$((i + 1)) && out=${!next:-} ;;
        esac
    done
    if [[ -z $out ]]; then
        echo "give --out, the run folder (on a file system that every machine sees)" >&2
        return 2
    fi
    echo "$out"
}

# Wait for a child to its end; signals, for which there may be traps, only interrupt `wait`. Returns its status.
wait_for() {
    local status=0
    wait "$1" || status=$?
    while kill -0 "$1" 2>/dev/null; do
        status=0
        wait "$1" || status=$?
    done
    return "$status"
}

# Whether training in this run folder was stopped by a signal before its end.
was_stopped() {
    ls "$1" >/dev/null 2>&1 || true # makes NFS look again
    [[ -e $1/PREEMPTED ]]
}

# The interpreter: PYTHON, or that of the repository's environment, or the first on the PATH.
interpreter() {
    if [[ -n ${PYTHON:-} ]]; then
        echo "$PYTHON"
    elif [[ -x .venv/bin/python ]]; then
        echo "$PWD/.venv/bin/python"
    else
        echo python
    fi
}
