#!/usr/bin/env bash
# Machines with ssh and no scheduler: pdsh starts one launcher on each machine of a hostfile.
#   launch/mpi/pdsh.sh launch/mpi/hostfile recipes/x.py --out /shared/runs/a
# Every machine needs this folder at the same path. MAX_RESTARTS, LAST_CALL_SECONDS and JOB_SECRET_FILE (a path that is
# right on every machine) are handed on; see launch/torchrun/node.sh. SIGTERM and Ctrl-C save first; the same command resumes.
# Exit status: 0 finished; 75 stopped by a signal; anything else is an error.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

hostfile=$1
shift
out=$(run_folder "$@")
mapfile -t machines < <(awk '!/^[ \t]*(#|$)/ { print $1 }' "$hostfile")
processes=$(awk '!/^[ \t]*(#|$)/ { print sub(/.*slots=/, "") ? $1 : "gpu"; exit }' "$hostfile")
first=${machines[0]} restarts=${MAX_RESTARTS:-0}
if [[ ${NUM_NODES:-${#machines[@]}} != "${#machines[@]}" ]]; then
    echo "NUM_NODES=$NUM_NODES, but $hostfile names ${#machines[@]} machines, and pdsh starts all of them: leave it out" >&2
    exit 2
fi
if [[ -n ${JOB_SECRET:-} ]]; then
    echo "JOB_SECRET would stand on command lines that everybody on a machine can read: give JOB_SECRET_FILE" >&2
    exit 2
fi
if ((restarts && ${#machines[@]} > 1)) && [[ -z ${JOB_SECRET_FILE:-} ]]; then
    echo "MAX_RESTARTS on several machines needs a secret of the job, so that no stranger joins them: make one with" \
        "(umask 077; openssl rand -hex 32 > job-secret) and give JOB_SECRET_FILE, where every machine finds it" >&2
    exit 2
fi
# In the home folder: in /tmp, anybody on the machine could put another number, or a link, under this name first.
pid_file="\"\$HOME\"/.framework-node-$$" # and the machine's number

settings=(
    "NUM_NODES=${#machines[@]}" "MAIN_ADDRESS=${MAIN_ADDRESS:-$first}" "MAIN_PORT=${MAIN_PORT:-29500}"
    "PROCESSES_PER_NODE=$processes"
)
for name in PYTHON GLOO_SOCKET_IFNAME NCCL_SOCKET_IFNAME MAX_RESTARTS LAST_CALL_SECONDS JOB_SECRET_FILE; do
    if [[ -n ${!name:-} ]]; then settings+=("$name=${!name}"); fi
done
command="cd $(printf %q "$PWD") && env $(printf '%q ' "${settings[@]}") NODE_RANK=%n NODE_PID_FILE=$pid_file-%n"
command+=" bash launch/torchrun/node.sh $(printf '%q ' "$@")"

# %h and %n are pdsh's words for a machine's name and number. -S: the worst exit status is ours.
list=$(IFS=, && echo "${machines[*]}")
setsid pdsh -S -R exec -w "$list" ssh -o BatchMode=yes -x %h "$command" &
launcher=$!
# Signals do not travel through ssh; asking one launcher is enough, since its processes tell all others. A launcher that
# restarts takes its own machine out only, so then all are asked.
# shellcheck disable=SC2329  # the trap calls it
ask_to_stop() {
    local number asked=1
    if ((restarts)); then asked=${#machines[@]}; fi
    for ((number = 0; number < asked; number++)); do
        ssh -o BatchMode=yes -x "${machines[number]}" "kill -TERM \$(cat $pid_file-$number)" || true
    done
}
trap ask_to_stop TERM INT HUP
status=0
wait_for "$launcher" || status=$?
if was_stopped "$out" || ((status == STOPPED)); then exit "$STOPPED"; fi
exit "$status"
