"""Every loss of Stacked GAN's joint training on MNIST against recorded results, and the gradients of the totals."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from framework import Adversarial, FeatureCondition, LabelCondition, NoiseEntropy, NonSaturating, StackedGAN
from framework.networks.stacked import Judged
from framework.objectives.terms import Term, TermInputs
from tests.helpers.draws import Given

from . import FOLDER, load, names

FILE = "stacked_gan_losses"
FP64 = 1e-12
"""The tolerance, as a share of the largest value of each tensor; the recordings are float64."""

LEVELS = ("1", "0")
LOSS = NonSaturating()


def game(name: str) -> StackedGAN:
    """The game with the weights of a recorded case."""
    with np.load(FOLDER / f"{FILE}.npz", allow_pickle=False) as archive:
        given = json.loads(str(archive["meta"]))[name]["kwargs"]
    conditional, entropy = given["condloss_weight"], NoiseEntropy(weight=given["entloss_weight"])
    return StackedGAN(
        loss=LOSS,
        joint_after_images=0,
        adversarial_weight=given["advloss_weight"],
        generator_terms=(LabelCondition(weight=conditional), FeatureCondition(weight=conditional), entropy),
        discriminator_terms=(entropy,),
    )


@dataclass
class Recorded:
    """The recorded tensors of a case as a turn has them; the program's discriminators return probabilities."""

    given: dict[str, Tensor]

    def __post_init__(self) -> None:
        for name, value in self.given.items():
            if value.is_floating_point():
                value.requires_grad_(not name.startswith("z"))
        self.class_logits = self.given["recon_y"].detach().log().requires_grad_()  # their softmax is `recon_y`

    def logits(self, kind: str, levels: tuple[str, ...]) -> tuple[Tensor, ...]:
        return tuple(torch.logit(self.given[f"prob_{kind}{level}"]).squeeze(1) for level in levels)

    def inputs(self, player: str, levels: tuple[str, ...] = LEVELS) -> TermInputs:
        unused: Any = None
        noise = tuple(self.given[f"recon_z{level}"] for level in levels)
        return TermInputs(
            network=nn.Identity(),
            discriminate=unused,
            draw=Given(),
            player=player,
            outputs={
                "real": Judged(logits=self.logits("real", levels), noise=noise),
                "fake": Judged(logits=self.logits("gen", levels), noise=noise),
            },
            tensors={
                "z1": self.given["z1"],
                "z0": self.given["z0"],
                "generated_label": self.given["y"],
                "generated_classes": self.class_logits,
                "condition": self.given["gen_fc3"],
                "recovered_features": self.given["recon_fc3"],
            },
        )


def total(terms: tuple[Term, ...], inputs: TermInputs) -> Tensor:
    return torch.stack([term(inputs) for term in terms]).sum()


@pytest.mark.parametrize("name", names(FILE))
def test_every_loss_of_each_level(name: str) -> None:
    case = load(FILE, name)
    recorded, seen = Recorded(case.inputs), set[str]()

    def agrees(ours: Tensor, what: str) -> None:
        case.agrees(ours, case.outputs[what], tolerance=FP64)
        seen.add(what)

    for level in LEVELS:
        turn = recorded.inputs("generator", (level,))
        (real,), (fake,) = (recorded.logits(kind, (level,)) for kind in ("real", "gen"))
        # Calling real samples real costs what calling generated ones real does; the rest is the other half.
        agrees(LOSS.generator(real), f"loss_real{level}")
        agrees(LOSS.discriminator(real, fake) - LOSS.generator(real), f"loss_fake{level}")
        agrees(Adversarial(loss=LOSS).value(turn), f"loss_gen{level}_adv")
        agrees(NoiseEntropy(latents=(f"z{level}",)).value(turn), f"loss_gen{level}_ent")
    turn = recorded.inputs("generator")
    agrees(LabelCondition().value(turn), "loss_gen1_cond")
    agrees(FeatureCondition().value(turn), "loss_gen0_cond")
    totals = {f"loss_{player}{level}" for player in ("disc", "gen") for level in LEVELS}
    assert case.outputs.keys() - seen == totals
    print(f"{name}: {len(seen)} single losses")


@pytest.mark.parametrize("name", names(FILE))
@pytest.mark.parametrize(("player", "letter"), [("discriminator", "disc"), ("generator", "gen")])
def test_the_totals_of_both_levels_and_their_gradients(name: str, player: str, letter: str) -> None:
    """The game sums over levels; as they share no tensor, each gradient is that of one recorded total."""
    case = load(FILE, name)
    recorded = Recorded(case.inputs)
    (turn,) = [turn for turn in game(name).turns() if turn.player == player]
    loss = total(turn.terms, recorded.inputs(player))
    case.agrees(loss, case.outputs[f"loss_{letter}1"] + case.outputs[f"loss_{letter}0"], tolerance=FP64)
    loss.backward()
    compared = 0
    for key, gradient in case.gradients.items():
        total_name, _, tensor = key.partition("/")
        if total_name.startswith(f"loss_{letter}"):
            ours = recorded.given[tensor].grad
            if tensor == "recon_y":
                ours, gradient = recorded.class_logits.grad, through_softmax(case.inputs["recon_y"], gradient)
            case.agrees(ours, gradient, tolerance=FP64)
            compared += 1
    assert compared == {"discriminator": 6, "generator": 7}[player]
    print(f"{name}: {player}, 1 total, {compared} gradients")


def through_softmax(probabilities: Tensor, gradient: Tensor) -> Tensor:
    """The gradient (N, classes) in logits, of one in the probabilities that the program has in their place."""
    p = probabilities.detach()
    return p * (gradient - (p * gradient).sum(1, keepdim=True))
