"""Grids that walk through a code, and statistics that are settled on the latents that a recipe names."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from framework import Categorical, FrameworkError, Gaussian, Uniform
from framework.sampling.draws import fixed_codes, walked_codes
from framework.sampling.generate import settle_statistics

LATENTS = (Gaussian(3), Categorical(4, name="kind"), Uniform(2, name="style", low=-1.0, high=3.0))
"""Codes of 3 + 4 + 2 numbers."""


def walk(code: str, *, columns: int = 5) -> tuple[Tensor, list[str]]:
    codes, titles = walked_codes(LATENTS, walked=code, seed=1, rows=3, columns=columns)
    return codes.view(3, len(titles), -1), titles


def test_a_class_goes_through_all_classes_while_the_rest_of_a_row_stays() -> None:
    codes, titles = walk("kind", columns=9)
    assert titles == ["0", "1", "2", "3"]
    assert torch.equal(codes[:, :, 3:7], torch.eye(4).expand(3, 4, 4))
    rest = codes[:, :, [0, 1, 2, 7, 8]]
    assert torch.equal(rest, rest[:, :1].expand_as(rest))
    # A row is a sample as it is drawn otherwise, but for the code that is walked through.
    usual = fixed_codes(LATENTS, seed=1, count=3, z_dim=9)
    assert torch.equal(rest[:, 0], usual[:, [0, 1, 2, 7, 8]])


def test_a_number_goes_from_its_lowest_to_its_highest() -> None:
    codes, titles = walk("style.1")
    assert titles == ["-1", "+0", "+1", "+2", "+3"]
    assert torch.equal(codes[:, :, 8], torch.tensor([-1.0, 0.0, 1.0, 2.0, 3.0]).expand(3, 5))
    assert torch.equal(codes[:, :, :8], codes[:, :1, :8].expand(3, 5, 8))
    codes, titles = walk("z.0", columns=3)
    assert torch.equal(codes[:, :, 0], torch.tensor([-2.0, 0.0, 2.0]).expand(3, 3))


@pytest.mark.parametrize("code", ["nothing", "style", "style.2", "kind.0", "style.x", "z"])
def test_another_code_is_refused_with_those_there_are(code: str) -> None:
    with pytest.raises(FrameworkError, match=rf"--code {code}: .* it has z\.0, kind, style\.0"):
        walk(code)


def test_a_generator_without_named_latents_says_so() -> None:
    with pytest.raises(FrameworkError, match="its recipe names none"):
        walked_codes((), walked="z.0", seed=0, rows=1, columns=2)


class Watched(nn.Module):
    """A generator that keeps what it is called with."""

    z_dim = 9

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen: list[Tensor] = []

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        self.seen.append(z)
        return z


def test_statistics_are_settled_on_the_latents_that_the_recipe_names() -> None:
    network = Watched().eval()
    settle_statistics(network, classes=0, num_batches=2, seed=0, latents=LATENTS, batch_size=8)
    z = torch.cat(network.seen)
    assert z.shape == (16, 9)
    assert torch.equal(z[:, 3:7].sum(1), torch.ones(16)), "a class is one of four"
    assert float(z[:, 7:].min()) >= -1.0
    assert float(z[:, 7:].max()) > 1.0
    assert len({tuple(row) for row in z.tolist()}) == 16
