"""Numbers are finite and in range before anything starts: the mechanism, and that all flags and fields use it."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import math
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import pytest

from benchmarks.recipes import load_recipe
from framework import Adam, Alternating, Averaging, Cosine, Hinge, Linear, Network, Player, Ramp, Shards
from framework.__main__ import COMMANDS, run
from framework.commands.evaluate import EvaluateOptions
from framework.commands.sample import SampleOptions
from framework.data.errors import DataError
from framework.data.packing.options import PackOptions
from framework.recipe import override
from framework.recipe.description import describe
from framework.recipe.override import OverrideError
from framework.train.config import RunConfig
from framework.utils.errors import FrameworkError
from framework.utils.quantities import parse_count
from framework.utils.ranges import LARGEST, Range, check_flags, check_numbers, with_checked_flags
from tests.helpers.launch import ROOT
from tests.helpers.play import small_recipe

NO_NUMBERS = (math.nan, math.inf, -math.inf)


@dataclass(frozen=True)
class Inner:
    depth_pixels: Annotated[int | None, Range(least=1)] = None


@dataclass(frozen=True)
class Numbers:
    share: Annotated[float, Range(least=0, below=1)] = 0.5
    rates: Annotated[tuple[float, ...], Range(above=0, most=10)] = ()
    anything: float = 0.0
    yes: Annotated[bool, Range(least=1)] = False
    inner: Inner = Inner()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"share": -0.1}, "share=-0.1 must be at least 0"),
        ({"share": 1}, "share=1 must be below 1"),
        ({"rates": (1.0, 0.0)}, "rates=0.0 must be positive"),
        ({"rates": (1.0, 11.0)}, "rates=11.0 must be at most 10"),
        ({"anything": 2**63}, "anything=9223372036854775808 must fit into 64 bits"),
        ({"anything": 10**400}, "must fit into 64 bits"),
        *(({name: value}, "must be a finite number") for name in ("share", "anything") for value in NO_NUMBERS),
        *(({"rates": (1.0, value)}, "must be a finite number") for value in NO_NUMBERS),
    ],
)
def test_what_a_range_does_not_take(values: dict[str, Any], message: str) -> None:
    with pytest.raises(FrameworkError, match=f"^Numbers: .*{message}"):
        check_numbers(Numbers(**values))
    (name,) = values
    with pytest.raises(FrameworkError, match=f"^--{name} "):
        check_flags(Numbers, values)


def test_what_a_range_takes() -> None:
    check_numbers(Numbers())
    check_numbers(Numbers(share=0.0, rates=(10.0, 1e-300), anything=-LARGEST))
    check_flags(Numbers, {"inner": Inner()})
    with pytest.raises(FrameworkError, match="--depth-pixels 0: must be at least 1"):
        check_flags(Numbers, {"inner": Inner(0)})


def test_a_command_is_called_with_what_is_right_only() -> None:
    def command(name: str, *, count: Annotated[int, Range(least=2)] = 2) -> int:
        return count

    checked = with_checked_flags(command)
    assert checked("x", count=3) == 3
    with pytest.raises(FrameworkError, match="--count 1: must be at least 2"):
        checked("x", count=1)


def numeric(owner: Any) -> Iterator[tuple[str, bool, Range | None]]:
    """(name, whether it may be fractional, its range) of every numeric field or argument."""
    for name, annotation in typing.get_type_hints(owner, include_extras=True).items():
        kinds = str(annotation)
        given = next((one for one in getattr(annotation, "__metadata__", ()) if isinstance(one, Range)), None)
        plain = typing.get_type_hints(owner)[name]
        leaves = {plain, *typing.get_args(plain)}
        if name != "return" and leaves & {int, float}:
            yield name, float in leaves, given
        assert "float" not in kinds or leaves & {int, float}, f"{owner}: {name} hides a number"


COMMAND_FUNCTIONS = {
    name: getattr(importlib.import_module(f"framework.commands.{command.module}"), command.function)
    for name, command in COMMANDS.items()
}


OPTIONS = {"evaluate options": EvaluateOptions, "sample options": SampleOptions}
OWNERS: dict[str, Callable[..., Any]] = {"training": RunConfig} | COMMAND_FUNCTIONS | OPTIONS


@pytest.mark.parametrize("owner", OWNERS.values(), ids=OWNERS)
def test_every_numeric_flag_states_its_range_and_refuses_what_lies_outside(owner: Callable[..., Any]) -> None:
    for name, fractional, taken in numeric(owner):
        assert taken is not None, f"{name}: write its range beside its type"
        wrong: list[float] = [*NO_NUMBERS] if fractional else [2**63]
        lowest = max(taken.least, taken.above)
        wrong += [] if math.isinf(lowest) else [-1, -(2**63)]
        for value in wrong:
            with pytest.raises(FrameworkError, match=rf"^--{name.replace('_', '-')} {value}: must"):
                check_flags(owner, {name: value})


def test_options_of_pack_refuse_by_themselves() -> None:
    names = [name for name, _, _ in numeric(PackOptions)]
    assert names == ["pad", "per_class", "seed", "shard_bytes", "shard_samples"]
    for name, value in ({"resolution": (-1,)} | dict.fromkeys(names, -1)).items():
        with pytest.raises(DataError, match=f"pack: {name} is"):
            PackOptions(**{name: value})


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("sample", ["--truncation", "nan"], "--truncation nan: must be a finite number"),
        ("sample", ["--psi", "inf"], "--psi inf: must be a finite number"),
        ("sample", ["--grid", "²x2"], "--grid ²x2: write it as COLUMNSxROWS"),
        ("evaluate", ["--truncation", "0.5", "nan"], "--truncation nan: must be a finite number"),
        ("evaluate", ["--metrics", "fid999999999999999m"], "so many images do not exist"),
        ("pack", ["out", "--workers", "0"], "--workers 0: must be at least 1"),
        ("pack", ["out", "--pad", str(2**64)], "--pad 18446744073709551616: must fit into 64 bits"),
        ("review", ["--port", "70000"], "--port 70000: must be at most 65535"),
        ("review", ["--register", "a/b"], "--register 'a/b': MLflow's names of models hold no /"),
        ("sync", ["--patience-seconds", "nan"], "--patience-seconds nan: must be a finite number"),
    ],
)
def test_commands_refuse_before_they_look_for_anything(
    command: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command, ["nothing-is-here", *arguments]) == 2
    assert message in capsys.readouterr().err


RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.py"))


@pytest.mark.parametrize("name", RECIPES)
def test_no_number_of_a_recipe_can_be_set_to_what_is_none(name: str) -> None:
    recipe = load_recipe(name)
    numbers = [
        path
        for path, value in override.settable(recipe)
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    assert len(numbers) > 10
    for path in numbers:
        for text in ("nan", "inf", "-inf"):
            with pytest.raises(OverrideError, match=f"--set {path}: expects .*, got '{text}'"):
                override.apply(recipe, [f"{path}={text}"])


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("generator.optimizer.lr=-1", "Adam: lr=-1.0 must be positive"),
        ("generator.optimizer.eps=-1", "Adam: eps=-1.0 must be at least 0"),
        ("generator.optimizer.betas=0,1", r"betas=\(0.0, 1.0\) must lie in"),
        ("generator.schedule.end=-0.5", "Linear: end=-0.5 must be at least 0"),
        ("generator.clip_norm=-1", "clip_norm=-1.0 must be positive"),
        ("game.discriminator_terms.0.weight=-1", "R1: weight=-1.0"),
        ("game.discriminator_terms.0.every=0", "R1: every=0"),
        ("averaging.start_images=-1", "Averaging: start_images=-1 must be at least 0"),
        ("averaging.half_life_images=0", "half_life_images=0.0 must be positive"),
        ("data.resolution=0", "Shards: resolution=0 must be at least 1"),
        ("batch_size=-3", "batch_size=-3 must be positive"),
        ("batch_size=2G", r"batch_size=2000000000 must be at most 1e\+09"),
        ("images=1e40", "expects int, got '1e40'"),
        ("game.critic_steps=0", "critic_steps=0 must be at least 1"),
    ],
)
def test_a_set_out_of_range_names_the_path_and_why(assignment: str, message: str) -> None:
    path = assignment.partition("=")[0]
    with pytest.raises(OverrideError, match=f"--set {path}[=:].*{message}"):
        override.apply(small_recipe(), [assignment])


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_what_a_recipe_file_holds_is_named_by_its_path(value: float) -> None:
    players = dict.fromkeys(("generator", "discriminator"))
    recipe = small_recipe()
    for side in players:
        player = getattr(recipe, side)
        options = dict(player.network.options) | {"width": value}
        wrong = dataclasses.replace(player, network=Network(player.network.cls, **options))
        with pytest.raises(FrameworkError, match=rf"^{side}\.network\.width={value} must be a finite number"):
            describe(dataclasses.replace(recipe, **{side: wrong}))


MAKERS: list[Callable[[float], object]] = [
    lambda value: Adam(lr=value),
    lambda value: Adam(lr=1.0, eps=value),
    lambda value: Adam(lr=1.0, betas=(0.0, value)),
    lambda value: Linear(end_images=1, end=value),
    lambda value: Cosine(end_images=1, end=value),
    lambda value: Ramp(start=value, end=0.0, images=1),
    lambda value: Ramp(start=0.0, end=value, images=1),
    lambda value: Averaging(half_life_images=value),
    lambda value: Averaging(ramp_up=value),
    lambda value: Player(network=small_recipe().generator.network, optimizer=Adam(lr=1.0), clip_norm=value),
    lambda value: Player(network=small_recipe().generator.network, optimizer=Adam(lr=1.0), clip_weights=value),
    lambda value: Shards(location="x", resolution=value),
    lambda value: Alternating(loss=Hinge(), blur=Ramp(start=value, end=0.0, images=1)),
]


@pytest.mark.parametrize("make", MAKERS)
def test_dataclasses_of_a_recipe_refuse_when_written(make: Callable[[float], object]) -> None:
    for value in NO_NUMBERS:
        with pytest.raises(FrameworkError, match=f"{value}"):
            make(value)


def test_negative_blur_is_refused() -> None:
    with pytest.raises(FrameworkError, match=r"blur=.* must not be negative"):
        Alternating(loss=Hinge(), blur=Ramp(start=1.0, end=-1.0, images=1))


@pytest.mark.parametrize("text", ["9223372036854775808", "1e30", "1e999999", "-1e30", "99999999999g"])
def test_counts_fit_into_64_bits(text: str) -> None:
    with pytest.raises(ValueError, match="too large"):
        parse_count(text)
    assert parse_count("9223372036854775807") == LARGEST
