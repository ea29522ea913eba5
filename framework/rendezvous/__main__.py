"""torchrun with the rendezvous of this package: `python -m framework.rendezvous --rdzv_backend authenticated ...`.

The rendezvous is registered here and not through the entry point group `torchrun.handlers`, which torch reads from
installed packages only: a checkout works too, and every other torchrun of the environment stays as it is.
"""

from __future__ import annotations

import functools
import os
import sys

from torch.distributed import run
from torch.distributed.elastic.rendezvous import RendezvousConnectionError, rendezvous_handler_registry

from framework.rendezvous.handler import BACKEND, authenticated_handler
from framework.rendezvous.secret import VALUE, take_secret
from framework.runtime import torchrun
from framework.utils.errors import FrameworkError


def main(arguments: list[str]) -> int:
    """Take the secret out of the environment, start torchrun, and return its exit status: 2 without a usable secret."""
    options = run.parse_args(arguments)
    is_needed = options.rdzv_backend == BACKEND and run.parse_min_max_nnodes(options.nnodes)[1] > 1
    try:
        secret = take_secret(os.environ) if is_needed else None
    except FrameworkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    os.environ.pop(VALUE, None)  # the processes inherit the environment
    rendezvous_handler_registry.register(BACKEND, functools.partial(authenticated_handler, secret=secret))
    try:
        return torchrun.main(arguments)
    except RendezvousConnectionError as error:
        print(f"error: {error.__cause__ or error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
