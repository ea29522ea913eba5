"""Metrics inside a run: training stays what it was, the best is found again, and what is missing ends nothing."""

from __future__ import annotations

import random
import shutil
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from framework import Averaging, Network
from framework.checkpoint import Checkpoint, list_checkpoints, writer
from framework.checkpoint.retention import read_scores
from framework.evaluation import Settings, open_models, parse_metrics, weights
from framework.evaluation.metrics import ModesHit
from framework.evaluation.offline import Sampling, evaluate_checkpoint
from framework.evaluation.protocol import key_of, read_records
from framework.recipe.description import describe, science_hash
from framework.train.config import RunConfig
from framework.train.evaluation import Evaluator
from framework.train.trainer import run
from framework.utils.errors import FrameworkError
from tests.helpers import smooth as players
from tests.helpers.damage import damaged_copy
from tests.helpers.journals import evaluations, points
from tests.helpers.judged import ALONE, Brightness
from tests.helpers.launch import ROOT, tensors, unequal
from tests.recipes import smooth, tiny_progan, tiny_sagan

DATA = ROOT / "recipes/data/fashion_mnist"
EVERY, IMAGES, METRICS = 80, 320, "fd60,pr60"
NAME = "fd_fashion_classifier_60"
LIGHT: dict[str, Any] = {"eval_extractor": "fashion_classifier", "eval_metrics": METRICS, "eval_every_images": EVERY}


@pytest.fixture(autouse=True, scope="module")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def train(out: Path, *, data: Path, recipe: Any = smooth.RECIPE, **flags: Any) -> Path:
    """A run in this process, as a launch makes it; its folder."""
    settings = {"images": IMAGES, "tracking": "none", "workers": 0, "log_every_images": 160, "save_every_images": 160}
    config = RunConfig(out=out, **(settings | flags))
    config.check()
    run(replace(recipe, images=config.images), config, session=ALONE, data=str(data))
    return out


def values(out: Path, name: str = NAME) -> dict[int, float]:
    return {images: records[name]["value"] for images, records in evaluations(out)}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Path:
    return train(tmp_path_factory.mktemp("plain") / "run", data=tiny_data)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Path:
    return train(tmp_path_factory.mktemp("judged") / "run", data=tiny_data, keep_last=10, **LIGHT)


@pytest.fixture(scope="module")
def sagan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quick start made tiny."""
    return train(tmp_path_factory.mktemp("sagan") / "run", recipe=tiny_sagan.RECIPE, data=DATA, keep_last=10, **LIGHT)


def test_the_weights_are_those_of_a_run_without_evaluations(
    plain: Path, judged: Path, sagan: Path, tmp_path: Path
) -> None:
    plain_sagan = train(tmp_path / "run", recipe=tiny_sagan.RECIPE, data=DATA)
    for name, without, judging in (("smooth", plain, judged), ("SAGAN", plain_sagan, sagan)):
        assert sorted(values(judging)) == [80, 160, 240, 320]
        final = f"checkpoints/{IMAGES}"
        differing, count = unequal(without / final, judging / final), len(tensors(without / final))
        print(f"{name}, with and without 4 evaluations: {count - len(differing)} of {count} tensors equal to the bit")
        assert differing == []


def test_the_cost_is_told(judged: Path) -> None:
    shares = dict(points(judged, "perf/eval_share"))
    print(f"evaluations of 60 images took {shares[IMAGES]:.1%} of the run's time")
    assert sorted(shares) == [80, 160, 240, 320]
    assert all(0 < share < 1 for share in shares.values())


def test_nothing_that_training_looks_at_is_touched(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop seeds anew in every step and would not show what an evaluation leaves behind; this does."""
    seen: list[int] = []
    original = Evaluator.evaluate

    def everything(evaluator: Evaluator) -> list[Any]:
        average = evaluator._average
        network = average._engine.network
        found = [*network.state_dict().values(), *average.weights.values(), *average.buffers.values()]
        states = [torch.get_rng_state(), torch.tensor(hash(random.getstate())), torch.from_numpy(_numpy_state())]
        modes = torch.tensor([module.training for module in network.modules()])
        grads = torch.tensor([p.requires_grad for p in network.parameters()])
        return [value.clone() for value in (*found, *states, modes, grads)]

    def watched(evaluator: Evaluator, images_seen: int, **arguments: Any) -> None:
        before = everything(evaluator)
        original(evaluator, images_seen, **arguments)
        after = everything(evaluator)
        assert len(before) == len(after)
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        seen.append(images_seen)

    monkeypatch.setattr(Evaluator, "evaluate", watched)
    train(tmp_path / "run", data=tiny_data, images=160, **LIGHT)
    assert seen == [80, 160, 160]


def _numpy_state() -> np.ndarray:
    _, keys, position, *_ = np.random.get_state()
    return np.append(keys, position).astype(np.int64)


def test_records_are_those_of_the_command(sagan: Path) -> None:
    """Value and protocol of `framework evaluate` on the same checkpoint, measured anew."""
    checkpoint = sagan / "checkpoints" / "240"
    metrics = parse_metrics(METRICS)
    records, _ = evaluate_checkpoint(
        str(checkpoint),
        str(DATA),
        metrics=metrics,
        models=open_models(metrics, session=ALONE, extractor="fashion_classifier"),
        session=ALONE,
        sampling=Sampling(),
        settings=Settings(),
        record=False,
    )
    expected = {record.series.partition("/")[2]: record.value for record in records}
    kept = {key: record.value for key, record in read_records(checkpoint).items()}
    print("inside the run and by the command:", [(kept[key], expected[key]) for key in expected])
    assert kept == expected == read_scores(checkpoint)
    assert values(sagan)[240] == kept[next(key for key in kept if key.startswith("fd_"))]


def test_a_recipe_names_metrics_of_its_own(tiny_data: Path, plain: Path, tmp_path: Path) -> None:
    """They are measured by default or by name, kept like the others, and no part of the science."""
    own = Brightness(count=60)
    recipe = replace(smooth.RECIPE, metrics=(own,))
    assert science_hash(recipe) == science_hash(smooth.RECIPE)
    assert describe(recipe)["metrics"] == [{"type": "Brightness", "count": 60, "factor": 1.0}]
    out = train(tmp_path / "run", data=tiny_data, recipe=recipe, eval_every_images=160)
    assert unequal(out / "checkpoints/320", plain / "checkpoints/320") == []
    assert [list(found) for _, found in evaluations(out)] == [["brightness60"]] * 2

    # Value and key are those of the command.
    checkpoint = out / "checkpoints/320"
    (record,), _ = evaluate_checkpoint(
        str(checkpoint),
        str(tiny_data),
        metrics=[own],
        models=open_models([own], session=ALONE),
        session=ALONE,
        sampling=Sampling(classes={"Generator": players.Generator}),
        settings=Settings(),
        record=False,
    )
    assert read_scores(checkpoint) == {key_of(record): record.value}

    config = RunConfig(**LIGHT | {"eval_metrics": "fd60,brightness80"})
    assert [(m.name, m.count) for m in config.metrics(recipe.metrics)] == [("fd", 60), ("brightness", 80)]
    for held, why in (((smooth.RECIPE.averaging,), "is no metric"), ((own, own), "two metrics are named brightness")):
        with pytest.raises(FrameworkError, match=f"metrics of the recipe: .*{why}"):
            config.check(held)
    # A checkpoint is not the best one for more modes, which are no distance.
    modes = ModesHit(centres=((0.0, 0.0),), std=1.0)
    with pytest.raises(FrameworkError, match="names no distance"):
        RunConfig(eval_every_images=80, keep_best=1).check((modes,))


def test_a_resumed_run_knows_the_best_and_repeats_nothing(
    tiny_data: Path, judged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    train(out, data=tiny_data, images=160, keep_last=10, **LIGHT)
    shutil.rmtree(out / "checkpoints/160")  # as if it had been damaged: 80 is what the run goes on from
    capsys.readouterr()
    train(out, data=tiny_data, keep_last=10, **LIGHT)
    text = capsys.readouterr().out
    assert "resumed at 80 images" in text
    assert values(out) == values(judged)
    assert [images for images, _ in evaluations(out)] == [80, 160, 240, 320], "160 was measured twice, and noted once"
    assert unequal(out / "checkpoints/320", judged / "checkpoints/320") == []
    states = [Checkpoint.open(folder / "checkpoints/320").record["evaluation"] for folder in (out, judged)]
    assert states[0] == states[1]
    series = next(name for name in states[0]["best"] if "/fd_" in name)
    at, best = states[0]["best"][series]
    assert best == min(value for images, value in values(out).items() if images < 320) == values(out)[at]


def test_the_best_stays(tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Learning rates with which it soon gets no better; two launches, of which the second must not forget."""
    rates = {"generator": 4e-2, "discriminator": 1e-4}
    players = {side: getattr(smooth.RECIPE, side) for side in rates}
    players = {side: replace(p, optimizer=replace(p.optimizer, lr=rates[side])) for side, p in players.items()}
    recipe = replace(smooth.RECIPE, averaging=Averaging(half_life_images=20), seed=1, **players)
    flags = LIGHT | {"eval_metrics": "fd60", "keep_last": 1, "keep_best": 1, "recipe": recipe, "data": tiny_data}
    out = train(tmp_path / "run", images=560, **flags)
    out = train(out, images=640, **flags)
    found = values(out)
    best = min(found, key=lambda images: found[images])
    print(f"fd by images: {found}; kept: {list_checkpoints(out / 'checkpoints')}")
    assert best < 560, "the run does not show anything: its best is not from before the checkpoint it went on from"
    assert list_checkpoints(out / "checkpoints") == [best, 640]
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("evaluated")]
    assert f"(best {found[best]:.4g} at {best} images)" in said[-1]


class Breaking(players.Generator):
    """A weight becomes NaN in the 13th step; the count is no part of the state, so that a rollback mends it."""

    num_forwards = 0

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self.num_forwards += self.training
        if self.num_forwards == 25 and self.training:
            with torch.no_grad():
                self.to_image.bias.fill_(torch.nan)
        return super().forward(z, labels)


def test_a_rollback_keeps_the_records_of_where_it_goes(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checkpoint it goes back to is written anew, and must not lose its score."""
    recipe = replace(smooth.RECIPE, generator=replace(smooth.RECIPE.generator, network=Network(Breaking)))
    flags = LIGHT | {"on_collapse": "rollback", "most_skipped_steps": 2, "keep_last": 9}
    out = train(tmp_path / "run", recipe=recipe, data=tiny_data, **flags)
    assert "back to 160 images" in capsys.readouterr().out
    found = values(out)
    assert sorted(found) == [80, 160, 240, 320]
    for images, value in found.items():
        kept = read_scores(out / "checkpoints" / str(images))
        assert next(number for key, number in kept.items() if key.startswith(NAME)) == value


def test_a_growing_run_has_a_line_for_each_resolution(tmp_path: Path) -> None:
    flags = LIGHT | {"eval_metrics": "fd60", "keep_last": 1, "keep_best": 1, "eval_every_images": 100}
    out = train(tmp_path / "run", recipe=tiny_progan.RECIPE, data=DATA, **flags)
    sides: dict[str, list[int]] = {}
    for _, records in evaluations(out):
        protocol = records[NAME]["protocol"]
        assert protocol["generated"]["resolution"] == protocol["reference"]["resolution"]
        sides.setdefault(protocol["hash"], []).append(protocol["generated"]["resolution"][0])
    assert sorted(sides.values()) == [[8], [16, 16, 16]], sides
    kept = Checkpoint.open(out / "checkpoints/320").record["evaluation"]["scores"]
    assert kept[0].partition("-")[2] not in sides, "checkpoints are compared at 32 px, which this run did not reach"


def test_unreachable_weights_are_told_once_and_training_goes_on(
    tiny_data: Path, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(
            weights, "INCEPTION_URL", f"http://127.0.0.1:{closed.getsockname()[1]}/weights-6726825d.pth"
        )
        out = train(tmp_path / "run", data=tiny_data, eval_every_images=EVERY, eval_metrics="fid60", keep_best=1)
    text = capsys.readouterr().out
    assert text.count("missing: fid60: the Inception weights are not here") == 1
    assert "pass the file with --eval-extractor-weights; training goes on" in text
    assert unequal(out / "checkpoints/320", plain / "checkpoints/320") == []
    found = evaluations(out)
    assert [images for images, _ in found] == [80, 160, 240, 320]
    assert all(one["fid60"]["value"] is None and "not here" in one["fid60"]["missing"] for _, one in found)
    assert not (out / "checkpoints/320/evaluation.json").exists(), "tried again when the weights are there"


def test_a_damaged_picture_is_told_and_training_goes_on(
    tiny_data: Path, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # with its statistics, no picture would be read
    data = damaged_copy(tiny_data, tmp_path / "shards", recipe=smooth.RECIPE, unread_images=700)
    out = train(tmp_path / "run", data=data, **LIGHT)
    text = capsys.readouterr().out
    assert text.count(f"missing: {NAME}, precision_fashion_classifier_60, recall_fashion_classifier_60: shard") == 1
    found = dict(evaluations(out))
    assert sorted(found) == [80, 160, 240, 320]
    assert all(one[NAME]["value"] is None and "shard" in one[NAME]["missing"] for one in found.values())
    assert unequal(out / "checkpoints/320", plain / "checkpoints/320") == []


@pytest.mark.parametrize("lasting", [False, True])
def test_a_save_that_fails_costs_its_records_only(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lasting: bool
) -> None:
    """The first save of the last clock fails; the run's end saves again, and fails if that does, too."""
    original, tried = writer.write_tensors, []

    def failing(path: Path, *arguments: Any, **options: Any) -> Any:
        clock = path.parent.name
        if ".160-" in clock and path.name.startswith("state"):
            tried.append(clock)
            if lasting or len(tried) == 1:
                raise OSError(28, "No space left on device")
        return original(path, *arguments, **options)

    monkeypatch.setattr(writer, "write_tensors", failing)
    out = tmp_path / "run"
    if lasting:
        with pytest.raises(FrameworkError, match="No space left"):
            train(out, data=tiny_data, images=160, **LIGHT)
        assert list_checkpoints(out / "checkpoints") == [80]
    else:
        train(out, data=tiny_data, images=160, **LIGHT)
        assert list_checkpoints(out / "checkpoints") == [80, 160]
    assert len(set(tried)) == 2, tried
    assert sorted(values(out)) == [80, 160], "the journal has what was measured"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"eval_every_images": 0}, "--eval-every-images 0: must be at least 1"),
        ({"eval_metrics": "fid"}, "--eval-metrics belongs to --eval-every-images"),
        ({"eval_extractor": "vgg16"}, "--eval-extractor belongs to --eval-every-images"),
        ({"keep_best": 2}, "--keep-best belongs to --eval-every-images"),
        (LIGHT | {"keep_best": -1}, "--keep-best -1: must be at least 0"),
        (LIGHT | {"eval_metrics": "fib10k"}, r"--eval-metrics fib10k: no such metric.*fid"),
        (LIGHT | {"eval_metrics": "fid10k"}, "only FID's Inception has fid"),
        ({"eval_every_images": 9, "eval_metrics": "fd10k"}, "FID's Inception calls it fid"),
        (LIGHT | {"eval_metrics": "ppl"}, "--eval-metrics ppl: only for saved checkpoints"),
        (LIGHT | {"eval_metrics": "pr", "keep_best": 1}, "--keep-best 1: --eval-metrics names no distance"),
    ],
)
def test_flags_that_cannot_work_are_refused_at_the_start(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(FrameworkError, match=message):
        RunConfig(**flags).check()


def test_a_wrong_file_of_weights_is_refused_before_training(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(FrameworkError, match=r"nowhere\.safetensors"):
        train(tmp_path / "run", data=tiny_data, eval_extractor_weights=tmp_path / "nowhere.safetensors", **LIGHT)
    assert list_checkpoints(tmp_path / "run" / "checkpoints") == []


def test_defaults() -> None:
    assert [metric.name for metric in RunConfig().metrics()] == ["fid"]
    assert [metric.name for metric in RunConfig(eval_extractor="vgg16").metrics()] == ["fd"]
    RunConfig().check()
