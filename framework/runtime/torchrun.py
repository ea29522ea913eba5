"""Runs torchrun so that it ends as its processes ended: with their status, and without a traceback of its own.

`python -m framework.runtime.torchrun` takes torchrun's options. torchrun itself ends with status 1 whatever happened,
and with 40 lines about an error that its processes have printed already. This file imports only torch, so that it can
also be started by its path.
"""

from __future__ import annotations

import sys

import torch
from torch.distributed import HashStore
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousParameters, rendezvous_handler_registry
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import C10dRendezvousBackend
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import create_handler
from torch.distributed.run import parse_args, run

USER_ERROR = 2  # framework.__main__
STOPPED = 75  # framework.runtime.stopping
BY_SIGNAL = 128  # what shells add to the number of the signal that ended a process
MEMORY = "memory"
"""Name of the rendezvous of one machine, for `--rdzv_backend`."""


def main(arguments: list[str] | None = None) -> int:
    """Start the processes, wait for them, and return the status of the one that failed first, or 0.

    Args:
        arguments: torchrun's arguments; default: those of this process.
    """
    rendezvous_handler_registry.register(MEMORY, _in_memory)
    told = parse_args(arguments)
    if told.nproc_per_node == "gpu" and not torch.cuda.is_available():  # torchrun's own answer is a traceback
        print("error: one process per GPU, and torch sees no GPU here: give PROCESSES_PER_NODE", file=sys.stderr)
        return USER_ERROR
    try:
        run(told)
    except ChildFailedError as error:
        _, first = error.get_first_failure()
        return first.exitcode if first.exitcode > 0 else BY_SIGNAL - first.exitcode
    except SignalException:  # handed on, and the processes have ended
        return STOPPED
    return 0


class _Backend(C10dRendezvousBackend):
    @property
    def name(self) -> str:
        return MEMORY


def _in_memory(parameters: RendezvousParameters) -> RendezvousHandler:
    """One machine has nobody to meet: its list of who is there stays in this process, and no port is opened."""
    assert parameters.max_nodes == 1
    store = HashStore()
    return create_handler(store, _Backend(store, parameters.run_id), parameters)


if __name__ == "__main__":
    sys.exit(main())
