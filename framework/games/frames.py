"""Frames of a game of points: what its players make of fixed latents and of a fixed square, as numbers.

Networks are asked in eval mode and in full precision; nothing that training goes on with is changed, and no random
number is drawn, because all latents are functions of the seed.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from framework.data.points import Vector
from framework.engines.base import Engine
from framework.games.latent_game import LatentGame
from framework.games.showing import MARGIN, sample_field
from framework.media.recording import Frame, Scene, gradients_to_text, logits_to_text, points_to_text
from framework.networks import latent_size
from framework.networks.latents import Gaussian, Latent, Uniform
from framework.objectives.adversarial import AdversarialLoss, MaximumLikelihood, Minimax, NonSaturating
from framework.objectives.adversarial_term import Adversarial
from framework.objectives.outputs import logits_of
from framework.recipe import Recipe
from framework.sampling.draws import fixed_codes

FAKES, ARROWS, REALS = 500, 100, 500
"""The numbers of generated points of a frame, of those at which the gradient is taken, and of real points."""
SIDE = 41
"""The discriminator is asked at `SIDE` x `SIDE` points."""
ROWS = 21
"""The number of rows and of columns of the grid of latents."""
_CURVE = ROWS * ROWS
"""The number of points of a curve, where a latent is one number."""
_LATER = 105
"""Per cent of a frame's step at which the next one comes, once that is more than one step later."""


def frame_clocks(*, images: int, step_images: int) -> tuple[int, ...]:
    """Return the clocks at which frames are made: every step at first, then every 5 per cent, and the end.

    The clocks before the end do not depend on where the end is, so that a run that is made longer has the frames of one
    that was longer from the beginning: 135 for 3,000 steps, 207 for 100,000.

    Args:
        images: where the run ends.
        step_images: real samples of a step.
    """
    last, steps = -(-images // step_images), [0]
    while steps[-1] < last:
        steps.append(max(steps[-1] + 1, steps[-1] * _LATER // 100))
    return tuple(min(step, last) * step_images for step in steps)


def is_end_alone(images_seen: int, *, step_images: int) -> bool:
    """Return whether a clock of `frame_clocks` is one only because the run ends there."""
    step = images_seen // step_images
    return frame_clocks(images=(step + 1) * step_images, step_images=step_images)[-2] != images_seen


def can_be_recorded(recipe: Recipe) -> bool:
    """Return whether a recipe's game is one from latents to points in the plane, judged by a discriminator."""
    if not isinstance(recipe.game, LatentGame) or recipe.growth or "discriminator" not in recipe.players:
        return False
    field = sample_field(recipe)
    return isinstance(field, Vector) and field.dims == 2


@dataclass(frozen=True, kw_only=True)
class Camera:
    """What frames of one run are made of, besides its networks; `of` makes one."""

    recipe: Recipe
    reals: Tensor
    """Real points (N, 2) float32 on the host, all finite, at least one."""
    real_labels: Tensor | None
    """Their classes (N,) int64; None without classes."""
    z_dim: int
    """The length of the generator's latents."""

    @classmethod
    def of(cls, recipe: Recipe, reals: Tensor, labels: Tensor | None, *, generator: nn.Module) -> Camera | None:
        """Return the camera of a run; None where no real point is finite.

        Args:
            recipe: one that `can_be_recorded`.
            reals: real points (N, 2); the first 500 finite ones are used.
            labels: their classes (N,); None without classes.
            generator: the generator, for the length of its latents.
        """
        finite = reals.isfinite().all(1).nonzero().flatten()[:REALS]
        if not len(finite):
            return None
        chosen = None if labels is None else labels[finite].long()
        return cls(recipe=recipe, reals=reals[finite].float(), real_labels=chosen, z_dim=latent_size(generator))

    @property
    def game(self) -> LatentGame:
        """The game of the recipe."""
        assert isinstance(self.recipe.game, LatentGame)
        return self.recipe.game

    @cached_property
    def square(self) -> tuple[tuple[float, float], float]:
        """The middle and half of the side of what is shown: the square of the real points, and a quarter beyond."""
        low, high = self.reals.double().amin(0), self.reals.double().amax(0)
        half = float((high - low).max()) * (0.5 + MARGIN) or 1.0
        x, y = ((low + high) / 2).tolist()
        return (x, y), half

    @cached_property
    def z(self) -> Tensor:
        """The latents of the generated points, (FAKES, z_dim) float32."""
        return fixed_codes(self.game.latents, seed=self.recipe.seed, count=FAKES, z_dim=self.z_dim)

    @cached_property
    def labels(self) -> Tensor | None:
        """The classes of the generated points, (FAKES,); None without classes."""
        classes = self.recipe.data.classes
        return torch.arange(FAKES) % classes if classes else None

    @cached_property
    def grid_shape(self) -> tuple[int, int]:
        """Rows and columns of the grid of latents."""
        return (ROWS, ROWS) if self._varied[1].width > 1 else (1, _CURVE)

    @cached_property
    def grid_z(self) -> Tensor:
        """The grid of latents, (rows * columns, z_dim) float32, in steps of equal probability before it is widened.

        Points of a plane through the middle are nearer to it than latents of many numbers usually are, so the plane is
        widened by sqrt(z_dim / 2), which gives them the same mean square length.
        """
        rows, columns = self.grid_shape
        z = torch.zeros(1, self.z_dim)
        if self.game.latents:
            z = fixed_codes(self.game.latents, seed=self.recipe.seed, count=1, z_dim=self.z_dim, purpose="game")
        z = z.repeat(rows * columns, 1)
        place, latent = self._varied
        z[:, place : place + latent.width] = 0.0
        z[:, place] = self._levels(columns).repeat(rows)
        if rows > 1:
            z[:, place + 1] = self._levels(rows).repeat_interleave(columns)
        return z

    @cached_property
    def places(self) -> Tensor:
        """The points (SIDE * SIDE, 2) float32 at which the discriminator is asked, the lowest row first."""
        centre, half = self.square
        line = torch.linspace(-half, half, SIDE, dtype=torch.float64)
        places = torch.stack([line.repeat(SIDE), line.repeat_interleave(SIDE)], 1) + torch.tensor(centre).double()
        return places.float()

    @property
    def loss(self) -> AdversarialLoss | None:
        """The generator's adversarial loss; None where it has none."""
        terms = [term for turn in self.game.turns() if turn.player == "generator" for term in turn.terms]
        return next((term.loss for term in terms if isinstance(term, Adversarial)), None)

    def scene(self, *, modes: tuple[tuple[float, float], ...] = (), mode_radius: float = 0.0) -> Scene:
        """Return what is the same in all frames (a collective for some losses).

        Args:
            modes: centres of the data's modes.
            mode_radius: the distance from a centre within which a point is good.
        """
        centre, half = self.square
        loss, equilibrium = self.loss, self.game.equilibrium()
        return Scene(
            centre=centre,
            half=half,
            reals=points_to_text(self.reals.numpy(), centre, half),
            num_reals=len(self.reals),
            fakes=FAKES,
            arrows=ARROWS if loss is not None else 0,
            side=SIDE,
            grid=self.grid_shape,
            loss=type(loss).__name__ if loss is not None else "",
            probability=isinstance(loss, NonSaturating | Minimax | MaximumLikelihood),
            undecided=equilibrium.logit if equilibrium is not None else None,
            slice=self._sentence(),
            step_images=self.game.images_per_step(self.recipe.batch_size),
            classes=self.recipe.data.classes,
            modes=modes,
            mode_radius=mode_radius,
        )

    def frame(self, engines: Mapping[str, Engine], *, images_seen: int, is_end: bool) -> tuple[Frame, Tensor]:
        """Return the frame of the networks as they are, and its generated points (FAKES, 2) on the host.

        All processes call it alike (a collective where an engine shards, and for losses that compare samples).

        Args:
            engines: the players of the run.
            images_seen: the clock.
            is_end: see `Frame`.
        """
        with _asked(engines["generator"]) as network, torch.no_grad():
            fakes, grid = self._generated(network)
        with _asked(engines["discriminator"]) as network:
            with torch.no_grad():
                surface, on_real, on_fake = self._judged(network, fakes)
            gradients = self._gradients(network, fakes)
        centre, half = self.square
        text, low, high = logits_to_text(surface.numpy())
        frame = Frame(
            images_seen=images_seen,
            fakes=points_to_text(fakes.numpy(), centre, half),
            surface=text,
            low=low,
            high=high,
            arrows=gradients_to_text((-gradients).numpy()),
            grid=points_to_text(grid.numpy(), centre, half),
            real_logit=_told(on_real),
            fake_logit=_told(on_fake),
            is_end=is_end,
        )
        return frame, fakes

    def _generated(self, network: nn.Module) -> tuple[Tensor, Tensor]:
        """Return the generated points (FAKES, 2), and the image of the grid (rows * columns, 2), on the host."""
        parameter = next(network.parameters())
        z = torch.cat([self.z, self.grid_z]).to(parameter)
        labels = None
        if self.labels is not None:
            labels = torch.cat([self.labels, torch.zeros(len(self.grid_z), dtype=torch.int64)]).to(parameter.device)
        points: Tensor = network(z, labels).float().cpu()
        return points[:FAKES], points[FAKES:]

    def _judged(self, network: nn.Module, fakes: Tensor) -> list[Tensor]:
        """Return the logits at `places`, of the real points and of the generated ones, on the host."""
        parameter = next(network.parameters())
        labels = None
        if self.real_labels is not None and self.labels is not None:
            of_places = torch.zeros(len(self.places), dtype=torch.int64)
            labels = torch.cat([of_places, self.real_labels, self.labels]).to(parameter.device)
        parts = (self.places, self.reals, fakes)
        logits = _logits(network, torch.cat(parts).to(parameter), labels).float().cpu()
        return list(logits.split([len(part) for part in parts]))

    def _gradients(self, network: nn.Module, fakes: Tensor) -> Tensor:
        """Return the gradient of the generator's loss at the first generated points, (ARROWS, 2) on the host.

        The loss is a mean over these points, so each gradient is multiplied by their number.
        """
        if self.loss is None:
            return torch.empty(0, 2)
        parameter = next(network.parameters())
        points = fakes[:ARROWS].to(parameter).clone().requires_grad_()
        labels = None if self.labels is None else self.labels[:ARROWS].to(parameter.device)
        logits, on_real = _logits(network, points, labels), None
        if self.loss.needs_real_logits:
            # As many real points as generated ones: the loss compares them pair by pair.
            turns = torch.arange(ARROWS) % len(self.reals)
            of_reals = None if self.real_labels is None else self.real_labels[turns].to(parameter.device)
            with torch.no_grad():
                on_real = _logits(network, self.reals[turns].to(parameter), of_reals)
        (gradients,) = torch.autograd.grad(self.loss.generator(logits, on_real), points)
        return gradients.float().cpu() * ARROWS

    @property
    def _varied(self) -> tuple[int, Latent]:
        """The latent of which the grid varies one number or two, and where in the code it begins."""
        place = 0
        for latent in self.game.latents:
            if isinstance(latent, Gaussian | Uniform):
                return place, latent
            place += latent.width
        return 0, Gaussian(self.z_dim)

    def _levels(self, count: int) -> Tensor:
        """Return `count` values of a latent number, (count,) float32, between which it falls equally often."""
        _, latent = self._varied
        shares = (torch.arange(count, dtype=torch.float64) + 0.5) / count
        if isinstance(latent, Uniform):
            return (latent.low + (latent.high - latent.low) * shares).float()
        return (math.sqrt(latent.width / min(2, latent.width)) * torch.special.ndtri(shares)).float()

    def _sentence(self) -> str:
        _, latent = self._varied
        others = self.z_dim - min(2, latent.width)
        if not others:
            varied = "the only latent number" if self.z_dim == 1 else "the plane of latents"
            return f"{varied}, in steps of equal probability"
        what = "a plane: two" if latent.width > 1 else "a line: one"
        widened = latent.width > 2 and isinstance(latent, Gaussian)
        more = ", widened to the usual length of a latent" if widened else ""
        return f"{what} of the {self.z_dim} latent numbers, the others held fixed{more}"


@contextlib.contextmanager
def _asked(engine: Engine) -> Iterator[nn.Module]:
    """Yield an engine's network in eval mode, whole, and without gradients into its parameters."""
    network = engine.network
    training = {module: module.training for module in network.modules()}
    with ExitStack() as stack:
        stack.enter_context(engine.resident())
        stack.enter_context(engine.frozen())
        network.eval()
        try:
            yield network
        finally:
            for module, was in training.items():
                module.training = was


def _logits(network: nn.Module, points: Tensor, labels: Tensor | None) -> Tensor:
    """Return one logit for each point, (N,): the mean of several."""
    logits = logits_of(network(points, labels))
    return logits if logits.dim() == 1 else logits.flatten(1).mean(1)


def _told(logits: Tensor) -> float | None:
    """Return the mean of logits with seven digits; None where it is not finite."""
    mean = float(logits.double().mean())
    return float(f"{mean:.7g}") if math.isfinite(mean) else None
