"""What a game shows: a grid of pictures, a plot, sound clips, or a page. Each saves itself and says what it shows."""

from framework.media.base import Media
from framework.media.grids import PictureGrid
from framework.media.page import Page
from framework.media.plot import Line, Plot, Scatter, Surface
from framework.media.sounds import Sounds

__all__ = ["Line", "Media", "Page", "PictureGrid", "Plot", "Scatter", "Sounds", "Surface"]
