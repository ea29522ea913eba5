#!/usr/bin/env bash
# Machines with ssh and no scheduler: pdsh starts one launcher on each machine of a hostfile.
#   launch/mpi/pdsh.sh launch/mpi/hostfile recipes/x.py --out /shared/runs/a
# Every machine needs this folder at the same path. SIGTERM and Ctrl-C save first; the same command resumes.
set -euo pipefail
hostfile=$1
shift
mapfile -t machines < <(awk '!/^[ \t]*(#|$)/ { print $1 }' "$hostfile")
processes=$(awk '!/^[ \t]*(#|$)/ { sub(/.*slots=/, ""); print $1; exit }' "$hostfile")
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
pdsh -S -R exec -w "$list" ssh -o BatchMode=yes -x %h "$command" &
launcher=$!
# Signals do not travel through ssh; asking one launcher is enough, since its processes tell all others.
trap 'ssh -o BatchMode=yes -x "$first" "kill -TERM \$(cat $pid_file)" || true' TERM INT HUP
status=0
wait "$launcher" || status=$?
while kill -0 "$launcher" 2>/dev/null; do # a signal interrupts `wait`
    status=0
    wait "$launcher" || status=$?
done
exit "$status"
