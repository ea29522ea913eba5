"""What is trained, as a paper's table would say it: the recipe, its parts and its description."""

from framework.recipe.optimizers import Adam
from framework.recipe.recipe import Averaging, EngineName, Game, Helper, Network, Player, Recipe
from framework.recipe.sources import Shards, Source, Sources
from framework.utils.errors import RecipeError

__all__ = [
    "Adam",
    "Averaging",
    "EngineName",
    "Game",
    "Helper",
    "Network",
    "Player",
    "Recipe",
    "RecipeError",
    "Shards",
    "Source",
    "Sources",
]
