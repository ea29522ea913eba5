"""Checkpoints measured offline: records beside them, nothing twice, into the same journal; sweeps and their figure."""

from __future__ import annotations

import base64
import json
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from framework import Network
from framework.checkpoint.layout import EVALUATION
from framework.checkpoint.retention import read_scores
from framework.commands.evaluate import EvaluateOptions, evaluate
from framework.evaluation import offline
from framework.evaluation.errors import EvaluationError
from framework.evaluation.figure import sweep_svg
from framework.evaluation.metrics import ModesHit, Settings, parse_metrics
from framework.evaluation.models import EvaluationModels
from framework.evaluation.offline import Sampling, evaluate_checkpoint
from framework.evaluation.protocol import Record, key_of, read_records
from framework.evaluation.sweep import Sweep, write_figure
from framework.interop.folder import write_folder
from framework.interop.load import Loaded
from framework.networks import sagan
from framework.review.page import render
from framework.review.run import read_run
from framework.sampling.sampler import LatentSampler
from framework.tracking import Tracker
from framework.utils.errors import FrameworkError
from tests.helpers.journals import records
from tests.helpers.judged import ALONE, pictures, small_models

OPTIONS = {"resolution": 32, "channels": 3, "classes": 0, "width": 4, "z_dim": 8, "attention_at": 16}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with a finished journal and one checkpoint."""
    folder = tmp_path / "run"
    torch.manual_seed(0)
    network = sagan.Generator(**OPTIONS).eval()
    loaded = Loaded(network=network, description=Network(sagan.Generator, **OPTIONS), num_tensors=0)
    write_folder(folder, generator=loaded, source={"kind": "test"})
    tracker = Tracker.open(folder, uri=None, experiment="e", run_name="r")
    tracker.metrics({"loss/G": 1.0}, images_seen=0)
    tracker.finish("FINISHED")
    return folder


@pytest.fixture
def real(tmp_path: Path) -> str:
    return str(pictures(tmp_path / "real", count=60, seed=1, side=32))


def measure(checkpoint: Path, real: str | None, text: str, **changes: object) -> tuple[list[Record], list[str]]:
    return evaluate_checkpoint(
        str(checkpoint),
        real,
        metrics=parse_metrics(text),
        models=small_models(),
        session=ALONE,
        sampling=Sampling(**changes),  # type: ignore[arg-type]
        settings=Settings(),
        cache_folder=Path(real or "").parent / "cache",
    )


def test_records_are_kept_and_not_computed_again(run: Path, real: str, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = run / "checkpoints" / "0"
    first, notes = measure(run, real, "fd60,pr60")
    assert notes == []
    assert read_records(checkpoint) == {key_of(record): record for record in first}
    assert read_scores(checkpoint) == {key_of(record): record.value for record in first}
    (metrics,) = [r for r in records(run, "metrics") if "loss/G" not in r["values"]]
    assert metrics["values"] == {record.series: record.value for record in first}
    assert metrics["images"] == 0
    (whole,) = records(run, "evaluation")
    assert whole["records"]["fd_small_60"]["protocol"]["hash"] == first[0].protocol.hash
    tags = {name: value for record in records(run, "tags") for name, value in record["values"].items()}
    assert json.loads(tags[f"framework.protocol.{key_of(first[0])}"])["reference"]["count"] == 60

    asked = []
    real_evaluate = offline.evaluate
    monkeypatch.setattr(
        offline, "evaluate", lambda *a, **o: asked.extend(m.name for m in o["metrics"]) or real_evaluate(*a, **o)
    )
    again, _ = measure(run, real, "fd60,pr60")
    assert asked == []
    assert again == first
    assert len(records(run, "evaluation")) == 1
    more, _ = measure(run, real, "fd60,kd60,pr60")  # only what is new
    assert asked == ["kd"]
    assert [record.name for record in more] == ["fd_small_60", "kd_small_60", "precision_small_60", "recall_small_60"]
    other, _ = measure(run, real, "fd60", seed=1)  # another protocol is another number
    assert asked == ["kd", "fd"]
    assert other[0].value != first[0].value
    assert len(read_records(checkpoint)) == 5


@dataclass(frozen=True, kw_only=True)
class Colours:
    """The mean colour of a picture as a point, (n, 2)."""

    picture, classes, count = None, 0, None

    def describe(self) -> dict[str, Any]:
        return {"point": "mean red and green"}

    def draw(self, network: nn.Module, positions: range) -> dict[str, Tensor]:
        pictures = LatentSampler(seed=1).draw(network, positions)["image"]
        return {"point": pictures.float().mean((2, 3))[:, :2]}


def test_another_sampler_gives_other_samples(run: Path) -> None:
    """A checkpoint whose samples are points: nothing of pictures in the protocol, and the record is kept."""
    metric = ModesHit(centres=((128.0, 128.0),), std=100.0, count=60)
    (hit, share), notes = evaluate_checkpoint(
        str(run),
        None,
        metrics=[metric],
        models=EvaluationModels(),
        session=ALONE,
        sampling=Sampling(sampler=Colours()),
        settings=Settings(),
    )
    assert notes == []
    assert (hit.value, share.value) == (1.0, 1.0)
    assert hit.protocol.generated == {
        "kind": "generator",
        "weights": "ema",
        "point": "mean red and green",
        "standing_statistics": 0,
        "count": 60,
    }
    assert read_records(run / "checkpoints" / "0") == {key_of(record): record for record in (hit, share)}


def test_a_run_in_training_gets_its_records_later(run: Path, real: str) -> None:
    tracker = Tracker.open(run, uri=None, experiment="e", run_name="r")
    try:
        _, notes = measure(run, real, "fd50")
    finally:
        tracker.finish("FINISHED")
    assert "is in training" in notes[0]
    assert records(run, "evaluation") == []
    _, notes = measure(run, real, "fd50")
    assert notes == []
    assert len(records(run, "evaluation")) == 1


def test_missing_is_not_kept(run: Path) -> None:
    records, _ = measure(run, None, "fd50")
    assert "real images" in str(records[0].missing)
    assert not (run / "checkpoints" / "0" / EVALUATION).exists()


def test_changed_records_are_refused(run: Path, real: str) -> None:
    measure(run, real, "fd50")
    path = run / "checkpoints" / "0" / EVALUATION
    path.write_text(path.read_text().replace('"count": 50', '"count": 60'))
    with pytest.raises(EvaluationError, match="was changed"):
        measure(run, real, "fd50")


def test_live_weights_and_truncation_are_part_of_the_protocol(run: Path, real: str) -> None:
    with pytest.raises(FrameworkError, match="--psi"):
        measure(run, real, "fd50", psi=0.5)
    (ema,), (live,), (trimmed,) = (
        measure(run, real, "fd50", **changes)[0] for changes in ({}, {"averaged": False}, {"truncation": 0.5})
    )
    assert (ema.protocol.generated["weights"], live.protocol.generated["weights"]) == ("ema", "live")
    assert trimmed.protocol.generated["truncation"] == 0.5
    assert len({ema.series, live.series, trimmed.series}) == 3


def test_the_figure_of_a_sweep_belongs_to_the_run(run: Path, real: str) -> None:
    asked = EvaluateOptions(metrics="fd50,pr50", data=real, extractor="fashion_classifier", truncation=(0.3, 1.0))
    assert evaluate((str(run),), options=asked) == 0
    figure = run / "figures" / "truncation-000000000.svg"
    ElementTree.parse(figure)
    artifacts = records(run, "artifact")
    assert [(one["file"], one["folder"]) for one in artifacts] == [(f"figures/{figure.name}", "figures")]
    page = render([read_run(run)])
    assert base64.b64encode(figure.read_bytes()).decode() in page
    figure.unlink()
    assert "The figure truncation-000000000.svg cannot be shown" in render([read_run(run)])


def test_a_sweep_and_its_figure(run: Path, real: str, tmp_path: Path) -> None:
    sweep = Sweep.of(psi=(), truncation=(1.0, 0.3, 0.6))
    assert [place.truncation for place in sweep.places] == [0.3, 0.6, 1.0]
    found = {p.title: measure(run, real, "fd50,pr50", truncation=p.truncation)[0] for p in sweep.places}
    path = write_figure(tmp_path / "curve.svg", found, sweep=sweep)
    root = ElementTree.parse(path).getroot()
    space = "{http://www.w3.org/2000/svg}"
    texts = [text.text or "" for text in root.iter(f"{space}text")]
    assert {"precision_small_50", "recall_small_50", "fd_small_50 (right)", "0.3", "0.6", "1", "truncation"} <= set(
        texts
    )
    assert len(list(root.iter(f"{space}polyline"))) == 3
    assert len(list(root.iter(f"{space}circle"))) == 9


def test_points_of_the_figure_stand_where_their_values_are() -> None:
    svg = sweep_svg(
        [0.0, 1.0], {"precision": [0.0, 1.0], "fid": [None, 30.0]}, axis="psi", title="<t>", on_right=["fid"]
    )
    root = ElementTree.fromstring(svg)
    circles = [(float(c.get("cx", 0)), float(c.get("cy", 0))) for c in root.iter("{http://www.w3.org/2000/svg}circle")]
    (left, bottom), (right, top), fid = circles
    assert left < right
    assert top < bottom
    assert fid[0] == right
    assert fid[1] == pytest.approx(bottom + (top - bottom) * 30 / 40, abs=0.11)  # the right axis ends at 40
    for arguments, text in (
        ({"figure": Path("x.png")}, "must end in .svg"),
        ({"figure": Path("x.svg"), "num_checkpoints": 2}, "one checkpoint"),
    ):
        options = {"num_checkpoints": 1, "metrics": parse_metrics("fd")} | arguments
        with pytest.raises(EvaluationError, match=text):
            Sweep.of(psi=(0.5, 1.0), truncation=()).check(**options)  # type: ignore[arg-type]
    with pytest.raises(EvaluationError, match="one of them"):
        Sweep.of(psi=(0.5, 1.0), truncation=(0.5, 1.0))


def test_npz_of_sample_is_judged_too(run: Path, tmp_path: Path) -> None:
    pixels = np.zeros((4, 8, 8, 1), np.uint8)
    np.savez(tmp_path / "x.npz", images=pixels, labels=np.array([0, 1, 2, 1]))
    images = offline.open_images(tmp_path / "x.npz")
    (part,) = images.parts(count=4, rank=0, world=1)
    assert part.images.shape == (4, 3, 8, 8)
    assert images.classes == 3
    assert replace(Sampling(), seed=2).at(0.5, None).psi == 0.5
