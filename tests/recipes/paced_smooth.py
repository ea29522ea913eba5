"""The smooth players at a chosen pace (FRAMEWORK_TEST_STEP_SECONDS), so that faults have a step to happen in."""

from __future__ import annotations

import dataclasses
import os
import time

from torch import Tensor

from framework import Network, launch
from tests.helpers import smooth
from tests.recipes.smooth import RECIPE as SMOOTH

STEP_SECONDS = float(os.environ.get("FRAMEWORK_TEST_STEP_SECONDS", "0"))


class Generator(smooth.Generator):
    """Takes its time in training."""

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        if self.training:
            time.sleep(STEP_SECONDS / 2)  # once in each turn
        return super().forward(z, labels)


RECIPE = dataclasses.replace(SMOOTH, generator=dataclasses.replace(SMOOTH.generator, network=Network(Generator)))

if __name__ == "__main__":
    launch(RECIPE)
