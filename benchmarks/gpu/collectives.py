"""Every kind of collective call of the product, over NCCL with one process: a world of 1 passes through all its code.

Two NCCL ranks on one GPU are refused, so numbers between ranks stay with the tests on CPUs (tests/parity). What can
break on a GPU alone is shown here: devices, dtypes, streams, a group of gloo beside, FSDP2's and checkpoints' calls.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from benchmarks.gpu.job import Job
from framework.engines.base import ParameterSlice
from framework.engines.reducer import GradientReducer
from framework.networks.blocks.minibatch import MinibatchStddev
from framework.networks.blocks.norm import BatchNorm2d
from framework.runtime.collectives import sum_over_processes
from framework.runtime.session import Session
from framework.train.state import assembled

BOUND = 1e-4


def collectives(job: Job) -> None:
    """One finding per kind of call."""
    device = job.device
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        for call, difference in CALLS.items():
            with job.part(call=call):
                found = difference(device)
                job.findings.add(call=call, difference=found, ok=found <= BOUND)
    finally:
        dist.destroy_process_group()
    job.findings.add(not_shown="two ranks on one GPU: NCCL refuses them")


@contextmanager
def as_if_several() -> Iterator[None]:
    """The networks' blocks communicate although there is one process: a sum over one is the number itself."""
    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("framework.networks") and hasattr(module, "num_processes"):
                stack.enter_context(mock.patch.object(module, "num_processes", return_value=2))
        yield


def _gradients_reduced(device: torch.device) -> float:
    """Gradients that went through overlapped buckets, against plain ones."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 1)).to(device)
    images = torch.randn(8, 64, device=device)
    plain = torch.autograd.grad(network(images).mean(), list(network.parameters()))
    reducer = GradientReducer(network.parameters(), bucket_bytes=1000)
    loss = network(images).mean()
    reducer.arm(loss)
    loss.backward()
    summed = reducer.finish()
    pairs = zip([p.grad for p in network.parameters()], plain, strict=True)
    return max(_difference(summed, loss), *(_difference(a, b) for a, b in pairs if a is not None))


def _twice_differentiated(block: nn.Module, *shape: int) -> Callable[[torch.device], float]:
    """A block's value, first and second derivative with and without communication."""

    def derivatives(images: Tensor, device: torch.device) -> list[Tensor]:
        images = images.to(device).requires_grad_(True)
        value = block.to(device)(images)
        (first,) = torch.autograd.grad((value.square() * value.sin()).sum(), images, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), images)
        return [value, first, second]

    def difference(device: torch.device) -> float:
        images = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
        alone = derivatives(images, device)
        with as_if_several():
            together = derivatives(images, device)
        return max(_difference(a, b) for a, b in zip(together, alone, strict=True))

    return difference


def _differentiable_sum(device: torch.device) -> float:
    """A sum over processes and its second derivative."""
    x = torch.linspace(-1, 1, 7, device=device, requires_grad=True)
    with as_if_several():
        (first,) = torch.autograd.grad(sum_over_processes(x).pow(3).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), x)
    return max(_difference(first, 3 * x.square()), _difference(second, 6 * x))


def _text_told(device: torch.device) -> float:
    """A text as bytes on the device, and the largest value of any rank."""
    session = Session(rank=0, world=2, local_rank=0, device=device)
    told = session.broadcast_text("äöü: what rank 0 says")
    return abs(session.max_over_ranks(2.5) - 2.5) if told == "äöü: what rank 0 says" else float("inf")


def _tensors_assembled(device: torch.device) -> float:
    """A sharded tensor put together for a checkpoint."""
    values = torch.arange(12.0, device=device)
    part = ParameterSlice(kind="weight", name="a", start=0, values=values, shape=(3, 4))
    (whole,) = assembled([part], shapes={"a": (3, 4)}, rank=0, world=1, like=values)
    return _difference(whole.values, values)


def _gloo_beside(device: torch.device) -> float:
    """A second group for signals, on the CPU."""
    group = dist.new_group(backend="gloo")
    flag = torch.ones(1, dtype=torch.int32)
    dist.all_reduce(flag, group=group)
    return float(abs(flag - 1))


def _fsdp2(device: torch.device) -> float:
    """Forward and backward of a sharded network against the same unsharded; `--engine fsdp2` wants more processes."""
    networks = []
    for _ in range(2):
        torch.manual_seed(0)
        networks.append(nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 1)).to(device))
    plain, sharded = networks
    mesh = init_device_mesh(device.type, (1,))
    for layer in (*sharded, sharded):
        fully_shard(layer, mesh=mesh)
    images = torch.randn(4, 64, device=device)
    for network in networks:
        network(images).square().sum().backward()
    found, expected = ([parameter.grad for parameter in network.parameters()] for network in (sharded, plain))
    pairs = zip(found, expected, strict=True)
    return max(_difference(a.full_tensor(), b) for a, b in pairs if isinstance(a, DTensor) and b is not None)


CALLS: dict[str, Callable[[torch.device], float]] = {
    "gradients in buckets": _gradients_reduced,
    "differentiable sum": _differentiable_sum,
    "batch norm over all processes": _twice_differentiated(BatchNorm2d(4), 8, 4, 4, 4),
    "minibatch deviation over all processes": _twice_differentiated(MinibatchStddev(), 8, 4, 4, 4),
    "text and largest value": _text_told,
    "checkpoint's assembling": _tensors_assembled,
    "gloo beside": _gloo_beside,
    "fsdp2": _fsdp2,
}
"""Calls by name; each returns the largest difference from what it should be."""


def _difference(found: Tensor, expected: Tensor) -> float:
    """The largest, relative to values above 1."""
    expected = expected.detach().double()
    return float(((found.detach().double() - expected).abs() / expected.abs().clamp(min=1)).max())


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
