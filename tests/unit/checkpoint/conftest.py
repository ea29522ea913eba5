"""A small state with every kind of tensor, its slices under any partition, and writers that save it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from framework.checkpoint import Checkpoint, Retention, TensorSlice, Writer

State = dict[str, Tensor]


def build_state(seed: int, *, width: int = 7) -> State:
    """Weights, moments, averages and buffers in awkward shapes and types."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return {
        "generator/weight/stem.weight": normal(width, 3, 3),
        "generator/weight/scale": normal(),
        "generator/exp_avg/stem.weight": normal(width, 3, 3),
        "generator/ema/stem.weight": normal(width, 3, 3),
        "generator/ema_buffer/bn.running_var": normal(width).double(),
        "generator/buffer/bn.num_batches_tracked": torch.tensor(2**53 + 1 + seed),
        "generator/buffer/mask": torch.tensor([True, False, True]),
        "discriminator/weight/half": normal(width + 2).bfloat16(),
        "discriminator/weight/transposed": normal(4, width).t(),
        "discriminator/weight/empty": torch.empty(0, 3),
        "state/ema": normal(2),
    }


def pieces_of(
    state: Mapping[str, Tensor], *, rank: int = 0, world: int = 1, sharded: bool = False
) -> Iterator[TensorSlice]:
    """One rank's slices: whole tensors owned in turn, or equal flat slices (the last one shorter, maybe empty)."""
    for index, (key, tensor) in enumerate(state.items()):
        flat = tensor.reshape(-1)
        if sharded and flat.numel():
            size = -(-flat.numel() // world)
            start = min(rank * size, flat.numel())
            yield TensorSlice(key=key, start=start, values=flat[start : start + size], shape=tuple(tensor.shape))
        elif index % world == rank:
            yield TensorSlice(key=key, start=0, values=flat, shape=tuple(tensor.shape))


@pytest.fixture
def state() -> State:
    return build_state(0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run" / "checkpoints"


@pytest.fixture
def open_writer(folder: Path) -> Iterator[Callable[..., Writer]]:
    """Writers on `folder` that do not outlive the test."""
    writers: list[Writer] = []

    def make(**changes: Any) -> Writer:
        options: dict[str, Any] = {"rank": 0, "world": 1, "token": "launch", "retention": Retention(last=None)}
        writers.append(Writer(**({"folder": folder} | options | changes)))
        return writers[-1]

    yield make
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("checkpoint-")]
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive()


@pytest.fixture
def save(open_writer: Callable[..., Writer]) -> Callable[..., None]:
    """Save checkpoints of one rank and wait for them."""

    def run(state: State, *images: int, **changes: Any) -> None:
        writer = open_writer(**changes)
        for count in images:
            writer.save(count, pieces_of(state), documents={"recipe.json": {"lr": 0.1}}, record={"third": 1 / 3})
            writer.wait()

    return run


@pytest.fixture
def save_together(open_writer: Callable[..., Writer]) -> Callable[..., list[Exception | None]]:
    """Save one checkpoint by several ranks at once (threads that share only the folder); returns their errors."""

    def run(
        world: int, images_seen: int, slices: Callable[[int], Iterator[TensorSlice]], **changes: Any
    ) -> list[Exception | None]:
        errors: list[Exception | None] = [None] * world

        def one(rank: int) -> None:
            try:
                writer = open_writer(rank=rank, world=world, **changes)
                writer.save(images_seen, slices(rank), record={"rank": rank})
                writer.close()
            except Exception as error:
                errors[rank] = error

        threads = [threading.Thread(target=one, args=(rank,)) for rank in reversed(range(world))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
            assert not thread.is_alive()
        return errors

    return run


@pytest.fixture
def assert_holds() -> Callable[[Checkpoint, State], None]:
    """Every tensor equal to the bit, in its shape and type, and no others."""

    def check(checkpoint: Checkpoint, state: State) -> None:
        assert checkpoint.keys() == sorted(state)
        for key, tensor in state.items():
            full = checkpoint.full(key)
            assert full.shape == tensor.shape == checkpoint.shape(key)
            assert full.dtype == tensor.dtype == checkpoint.dtype(key)
            assert torch.equal(full, tensor), key

    return check


@pytest.fixture(name="build_state")
def build_state_fixture() -> Callable[..., State]:
    return build_state


@pytest.fixture(name="pieces_of")
def pieces_of_fixture() -> Callable[..., Iterator[TensorSlice]]:
    return pieces_of
