#!/usr/bin/env bash
# The launcher of one machine: starts its processes with torchrun, hands a stop on to them, and says how it ended.
#
#   one machine       launch/torchrun/node.sh recipes/x.py --out runs/a
#   several, on each  NUM_NODES=4 NODE_RANK=0 MAIN_ADDRESS=first-machine launch/torchrun/node.sh recipes/x.py --out ...
#   machines may go   NUM_NODES=2:4 ... the same: goes on with 2 to 4 of them, and takes them in when they come back
#   before the job    the same with -m framework.doctor in place of the recipe
#
# NUM_NODES and NODE_RANK are taken from Slurm or Kubeflow where they say it. PROCESSES_PER_NODE is one per GPU unless
# given (a machine without a GPU needs it). MAIN_PORT is 29500 unless given; PYTHON names the interpreter.
# MAX_RESTARTS: how often torchrun starts the processes again after one has failed; 0 unless given, 10 where machines may
# go. LAST_CALL_SECONDS (30): how long a smaller number of machines waits for the others before it goes on without them.
# LOCAL_ADDRESS: this machine's, where its own name does not lead the others to it (machines that may go, restarts).
# JOB_SECRET_FILE (or its content, JOB_SECRET): what the machines of this job know and nobody else does; needed where they
# may go or restart. Make one with: (umask 077; openssl rand -hex 32 > job-secret)
#
# Exit status: 0 finished; 75 stopped by a signal, the same command continues; anything else is an error, with the status
# of the process that failed first (2: something the user can mend).
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

out=$(run_folder "$@")
python=$(interpreter)

# An operator's WORLD_SIZE and RANK in front of a launcher count machines (early PyTorchJobs set only these).
nodes=${NUM_NODES:-${SLURM_NNODES:-${PET_NNODES:-${WORLD_SIZE:-1}}}}
restarts=${MAX_RESTARTS:-0} again=
if [[ $nodes == *:* ]]; then
    restarts=${MAX_RESTARTS:-10} again=yes
elif ((restarts)); then
    again=yes
fi
arguments=()
if [[ $nodes == 1 ]]; then
    # Nobody to meet: the list of who is there stays in memory, and the endpoint, which torchrun asks for, is not used.
    arguments+=(--rdzv_backend authenticated --rdzv_endpoint localhost:0 --rdzv_id training)
else
    rank=${NODE_RANK:-${SLURM_NODEID:-${PET_NODE_RANK:-${RANK:-}}}}
    address=${MAIN_ADDRESS:-${PET_MASTER_ADDR:-${MASTER_ADDR:-}}}
    port=${MAIN_PORT:-${PET_MASTER_PORT:-${MASTER_PORT:-29500}}}
    if [[ -z $rank || -z $address ]]; then
        echo "$nodes machines need NODE_RANK (0 ... $((${nodes#*:} - 1))) and MAIN_ADDRESS (that of machine 0)" >&2
        exit 2
    fi
    if [[ -n $again ]]; then
        # The machines agree anew after every loss, in a store on machine 0: only there may they become fewer or more.
        # torch's own (c10d) runs what anybody on the network writes into it; ours takes only the job's machines.
        if [[ -z ${JOB_SECRET:-}${JOB_SECRET_FILE:-} ]]; then
            echo "machines that restart together need a secret of the job, so that no stranger joins them: make one" \
                "with (umask 077; openssl rand -hex 32 > job-secret) and give JOB_SECRET_FILE to all of them" >&2
            exit 2
        fi
        host=false
        if ((rank == 0)); then host=true; fi
        settings="is_host=$host,last_call_timeout=${LAST_CALL_SECONDS:-30}"
        arguments+=(--nnodes "$nodes" --rdzv_backend authenticated --rdzv_endpoint "$address:$port" --rdzv_id training)
        arguments+=(--rdzv_conf "$settings")
        if [[ -n ${LOCAL_ADDRESS:-} ]]; then arguments+=(--local_addr "$LOCAL_ADDRESS"); fi
    else
        arguments+=(--nnodes "$nodes" --node_rank "$rank" --master_addr "$address" --master_port "$port")
    fi
fi
if [[ -n $again ]]; then
    arguments+=(--max_restarts "$restarts")
    # The processes' own meeting place anew after every restart: torch 2.13 keeps one, with the addresses of the dead.
    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
fi
processes=${PROCESSES_PER_NODE:-${PET_NPROC_PER_NODE:-gpu}}
if [[ $processes == auto ]]; then processes=gpu; fi # without a GPU, auto would mean a process per core
arguments+=(--nproc_per_node "$processes")

unset RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT
unset PET_NNODES PET_NODE_RANK PET_NPROC_PER_NODE PET_MASTER_ADDR PET_MASTER_PORT
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
# If torchrun itself is told to stop, it kills processes that are still saving after so many seconds.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-120}

launcher='' stop=''
# The processes are asked, not torchrun: it would give up on SIGUSR1, and kill what is not done within its time-out.
# They agree to stop after the same step, save, and end; torchrun ends after them. But a torchrun that restarts would
# start them again: it is asked itself, with the time-out above, and other machines go on if they may.
# shellcheck disable=SC2329  # the trap calls it
stop_processes() {
    stop=yes
    local -a workers=()
    if [[ -z $again ]]; then
        read -r -d '' -a workers < <(cat "/proc/$launcher/task/"*/children 2>/dev/null) || true
    fi
    if ((${#workers[@]})); then
        kill -TERM "${workers[@]}" || true
    elif [[ -n $launcher ]]; then
        kill -TERM "$launcher" || true
    fi
}
trap stop_processes TERM INT HUP USR1

rm -f "$out/PREEMPTED" # of an earlier start
# In a session of its own, so that Ctrl-C comes here only. Some schedulers signal every process of a job: SIGUSR1 would
# end torchrun, so it is started deaf to it; the training processes install a handler of their own.
(
    trap '' USR1
    exec setsid "$python" -m framework.rendezvous "${arguments[@]}" "$@"
) &
launcher=$!
if [[ -n $stop ]]; then stop_processes; fi # it came between the lines
if [[ -n ${NODE_PID_FILE:-} ]]; then echo $$ >"$NODE_PID_FILE"; fi

status=0
wait_for "$launcher" || status=$?
if [[ -n ${NODE_PID_FILE:-} ]]; then rm -f "$NODE_PID_FILE"; fi
if was_stopped "$out" || ((status == STOPPED)) || [[ -n $stop && $status -ne 0 ]]; then
    echo "stopped before the end of training; the same command continues" >&2
    exit "$STOPPED"
fi
exit "$status"
