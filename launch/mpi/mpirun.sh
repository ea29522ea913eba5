#!/usr/bin/env bash
# Open MPI starts every process itself, on the machines of a hostfile:
#   launch/mpi/mpirun.sh launch/mpi/hostfile recipes/x.py --out /shared/runs/a
# MPIRUN_ARGUMENTS are added (network interfaces, binding). SIGTERM and Ctrl-C save first; the same command resumes.
# Exit status: 0 finished; 75 stopped by a signal; anything else is an error.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

hostfile=$1
shift
out=$(run_folder "$@")
if ((${MAX_RESTARTS:-0})); then
    echo "MAX_RESTARTS=$MAX_RESTARTS: mpirun does not start processes again; launch/mpi/pdsh.sh does" >&2
    exit 2
fi
read -r first slots <<<"$(awk '!/^[ \t]*(#|$)/ {
    if (first == "") first = $1
    total += sub(/.*slots=/, "") ? $1 : 1
} END { print first, total }' "$hostfile")"
python=$(interpreter)
export MASTER_ADDR=${MAIN_ADDRESS:-$first} MASTER_PORT=${MAIN_PORT:-29500}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

rm -f "$out/PREEMPTED" # of an earlier start
# shellcheck disable=SC2086  # several words are meant
setsid mpirun --hostfile "$hostfile" -np "$slots" --bind-to none ${MPIRUN_ARGUMENTS:-} \
    -x MASTER_ADDR -x MASTER_PORT -x OMP_NUM_THREADS "$python" "$@" &
launcher=$!
# mpirun kills a few seconds after SIGTERM or Ctrl-C (so it has a session of its own); it hands SIGUSR1 on and waits.
trap 'kill -USR1 "$launcher" 2>/dev/null || true' TERM INT HUP
status=0
wait_for "$launcher" || status=$?
if was_stopped "$out" || ((status == STOPPED)); then exit "$STOPPED"; fi
exit "$status"
