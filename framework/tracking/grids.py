"""The names under which grids were known here before they had a room of their own, `framework.media`."""

from framework.media.base import Pixels, to_image
from framework.media.grids import class_columns, image_grid, save_png

__all__ = ["Pixels", "class_columns", "image_grid", "save_png", "to_image"]
