"""StudioGAN's recorded regularisers that are not in `test_golden_objectives.py`: LeCam, maximum gradient, DRAGAN."""

from framework.objectives.lecam import LeCam, lecam
from framework.objectives.lipschitz import Dragan, MaxGradientPenalty
from framework.objectives.terms import TermInputs
from tests.helpers.draws import Given

from . import load
from .test_golden_objectives import FP64, SoftplusCritic, compare_penalty


def test_lecam_of_studiogan() -> None:
    case = load("studiogan_ops", "lecam")
    real, fake = case.inputs["real"], case.inputs["fake"]
    real_anchor, fake_anchor = real.new_tensor(0.3), real.new_tensor(-0.2)
    value = lecam(real, fake, real_anchor=real_anchor, fake_anchor=fake_anchor)
    case.agrees(value, case.outputs["reg"], tolerance=FP64)


def test_lecam_penalty_takes_its_anchors_from_memory() -> None:
    case = load("studiogan_ops", "lecam")
    real, fake = case.inputs["real"], case.inputs["fake"]
    # With a long memory, one more batch leaves the anchors where they were.
    memory = {
        "lecam/real": real.new_tensor(0.3),
        "lecam/fake": real.new_tensor(-0.2),
        "lecam/moves": real.new_tensor(1e15),
    }
    inputs = TermInputs(
        network=None, discriminate=None, draw=Given(), memory=memory, real_logits=real, fake_logits=fake
    )
    case.agrees(LeCam(weight=1, decay=1 - 1e-14)(inputs), case.outputs["reg"], tolerance=FP64)


def test_max_gradient_penalty_of_studiogan() -> None:
    case = load("studiogan_ops", "penalty/maxgp")
    network = SoftplusCritic(case.params)
    draw = Given({"max_gradient_penalty": case.draws["00_rand"].squeeze(1)})
    inputs = TermInputs(
        network=network, discriminate=network, draw=draw, real=case.inputs["real"], fake=case.inputs["fake"]
    )
    compare_penalty(case, network, MaxGradientPenalty(weight=1)(inputs))


def test_dragan_of_studiogan() -> None:
    case = load("studiogan_ops", "penalty/dra")
    network = SoftplusCritic(case.params)
    draw = Given({"dragan/alpha": case.draws["00_rand"].flatten(), "dragan/noise": case.draws["01_rand"]})
    inputs = TermInputs(network=network, discriminate=network, draw=draw, real=case.inputs["real"])
    compare_penalty(case, network, Dragan(weight=1)(inputs))
