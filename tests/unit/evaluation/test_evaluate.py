"""Whole evaluations on small sets: values, missing records, counts, and a training run that notices nothing."""

from __future__ import annotations

import copy
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from framework.evaluation.errors import EvaluationError
from framework.evaluation.evaluate import evaluate
from framework.evaluation.generated import GeneratedSamples
from framework.evaluation.images import ArrayImages, FolderImages, open_images
from framework.evaluation.metrics import Settings, check_extractor, parse_metrics
from framework.evaluation.models import EvaluationModels, open_models
from framework.evaluation.protocol import Record, comparable
from framework.sampling.sampler import LatentSampler
from framework.utils import progress
from tests.helpers.judged import ALONE, CLASSES, SmallGenerator, pictures, small_extractor, small_models


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FolderImages]:
    root = tmp_path_factory.mktemp("pictures")
    made = {"real": (1, 1.0), "close": (2, 1.0), "far": (3, 0.3)}
    return {
        name: FolderImages(pictures(root / name, count=70, seed=seed, contrast=contrast))
        for name, (seed, contrast) in made.items()
    }


def measured(images: Any, reference: Any, text: str, cache: Path, **options: Any) -> dict[str, Record]:
    models = options.pop("models", small_models())
    records = evaluate(
        images, reference, metrics=parse_metrics(text), models=models, session=ALONE, cache_folder=cache, **options
    )
    return {record.name: record for record in records}


def test_the_worse_set_is_worse_by_every_metric(folders: dict[str, FolderImages], tmp_path: Path) -> None:
    close, far = (measured(folders[name], folders["real"], "fd,kd,pr,dc", tmp_path) for name in ("close", "far"))
    assert list(close) == [f"{n}_small" for n in ("fd", "kd", "precision", "recall", "density", "coverage")]
    values = {name: (close[name].value, far[name].value) for name in close}
    assert values["fd_small"][0] < 0.3 * values["fd_small"][1]
    assert values["kd_small"][0] < 0.3 * values["kd_small"][1]
    assert values["recall_small"][0] > values["recall_small"][1] + 0.3
    assert values["coverage_small"][0] > values["coverage_small"][1] + 0.2
    assert comparable(close["fd_small"], far["fd_small"])
    assert close["fd_small"].subject["content_sha256"] != far["fd_small"].subject["content_sha256"]
    same = measured(folders["real"], folders["real"], "fd", tmp_path)
    assert same["fd_small"].value == pytest.approx(0.0, abs=1e-9)


def test_the_protocol_says_what_the_value_depends_on(folders: dict[str, FolderImages], tmp_path: Path) -> None:
    found = measured(folders["close"], folders["real"], "pr60,kd", tmp_path, reference_count=50)
    protocol = found["precision_small_60"].protocol
    assert protocol.generated["count"] == 60
    assert protocol.reference["count"] == 50
    assert protocol.reference["content_sha256"] == folders["real"].describe()["content_sha256"]
    assert protocol.options == {"neighbours": 3, "held": 50_000}
    assert protocol.extractor["tensors_sha256"] == small_extractor().identity.tensors_sha256
    assert found["kd_small"].protocol.options["kid_subset_size"] == 1000
    assert found["kd_small"].details["subset_size"] == 50  # no more images than that
    bounded = measured(folders["close"], folders["real"], "pr", tmp_path, settings=Settings(held=20))
    assert not comparable(found["precision_small_60"], bounded["precision_small"])


def test_what_cannot_be_had_is_missing_with_a_reason(folders: dict[str, FolderImages], tmp_path: Path) -> None:
    found = measured(folders["close"], folders["real"], "fd5k,fd_by_class,fd,lpips,ppl", tmp_path)
    assert found["fd_small"].value is not None
    assert "asked for 5,000 images, there are 70" in str(found["fd_small_5k"].missing)
    assert "no classes" in str(found["fd_by_class_small"].missing)
    models = open_models(parse_metrics("lpips"), session=ALONE)
    found = measured(folders["close"], None, "lpips", tmp_path, models=models)
    assert "--lpips-weights" in str(found["lpips"].missing)
    gone = EvaluationModels(missing={"extractor": "no network here"})
    found = measured(folders["close"], folders["real"], "fid,kid,pr", tmp_path, models=gone)
    assert {name: record.missing for name, record in found.items()} == dict.fromkeys(
        ("fid", "kid", "precision", "recall"), "no network here"
    )
    found = measured(folders["close"], None, "fd", tmp_path)
    assert "real images" in str(found["fd_small"].missing)


def test_only_inception_may_be_called_fid() -> None:
    for text, name in (("fid", "small"), ("kid", "small"), ("fd", "inception-v3-compat")):
        with pytest.raises(EvaluationError, match=r"ask for|it is called"):
            check_extractor(parse_metrics(text), small_extractor(name=name))
    check_extractor(parse_metrics("fid,pr"), small_extractor(name="inception-v3-compat"))
    check_extractor(parse_metrics("fd,pr"), small_extractor())


def test_names_of_metrics() -> None:
    named = [(m.name, m.count) for m in parse_metrics("FID50k, kid, pr1m,kid500,kid")]
    assert named == [("fid", 50_000), ("kid", None), ("pr", 1_000_000), ("kid", 500)]
    for wrong in ("fidk", "fod", "fid1", "", "fid50kk", "5k"):
        with pytest.raises(EvaluationError, match="--metrics"):
            parse_metrics(wrong)
    with pytest.raises(EvaluationError, match=r"fid"):
        parse_metrics("fids")
    with pytest.raises(EvaluationError, match="--held"):
        Settings(held=0)


def test_per_class_distances(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A generator against its own images: zero for each class; a class that is another one stands out."""
    images = generated(count=400)
    arrays = list(images.parts(count=400, rank=0, world=1))
    pixels = torch.cat([part.images for part in arrays]).permute(0, 2, 3, 1).numpy()
    labels = torch.cat([part.labels for part in arrays]).numpy()
    np.savez(tmp_path / "same.npz", images=pixels, labels=labels)
    swapped = np.where(labels == 2, 1, np.where(labels == 1, 2, labels))
    np.savez(tmp_path / "swapped.npz", images=pixels, labels=swapped)
    monkeypatch.setattr(progress, "LINE_EVERY_SECONDS", 0.0)
    same, other = (
        measured(
            images, ArrayImages(tmp_path / f"{name}.npz"), "fd_by_class400,fd400", tmp_path / "cache", progress=True
        )
        for name in ("same", "swapped")
    )
    assert capsys.readouterr().err.count("fd_by_class: 4 of 4 classes, ") == 2
    assert same["fd_by_class_small_400"].value == pytest.approx(0.0, abs=1e-9)
    distances = other["fd_by_class_small_400"].details["classes"]
    assert distances[1] > 0.05 < distances[2]
    assert max(distances[0], distances[3]) < 1e-9
    assert other["fd_small_400"].value == pytest.approx(0.0, abs=1e-9)  # all together they are the same images


@pytest.mark.parametrize(
    ("metric", "last"),
    [("kd", "100 of 100 subsets"), ("pr", "280 of 280 images"), ("dc", "210 of 210 images")],
)
def test_comparisons_say_how_far_they_are(
    folders: dict[str, FolderImages],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    metric: str,
    last: str,
) -> None:
    """With 50,000 images of 2048 features a side, nearest neighbours take an hour on a CPU."""
    monkeypatch.setattr(progress, "LINE_EVERY_SECONDS", 0.0)
    shown = measured(folders["close"], folders["real"], metric, tmp_path, progress=True)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith(f"{metric}: ")]
    assert lines[-1].startswith(f"{metric}: {last}, ")
    assert len(lines) > 1
    silent = measured(folders["close"], folders["real"], metric, tmp_path)
    assert capsys.readouterr().err == ""
    assert {name: record.value for name, record in shown.items()} == {n: r.value for n, r in silent.items()}


def generated(*, network: Any = None, count: int = 50_000, **changes: Any) -> GeneratedSamples:
    if network is None:  # building one draws from torch's generator
        network = SmallGenerator().eval()
    sampler = LatentSampler(**{"classes": CLASSES, "seed": 3} | changes)
    return GeneratedSamples(network=network, sampler=sampler, count=count)


def test_generated_images_are_functions_of_seed_and_position() -> None:
    images = generated()
    alone = list(images.parts(count=120, rank=0, world=1))
    shared = sorted(p for rank in range(3) for p in images.parts(count=120, rank=rank, world=3))
    assert [p.start for p in alone] == [p.start for p in shared] == [0, 50, 100]
    for a, b in zip(alone, shared, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)
    sampler, network = LatentSampler(classes=CLASSES, seed=3), images.network
    assert torch.equal(sampler.latents(network, range(60, 63)), sampler.latents(network, range(100))[60:63])
    assert len(sampler.latents(network, range(120)).unique(dim=0)) == 120
    other = next(generated(seed=4).parts(count=50, rank=0, world=1))
    assert not torch.equal(alone[0].images, other.images)
    shares = replace(images, sampler=replace(sampler, label_shares=(0.0, 3.0, 0.0, 1.0)))
    labels = torch.cat([p.labels for p in shares.parts(count=400, rank=0, world=1)])
    counts = torch.bincount(labels, minlength=4).tolist()
    assert counts[0] == counts[2] == 0
    assert counts[1] == pytest.approx(300, abs=4 * (400 * 0.75 * 0.25) ** 0.5)  # four standard deviations
    paired = replace(sampler, pairs=True).labels(range(100))
    assert paired is not None
    assert torch.equal(paired[0::2], paired[1::2])
    truncated = replace(sampler, truncation=0.5)
    assert truncated.latents(network, range(20)).abs().max() <= 0.5


def trained(steps: int, *, evaluated: bool, cache: Path, reference: FolderImages) -> dict[str, torch.Tensor]:
    """A little training with batch norm and dropout, which draws from torch's global generator."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    network = SmallGenerator()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for step in range(steps):
        z = torch.randn(16, 6) + random.random() + np.random.rand()
        network(z, torch.arange(16) % CLASSES).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if evaluated and step in (0, 2):
            records = measured(generated(network=network), reference, "fd50,kd50,pr50", cache)
            assert all(record.value is not None for record in records.values())
            assert network.training
            assert network.dropout.training
    return copy.deepcopy(network.state_dict())


def test_training_is_bit_equal_with_and_without_evaluation(folders: dict[str, FolderImages], tmp_path: Path) -> None:
    with_it, without = (
        trained(5, evaluated=evaluated, cache=tmp_path, reference=folders["real"]) for evaluated in (True, False)
    )
    assert with_it.keys() == without.keys()
    for name, value in with_it.items():
        assert torch.equal(value, without[name]), name


def test_truncation_moves_the_curve(tmp_path: Path, folders: dict[str, FolderImages]) -> None:
    values = {}
    for psi in (0.1, 1.0):
        images = generated(options={"psi": psi}, classes=0)
        values[psi] = measured(images, folders["real"], "pr100", tmp_path)["recall_small_100"]
    assert values[0.1].protocol.generated["psi"] == 0.1
    assert not comparable(values[0.1], values[1.0])


def test_faults_of_pictures_are_named(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "x", count=3, seed=1)
    (folder / "0001.png").write_bytes(b"no picture")
    with pytest.raises(EvaluationError, match=r"0001\.png: cannot be read"):
        list(FolderImages(folder).parts(count=3, rank=0, world=1))
    (tmp_path / "empty").mkdir()
    with pytest.raises(EvaluationError, match="holds no pictures"):
        open_images(tmp_path / "empty")
    np.savez(tmp_path / "x.npz", images=np.zeros((2, 4, 4, 3), np.float32))
    with pytest.raises(EvaluationError, match="uint8"):
        open_images(tmp_path / "x.npz")
