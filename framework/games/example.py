"""Random samples in the shape of the data, for checks and estimates that come before any data is read."""

from __future__ import annotations

from torch import Tensor

from framework.data.derived import with_derived
from framework.data.fields import fields_of
from framework.data.schema import at_resolution
from framework.games.microbatch import ImageDraws
from framework.recipe import Recipe
from framework.recipe.growth import Segment


def example_rows(recipe: Recipe, segment: Segment, count: int, *, seed: int = 0) -> dict[str, Tensor]:
    """Return every field of `count` samples as a batch has it, each (count, ...), on the host."""
    rows: dict[str, Tensor] = {}
    fields = fields_of(recipe.data)
    for field in fields if recipe.growth is None else at_resolution(fields, segment.resolution):
        rows |= field.example(count, seed)
    return rows


def example_fields(recipe: Recipe, segment: Segment, draw: ImageDraws) -> dict[str, Tensor]:
    """Return every field of n samples as networks take it, each (n, ...), on the device of the draws."""
    rows = example_rows(recipe, segment, draw.rows.stop - draw.rows.start)
    fields: dict[str, Tensor] = {name: value.to(draw.device) for name, value in rows.items()}
    for field in fields_of(recipe.data):
        fields[field.name] = field.to_tensor(rows[field.name], device=draw.device, dtype=draw.dtype)
    return with_derived(fields, recipe.data.derive, draw.under("data"))
