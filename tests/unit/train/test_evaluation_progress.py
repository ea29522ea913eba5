"""The watchdog hears of every batch of an evaluation, real or generated, and the images are the usual ones."""

from __future__ import annotations

from pathlib import Path

import torch

from framework.evaluation.generated import GeneratedSamples
from framework.evaluation.images import ShardImages
from framework.sampling.sampler import BATCH_SIZE, LatentSampler
from framework.train.evaluation import WatchedShards, watched_generator
from tests.helpers.judged import CLASSES, PointsNetwork, RingSampler, SmallGenerator


def test_every_batch_is_a_beat(tiny_data: Path) -> None:
    beats: list[int] = []
    watched = WatchedShards(str(tiny_data), resolution=4, classes=10, beat=lambda: beats.append(1))
    usual = ShardImages(str(tiny_data), resolution=4, classes=10)
    share = {"count": 220, "rank": 0, "world": 1}
    for mine, other in zip(watched.parts(**share), usual.parts(**share), strict=True):
        assert torch.equal(mine.images, other.images)
    assert len(beats) == -(-220 // BATCH_SIZE)
    assert watched.describe() == usual.describe()


def test_every_drawing_is_a_beat(tiny_data: Path) -> None:
    beats: list[int] = []
    network = SmallGenerator().eval()
    notes = {"resolution": [16, 16], "standing_statistics": 0}
    sampler = LatentSampler(classes=CLASSES)
    watched = watched_generator(network, sampler=sampler, beat=lambda: beats.append(1), resolution=16)
    usual = GeneratedSamples(network=network, sampler=sampler, notes=notes)
    # The second of two processes has one batch of its own and runs the network once more beside the first.
    for world, expected in ((1, 3), (2, 2)):
        beats.clear()
        share = {"count": 120, "rank": world - 1, "world": world}
        for mine, other in zip(watched.parts(**share), usual.parts(**share), strict=True):
            assert torch.equal(mine.images, other.images)
        assert len(beats) == expected
    assert watched.describe() == usual.describe()
    # Samples that are no pictures have no resolution.
    points = watched_generator(PointsNetwork(), sampler=RingSampler(), beat=lambda: beats.append(1))
    assert points.describe() == {
        "kind": "generator",
        "weights": "ema",
        "standing_statistics": 0,
        **RingSampler().describe(),
    }
    real = ShardImages(str(tiny_data), resolution=4, classes=10)
    for classes, shares in ((10, tuple(map(float, real.label_counts))), (0, ())):
        sampler = LatentSampler(classes=classes, label_shares=shares)
        unaware = LatentSampler(classes=classes)
        assert watched_generator(network, sampler=unaware, beat=lambda: None, real=real).sampler == sampler
