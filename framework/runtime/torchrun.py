"""torchrun that ends as its processes ended: with their status, and without a traceback of its own.

`python -m framework.runtime.torchrun` takes torchrun's options. torchrun itself ends with status 1 whatever happened,
and with 40 lines about a sentence that its processes have printed already. This file imports only torch, so that it can
be started by its path, too.
"""

from __future__ import annotations

import sys

import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

USER_ERROR = 2  # framework.__main__
STOPPED = 75  # framework.runtime.stopping
BY_SIGNAL = 128  # what shells add to the number of the signal that ended a process


def main(arguments: list[str] | None = None) -> int:
    """Start the processes, wait for them, and return the status of the one that failed first, or 0.

    Args:
        arguments: torchrun's; default: this process's.
    """
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


if __name__ == "__main__":
    sys.exit(main())
