"""Batch norm over two processes equals batch norm of the whole batch in one, to second order, for any split."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from framework.networks.blocks.norm import BatchNorm2d, ConditionalBatchNorm2d, standing_statistics
from framework.runtime.collectives import num_processes, sum_over_processes

WORLD = 2
SPLITS = {"even": (3, 3), "uneven": (5, 1), "empty": (6, 0)}
LAYERS = ("plain", "conditional")
NUM_IMAGES = 6


def build(kind: str) -> nn.Module:
    torch.manual_seed(1)
    layer = BatchNorm2d(3) if kind == "plain" else ConditionalBatchNorm2d(3, 4, spectral=True)
    layer.double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer


def whole_batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(2)
    return torch.randn(NUM_IMAGES, 3, 4, 4, dtype=torch.float64) * 2 + 50, torch.arange(NUM_IMAGES) % 4


def measure(kind: str, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Everything a training step derives from a batch norm; `sum.*` is to be added over processes."""
    layer = build(kind)
    x = images.clone().requires_grad_(True)
    y = layer(x, labels)
    loss = y.exp().sum()  # no low power: batch norm projects constants and its own output out of gradients
    parameters = list(layer.parameters())
    (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
    penalty = gradient.square().sum()  # as R1 makes it
    second, *of_parameters = torch.autograd.grad(penalty, [x, *parameters])
    (norm,) = (module for module in layer.modules() if isinstance(module, BatchNorm2d))
    results = {"y": y, "gradient": gradient, "second": second, "sum.penalty": penalty}
    results |= {"same.mean": norm.running_mean, "same.var": norm.running_var}
    results |= {f"sum.parameter{index}": value for index, value in enumerate(of_parameters)}
    first_order = torch.autograd.grad(layer(x, labels).exp().sum(), parameters)
    results |= {f"sum.first_order{index}": value for index, value in enumerate(first_order)}
    return {name: value.detach() for name, value in results.items()}


def of_process(rank: int) -> dict[str, Tensor]:
    results = {}
    images, labels = whole_batch()
    for split, sizes in SPLITS.items():
        own = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
        for kind in LAYERS:
            values = measure(kind, images[own], labels[own])
            results |= {f"{split}/{kind}/{name}": value for name, value in values.items()}

    own = slice(3 * rank, 3 * rank + 3)
    local = BatchNorm2d(3, statistics="local").double()
    results["local/y"] = local(images[own]).detach()
    if rank == 0:  # the other process is not there: a collective would hang
        alone = BatchNorm2d(3).double()
        with standing_statistics(alone, statistics="local"):
            alone(images[own])
        results["standing/mean"] = alone.running_mean
    standing = BatchNorm2d(3).double()
    with standing_statistics(standing):
        standing(images[own])
    results["standing/global_mean"] = standing.running_mean

    x = torch.tensor([1.0 + rank, 2.0], dtype=torch.float64, requires_grad=True)
    total = sum_over_processes(x)
    (gradient,) = torch.autograd.grad((total**3).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(gradient.sum(), x)
    results |= {"sum/value": total.detach(), "sum/gradient": gradient.detach(), "sum/second": second}
    return results


def main(folder: Path, rank: int) -> None:
    store = dist.FileStore(str(folder / "store"), WORLD)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=WORLD, timeout=timedelta(seconds=60))
    np.savez(folder / f"{rank}.npz", **{name: value.numpy() for name, value in of_process(rank).items()})
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    """What each of the two processes found; started once for all tests."""
    folder = tmp_path_factory.mktemp("batch_norm")
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen([sys.executable, __file__, str(folder), str(rank)], env=environment, stderr=subprocess.PIPE)
        for rank in range(WORLD)
    ]
    try:
        for process in running:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors.decode()
    finally:
        for process in running:
            process.kill()
    results = []
    for rank in range(WORLD):
        with np.load(folder / f"{rank}.npz", allow_pickle=False) as archive:
            results.append({name: torch.from_numpy(archive[name]) for name in archive.files})
    return results


@pytest.mark.distributed
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("split", SPLITS)
def test_two_processes_equal_one(processes: list[dict[str, Tensor]], split: str, kind: str) -> None:
    worst = 0.0
    for name, expected in measure(kind, *whole_batch()).items():
        parts = [process[f"{split}/{kind}/{name}"] for process in processes]
        if name.startswith("same."):
            assert torch.equal(parts[0], parts[1])
            ours = parts[0]
        else:
            ours = sum(parts) if name.startswith("sum.") else torch.cat(parts)
        worst = max(worst, ((ours - expected).abs().max() / expected.abs().max()).item())
    print(f"batch norm, {split} {kind}: largest relative deviation {worst:.1e}")
    assert worst <= 1e-12


@pytest.mark.distributed
def test_local_statistics_are_each_process_own(processes: list[dict[str, Tensor]]) -> None:
    images, _ = whole_batch()
    for rank, process in enumerate(processes):
        own = BatchNorm2d(3).double()(images[3 * rank : 3 * rank + 3])
        torch.testing.assert_close(process["local/y"], own.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.distributed
def test_standing_statistics_may_be_taken_by_one_process_or_all(processes: list[dict[str, Tensor]]) -> None:
    images, _ = whole_batch()
    torch.testing.assert_close(processes[0]["standing/mean"], images[:3].mean((0, 2, 3)))
    for process in processes:
        torch.testing.assert_close(process["standing/global_mean"], images.mean((0, 2, 3)))


@pytest.mark.distributed
def test_sum_over_processes_and_its_derivatives(processes: list[dict[str, Tensor]]) -> None:
    # Loss: both processes' sum of cubes of the total (3, 4), so twice 3 t^2 and, once more, four times 6 t.
    for process in processes:
        assert process["sum/value"].tolist() == [3, 4]
        assert process["sum/gradient"].tolist() == [2 * 3 * 9, 2 * 3 * 16]
        assert process["sum/second"].tolist() == [4 * 6 * 3, 4 * 6 * 4]


def test_alone_the_sum_is_the_tensor_itself() -> None:
    tensor = torch.ones(2)
    assert num_processes() == 1
    assert sum_over_processes(tensor) is tensor


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
