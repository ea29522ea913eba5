"""An evaluation shared by 1, 2 and 4 gloo processes: the same values, the same records, one pass over the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from framework.data.pack import pack
from framework.evaluation.evaluate import evaluate
from framework.evaluation.generated import GeneratedSamples
from framework.evaluation.images import FolderImages, ShardImages
from framework.evaluation.metrics import ModesHit, PairedL1, Settings, parse_metrics
from framework.evaluation.models import EvaluationModels
from framework.evaluation.protocol import Record
from framework.runtime.session import Session
from framework.sampling.sampler import LatentSampler
from framework.utils.errors import FrameworkError
from tests.helpers.judged import (
    CLASSES,
    PairSampler,
    PointsNetwork,
    RingSampler,
    SmallGenerator,
    pictures,
    small_models,
)
from tests.helpers.spawn import run_ranks

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(300)]

COUNT = 230  # four batches of 50 and a rest: no number of ranks divides it
METRICS = f"fd{COUNT},fd120,kd{COUNT},pr{COUNT},dc{COUNT},fd_by_class{COUNT}"


def here() -> Session:
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    return Session(rank=rank, world=world, local_rank=rank, device=torch.device("cpu"), local_world=world)


def worker(shards: str, cache: str) -> dict[str, Tensor]:
    session = here()
    reference = ShardImages(shards, resolution=16, classes=CLASSES)
    sampler = LatentSampler(classes=CLASSES, seed=3)
    images = GeneratedSamples(network=SmallGenerator().eval(), sampler=sampler)
    common = {
        "metrics": parse_metrics(METRICS),
        "models": small_models(),
        "session": session,
        "settings": Settings(kid_subsets=10, kid_subset_size=60, balls=3),
        # A cache for each number of ranks; each rank but the first has none: files need not be visible to all.
        "cache_folder": Path(cache, str(session.world) if session.is_main else f"nobody-{session.rank}"),
    }
    first = evaluate(images, reference, **common)
    again = evaluate(images, reference, **common)  # the real set's statistics now come from rank 0's cache
    assert [r.missing for r in first] == [None] * len(first)
    assert [(r.name, r.value) for r in first] == [(r.name, r.value) for r in again]
    assert session.is_main or not Path(cache, f"nobody-{session.rank}").exists()
    hashes = torch.tensor([int(record.protocol.hash, 16) for record in first])
    return {"values": torch.tensor([r.value for r in first], dtype=torch.float64), "hashes": hashes}


def test_values_do_not_depend_on_the_number_of_ranks(tmp_path: Path) -> None:
    for label in range(CLASSES):
        pictures(tmp_path / "pictures" / str(label), count=43, seed=label, contrast=0.7 + 0.2 * label)
    shards = tmp_path / "shards"
    pack(tmp_path / "pictures", shards, progress=False, shard_samples=40)
    results = {world: run_ranks(worker, world, str(shards), str(tmp_path / "cache")) for world in (2, 4)}
    results[1] = [worker(str(shards), str(tmp_path / "cache"))]
    expected = results[1][0]
    for world, ranks in results.items():
        for rank in ranks:
            difference = float(((rank["values"] - expected["values"]).abs() / expected["values"].abs()).max())
            assert torch.equal(rank["hashes"], expected["hashes"])
            assert difference <= 1e-6, (world, rank["values"], expected["values"])
        print(
            f"{world} ranks: largest relative difference of {len(expected['values'])} values to 1 rank {difference:.1e}"
        )
    assert len(set(expected["values"].tolist())) == len(expected["values"])


SQUARE = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))


@dataclass(frozen=True, kw_only=True)
class FailsAt(PairedL1):
    """Fails on the process that has the second batch."""

    name = "fails_at"

    def accumulate(self, samples: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if torch.equal(samples["source"], PairSampler().draw(nn.Identity(), range(50, 100))["source"]):
            raise ValueError("the second batch")
        return super().accumulate(samples)


def sums_worker() -> dict[str, Tensor]:
    """Metrics that are sums, of points and of pairs; 120 samples leave a third process one batch, of a rest."""
    session, points = here(), RingSampler(seed=1)
    found: list[Record] = []
    for sampler, metrics in (
        (points, [ModesHit(centres=SQUARE, std=0.03, count=120), ModesHit(centres=SQUARE, std=0.03, count=40)]),
        (PairSampler(), [PairedL1(count=120), FailsAt(count=120)]),
    ):
        samples = GeneratedSamples(network=PointsNetwork(), sampler=sampler)
        found += evaluate(samples, None, metrics=metrics, models=EvaluationModels(), session=session)
    *measured, failed = found
    assert failed.missing is not None
    assert "fails" in failed.missing
    return {"values": torch.tensor([record.value for record in measured], dtype=torch.float64)}


def test_sums_are_equal_to_the_bit_on_1_2_and_3_processes() -> None:
    expected = sums_worker()["values"]
    print("modes hit, good share of 120 and 40 points; L1 of 120 pairs:", expected.tolist())
    assert 0 < expected[1] < 1
    for world in (2, 3):
        for rank in run_ranks(sums_worker, world):
            assert torch.equal(rank["values"], expected), world


def failing(folder: str) -> dict[str, Tensor]:
    """Rank 1's part of the pictures is damaged: every rank must say so and none may wait."""
    session = here()
    with pytest.raises(FrameworkError) as caught:
        evaluate(FolderImages(Path(folder)), None, metrics=parse_metrics("is"), models=small_models(), session=session)
    text = str(caught.value)
    assert ("0060.png: cannot be read" if session.rank == 1 else "1 other rank(s) failed") in text, text
    return {}


def test_a_damaged_picture_ends_all_ranks(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "pictures", count=100, seed=1)
    (folder / "0060.png").write_bytes(b"damaged")
    run_ranks(failing, 2, str(folder), timeout_seconds=120)
