#!/usr/bin/env bash
# Machines with ssh and no scheduler: pdsh starts one launcher on each machine of a hostfile.
#   launch/mpi/pdsh.sh launch/mpi/hostfile recipes/x.py --out /shared/runs/a
# Every machine needs this folder at the same path. SIGTERM and Ctrl-C save first; the same command resumes.
# Exit status: 0 finished; 75 stopped by a signal; anything else is an error.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

hostfile=$1
shift
out=$(run_folder "$@")
mapfile -t machines < <(awk '!/^[ \t]*(#|$)/ { print $1 }' "$hostfile")
processes=$(awk '!/^[ \t]*(#|$)/ { print sub(/.*slots=/, "") ? $1 : "gpu"; exit }' "$hostfile")
first=${machines[0]}
pid_file=/tmp/framework-node-$$.pid

settings=(
    "NUM_NODES=${#machines[@]}" "MAIN_ADDRESS=${MAIN_ADDRESS:-$first}" "MAIN_PORT=${MAIN_PORT:-29500}"
    "PROCESSES_PER_NODE=$processes" "NODE_PID_FILE=$pid_file"
)
for name in PYTHON GLOO_SOCKET_IFNAME NCCL_SOCKET_IFNAME; do
    if [[ -n ${!name:-} ]]; then settings+=("$name=${!name}"); fi
done
command="cd $(printf %q "$PWD") && env $(printf '%q ' "${settings[@]}") NODE_RANK=%n"
command+=" bash launch/torchrun/node.sh $(printf '%q ' "$@")"

# %h and %n are pdsh's words for a machine's name and number. -S: the worst exit status is ours.
list=$(IFS=, && echo "${machines[*]}")
setsid pdsh -S -R exec -w "$list" ssh -o BatchMode=yes -x %h "$command" &
launcher=$!
# Signals do not travel through ssh; asking one launcher is enough, since its processes tell all others.
trap 'ssh -o BatchMode=yes -x "$first" "kill -TERM \$(cat $pid_file)" || true' TERM INT HUP
status=0
wait_for "$launcher" || status=$?
if was_stopped "$out" || ((status == STOPPED)); then exit "$STOPPED"; fi
exit "$status"
