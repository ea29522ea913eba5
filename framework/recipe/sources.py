"""Where the training data comes from, as a recipe says it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from framework.recipe.checks import OPERATIONAL, check_fields, require
from framework.utils.ranges import Range


@dataclass(frozen=True, kw_only=True)
class Shards:
    """The training images: WebDataset shards addressed by position.

    `location` is a folder made by `framework pack`, a glob or brace list of tars, an `http(s)://` folder or list, or
    `pipe:` commands. Relative paths are relative to the recipe file.

    Raises:
        RecipeError: a field that cannot work; names it.
    """

    location: str = field(metadata=OPERATIONAL)
    resolution: Annotated[int, Range(least=1)]
    """Side of the images in pixels."""
    channels: int = 3
    """1: grey, 3: RGB."""
    classes: int = 0
    """Number of classes; 0: labels are not read."""
    flip: bool = False
    """Whether each image is mirrored with probability 1/2, decided by its position."""
    window: int = 65_536
    """Number of images among which the order is shuffled; the whole set when it is larger than the set."""

    def __post_init__(self) -> None:
        check_fields(self)
        require(self.channels in (1, 3), f"data.channels={self.channels} must be 1 (grey) or 3 (RGB)")
        require(self.classes >= 0, f"data.classes={self.classes} must not be negative")
        require(self.window > 0, f"data.window={self.window} must be positive")

    def derived(self) -> dict[str, int]:
        """Return the options that networks take from the data unless their recipe names them."""
        return {"resolution": self.resolution, "channels": self.channels, "classes": self.classes}
