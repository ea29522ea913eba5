"""Recorded steps of WGAN: RMSProp and weights clipped to 0.01, after every step as in the paper's algorithm 1, and
before every turn as in the authors' program. On every engine, with the 5 samples cut into 3 and 2 where there are two
processes."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from framework import Network, Player, RMSProp
from framework.engines.base import Engine
from framework.engines.capabilities import ENGINES
from framework.engines.choose import build_engine
from tests.helpers.spawn import run_ranks

from . import Case, load

WHEN = ("after", "before")
SIZES = {"critic": (32, 8, 8, 8, 1), "generator": (6, 8, 8, 8, 32)}
LR, LIMIT, BATCH, CRITIC_STEPS = 5e-5, 0.01, 5, 3
FP64 = 1e-12
FP32 = 2e-7
"""Weights below 0.5 are rounded by at most 3e-8. A step is at most 10 lr = 5e-4, and its relative error at most that of
the gradient: 1e-4 for sums of up to 160 products (1e-5), of which real and generated ones cancel. There are 3 steps.
A step that is not clipped, or clipped at another time, is off by 1e-5 to 1e-1."""


class Perceptron(nn.Module):
    """Four linear layers with ReLU between them, (N, ...) -> (N, sizes[-1])."""

    def __init__(self, *, sizes: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.main = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x.flatten(1))


LETTERS = {"critic": "D.", "generator": "G."}
"""What the names of a player's recorded parameters begin with."""


def recorded_weights(case: Case, side: str) -> dict[str, Tensor]:
    letter = LETTERS[side]
    return {name.removeprefix(letter): p for name, p in case.params.items() if name.startswith(letter)}


def built(case: Case, side: str, engine: str, **clipping: object) -> Engine:
    player = Player(network=Network(Perceptron, sizes=SIZES[side]), optimizer=RMSProp(lr=LR), **clipping)
    network = player.build({}).to(torch.float32 if engine.startswith("zero") else torch.float64)
    network.load_state_dict(recorded_weights(case, side))
    return build_engine(network, player, side=side, engine=engine, precision="fp32")  # type: ignore[arg-type]


def whole(engine: Engine, kind: str, like: dict[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors of one kind, put together from all processes: every element lies on one of them."""
    found = {name: torch.zeros_like(value).flatten() for name, value in like.items()}
    for part in engine.slices(own=True, kinds=(kind,)):
        found[part.name][part.start : part.start + part.values.numel()] = part.values.double()
    for tensor in found.values():
        if dist.is_initialized():
            dist.all_reduce(tensor)
    return found


def play(engine: str, when: str) -> dict[str, Tensor]:
    """Three turns of the critic and one of the generator; what came out under the names of the recording."""
    case = load("wgan_steps", f"mlp/clamp_{when}")
    critic = built(case, "critic", engine, clip_weights=LIMIT, clip_weights_when=when)
    generator = built(case, "generator", engine)
    like = {side: recorded_weights(case, side) for side in SIZES}
    rank, world = critic.rank, critic.world
    rows = slice(0, BATCH) if world == 1 else (slice(0, 3), slice(3, BATCH))[rank]
    dtype = torch.float32 if engine.startswith("zero") else torch.float64
    given = {name: value[rows].to(dtype) for name, value in case.inputs.items() if name.startswith(("real", "z"))}
    share = world / BATCH  # engines average over processes, losses are means over the batch
    found = {}
    for index in range(CRITIC_STEPS):
        with torch.no_grad(), generator.resident():
            fake = generator.network(given[f"z_{index}"])
        critic.begin_turn()
        loss = critic.network(given[f"real_{index}"]).sum() - critic.network(fake).sum()
        critic.backward(loss * share, last=True)
        assert critic.step(lr_factor=1.0).finite
        found |= {f"D_after_{index}/{name}": value for name, value in whole(critic, "weight", like["critic"]).items()}
    generator.begin_turn()
    with critic.frozen() as judge:
        loss = judge(generator.network(given["z_generator"])).sum()
        generator.backward(loss * share, last=True)
    assert generator.step(lr_factor=1.0).finite
    found |= {f"G_after/{name}": value for name, value in whole(generator, "weight", like["generator"]).items()}
    found |= {f"D_square_avg/{name}": value for name, value in whole(critic, "square_avg", like["critic"]).items()}
    for player in (critic, generator):
        player.close()
    return found


def compare(found: dict[str, Tensor], engine: str, when: str) -> float:
    """The largest difference of weights; square averages are compared relative to their largest."""
    case = load("wgan_steps", f"mlp/clamp_{when}")
    exact = not engine.startswith("zero")
    recorded = {name: value for name, value in case.outputs.items() if not name.startswith("err")}
    assert set(found) == set(recorded)
    largest = 0.0
    for name, value in recorded.items():
        ours = found[name].view_as(value)
        if name.startswith("D_square_avg"):
            # Twice the relative error of the gradient.
            assert (ours - value).abs().max() <= (FP64 if exact else 2e-4) * value.abs().max(), name
        else:
            case.agrees(ours, value, tolerance=FP64 if exact else FP32, scale=1.0)
            largest = max(largest, float((ours - value).abs().max()))
    return largest


@pytest.mark.parametrize("when", WHEN)
def test_one_process_takes_the_recorded_steps(when: str) -> None:
    print(f"one process, clipped {when}: {compare(play('ddp', when), 'ddp', when):.1e}")


def on_every_engine() -> dict[str, Tensor]:
    return {
        f"{engine}/{when}/{name}": value
        for engine in ENGINES
        for when in WHEN
        for name, value in play(engine, when).items()
    }


@pytest.mark.distributed
@pytest.mark.timeout(300)
def test_two_processes_take_the_recorded_steps_on_every_engine() -> None:
    for ours in run_ranks(on_every_engine, 2):
        for engine in ENGINES:
            for when in WHEN:
                prefix = f"{engine}/{when}/"
                found = {k.removeprefix(prefix): v for k, v in ours.items() if k.startswith(prefix)}
                print(f"{engine}, clipped {when}: {compare(found, engine, when):.1e}")
