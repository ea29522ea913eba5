#!/usr/bin/env bash
# The launcher of one machine: starts its processes with torchrun, hands a stop on to them, and says how it ended.
#
#   one machine       launch/torchrun/node.sh recipes/x.py --out runs/a
#   several, on each  NUM_NODES=4 NODE_RANK=0 MAIN_ADDRESS=first-machine launch/torchrun/node.sh recipes/x.py --out ...
#   before the job    the same with -m framework.doctor in place of the recipe
#
# NUM_NODES and NODE_RANK are taken from Slurm or Kubeflow where they say it. PROCESSES_PER_NODE is one per GPU unless
# given (a machine without a GPU needs it). MAIN_PORT is 29500 unless given; PYTHON names the interpreter.
#
# Exit status: 0 finished; 75 stopped by a signal, the same command continues; anything else is an error.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

out=$(run_folder "$@")
python=$(interpreter)

# An operator's WORLD_SIZE and RANK in front of a launcher count machines (early PyTorchJobs set only these).
nodes=${NUM_NODES:-${SLURM_NNODES:-${PET_NNODES:-${WORLD_SIZE:-1}}}}
arguments=()
if [[ $nodes == 1 ]]; then
    arguments+=(--standalone) # takes a free port
else
    rank=${NODE_RANK:-${SLURM_NODEID:-${PET_NODE_RANK:-${RANK:-}}}}
    address=${MAIN_ADDRESS:-${PET_MASTER_ADDR:-${MASTER_ADDR:-}}}
    port=${MAIN_PORT:-${PET_MASTER_PORT:-${MASTER_PORT:-29500}}}
    if [[ -z $rank || -z $address ]]; then
        echo "$nodes machines need NODE_RANK (0 ... $((nodes - 1))) and MAIN_ADDRESS (that of machine 0)" >&2
        exit 2
    fi
    arguments+=(--nnodes "$nodes" --node_rank "$rank" --master_addr "$address" --master_port "$port")
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
# They agree to stop after the same step, save, and end; torchrun ends after them.
# shellcheck disable=SC2329  # the trap calls it
stop_processes() {
    stop=yes
    local -a workers=()
    read -r -d '' -a workers < <(cat "/proc/$launcher/task/"*/children 2>/dev/null) || true
    if ((${#workers[@]})); then
        kill -TERM "${workers[@]}" || true
    elif [[ -n $launcher ]]; then
        kill -TERM "$launcher" || true # nothing to save yet
    fi
}
trap stop_processes TERM INT HUP USR1

rm -f "$out/PREEMPTED" # of an earlier start
# In a session of its own, so that Ctrl-C comes here only. Some schedulers signal every process of a job: SIGUSR1 would
# end torchrun, so it is started deaf to it; the training processes install a handler of their own.
(
    trap '' USR1
    exec setsid "$python" -m torch.distributed.run "${arguments[@]}" "$@"
) &
launcher=$!
if [[ -n $stop ]]; then stop_processes; fi # it came between the lines
if [[ -n ${NODE_PID_FILE:-} ]]; then echo $$ >"$NODE_PID_FILE"; fi

status=0
wait_for "$launcher" || status=$?
if [[ -n ${NODE_PID_FILE:-} ]]; then rm -f "$NODE_PID_FILE"; fi
if was_stopped "$out" || [[ -n $stop && $status -ne 0 ]]; then
    echo "stopped before the end of training; the same command continues" >&2
    exit "$STOPPED"
fi
exit "$status"
