"""The recipe: what is trained, as frozen, keyword-only dataclasses.

A recipe file under `recipes/` builds one `Recipe`; it *is* the configuration, so an editor can jump from it to every
definition. Operations (how long, where, on how many processes) are flags of `framework.train.config.RunConfig`. A
recipe refuses, when it is written, whatever could not work later.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol

from torch import nn

from framework.recipe.checks import ADDED_LATER, OPERATIONAL, check_fields, require
from framework.recipe.growth import Growth, Segment
from framework.recipe.optimizers import Optimizer
from framework.recipe.schedules import Constant, Ramp, Schedule, value_at, values_of
from framework.recipe.sources import Source, Sources
from framework.utils.errors import FrameworkError, RecipeError
from framework.utils.ranges import Range
from framework.utils.suggest import nearest

__all__ = ["Averaging", "Game", "Helper", "Network", "Player", "Recipe"]

EngineName = Literal["ddp", "zero1", "zero2", "zero3", "fsdp2"]


@dataclass(frozen=True, init=False)
class Network:
    """A network class and its options: `Network(sagan.Generator, width=64)`.

    Options are checked against the constructor's signature when the recipe is written. What the data decides
    (`resolution`, `channels`, `classes`) need not be repeated: the recipe passes it on.

    Raises:
        RecipeError: `cls` is not a network class, or has no option of that name.
    """

    cls: type[nn.Module]
    options: Mapping[str, Any]

    def __init__(self, cls: type[nn.Module], /, **options: Any) -> None:
        if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
            what = f"an instance of {type(cls).__name__}" if isinstance(cls, nn.Module) else repr(cls)
            raise RecipeError(f"Network takes the class of a torch.nn.Module and its options, not {what}")
        known = self.parameters_of(cls)
        for name in options:
            require(
                name in known,
                f"{cls.__name__} has no option {name!r}{nearest(name, known)}; it takes: {', '.join(sorted(known))}",
            )
        object.__setattr__(self, "cls", cls)
        object.__setattr__(self, "options", dict(sorted(options.items())))

    def __hash__(self) -> int:
        return hash((self.cls, tuple(self.options)))

    @staticmethod
    def parameters_of(cls: type[nn.Module]) -> dict[str, inspect.Parameter]:
        """Return the constructor's keyword parameters by name."""
        signature = inspect.signature(cls)
        return {n: p for n, p in signature.parameters.items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}

    def resolved(self, derived: Mapping[str, Any]) -> dict[str, Any]:
        """Return every option of the constructor: given here, derived from the data, or its default.

        Raises:
            RecipeError: an option contradicts the data, or has no value.
        """
        resolved: dict[str, Any] = {}
        for name, parameter in self.parameters_of(self.cls).items():
            if name in self.options:
                value = self.options[name]
                require(
                    name not in derived or derived[name] == value,
                    f"{self.cls.__name__}: {name}={value!r} contradicts the data's {name}={derived.get(name)!r}",
                )
            elif name in derived:
                value = derived[name]
            elif parameter.default is not parameter.empty:
                value = parameter.default
            else:
                raise RecipeError(f"{self.cls.__name__} needs the option {name!r}")
            resolved[name] = value
        return resolved

    def build(self, **derived: Any) -> nn.Module:
        """Build the network on the current default device.

        Raises:
            RecipeError: see `resolved`.
        """
        return self.cls(**self.resolved(derived))


@dataclass(frozen=True, kw_only=True)
class Player:
    """One side of the game: a network (possibly a composite), its optimiser, and how the engine treats it.

    Raises:
        RecipeError: a field that cannot work; names it.
    """

    network: Network
    optimizer: Optimizer
    schedule: Schedule = field(default_factory=Constant)
    """Factor on the optimiser's learning rate, a function of images seen."""
    clip_norm: float | None = None
    """Largest global gradient norm; None: no clipping."""
    clip_weights: Annotated[float | None, Range(above=0)] = field(default=None, metadata=ADDED_LATER)
    """Largest absolute value of a trained weight, beyond which it is clamped; None: no clipping (WGAN,
    arXiv:1701.07875, algorithm 1: 0.01)."""
    clip_weights_when: Literal["after", "before"] = field(default="after", metadata=ADDED_LATER)
    """Whether weights are clipped after every step, as in WGAN's algorithm 1, or before every turn of this player, as
    the authors' program does: its opponent then meets weights that its last step has taken out of the box."""
    frozen: tuple[str, ...] = ()
    """Parameters that are not trained, by the beginnings of their names, e.g. `("blocks.0", "blocks.1")`: freeze-D
    (Mo et al., arXiv:2002.10964)."""
    engine: EngineName | None = field(default=None, metadata=OPERATIONAL)
    """This player's engine; None: the run's `--engine`."""

    def __post_init__(self) -> None:
        check_fields(self)
        require(self.clip_norm is None or self.clip_norm > 0, f"clip_norm={self.clip_norm} must be positive or None")

    def build(self, derived: Mapping[str, Any]) -> nn.Module:
        """Build the network, freshly initialised; frozen parameters have `requires_grad=False`.

        Raises:
            RecipeError: `frozen` names no parameter, or all of them.
        """
        network = self.network.build(**derived)
        for prefix in self.frozen:
            chosen = [p for name, p in network.named_parameters() if name == prefix or name.startswith(f"{prefix}.")]
            if not chosen:
                modules = [name for name, _ in network.named_modules() if name]
                raise RecipeError(f"frozen: the network has no {prefix!r}{nearest(prefix, modules)}")
            for parameter in chosen:
                parameter.requires_grad_(False)
        require(any(p.requires_grad for p in network.parameters()), "frozen: leaves nothing to train")
        return network


@dataclass(frozen=True, kw_only=True)
class Helper:
    """A network that a game uses and does not train: it has no optimiser and no average, and checkpoints hold only the
    hash of its weights.

    Raises:
        RecipeError: a field of another type, or a hash that is none.
    """

    network: Network
    weights: str = field(metadata=OPERATIONAL)
    """A safetensors file with the network's `state_dict`; a relative path is relative to the recipe file."""
    sha256: str
    """The SHA-256 of that file, 64 hexadecimal digits: other weights would be another game."""

    def __post_init__(self) -> None:
        check_fields(self)
        digits = set("0123456789abcdef")
        require(len(self.sha256) == 64 and set(self.sha256) <= digits, f"sha256={self.sha256!r}: 64 digits of 0-9, a-f")


@dataclass(frozen=True, kw_only=True)
class Averaging:
    """Exponential moving average of the generator's weights (EMA), by half-life so that no convention is guessed.

    Per step of n images the average keeps the share `0.5 ** (n / h)`, with `h = half_life_images`, or
    `min(half_life_images, ramp_up * images_seen)` while `ramp_up` is set (Karras et al. 2020, arXiv:2006.06676).
    Running statistics of batch norms are averaged alongside the weights; other buffers (power-iteration vectors,
    counters) are copied.
    """

    half_life_images: float | Ramp = 10_000.0
    ramp_up: float | None = 0.05
    start_images: Annotated[int, Range(least=0)] = 0
    """The clock, in images, until which the average is a copy of the generator."""

    def __post_init__(self) -> None:
        check_fields(self)
        constant = isinstance(self.half_life_images, int | float)  # a ramp may begin at 0: no averaging
        positive = all(value > 0 or (value == 0 and not constant) for value in values_of(self.half_life_images))
        require(positive, f"averaging.half_life_images={self.half_life_images} must be positive")
        require(self.ramp_up is None or self.ramp_up > 0, f"averaging.ramp_up={self.ramp_up} must be positive or None")

    def kept_share(self, *, images_seen: int, step_images: int) -> float:
        """Return the weight, from 0 to 1, of the old average in the update after `images_seen` images."""
        if images_seen <= self.start_images:
            return 0.0
        half_life = value_at(self.half_life_images, images_seen)
        if self.ramp_up is not None:
            half_life = min(half_life, self.ramp_up * images_seen)
        return 0.5 ** (step_images / half_life) if half_life > 0 else 0.0


class Game(Protocol):
    """The rules of a game: its players, whose turn it is, and what is minimised. See `framework.games.base`."""

    @property
    def players(self) -> tuple[str, ...]:
        """The names of the players it needs."""
        ...

    @property
    def averaged(self) -> tuple[str, ...]:
        """The names of the players whose weights are averaged."""
        ...

    def images_per_step(self, batch_size: int) -> int:
        """Return the number of real images that one step consumes, which is how far the clock advances."""
        ...

    def check(self, recipe: Recipe) -> None:
        """Refuse a recipe that does not fit the game."""
        ...


class Metric(Protocol):
    """A quantity that evaluations of the run measure. See `framework.evaluation.metrics`."""

    @property
    def name(self) -> str:
        """The name by which --eval-metrics knows it."""
        ...


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One result of one paper.

    Raises:
        RecipeError: parts that do not fit together, or a field that cannot work; names it.
    """

    name: str
    paper: str
    """Citation with the arXiv id."""
    data: Source
    """The real samples; `Sources`, or a mapping of names to sources, for several that are read side by side."""
    generator: Player
    discriminator: Player
    other_players: Mapping[str, Player] = field(default_factory=dict, metadata=ADDED_LATER)
    """Further players by name, where the game has more than the usual two."""
    helpers: Mapping[str, Helper] = field(default_factory=dict, metadata=ADDED_LATER)
    """Networks by name that are used and not trained, such as one whose features are compared."""
    game: Game
    averaging: Averaging = field(default_factory=Averaging)
    growth: Growth | None = None
    """Progressive growing; None: all layers are trained at the data's resolution from the start."""
    batch_size: Annotated[int, Range(most=1e9)]
    """Number of real images per discriminator turn over all processes."""
    images: int = field(metadata=OPERATIONAL)
    """Number of real images to train on; training may be extended later."""
    held_out: Source | None = field(default=None, metadata=OPERATIONAL)
    """Samples that are never trained on, which games that translate show and measure; None: there are none."""
    metrics: tuple[Metric, ...] = field(default=(), metadata=OPERATIONAL)
    """Metrics of this recipe's own, which --eval-metrics may name and by default measures."""
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.data, Mapping) and not isinstance(self.data, Sources):
            object.__setattr__(self, "data", Sources(self.data))
        check_fields(self)
        require(self.batch_size > 0, f"batch_size={self.batch_size} must be positive")
        require(self.images > 0, f"images={self.images} must be positive")
        for name, player in self.players.items():
            try:
                player.network.resolved(self.data.derived())
            except RecipeError as error:
                raise RecipeError(f"{name}.network: {error}") from None
            grows = hasattr(player.network.cls, "grow")
            require(
                self.growth is None or grows, f"growth: the {name}'s network has no method grow(resolution=, alpha=)"
            )
        self.game.check(self)
        if self.growth is not None:
            last = self.growth.phases[-1].resolution
            require(last == self.data.resolution, f"growth ends at {last} px, the data has {self.data.resolution} px")

    @property
    def players(self) -> dict[str, Player]:
        """All players by name."""
        return {"generator": self.generator, "discriminator": self.discriminator, **self.other_players}

    def segments(self) -> tuple[Segment, ...]:
        """Return the stretches of the clock between which the players change shape: one, unless the recipe grows."""
        if self.growth is None:
            resolution = self.data.resolution
            return (Segment(resolution=resolution, start=0, end=self.images, batch_size=self.batch_size),)
        critic_steps = self.game.images_per_step(self.batch_size) // self.batch_size
        return self.growth.segments(batch_size=self.batch_size, critic_steps=critic_steps)

    def build_network(self, player: str) -> nn.Module:
        """Build the raw network of a player, freshly initialised.

        Raises:
            RecipeError: the network cannot be built; names the player.
        """
        try:
            return self.players[player].build(self.data.derived())
        except FrameworkError as error:
            raise RecipeError(f"{player}.network: {error}") from None
