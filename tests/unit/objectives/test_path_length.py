from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from framework.games.microbatch import BatchPartition, ImageDraws
from framework.networks import stylegan2
from framework.objectives.path_length import MEMORY, PathLength, path_lengths
from framework.objectives.penalties import R1
from framework.objectives.terms import TermInputs
from framework.runtime.seeding import Draws
from framework.utils.errors import FrameworkError
from tests.helpers.draws import Given
from tests.helpers.spawn import run_ranks

SMALL = {"resolution": 8, "channel_base": 64, "channel_max": 8}


class Linear(nn.Module):
    """A generator whose images are a fixed linear function of its styles."""

    def __init__(self, jacobian: Tensor) -> None:
        super().__init__()
        self.mapping, self.synthesis = nn.Identity(), nn.Identity()
        self.mapping.forward = lambda z, labels: z[:, None].expand(-1, 3, -1)
        self.synthesis.forward = lambda ws: torch.einsum("nlw,whv->nhv", ws, jacobian)[:, None]


def test_lengths_of_a_linear_generator() -> None:
    generator = torch.Generator().manual_seed(0)
    jacobian = torch.randn(5, 4, 2, generator=generator, dtype=torch.float64)
    noise = torch.randn(6, 1, 4, 2, generator=generator, dtype=torch.float64)
    ws = torch.randn(6, 3, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    images = torch.einsum("nlw,whv->nhv", ws, jacobian)[:, None]
    # Equation 5: the Jacobian's transpose on a noise image; every layer's style has the same Jacobian here.
    expected = torch.einsum("whv,nhv->nw", jacobian, noise[:, 0] / 8**0.5).norm(dim=1)
    torch.testing.assert_close(path_lengths(images, ws, noise), expected)


def test_a_generator_that_ignores_its_styles_has_length_zero_and_finite_gradients() -> None:
    weight = torch.zeros((), requires_grad=True)
    ws = torch.randn(2, 3, 4, requires_grad=True)
    lengths = path_lengths((weight * ws).sum((1, 2)).view(2, 1, 1, 1), ws, torch.ones(2, 1, 1, 1))
    assert lengths.tolist() == [0.0, 0.0]
    lengths.sum().backward()
    assert weight.grad.isfinite()


def test_penalty_measures_every_other_row_and_moves_its_mean() -> None:
    torch.manual_seed(0)
    network = Linear(torch.randn(5, 4, 2))
    z, rows = torch.randn(4, 5, requires_grad=True), torch.arange(10, 14)
    draw = Given({"path_length/noise": torch.randn(4, 1, 4, 2)})
    memory = {MEMORY: torch.tensor(0.5, dtype=torch.float64)}
    kept = memory[MEMORY]
    inputs = TermInputs(network=network, discriminate=network, draw=draw, z=z, rows=rows, memory=memory)
    penalty = PathLength(weight=3.0, every=2, decay=0.25)(inputs)
    ws = network.mapping.forward(z, None)
    lengths = path_lengths(network.synthesis.forward(ws), ws, draw.normal("path_length/noise", 1, 4, 2))[[0, 2]]
    mean = 0.75 * 0.5 + 0.25 * lengths.mean()
    torch.testing.assert_close(penalty, 3.0 * 2 * (lengths - mean).square().mean())
    torch.testing.assert_close(memory[MEMORY], mean.detach().double())
    assert float(kept) == 0.5  # replaced, so that a step that does not count can give it back


@pytest.mark.parametrize(("options", "message"), [({"decay": 0.0}, "decay=0.0"), ({"shrink": 0}, "shrink=0")])
def test_wrong_options_are_named(options: dict, message: str) -> None:
    with pytest.raises(FrameworkError, match=message):
        PathLength(**options)


def test_a_generator_without_styles_is_refused() -> None:
    inputs = TermInputs(
        network=nn.Linear(2, 2), discriminate=nn.Identity(), draw=Given(), z=torch.zeros(1, 2), rows=torch.arange(1)
    )
    with pytest.raises(FrameworkError, match="Linear has no module 'mapping'"):
        PathLength()(inputs)


def regularised(batch: int, shrink: int) -> dict[str, Tensor]:
    """Losses, gradients and memory of both regularisers after two turns, with the networks' own random inputs."""
    world, rank = (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)
    torch.manual_seed(0)
    generator = stylegan2.Generator(**SMALL, z_dim=6, w_dim=6, mapping_layers=2).double()
    discriminator = stylegan2.Discriminator(**SMALL, stddev_group_size=4).double()
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            nn.init.ones_(parameter)
    real = torch.randn(batch, 3, 8, 8, dtype=torch.float64)
    terms = {"generator": PathLength(shrink=shrink, decay=0.5), "discriminator": R1(weight=10.0)}
    memory: dict[str, Tensor] = {}
    losses = torch.zeros(2, 2, dtype=torch.float64)
    for turn in range(2):
        for micro in BatchPartition(batch_size=batch, rank=rank, world=world).slices():
            draw = ImageDraws(
                draws=Draws(seed=0, images_seen=turn),
                purpose="turn",
                batch_size=batch,
                rows=micro.rows,
                device=torch.device("cpu"),
                dtype=torch.float64,
            )
            for side, network in enumerate((generator, discriminator)):
                inputs = TermInputs(
                    network=network,
                    discriminate=discriminator,
                    draw=draw,
                    memory=memory,
                    z=draw.normal("z", 6),
                    rows=torch.arange(micro.rows.start, micro.rows.stop),
                    real=real[micro.rows],
                )
                loss = list(terms.values())[side](inputs) * micro.weight / world
                loss.backward()
                losses[turn, side] += loss.detach()
    gradients = [p.grad.flatten() for n in (generator, discriminator) for p in n.parameters() if p.grad is not None]
    result = {"losses": losses, "gradients": torch.cat(gradients)}
    if world > 1:
        for tensor in result.values():
            dist.all_reduce(tensor)
    return {**result, "memory": memory[MEMORY]}


def both(arguments: list[tuple[int, int]]) -> dict[str, Tensor]:
    return {f"{case}/{k}": v for case in arguments for k, v in regularised(*case).items()}


@pytest.mark.distributed
def test_two_processes_regularise_as_one() -> None:
    # Groups of four images span both processes; of four rows with shrink 4, the second process measures none; nine
    # rows are dealt out unevenly, in groups of three.
    arguments = [(8, 2), (4, 4), (9, 2)]
    alone = both(arguments)
    ranks = run_ranks(both, 2, arguments)
    for key, value in alone.items():
        scale = float(value.abs().max())
        assert scale > 1e-6, f"{key} tests nothing"
        for rank in ranks:
            difference = float((rank[key] - value).abs().max()) / scale
            print(f"{key}: {difference:.1e}")
            assert difference <= 1e-10, key
