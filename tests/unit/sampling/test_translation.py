"""Pairs by position, what is made of them, and the words of a checkpoint about what it draws."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from framework import Image
from framework.data.errors import DataError
from framework.data.fields import Field
from framework.data.points import Points
from framework.networks import pix2pix
from framework.networks.latents import Categorical, Gaussian, Uniform
from framework.sampling.drawn import Drawn
from framework.sampling.sampler import LatentSampler
from framework.sampling.stored import StoredSamples
from framework.sampling.translation import TranslationSampler
from framework.utils.errors import FrameworkError
from tests.helpers.pairs import packed_pairs

COUNT = 11
SOURCE, TARGET = Image("source", 16, 1), Image("target", 16)


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed_pairs(tmp_path_factory.mktemp("pairs"), count=COUNT)


@pytest.fixture(scope="module")
def samples(location: Path) -> StoredSamples:
    return StoredSamples(str(location), (SOURCE, TARGET))


def sampler(samples: StoredSamples, *, seed: int = 0) -> TranslationSampler:
    return TranslationSampler(samples=samples, source=SOURCE, target=TARGET, seed=seed)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    made = pix2pix.Generator(source_channels=1, num_downs=3, width=4, dropout_at=(1,)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(10)  # an untrained network makes grey of everything
    return made


def test_stored_samples_have_one_order_however_they_are_read(location: Path, samples: StoredSamples) -> None:
    whole = samples.rows(range(COUNT))
    assert samples.count == COUNT
    assert {name: tuple(rows.shape) for name, rows in whole.items()} == {
        "source": (COUNT, 1, 16, 16),
        "target": (COUNT, 3, 16, 16),
    }
    assert len({rows.numpy().tobytes() for rows in whole["target"]}) == COUNT, "each once"
    again = StoredSamples(str(location), (SOURCE, TARGET))
    for positions in (range(3), range(3, 10), range(10, COUNT)):
        part = again.rows(positions)
        for name, rows in part.items():
            assert torch.equal(rows, whole[name][positions.start : positions.stop])


def test_beyond_the_last_sample_come_the_first_ones(samples: StoredSamples) -> None:
    whole = samples.rows(range(COUNT))
    for positions in (range(9, 14), range(COUNT, COUNT + 2), range(5, 5 + 2 * COUNT)):
        expected = torch.tensor([position % COUNT for position in positions])
        for name, rows in samples.rows(positions).items():
            assert torch.equal(rows, whole[name][expected])


def test_samples_of_different_lengths_keep_their_numbers_around_the_end() -> None:
    class Stream:
        """Sample i has i entries, all of them i."""

        count = 3

        def batches(self, start: int, *, batch_size: int, stop: int) -> Stream:
            assert stop == start + batch_size <= self.count
            self.numbers = torch.arange(start, stop)
            return self

        def __enter__(self) -> object:
            index = torch.arange(len(self.numbers)).repeat_interleave(self.numbers)
            return iter([_Batch({"points": self.numbers.repeat_interleave(self.numbers), "points_index": index})])

        def __exit__(self, *_: object) -> None: ...

    stored = StoredSamples.__new__(StoredSamples)
    points: Field = Points("points", 1, most=5)
    stored.fields, stored.count, stored._stream = (points,), 3, Stream()  # type: ignore[assignment]
    rows = stored.rows(range(1, 6))  # samples 1, 2, 0, 1, 2
    assert rows["points"].tolist() == [1, 2, 2, 1, 2, 2]
    assert rows["points_index"].tolist() == [0, 1, 1, 3, 4, 4]


class _Batch:
    def __init__(self, fields: dict[str, Tensor]) -> None:
        self.fields = fields


def test_translations_are_functions_of_seed_and_position(samples: StoredSamples, network: nn.Module) -> None:
    whole = sampler(samples).draw(network, range(COUNT))
    assert list(whole) == ["source", "generated", "target"]
    assert torch.equal(whole["target"], samples.rows(range(COUNT))["target"])
    assert whole["generated"].dtype == torch.uint8
    part = sampler(samples).draw(network, range(4, 7))
    # Batch norm by the statistics of a picture: which pictures meet in a batch does not count, up to rounding.
    assert (part["generated"].int() - whole["generated"][4:7].int()).abs().max() <= 1
    other = sampler(samples, seed=1).draw(network, range(COUNT))
    assert not torch.equal(other["generated"], whole["generated"]), "another seed drops other numbers"
    assert torch.equal(other["target"], whole["target"])
    described = sampler(samples, seed=1).describe()
    assert (described["seed"], described["sources"]["name"]) == (1, "pairs")
    assert sampler(samples).count == COUNT


def test_fields_that_the_shards_do_not_have_are_named(location: Path) -> None:
    with pytest.raises(DataError, match="has no field 'drawing', it has source, target"):
        StoredSamples(str(location), (Image("drawing", 16, 1), TARGET))


DRAWN = [
    Drawn(),
    Drawn(kind="vectors", name="point", latents=(Uniform(2), Categorical(3, name="c"))),
    Drawn(kind="translations", name="generated", source=SOURCE, target=Image("target", (16, 32))),
]


@pytest.mark.parametrize("drawn", DRAWN)
def test_checkpoints_say_what_they_draw(drawn: Drawn) -> None:
    assert Drawn.from_json(drawn.to_json()) == drawn
    assert Drawn.from_json(None) == Drawn(), "older ones say nothing"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"kind": "songs"}, "does not say what is drawn, one of pictures, vectors, translations"),
        ({"name": 3}, "does not say what is drawn"),
        ({"source": None}, "samples.source: None must have name, size and channels"),
        ({"source": {"name": "a", "size": 8}}, "must have name, size and channels"),
        ({"source": {"name": "A b", "size": 8, "channels": 1}}, "a name has lower-case letters"),
        ({"target": {"name": "b", "size": -8, "channels": 3}}, "size is -8, must be a side"),
        ({"target": {"name": "b", "size": [8, "x"], "channels": 3}}, "must be a side"),
        ({"target": {"name": "b", "size": 8, "channels": 7}}, "channels"),
        ({"latents": {"type": "Gaussian"}}, "must be a list of at most 64"),
        ({"latents": [{"type": "Cauchy", "width": 3}]}, "is none of Gaussian, Uniform, Categorical"),
        ({"latents": [{"type": ["Gaussian"], "width": 3}]}, "is none of Gaussian, Uniform, Categorical"),
        ({"latents": [{"type": "Gaussian", "depth": 3}]}, "samples.latents: .*depth"),
        ({"latents": [{"type": "Gaussian", "width": 0}]}, "width"),
    ],
)
def test_other_words_are_refused(change: dict[str, object], why: str) -> None:
    with pytest.raises(FrameworkError, match=why):
        Drawn.from_json(DRAWN[2].to_json() | change)


def test_translations_lack_what_only_latents_have() -> None:
    with pytest.raises(FrameworkError, match="translations need a source and a target"):
        Drawn.from_json({"kind": "translations", "name": "generated"})
    with pytest.raises(FrameworkError, match="name packed pairs, with --data"):
        DRAWN[2].sampler(classes=0, seed=0)
    with pytest.raises(FrameworkError, match="--standing-statistics: this network translates pictures"):
        DRAWN[2].refuse_options_of_latents(truncation=None, standing_statistics=3)
    DRAWN[2].refuse_options_of_latents(truncation=None, standing_statistics=0)
    DRAWN[0].refuse_options_of_latents(truncation=0.5, standing_statistics=3)
    assert [drawn.walks for drawn in (*DRAWN, Drawn(latents=(Gaussian(2),)))] == [True, False, False, False]
    assert isinstance(DRAWN[0].sampler(classes=0, seed=0), LatentSampler)
