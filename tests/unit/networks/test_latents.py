"""Latents: named draws, their codes side by side, the same for a sample whoever draws it, and refusals."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from framework import Alternating, Categorical, Gaussian, Hinge, RecipeError, Uniform
from framework.networks.latents import check_latents, code_of, drawn
from framework.runtime.seeding import Draws
from framework.sampling.draws import SampleDraws, sample_codes
from framework.sampling.sampler import LatentSampler
from tests.helpers.play import smooth_recipe, start, steps

SEVERAL = (Gaussian(3), Uniform(2, name="tilt", low=0.0, high=5.0), Categorical(4, name="kind"))


def test_a_gaussian_that_is_named_plays_the_same_game_to_the_bit() -> None:
    usual = steps(start(smooth_recipe(game=Alternating(loss=Hinge()))), count=2)
    named = steps(start(smooth_recipe(game=Alternating(loss=Hinge(), latents=(Gaussian(8),)))), count=2)
    assert usual.keys() == named.keys()
    assert all(torch.equal(usual[name], named[name]) for name in usual)


def test_the_usual_latent_is_drawn_as_it_always_was() -> None:
    class Rows:
        """Draws for three samples."""

        def normal(self, what: str, *shape: int) -> torch.Tensor:
            return Draws(seed=2, images_seen=9).normal(f"generator/{what}", 3, *shape)

        def uniform(self, what: str, *shape: int) -> torch.Tensor:
            raise AssertionError

        def integers(self, what: str, high: int, *shape: int) -> torch.Tensor:
            raise AssertionError

        def together(self, what: str, requests: object) -> dict[str, torch.Tensor]:
            raise AssertionError

    first = drawn((Gaussian(2),), Rows())["z"]
    # NumPy's Philox, whose key is BLAKE2b of (seed, clock, purpose): docs/decisions/003-random-numbers.md.
    key = hashlib.blake2b(repr((2, 9, "generator/z")).encode(), digest_size=16).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
    assert np.array_equal(first.numpy(), generator.standard_normal((3, 2), dtype=np.float32))


def test_codes_stand_side_by_side_in_the_order_of_the_latents() -> None:
    draws = drawn(SEVERAL, SampleDraws(seed=1, numbers=range(50)))
    code = code_of(SEVERAL, draws, like=torch.float32)
    assert code.shape == (50, 9)
    assert torch.equal(code[:, :3], draws["z"])
    assert torch.equal(code[:, 3:5], draws["tilt"])
    assert torch.equal(code[:, 5:].argmax(1), draws["kind"])
    assert torch.equal(code[:, 5:].sum(1), torch.ones(50))
    assert 0 <= float(draws["tilt"].min()) < float(draws["tilt"].max()) < 5
    assert draws["kind"].unique().tolist() == [0, 1, 2, 3]


def test_the_code_of_a_sample_is_the_same_alone_and_among_others() -> None:
    together = sample_codes(SEVERAL, seed=7, numbers=range(10))
    assert torch.equal(sample_codes(SEVERAL, seed=7, numbers=[6]), together[6:7])
    assert not torch.equal(sample_codes(SEVERAL, seed=8, numbers=[6]), together[6:7])
    assert sample_codes(SEVERAL, seed=7, numbers=[]).shape == (0, 9)


def test_the_numbers_of_a_sample_are_those_of_its_own_draws() -> None:
    codes = SampleDraws(seed=3, numbers=[5]).normal("z", 4)
    assert torch.equal(codes[0], Draws(seed=3, images_seen=5).normal("samples/z", 4))


def test_a_protocol_names_the_latents_that_samples_are_drawn_from() -> None:
    assert "latents" not in LatentSampler().describe()
    assert LatentSampler(codes=SEVERAL).describe()["latents"][2] == "Categorical(classes=4, name='kind')"


def test_latents_that_do_not_fit_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"z_dim is 8, the latents are 3 \+ 2 \+ 4 = 9 wide"):
        check_latents(SEVERAL, z_dim=8)
    with pytest.raises(RecipeError, match="a name of its own, not z, z"):
        check_latents((Gaussian(4), Uniform(4)), z_dim=8)
    with pytest.raises(RecipeError, match=r"low=1\.0 must be below high=1\.0"):
        Uniform(2, low=1.0)
