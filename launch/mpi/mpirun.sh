#!/usr/bin/env bash
# Open MPI starts every process itself, on the machines of a hostfile:
#   launch/mpi/mpirun.sh launch/mpi/hostfile recipes/x.py --out /shared/runs/a
# MPIRUN_ARGUMENTS are added (network interfaces, binding). SIGTERM and Ctrl-C save first; the same command resumes.
set -euo pipefail
hostfile=$1
shift
read -r first slots <<<"$(awk '!/^[ \t]*(#|$)/ {
    if (first == "") first = $1
    sub(/.*slots=/, ""); total += $1
} END { print first, total }' "$hostfile")"
python=${PYTHON:-python}
if [[ -z ${PYTHON:-} && -x .venv/bin/python ]]; then python=$PWD/.venv/bin/python; fi
export MASTER_ADDR=${MAIN_ADDRESS:-$first} MASTER_PORT=${MAIN_PORT:-29500}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

# shellcheck disable=SC2086  # several words are meant
mpirun --hostfile "$hostfile" -np "$slots" --bind-to none ${MPIRUN_ARGUMENTS:-} \
    -x MASTER_ADDR -x MASTER_PORT -x OMP_NUM_THREADS "$python" "$@" &
launcher=$!
# mpirun kills a few seconds after SIGTERM; it hands SIGUSR1 on and waits.
trap 'kill -USR1 "$launcher" 2>/dev/null || true' TERM INT HUP
status=0
wait "$launcher" || status=$?
while kill -0 "$launcher" 2>/dev/null; do # a signal interrupts `wait`
    status=0
    wait "$launcher" || status=$?
done
exit "$status"
