"""A rendezvous for torchrun in which only machines that know the job's secret take part.

torch's own (`c10d`) keeps its state as a pickle in a TCPStore, which listens on all interfaces and takes values from
anybody: whoever reaches the port runs code on every machine. Here the same state machine works on a store that answers
only those who have the secret (`wire.py`). For one machine the store is in memory, and no port is opened.
"""

from __future__ import annotations

from torch.distributed import HashStore, Store
from torch.distributed.elastic.rendezvous import RendezvousConnectionError, RendezvousHandler, RendezvousParameters
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import C10dRendezvousBackend
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import create_handler
from torch.distributed.elastic.rendezvous.utils import parse_rendezvous_endpoint

from framework.rendezvous.secret import FILE, VALUE
from framework.rendezvous.server import Server
from framework.rendezvous.store import AuthenticatedStore

BACKEND = "authenticated"
"""Name of this rendezvous, for `--rdzv_backend`."""
DEFAULT_PORT = 29500
"""Port of machine 0 where `--rdzv_endpoint` names none."""


class _Backend(C10dRendezvousBackend):
    @property
    def name(self) -> str:
        return BACKEND


def authenticated_handler(parameters: RendezvousParameters, *, secret: bytes | None) -> RendezvousHandler:
    """Return torchrun's rendezvous handler.

    Args:
        parameters: parameters of torchrun; `is_host=true` in `--rdzv_conf` on the one machine that keeps the table.
        secret: secret of the job; None is enough for one machine.

    Raises:
        RendezvousConnectionError: the table cannot be kept on this machine, or cannot be reached from it.
    """
    store: Store = HashStore()
    if parameters.max_nodes > 1:
        assert secret is not None
        store = _connected_store(parameters, secret)
    return create_handler(store, _Backend(store, parameters.run_id), parameters)


def _connected_store(parameters: RendezvousParameters, secret: bytes) -> Store:
    host, port = parse_rendezvous_endpoint(parameters.endpoint, default_port=DEFAULT_PORT)
    timeout_seconds = parameters.get_as_int("read_timeout", 60)
    assert timeout_seconds is not None
    try:
        if parameters.get_as_bool("is_host"):
            host, port = "localhost", Server(port, secret=secret).port
        return AuthenticatedStore(host, port, secret=secret, timeout_seconds=timeout_seconds)
    except OSError as error:
        raise RendezvousConnectionError(
            f"machine 0 at {parameters.endpoint}: {error} (every machine needs the same {VALUE} or {FILE})"
        ) from None
