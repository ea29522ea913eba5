"""The tiny SAGAN whose generator breaks once: after FRAMEWORK_TEST_POISONED_AT forwards in training a weight is NaN."""

import dataclasses
import os

import torch
from torch import Tensor, nn

from framework import Network, launch
from framework.networks import sagan
from tests.recipes.tiny_sagan import RECIPE as TINY

POISONED_AT = int(os.environ.get("FRAMEWORK_TEST_POISONED_AT", "0"))


class Generator(sagan.Generator):
    """Counts its forwards; the count is not part of its state, so a rollback does not bring the fault back."""

    num_forwards = 0

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.training:
            self.num_forwards += 1
            if self.num_forwards == POISONED_AT:
                with torch.no_grad():
                    next(module for module in self.modules() if isinstance(module, nn.Conv2d)).bias.fill_(torch.nan)
        return super().forward(z, labels)


OPTIONS = {"width": 2, "z_dim": 8, "attention_at": 8}
RECIPE = dataclasses.replace(
    TINY, name="poisoned", generator=dataclasses.replace(TINY.generator, network=Network(Generator, **OPTIONS))
)

if __name__ == "__main__":
    launch(RECIPE)
