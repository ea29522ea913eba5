"""What is trained, as a paper's table would say it: the recipe, its parts and its description."""

from framework.recipe.optimizers import Adam
from framework.recipe.recipe import SIDES, Averaging, EngineName, Game, Network, Player, Recipe, Shards
from framework.recipe.sources import Source, Sources
from framework.utils.errors import RecipeError

__all__ = [
    "SIDES",
    "Adam",
    "Averaging",
    "EngineName",
    "Game",
    "Network",
    "Player",
    "Recipe",
    "RecipeError",
    "Shards",
    "Source",
    "Sources",
]
