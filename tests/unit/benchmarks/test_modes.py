"""The table of modes: every game of it can be made, and a row that is there is not played again."""

import json
from pathlib import Path

import pytest

from benchmarks.modes import PROBLEMS, SEEDS, Game, games, place, recipe_of, row, tables
from benchmarks.modes_games import NAMES, STACKED


def test_it_has_every_objective_and_remedy_on_both_problems_and_six_systems_on_stacked_pictures() -> None:
    found = games("")
    assert len(found) == len(set(found)) == len(PROBLEMS) * len(SEEDS) * len(NAMES) + len(STACKED)
    assert len(STACKED) == 6
    assert {name for problem, name, _ in games("ring/unrolled")} == {"unrolled 5", "unrolled 10"}


@pytest.mark.parametrize("game", [one for one in games("") if one[2] == 0], ids=lambda game: f"{game[0]}, {game[1]}")
def test_every_game_is_a_recipe_that_takes_as_many_generator_steps(game: Game) -> None:
    recipe = recipe_of(game)
    step = recipe.game.images_per_step(recipe.batch_size)
    assert recipe.images == (1_500 if game[0] == "stacked" else 2_000) * step
    assert recipe.seed == game[2]
    assert recipe.metrics


def test_a_row_that_is_there_is_read_and_shown(tmp_path: Path) -> None:
    told = {
        "values": {"modes_hit": 7.0, "good_share": 0.5},
        "said": [],
        "cpu_seconds": 12.0,
        "images": 1,
        "alerts": {"sample_motion": "warn"},
    }
    for seed in SEEDS:
        game = ("ring", "minimax", seed)
        place(game, tmp_path).mkdir()
        content = {"problem": "ring", "game": "minimax", "seed": seed, **told}
        (place(game, tmp_path) / "row.json").write_text(json.dumps(content))
    rows = [row(game, tmp_path) for game in games("ring/minimax")]
    (table,) = tables(rows)
    shown = [list(column.cells) for column in table.columns]
    assert shown == [["minimax"], ["7 7 7"], ["0.50 0.50 0.50"], ["- - -"], ["12"], ["sample_motion warn"]]
