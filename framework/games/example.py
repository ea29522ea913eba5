"""Random samples in the shape of the data, for checks and estimates that come before any data is read."""

from __future__ import annotations

from torch import Tensor

from framework.data.fields import Image, Label, fields_of
from framework.networks.draw import Draw
from framework.recipe import Recipe
from framework.recipe.growth import Segment


def example_fields(recipe: Recipe, segment: Segment, draw: Draw) -> dict[str, Tensor]:
    """Return every field of n samples as networks take it, each (n, ...), on the device of the draws."""
    fields: dict[str, Tensor] = {}
    for field in fields_of(recipe.data):
        if isinstance(field, Image):
            fields[field.name] = draw.normal("images", field.channels, segment.resolution, segment.resolution)
        elif isinstance(field, Label):
            fields[field.name] = draw.integers("labels", field.classes)
    return fields
