"""Other extractors, through torch-fidelity (Obukhov et al. 2020): `vgg16`, `clip-vit-b-32`, `dinov2-vit-s-14`, ...

torch-fidelity is in the optional extra `evaluation`. It needs torchvision at import, which needs a build of its own for
every build of torch; that is why FID itself does not go through it (docs/decisions/013-evaluation.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from framework.evaluation.errors import EvaluationError, MissingError
from framework.evaluation.extractors.base import Extractor, Identity, tensors_sha256
from framework.utils.suggest import nearest


class FidelityNetwork(nn.Module):
    """A torch-fidelity extractor behind our interface: one layer as features, no logits."""

    def __init__(self, extractor: nn.Module) -> None:
        super().__init__()
        self.extractor = extractor

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        """Return features (N, dim) float32 of uint8 images (N, 3, H, W), and None for the logits."""
        (features,) = self.extractor(images)
        return features.float(), None


def fidelity_extractor(name: str, *, weights: Path | None = None) -> Extractor:
    """Open the extractor that torch-fidelity registers under `name`, with its default layer for FID.

    It downloads its weights itself.

    Raises:
        MissingError: torch-fidelity or torchvision cannot be imported, or weights cannot be fetched.
        EvaluationError: there is no extractor of that name, or a file of weights was given, which torch-fidelity would
            unpickle.
    """
    if weights is not None:
        raise EvaluationError(
            f"--extractor-weights {weights}: torch-fidelity would run code in that file, so its extractors ({name}) "
            "take none here; leave it out and torch-fidelity fetches its own"
        )
    registry = _registry()
    if name not in registry:
        raise EvaluationError(
            f"--extractor {name}: torch-fidelity {_version()} has no such one{nearest(name, registry)}"
        )
    layer = registry[name].get_default_feature_layer_for_metric("fid")
    try:
        network = registry[name](name, [layer]).eval()
    except (OSError, RuntimeError) as error:
        raise MissingError(f"--extractor {name}: torch-fidelity could not load its weights: {error}") from None
    network.requires_grad_(False)
    (features,) = network(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    tensors = {key: value for key, value in network.state_dict().items() if value.is_floating_point()}
    digest = tensors_sha256(tensors)
    identity = Identity(
        name=f"torch-fidelity/{name}",
        layer=layer,
        input=f"as torch-fidelity {_version()}",
        weights_sha256="",
        tensors_sha256=digest,
    )
    return Extractor(identity=identity, network=FidelityNetwork(network), dim=features.shape[1])


def _registry() -> Mapping[str, Any]:
    try:
        from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY
    except Exception as error:  # a torchvision that does not fit this torch raises RuntimeError while it is imported
        raise MissingError(
            f"extractors of torch-fidelity need torch-fidelity and a torchvision that fits this torch "
            f"({type(error).__name__}: {error}); pip install 'framework[evaluation]'"
        ) from None
    return FEATURE_EXTRACTORS_REGISTRY


def _version() -> str:
    from torch_fidelity.version import __version__

    return str(__version__)
