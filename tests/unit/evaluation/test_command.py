"""`framework evaluate` as a user runs it: JSON on stdout and nothing else, errors that name the flag."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from framework.commands.evaluate import EvaluateOptions, evaluate
from framework.evaluation.extractors import fashion
from framework.evaluation.extractors.choose import open_extractor
from framework.evaluation.protocol import Record
from framework.utils.errors import FrameworkError
from tests.helpers.judged import ALONE, pictures
from tests.helpers.launch import ROOT, environment

FASHION = ROOT / "recipes" / "data" / "fashion_mnist"


def run(*arguments: object, world: int = 1) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m"]
    if world > 1:
        launcher += ["torch.distributed.run", "--standalone", "--nproc_per_node", str(world), "-m"]
    command = [*launcher, "framework", "evaluate", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=240)


def test_plain_images_against_shards(tmp_path: Path) -> None:
    """A folder of noise against Fashion-MNIST, alone and in two processes: one JSON object with equal values."""
    folder = pictures(tmp_path / "images", count=120, seed=1, side=32)
    arguments = [
        "--images",
        folder,
        "--reference",
        FASHION,
        "--metrics",
        "fd,kd,pr",
        "--extractor",
        "fashion_classifier",
    ]
    arguments += ["--reference-count", "150", "--kid-subset-size", "50", "--device", "cpu", "--json"]
    results = []
    for world in (1, 2):
        done = run(*arguments, "--cache-folder", tmp_path / f"cache-{world}", world=world)
        assert done.returncode == 0, done.stderr
        results.append(json.loads(done.stdout))  # nothing else is there
    alone, shared = results
    names = [f"{name}_fashion_classifier" for name in ("fd", "kd", "precision", "recall")]
    assert list(alone) == list(shared) == names
    for name in names:
        assert alone[name]["value"] == pytest.approx(shared[name]["value"], rel=1e-6)
        assert alone[name]["protocol"] == shared[name]["protocol"]
        assert alone[name]["cost"]["ranks"] != shared[name]["cost"]["ranks"]
    protocol = alone[names[0]]["protocol"]
    assert protocol["reference"]["name"] == "fashion_mnist"
    assert len(protocol["reference"]["fingerprint"]) == 64
    assert protocol["reference"]["count"] == 150
    assert protocol["extractor"]["name"] == "fashion_classifier"
    record = Record.from_json(names[0], alone[names[0]])
    assert record.value is not None
    assert record.value > 1  # noise is no clothing


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "give checkpoints to evaluate, or --images"),
        ({"checkpoints": ("x",), "images": "y"}, "one of them"),
        ({"images": "y"}, "--reference"),
        ({"checkpoints": ("x",)}, "--data"),
        ({"images": "y", "reference": "z", "metrics": "fod"}, "no such metric"),
        ({"images": "y", "reference": "z", "metrics": "fid", "extractor": "fashion_classifier"}, "ask for fd"),
        ({"images": "y", "reference": "z", "data": "w"}, "the same thing"),
        ({"checkpoints": ("x",), "data": "z", "figure": Path("f.svg")}, "sweep"),
        ({"images": "/nowhere", "reference": "z", "metrics": "fd", "extractor": "fashion_classifier"}, "/nowhere"),
    ],
)
def test_wrong_arguments(arguments: dict, text: str) -> None:
    flags = {name: value for name, value in arguments.items() if name != "checkpoints"}
    checkpoints = arguments.get("checkpoints", ())
    with pytest.raises(FrameworkError, match=text):
        evaluate(checkpoints, options=EvaluateOptions(**flags))


def test_the_packaged_classifier_knows_clothes() -> None:
    """Its weights are in the package, under 1 MB, and classify Fashion-MNIST."""
    from framework.data.stream import open_stream

    assert fashion.WEIGHTS.stat().st_size < 1_000_000
    extractor = open_extractor("fashion_classifier", session=ALONE)
    assert not extractor.is_inception
    stream = open_stream(FASHION, resolution=32, channels=3, classes=10, workers=1, worker_kind="thread")
    with stream.batches(0, batch_size=500, stop=500) as batches:
        batch = next(iter(batches))
    features, logits = extractor(batch.images)
    assert logits is not None
    accuracy = float((logits.argmax(1) == batch.labels).double().mean())
    print(f"accuracy of the packaged classifier on 500 training images: {accuracy:.3f}")
    assert accuracy > 0.8
    assert features.shape == (500, 128)
    larger = torch.nn.functional.interpolate(batch.images.float(), scale_factor=2.0).to(torch.uint8)
    torch.testing.assert_close(extractor(larger)[0], features, rtol=1e-3, atol=1e-3)  # doubled, then averaged down
