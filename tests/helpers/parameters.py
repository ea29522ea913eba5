"""Parameter counts as `--dry-run` reports them."""

from __future__ import annotations

import torch

from framework.recipe import Recipe
from framework.train.config import RunConfig
from framework.train.dry_run import plan


def counts(recipe: Recipe) -> tuple[int, int]:
    """Those of the generator and of the discriminator."""
    report = plan(recipe, RunConfig(), world=1, device=torch.device("cpu"))
    return report["parameters"]["generator"], report["parameters"]["discriminator"]
