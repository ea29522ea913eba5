"""Data for launches: shards that are small and there without a network. And the order in which files of tests run."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

SHORT = ("golden", "unit")
"""Folders whose files take seconds each; the files of the others take minutes."""

multiprocessing.set_forkserver_preload(["torch", "torch._dynamo", "torch.distributed.fsdp", "deepspeed"])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: begun last, one of them would go on alone, with nothing left for the other processors."""
    items.sort(key=lambda item: item.path.relative_to(Path(__file__).parent).parts[0] in SHORT)
    lost = [item.nodeid for item in items if item.get_closest_marker("alone") and item.path.parent.name != "faults"]
    if lost:
        raise pytest.UsageError(f"{lost}: `make test` looks for tests that run alone in tests/faults only")


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The vendored images at 8 x 8, as shards."""
    from framework.data.pack import pack  # a test that needs no data need not wait for torch

    out = tmp_path_factory.mktemp("data") / "fashion8"
    source = Path(__file__).parents[1] / "recipes/data/fashion_mnist"
    pack(source, out, resolution=8, resize_filter="box", progress=False)
    return out


def forget_stores() -> None:
    """Take MLflow's variables out of the environment."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]


forget_stores()  # the user's own


@pytest.fixture(autouse=True)
def no_store_of_others() -> Iterator[None]:
    """MLflow writes the store it has used last into the environment, where the next test would find it."""
    yield
    forget_stores()
