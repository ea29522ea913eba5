"""Small things to evaluate: an extractor of a few numbers, pictures in folders, a generator of a few weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from framework.evaluation.extractors.base import INCEPTION, Extractor, Identity, tensors_sha256
from framework.evaluation.metrics import SampleMetric
from framework.evaluation.models import EvaluationModels
from framework.runtime.seeding import Draws
from framework.runtime.session import Session

ALONE = Session(rank=0, world=1, local_rank=0, device=torch.device("cpu"))
DIM, CLASSES = 12, 4


class SmallNetwork(nn.Module):
    """Features that are smooth functions of the pixels: (N, 12), logits (N, 5)."""

    def __init__(self) -> None:
        super().__init__()
        draws = Draws(seed=5, images_seen=0)
        self.register_buffer("weight", draws.normal("weight", DIM, 3, 4, 4) / 7)
        self.register_buffer("head", draws.normal("head", 5, DIM))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.nn.functional.conv2d(images.float() / 127.5 - 1, self.weight, stride=2)
        features = torch.tanh(x).mean((2, 3)) + x.square().mean((2, 3))
        return features, features @ self.head.T


def small_extractor(*, name: str = "small") -> Extractor:
    network = SmallNetwork()
    sha256 = tensors_sha256(network.state_dict())
    identity = Identity(name=name, layer="12", input="as they are", weights_sha256=sha256, tensors_sha256=sha256)
    return Extractor(identity=identity, network=network, dim=DIM)


def small_models(*, inception: bool = False) -> EvaluationModels:
    """With `inception`, the small network under Inception's name, so that metrics may be called FID."""
    name = INCEPTION if inception else "small"
    return EvaluationModels(extractor_name=name, extractor=small_extractor(name=name))


def pictures(folder: Path, *, count: int, seed: int, side: int = 16, contrast: float = 1.0) -> Path:
    """Blurred noise, a function of seed and number."""
    folder.mkdir(parents=True)
    for index in range(count):
        noise = Draws(seed=seed, images_seen=index).normal("pixels", 3, side // 4, side // 4)[None]
        smooth = torch.nn.functional.interpolate(noise, (side, side), mode="bilinear")[0]
        pixels = (smooth * 60 * contrast + 128).clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / f"{index:04d}.png")
    return folder


class SmallGenerator(nn.Module):
    """(N, 6), (N,) -> (N, 3, 16, 16), with batch norm, dropout in training, and an option like a style network's."""

    z_dim = 6

    def __init__(self, *, scale: float = 1.0) -> None:
        super().__init__()
        draws = Draws(seed=9, images_seen=0)
        self.linear = nn.Linear(6 + CLASSES, 48)
        with torch.no_grad():
            self.linear.weight.copy_(draws.normal("weight", 48, 6 + CLASSES) * scale)
            self.linear.bias.zero_()
        self.norm = nn.BatchNorm1d(48)
        self.dropout = nn.Dropout(0.2)

    def forward(self, z: Tensor, labels: Tensor | None = None, psi: float = 1.0) -> Tensor:
        classes = torch.zeros(len(z), CLASSES) if labels is None else nn.functional.one_hot(labels, CLASSES).float()
        x = self.dropout(self.norm(self.linear(torch.cat([z * psi, classes], 1))))
        return torch.tanh(nn.functional.interpolate(x.view(-1, 3, 4, 4), (16, 16), mode="bilinear"))


class PointsNetwork(nn.Module):
    """(N, 2) -> (N, 2): scales a latent."""

    def __init__(self, *, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, z: Tensor) -> Tensor:
        return self.scale * z


@dataclass(frozen=True, kw_only=True)
class RingSampler:
    """Points around the corners of a square, (n, 2) float32 functions of seed and position."""

    seed: int = 0
    corners: int = 4
    picture, classes, count = None, 0, None

    def describe(self) -> dict[str, Any]:
        return {"seed": self.seed, "point": "square"}

    def draw(self, network: nn.Module, positions: range) -> dict[str, Tensor]:
        z = torch.cat([Draws(seed=self.seed, images_seen=i).normal("ring", 1, 2) for i in positions])
        angles = torch.tensor([i % self.corners for i in positions]) * (torch.pi / 2)
        with torch.no_grad():
            points = network(0.05 * z) + torch.stack([angles.cos(), angles.sin()], 1)
        return {"point": points}


@dataclass(frozen=True, kw_only=True)
class PairSampler:
    """Pictures (n, 3, 8, 8) to translate, uint8 functions of the position, and what a network makes of them."""

    count: int | None = None
    picture, classes = "generated", 0

    def describe(self) -> dict[str, Any]:
        return {"inputs": "noise"}

    def draw(self, network: nn.Module, positions: range) -> dict[str, Tensor]:
        noise = torch.cat([Draws(seed=0, images_seen=i).uniform("pairs", 2, 3, 8, 8) for i in positions])
        source, target = (255 * noise).to(torch.uint8).view(-1, 2, 3, 8, 8).unbind(1)
        with torch.no_grad():
            generated = network(source.float()).clamp(0, 255).to(torch.uint8)
        return {"source": source, "generated": generated, "target": target}


@dataclass(frozen=True, kw_only=True)
class Brightness(SampleMetric):
    """The mean of all pixels."""

    name = "brightness"
    definition = "mean pixel"
    samples = ("image",)

    factor: float = 1.0

    def accumulate(self, samples: Mapping[str, Tensor]) -> dict[str, Tensor]:
        image = samples["image"]
        return {"sum": image.double().sum(), "number": torch.tensor(image.numel(), dtype=torch.float64)}

    def value(self, sums: Mapping[str, Tensor]) -> float | dict[str, float]:
        return self.factor * float(sums["sum"] / sums["number"])
