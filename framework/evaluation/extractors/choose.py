"""Extractors by name: `inception-v3-compat` (FID), `fashion_classifier` (smoke runs), or one of torch-fidelity's."""

from __future__ import annotations

from pathlib import Path

from framework.evaluation.extractors import fashion
from framework.evaluation.extractors.base import INCEPTION, Extractor, Identity, tensors_sha256
from framework.evaluation.extractors.fidelity import fidelity_extractor
from framework.evaluation.extractors.inception import POOL3, InceptionV3, pool3_names
from framework.evaluation.extractors.resize import TF1_BILINEAR
from framework.evaluation.weights import inception_weights, load_weights
from framework.runtime.session import Session


def open_extractor(
    name: str = INCEPTION, *, weights: Path | None = None, session: Session, cache_folder: Path | None = None
) -> Extractor:
    """Open an extractor on the host, the same on every rank. A collective.

    Args:
        name: one of the names in the module's text.
        weights: file of the weights; None takes what ships with the package, is cached, or can be downloaded.
        cache_folder: folder of downloads.

    Raises:
        MissingError: weights or a package are missing here and cannot be fetched.
        EvaluationError: the name is unknown, or the weights are another network's.
    """
    if name == INCEPTION:
        return _inception(weights, session, cache_folder)
    if name in (fashion.NAME, f"fd_{fashion.NAME}"):
        return _fashion(weights or fashion.WEIGHTS)
    return fidelity_extractor(name, weights=weights)


def _inception(path: Path | None, session: Session, cache_folder: Path | None) -> Extractor:
    weights = inception_weights(path, session=session, cache_folder=cache_folder)
    network = InceptionV3(weights.state).eval()
    identity = Identity(
        name=INCEPTION,
        layer="2048",
        input=f"RGB, {TF1_BILINEAR} to 299x299, (x - 128) / 128",
        weights_sha256=weights.sha256,
        tensors_sha256=tensors_sha256({name: weights.state[name] for name in pool3_names()}),
    )
    return Extractor(identity=identity, network=network, dim=POOL3)


def _fashion(path: Path) -> Extractor:
    weights = load_weights(path, containing="linear.weight")
    identity = Identity(
        name=fashion.NAME,
        layer=str(fashion.FEATURES),
        input=fashion.INPUT,
        weights_sha256=weights.sha256,
        tensors_sha256=tensors_sha256(weights.state),
    )
    return Extractor(
        identity=identity, network=fashion.FashionClassifier.from_state(weights.state), dim=fashion.FEATURES
    )
