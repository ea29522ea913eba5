"""Equal images, equal weights: our numbers against torch-fidelity 0.4's, the program itself and not a copy."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from framework.evaluation.extractors.inception import InceptionV3, convolution_names, pool3_names
from framework.evaluation.extractors.lpips import Lpips, tensor_names
from framework.evaluation.extractors.resize import tf1_bilinear
from framework.evaluation.metrics.frechet import frechet_distance
from framework.evaluation.metrics.inception_score import inception_score
from framework.evaluation.metrics.kernel import kernel_distance
from framework.evaluation.metrics.precision_recall import precision_recall
from framework.evaluation.moments import Moments
from framework.evaluation.weights import load_weights
from tests.helpers.fidelity import torch_fidelity
from tests.helpers.judged import ALONE

WEIGHTS = "FRAMEWORK_INCEPTION_WEIGHTS"


def clouds(count: int, dim: int, *, shift: float) -> tuple[Tensor, Tensor]:
    """Two sets of float32 features with unequal means and covariances, non-negative as Inception's."""
    random = np.random.default_rng(3)
    mixing = random.standard_normal((dim, dim)) / np.sqrt(dim)
    fake = random.standard_normal((count, dim)) @ mixing + shift
    real = random.standard_normal((count + 40, dim)) @ mixing.T
    return tuple(torch.from_numpy(np.abs(x).astype(np.float32)) for x in (fake, real))


def moments(features: Tensor) -> Moments:
    found = Moments.zeros(features.shape[1])
    for part in features.split(37):
        found.add(part)
    return found


@pytest.mark.parametrize(("count", "dim"), [(400, 64), (60, 128)], ids=["more-images", "fewer-images-than-features"])
def test_frechet_distance(count: int, dim: int) -> None:
    reference = torch_fidelity("metric_fid")
    fake, real = clouds(count, dim, shift=0.1)
    # In float64 as well: with fewer images than features, its square roots of zeros in float32 are off by 1e-3.
    statistics = [reference.fid_features_to_statistics(x.double()) for x in (fake, real)]
    theirs = reference.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    ours = frechet_distance(moments(fake), moments(real))
    print(f"FID of features: ours {ours:.9g}, torch-fidelity {theirs:.9g}, relative {abs(ours / theirs - 1):.1e}")
    assert ours == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_kernel_distance(shift: float) -> None:
    reference = torch_fidelity("metric_kid")
    fake, real = clouds(300, 64, shift=shift)
    options = {"kid_subsets": 20, "kid_subset_size": 100, "rng_seed": 2020, "verbose": False}
    theirs = reference.kid_features_to_metric(fake.double(), real.double(), **options)
    ours = kernel_distance(fake, real, subsets=20, subset_size=100, seed=2020, session=ALONE)
    print(f"KID of features: ours {ours.mean:.9g}, torch-fidelity {theirs['kernel_inception_distance_mean']:.9g}")
    assert ours.mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-9)
    assert ours.std == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-9)
    other = kernel_distance(fake, real, subsets=20, subset_size=100, seed=2021, session=ALONE)
    assert other.mean != pytest.approx(ours.mean, rel=1e-6)


@pytest.mark.parametrize("neighbours", [1, 3])
def test_precision_and_recall(neighbours: int) -> None:
    reference = torch_fidelity("metric_prc")
    fake, real = clouds(700, 8, shift=0.5)
    theirs = reference.prc_features_to_metric(fake, real, prc_neighborhood=neighbours, verbose=False)
    ours = precision_recall(fake, real, neighbours=neighbours, session=ALONE)
    assert 0.05 < theirs["recall"] != theirs["precision"] < 0.95
    assert ours.precision == pytest.approx(theirs["precision"], rel=1e-6)
    assert ours.recall == pytest.approx(theirs["recall"], rel=1e-6)


def test_inception_score() -> None:
    reference = torch_fidelity("metric_isc")
    logits = torch.from_numpy(np.random.default_rng(1).standard_normal((203, 9)).astype(np.float32)) * 2
    theirs = reference.isc_features_to_metric(logits, splits=10, shuffle=True, rng_seed=2020)
    mean, std = inception_score(logits, splits=10, seed=2020)
    assert mean == pytest.approx(theirs["inception_score_mean"], rel=1e-9)
    assert std == pytest.approx(theirs["inception_score_std"], rel=1e-9)


@pytest.mark.parametrize(("size", "side"), [((32, 32), 299), ((64, 48), 299), ((400, 400), 299), ((299, 299), 299)])
def test_resize_filter(size: tuple[int, int], side: int) -> None:
    reference = torch_fidelity("interpolate_compat_tensorflow").interpolate_bilinear_2d_like_tensorflow1x
    images = torch.randint(0, 256, (2, 3, *size), generator=torch.Generator().manual_seed(0)).float()
    theirs = reference(images, size=(side, side), align_corners=False)
    torch.testing.assert_close(tf1_bilinear(images, side=side), theirs, rtol=0, atol=0)


def random_inception() -> dict[str, Tensor]:
    """Weights of the real shapes whose activations neither die nor explode."""
    extractor = torch_fidelity("feature_extractor_inceptionv3")
    shapes = {}
    with torch.device("meta"):
        for name, module in _uninitialised(extractor).named_modules():
            if isinstance(module, torch.nn.Conv2d):
                shapes[name] = module.weight.shape
    generator = torch.Generator().manual_seed(4)
    state = {}
    for name in convolution_names():
        shape = shapes[f"{name}.conv"]
        fan = shape[1] * shape[2] * shape[3]
        state[f"{name}.conv.weight"] = torch.randn(shape, generator=generator) * (2 / fan) ** 0.5
        for part, centre in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            state[f"{name}.bn.{part}"] = centre + 0.2 * torch.rand(shape[0], generator=generator)
    state["fc.weight"] = torch.randn(1008, 2048, generator=generator) / 45
    state["fc.bias"] = torch.randn(1008, generator=generator)
    return state


def _uninitialised(extractor: object) -> torch.nn.Module:
    """The class's modules without its weights: its constructor loads them, so loading is left out."""
    cls = extractor.FeatureExtractorInceptionV3  # type: ignore[attr-defined]
    bare = type("Bare", (cls,), {"load_state_dict": lambda self, state: None})
    real, torch.load = torch.load, lambda *args, **options: {}  # type: ignore[assignment]
    try:
        return bare("bare", ["2048"], feature_extractor_weights_path="unused")
    finally:
        torch.load = real


def test_inception_features_and_logits(tmp_path: Path) -> None:
    """With random weights of the real shapes: architecture, folding and names; every pool and branch matters."""
    reference = torch_fidelity("feature_extractor_inceptionv3")
    state = random_inception()
    torch.save(state, tmp_path / "inception.pth")
    layers = ["2048", "logits_unbiased"]
    theirs = reference.FeatureExtractorInceptionV3(
        "theirs", layers, feature_extractor_weights_path=str(tmp_path / "inception.pth")
    )
    images = torch.randint(0, 256, (3, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features, logits = InceptionV3(state).eval()(images)
        their_features, their_logits = theirs(images)
    assert their_features.std() > 1e-3
    largest = (features - their_features).abs().max() / their_features.abs().max()
    print(f"Inception features with random weights: largest difference {largest:.1e} of the largest feature")
    # Folding batch norm reorders float32 sums in 48 layers in a row: sqrt(48) * 2^-23 ~ 1e-6, times a few.
    assert largest < 2e-5
    torch.testing.assert_close(logits, their_logits, rtol=1e-3, atol=2e-5 * float(their_logits.abs().max()))
    assert set(pool3_names()) == {name for name in state if not name.startswith("fc.")}


def test_lpips(tmp_path: Path) -> None:
    reference = torch_fidelity("sample_similarity_lpips")
    generator = torch.Generator().manual_seed(2)
    widths = {0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256)}
    widths |= {17: (256, 512), 19: (512, 512), 21: (512, 512), 24: (512, 512), 26: (512, 512), 28: (512, 512)}
    state = {}
    for name in tensor_names():
        if name.startswith("lin"):
            heads = (64, 128, 256, 512, 512)
            state[name] = torch.rand(1, heads[int(name[3])], 1, 1, generator=generator)
        else:
            inputs, outputs = widths[int(name.split(".")[2])]
            shape = (outputs, inputs, 3, 3) if name.endswith("weight") else (outputs,)
            state[name] = torch.randn(shape, generator=generator) * (
                (2 / (9 * inputs)) ** 0.5 if len(shape) > 1 else 0.1
            )

    class Trunk(torch.nn.Module):
        """torchvision's VGG16 features by number; torch-fidelity takes slices of them."""

        def __init__(self) -> None:
            super().__init__()
            layers: list[torch.nn.Module] = []
            for number in range(30):
                if number in widths:
                    layers.append(torch.nn.Conv2d(*widths[number], 3, padding=1))
                else:
                    pool = number in (4, 9, 16, 23)
                    layers.append(torch.nn.MaxPool2d(2) if pool else torch.nn.ReLU())
            self.features = torch.nn.Sequential(*layers)

    heads_only = {name: value for name, value in state.items() if name.startswith("lin")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "torchvision_load_pretrained_vgg16", Trunk)
        patch.setattr(reference, "load_state_dict_from_url", lambda *args, **options: heads_only)
        theirs = reference.SampleSimilarityLPIPS("theirs", sample_similarity_resize=None)
    theirs.load_state_dict(state)
    a, b = torch.randint(0, 256, (2, 3, 3, 32, 32), dtype=torch.uint8, generator=generator)
    with torch.no_grad():
        torch.testing.assert_close(Lpips(state)(a.float(), b.float()), theirs(a, b).flatten(), rtol=1e-4, atol=1e-6)


@pytest.mark.timeout(900)
def test_whole_path_with_the_real_weights(tmp_path: Path) -> None:
    """Pictures in folders -> FID, KID, precision and recall by `evaluate`, against torch-fidelity from features on."""
    place = os.environ.get(WEIGHTS)
    if place is None:
        pytest.skip(f"{WEIGHTS}=FILE (FID's Inception weights) is not set")
    from framework.evaluation.evaluate import evaluate
    from framework.evaluation.images import FolderImages
    from framework.evaluation.metrics import Settings, parse_metrics
    from framework.evaluation.models import open_models
    from tests.helpers.judged import pictures

    count = int(os.environ.get("FRAMEWORK_EVALUATION_IMAGES", "32"))
    folders = [
        pictures(tmp_path / name, count=count, seed=seed, contrast=contrast, side=32)
        for name, seed, contrast in (("fake", 1, 0.8), ("real", 2, 1.0))
    ]
    fake, real = (FolderImages(folder) for folder in folders)
    metrics = parse_metrics("fid,kid,pr")
    models = open_models(metrics, session=ALONE, weights=Path(place))
    size = count // 2
    records = evaluate(
        fake,
        real,
        metrics=metrics,
        models=models,
        session=ALONE,
        settings=Settings(kid_subset_size=size),
        cache_folder=tmp_path / "cache",
    )
    ours = {record.name: record.value for record in records}

    state = dict(load_weights(Path(place), containing="Conv2d_1a_3x3.conv.weight").state)
    state |= {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    torch.save(state, tmp_path / "weights.pth")
    network = torch_fidelity("feature_extractor_inceptionv3").FeatureExtractorInceptionV3(
        "theirs", ["2048"], feature_extractor_weights_path=str(tmp_path / "weights.pth")
    )
    features = []
    for images in (fake, real):
        parts = list(images.parts(count=count, rank=0, world=1))
        with torch.no_grad():
            features.append(torch.cat([network(part.images)[0] for part in parts]))
    fid = torch_fidelity("metric_fid")
    statistics = [fid.fid_features_to_statistics(x) for x in features]
    theirs = fid.fid_statistics_to_metric(*statistics, verbose=False)
    theirs |= torch_fidelity("metric_kid").kid_features_to_metric(*features, kid_subset_size=size, verbose=False)
    theirs |= torch_fidelity("metric_prc").prc_features_to_metric(*features, verbose=False)
    names = {"fid": "frechet_inception_distance", "kid": "kernel_inception_distance_mean"}
    for name, value in ours.items():
        expected = theirs[names.get(name, name)]
        print(f"{name}: ours {value:.7g}, torch-fidelity {expected:.7g}, {count} images a side")
        assert value == pytest.approx(expected, rel=1e-3)
