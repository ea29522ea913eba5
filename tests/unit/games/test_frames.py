"""Frames of a game of points: their clocks, their numbers, and that asking changes nothing."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from framework import Categorical, Hinge, Minimax, Network, NonSaturating, RelativisticAverage, Uniform, Wasserstein
from framework.games.frames import (
    ARROWS,
    FAKES,
    ROWS,
    SIDE,
    Camera,
    can_be_recorded,
    frame_clocks,
    is_end_alone,
)
from framework.media.recording import gradients_from_text, logits_from_text, points_from_text
from framework.networks import mlp
from framework.recipe import Recipe
from framework.train.config import RunConfig
from framework.train.players import Players, build_players
from framework.utils.importing import named_in_file
from tests.helpers.judged import ALONE
from tests.helpers.launch import ROOT

RING: Recipe = named_in_file(f"{ROOT / 'recipes/gan_ring.py'}:RECIPE", flag="", example="")[0].RECIPE


def camera_of(recipe: Recipe, stack: ExitStack) -> tuple[Camera, Players]:
    players = build_players(recipe, RunConfig(), session=ALONE, stack=stack)
    rows = recipe.data.rows(np.arange(600), seed=0)
    labels = torch.from_numpy(rows["label"]) if "label" in rows else None
    points = torch.from_numpy(rows["point"])
    camera = Camera.of(recipe, points, labels, generator=players.players["generator"].network)
    assert camera is not None
    return camera, players


# ---- clocks ----------------------------------------------------------------------------------------------------------


def test_clocks_are_every_step_at_first_and_then_log_spaced() -> None:
    clocks = frame_clocks(images=768_000, step_images=256)
    steps = [images // 256 for images in clocks]
    assert [images % 256 for images in clocks] == [0] * len(clocks)
    assert steps[:40] == list(range(40))
    assert (steps[-1], len(steps)) == (3000, 135)
    gaps = np.diff(steps[:-1])[60:]
    assert (gaps / np.array(steps[60:-2])).max() <= 0.05
    assert (gaps >= np.array(steps[60:-2]) * 0.05 - 1).all()


@pytest.mark.parametrize(("images", "step_images"), [(0, 7), (1, 7), (7, 7), (8, 7), (1000, 7), (100_000, 64)])
def test_the_end_is_a_clock_and_a_longer_run_has_the_clocks_of_a_shorter_one(images: int, step_images: int) -> None:
    short = frame_clocks(images=images, step_images=step_images)
    assert short[-1] == -(-images // step_images) * step_images, "where training ends: after a whole step"
    assert list(short) == sorted(set(short))
    longer = frame_clocks(images=10 * images + 1000, step_images=step_images)
    assert short[:-1] == longer[: len(short) - 1]
    alone = [is_end_alone(clock, step_images=step_images) for clock in short]
    assert alone == [clock not in longer for clock in short]


# ---- which games -----------------------------------------------------------------------------------------------------


def test_games_of_points_in_the_plane_are_recorded_and_no_others() -> None:
    found = set()
    for path in sorted((ROOT / "recipes").glob("*.py")):
        recipe = named_in_file(f"{path}:RECIPE", flag="", example="")[0].RECIPE
        if can_be_recorded(recipe):
            found.add(path.stem)
    assert "gan_ring" in found
    assert not found & {"sagan_fashion", "pix2pix_emoji", "progan_fashion", "stylegan2_emoji"}


# ---- the numbers -----------------------------------------------------------------------------------------------------


def test_a_frame_holds_what_the_networks_say() -> None:
    with ExitStack() as stack:
        camera, players = camera_of(RING, stack)
        scene = camera.scene()
        frame, fakes = camera.frame(players.players, images_seen=256, is_end=False)
        frame.check(scene)
        generator, discriminator = (players.players[name].network for name in ("generator", "discriminator"))
        (x, y), half = camera.square
        with torch.no_grad():
            expected = generator(camera.z)
            # Any one of the places: column 30 of row 7, from the lower left.
            place = torch.tensor([[x - half + 2 * half * 30 / (SIDE - 1), y - half + 2 * half * 7 / (SIDE - 1)]])
            logit = float(discriminator(place.float()))
    assert fakes.shape == (FAKES, 2)
    torch.testing.assert_close(fakes, expected)
    step = 4 * half / 32767
    assert np.abs(points_from_text(frame.fakes, scene) - expected.numpy()).max() <= step / 2 + 1e-6
    assert logits_from_text(frame, scene)[7, 30] == pytest.approx(logit, abs=(frame.high - frame.low) / 508 + 1e-6)
    # The square is that of the 500 real points, and a quarter of its side beyond.
    reals = camera.reals.numpy().astype(float)
    assert half == pytest.approx(0.75 * np.ptp(reals, axis=0).max())
    assert (x, y) == pytest.approx(tuple((reals.min(0) + reals.max(0)) / 2))


LOSSES = (NonSaturating(), Minimax(), Hinge(), Wasserstein(), RelativisticAverage())


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_arrows_point_down_the_loss_as_finite_differences_do(loss) -> None:  # type: ignore[no-untyped-def]
    recipe = replace(RING, game=replace(RING.game, loss=loss))
    with ExitStack() as stack:
        camera, players = camera_of(recipe, stack)
        frame, fakes = camera.frame(players.players, images_seen=0, is_end=False)
        network = players.players["discriminator"].network.double()

        @torch.no_grad()
        def value(points: Tensor) -> float:
            reals = camera.reals[:ARROWS].double()
            return float(loss.generator(network(points.double()), network(reals)))

        found, first = gradients_from_text(frame.arrows), fakes[:ARROWS].double()
        for number in (0, 17, 99):
            slope = []
            for axis in (0, 1):
                step = torch.zeros_like(first)
                step[number, axis] = 1e-4
                slope.append(ARROWS * (value(first + step) - value(first - step)) / 2e-4)
            down = -np.array(slope)
            # Direction and length are kept within 0.7 degrees and a factor of 1.09: 0.1 of the length together.
            assert np.hypot(*(found[number] - down)) <= 0.1 * np.hypot(*down) + 1e-9
    assert found.shape == (ARROWS, 2)
    assert np.hypot(*found.T).min() > 0


def test_the_grid_is_the_image_of_latents_as_long_as_usual_ones() -> None:
    with ExitStack() as stack:
        camera, players = camera_of(RING, stack)
        frame, _ = camera.frame(players.players, images_seen=0, is_end=False)
        z = camera.grid_z
        with torch.no_grad():
            expected = players.players["generator"].network(z).numpy()
    assert z.shape == (ROWS * ROWS, 8)
    assert (z[:, 2:] == 0).all(), "a plane of the first two numbers"
    # The mean square length of a standard normal vector of 8 numbers is 8; quantiles leave out the outermost 1/42.
    assert 8 * 0.85 < float(z.square().sum(1).mean()) < 8
    np.testing.assert_allclose(
        points_from_text(frame.grid, camera.scene()), expected, atol=4 * camera.square[1] / 65534 + 1e-6
    )
    # Rows are the second number, columns the first.
    assert z[0, 1] == z[1, 1]
    assert z[0, 0] < z[1, 0]
    assert camera.scene().slice == (
        "a plane: two of the 8 latent numbers, the others held fixed, widened to the usual length of a latent"
    )


def with_latents(*latents, z_dim: int):  # type: ignore[no-untyped-def]
    network = Network(mlp.Generator, **{**RING.generator.network.options, "z_dim": z_dim})
    return replace(RING, generator=replace(RING.generator, network=network), game=replace(RING.game, latents=latents))


@pytest.mark.parametrize(
    ("latents", "z_dim", "grid", "sentence"),
    [
        ((), 2, (ROWS, ROWS), "the plane of latents, in steps of equal probability"),
        ((), 1, (1, 441), "the only latent number, in steps of equal probability"),
        ((Uniform(2),), 2, (ROWS, ROWS), "the plane of latents, in steps of equal probability"),
        ((Categorical(3), Uniform(1, "u")), 4, (1, 441), "a line: one of the 4 latent numbers, the others held fixed"),
    ],
)
def test_other_latents_have_a_grid_that_is_said(latents, z_dim: int, grid: tuple[int, int], sentence: str) -> None:  # type: ignore[no-untyped-def]
    with ExitStack() as stack:
        camera, players = camera_of(with_latents(*latents, z_dim=z_dim), stack)
        scene = camera.scene()
        frame, _ = camera.frame(players.players, images_seen=0, is_end=False)
        frame.check(scene)
    assert (scene.grid, scene.slice) == (grid, sentence)
    if latents == (Uniform(2),):
        assert float(camera.grid_z.abs().max()) == pytest.approx(1 - 1 / ROWS)
    if z_dim == 4:
        assert len(camera.grid_z[:, :3].unique(dim=0)) == 1, "one class for the whole grid"
        assert float(camera.grid_z[0, :3].sum()) == 1


class Odd(nn.Module):
    """A network with everything that a careless question would disturb: modes of its parts, statistics, draws."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.z_dim = inner, getattr(inner, "z_dim", 0)
        self.norm, self.frozen_norm = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
        self.dropout = nn.Dropout(0.5)
        self.frozen_norm.eval()

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        if x.shape[1] == 2:
            x = self.dropout(self.frozen_norm(self.norm(x)))
        return self.inner(x, labels)


def test_asking_changes_nothing_of_the_networks() -> None:
    with ExitStack() as stack:
        camera, players = camera_of(RING, stack)
        for name in ("generator", "discriminator"):
            odd = Odd(players.players[name].network)
            odd.frozen_norm.weight.requires_grad_(False)
            players.players[name].network = odd
        engines = players.players

        def state() -> list[object]:
            found: list[object] = [torch.get_rng_state().tolist()]
            for engine in engines.values():
                found += [{key: value.tolist() for key, value in engine.network.state_dict().items()}]
                found += [[module.training for module in engine.network.modules()]]
                found += [[(p.requires_grad, p.grad) for p in engine.network.parameters()]]
            return found

        before = state()
        first, _ = camera.frame(engines, images_seen=0, is_end=False)
        assert state() == before
        again, _ = camera.frame(engines, images_seen=0, is_end=False)
    assert first == again


def test_classes_are_given_to_both_networks() -> None:
    recipe = replace(RING, data=replace(RING.data, labelled=True))
    with ExitStack() as stack:
        camera, players = camera_of(recipe, stack)
        seen: dict[str, list[Tensor]] = {"generator": [], "discriminator": []}
        for name, engine in players.players.items():
            engine.network.register_forward_pre_hook(lambda module, inputs, name=name: seen[name].append(inputs[1]))
        camera.frame(players.players, images_seen=0, is_end=False)
        rows = recipe.data.rows(np.arange(500), seed=0)["label"]
    (of_generator,), (judged, of_arrows) = seen["generator"], seen["discriminator"]
    assert of_generator[:FAKES].tolist() == [n % 8 for n in range(FAKES)]
    assert of_generator[FAKES:].unique().tolist() == [0]
    assert judged[: SIDE**2].unique().tolist() == [0]
    assert judged[SIDE**2 : SIDE**2 + 500].tolist() == rows.tolist()
    assert judged[SIDE**2 + 500 :].tolist() == of_generator[:FAKES].tolist()
    assert of_arrows.tolist() == of_generator[:ARROWS].tolist()


def test_without_real_points_there_is_no_camera() -> None:
    with ExitStack() as stack:
        _, players = camera_of(RING, stack)
        nothing = torch.tensor([[float("nan"), 0.0], [0.0, float("inf")]])
        assert Camera.of(RING, nothing, None, generator=players.players["generator"].network) is None
