"""What a sentry measures, what it makes of it, and what of it a checkpoint keeps."""

from __future__ import annotations

import json

import pytest
import torch

from framework.objectives.adversarial import AdversarialLoss
from framework.runtime.health import Collapse, OnCollapse
from framework.runtime.session import Session
from framework.sentinels import Health
from framework.train.health import LEAST_STEPS, HealthMonitor
from tests.helpers.play import Played, smooth_recipe, start, synthetic
from tests.helpers.resting import KullbackLeibler, TakenForZero, Unstated, constant

ALONE = Session(rank=0, world=1, local_rank=0, device=torch.device("cpu"))
WINNING = {"sign/real": 1.0, "loss/D": 1.0}
"""Scores of a discriminator that is never in doubt."""


@pytest.fixture(scope="module")
def played() -> Played:
    return start(smooth_recipe())


def health_monitor(played: Played, on_collapse: OnCollapse) -> HealthMonitor:
    average = played.state.averages["generator"]
    made = HealthMonitor(played.recipe, state=played.state, average=average, session=ALONE, on_collapse=on_collapse)
    data = played.recipe.data
    shape = (200, data.channels, data.resolution, data.resolution)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    made.measure_real_data({"image": images, "label": torch.arange(200) % data.classes})
    return made


def watch(made: HealthMonitor, *, images: list[int]) -> list[str]:
    """What is said while the discriminator wins."""
    return [str(one) for at in images for one in made.observe(at, WINNING, steps=LEAST_STEPS, skipped_steps=0)[1]]


def test_only_a_run_that_was_told_to_ends(played: Played) -> None:
    said = watch(warned := health_monitor(played, "warn"), images=[100, 200, 300])
    assert [text.partition(":")[0] for text in said] == ["health"]
    assert "failing since 0 images: the discriminator is right about real images 100% more often" in said[0]
    warned.raise_if_collapsed(300)
    watch(told := health_monitor(played, "stop"), images=[100, 200])
    told.raise_if_collapsed(200)
    watch(told, images=[300])
    with pytest.raises(Collapse, match="Usual remedy: augment") as collapse:
        told.raise_if_collapsed(300)
    assert (collapse.value.images_seen, collapse.value.onset_images) == (300, 0)
    watch(told, images=[400])
    with pytest.raises(Collapse):  # also later, and after a resume with another flag
        told.raise_if_collapsed(400)


def test_signals_are_metrics_and_cost_no_draw(played: Played) -> None:
    before = torch.get_rng_state()
    buffers = {name: b.clone() for name, b in played.state.players["generator"].network.named_buffers()}
    metrics, _ = health_monitor(played, "warn").observe(100, WINNING, steps=20, skipped_steps=5, distance_growth=1.5)
    assert metrics["health/skipped_share"] == 0.25
    assert metrics["health/distance_growth"] == 1.5
    assert metrics["health/state"] == Health.warn, "one skipped step in four"
    assert 0.0 < metrics["health/diversity_of_worst_class"] < metrics["health/diversity"] < 1.0
    assert torch.equal(torch.get_rng_state(), before)
    after = dict(played.state.players["generator"].network.named_buffers())
    assert all(torch.equal(buffers[name], after[name]) for name in buffers)


def test_a_restored_sentry_goes_on_where_it_was(played: Played) -> None:
    straight, first, second = (health_monitor(played, "warn") for _ in range(3))
    expected = watch(straight, images=[100, 200, 300])
    assert watch(first, images=[100, 200]) == []
    second.load_state(json.loads(json.dumps(first.state(), allow_nan=False)), skipped_steps=0)
    assert watch(second, images=[300]) == expected
    assert second.state() == straight.state()


def resting(loss: AdversarialLoss) -> tuple[HealthMonitor, dict[str, float]]:
    """A sentry, and the scores of a step in which the discriminator answers 1 to everything, real or not."""
    played = constant(loss, logit=1.0)
    scores, finite = played.game.step(synthetic(played.recipe, played.partition), images_seen=0)
    assert finite
    means = scores.means(device=torch.device("cpu"))
    assert means["logits/real"] == means["logits/fake"] == 1.0
    return health_monitor(played, "stop"), means


def test_a_perfect_kl_f_gan_is_healthy() -> None:
    """At its equilibrium its logits are 1 and its loss is 0 (arXiv:1606.00709), which measured from 0 is a collapse."""
    told, scores = resting(KullbackLeibler())
    assert scores["loss/D"] == 0.0
    assert scores["sign/real"] == 0.0, "undecided"
    found = [told.observe(at, scores, steps=LEAST_STEPS, skipped_steps=0)[0] for at in range(100, 1_100, 100)]
    assert {metrics["health/sign_real"] for metrics in found} == {0.0}
    assert all("health/discriminator_loss_share" not in metrics for metrics in found), "KL has no largest value"
    assert {metrics["health/logit_gap_growth"] for metrics in found if "health/logit_gap_growth" in metrics} == {0.0}
    named = ("sign_real", "discriminator_loss_share", "logit_gap_growth")
    assert all(v.health is Health.ok for v in told.standing if v.sentinel.signal in named)
    told.raise_if_collapsed(1_000)


def test_measured_from_zero_a_perfect_kl_f_gan_has_collapsed() -> None:
    told, scores = resting(TakenForZero())
    metrics = [told.observe(at, scores, steps=LEAST_STEPS, skipped_steps=0)[0] for at in (100, 200, 300)][-1]
    assert (metrics["health/sign_real"], metrics["health/discriminator_loss_share"]) == (1.0, 0.0)
    failing = {alert.sentinel.signal for alert in told.standing if alert.health is Health.failing}
    assert failing == {"sign_real", "discriminator_loss_share"}
    with pytest.raises(Collapse):
        told.raise_if_collapsed(300)


def test_a_loss_that_states_nothing_and_does_not_rest_at_zero_is_not_judged_by_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told, scores = resting(Unstated())
    assert "Unstated states no `equilibrium`" in caplog.text
    metrics, _ = told.observe(100, scores, steps=LEAST_STEPS, skipped_steps=0)
    assert {"health/sign_real", "health/discriminator_loss_share"}.isdisjoint(metrics)


def test_short_ticks_are_put_together(played: Played) -> None:
    """A tick of one step says nothing: with 19 of 20 steps fine, one skipped step is no collapse."""
    by_parts, whole = health_monitor(played, "stop"), health_monitor(played, "stop")
    parts = [by_parts.observe(at, {"sign/real": at / 20}, steps=1, skipped_steps=1) for at in range(1, LEAST_STEPS + 1)]
    assert [metrics for metrics, _ in parts[:-1]] == [{}] * (LEAST_STEPS - 1)
    mean = sum(range(1, 21)) / 400
    metrics, _ = whole.observe(20, {"sign/real": mean}, steps=20, skipped_steps=1)
    assert parts[-1][0] == pytest.approx(metrics)
    assert metrics["health/skipped_share"] == 0.05


def test_a_part_of_a_tick_waits_for_the_next_look_also_over_a_stop(played: Played) -> None:
    straight, stopped, resumed = (health_monitor(played, "warn") for _ in range(3))
    expected = straight.observe(200, {"sign/real": 0.5}, steps=40, skipped_steps=4, distance_growth=1.5)
    stopped.take({"sign/real": 0.25}, steps=20, distance_growth=1.5)
    resumed.load_state(json.loads(json.dumps(stopped.state(), allow_nan=False)), skipped_steps=2)
    found = resumed.observe(200, {"sign/real": 0.75}, steps=20, skipped_steps=4)
    assert found[0] == pytest.approx(expected[0])


def test_a_checkpoint_from_before_there_were_sentries(played: Played) -> None:
    made = health_monitor(played, "stop")
    made.load_state({}, skipped_steps=40)
    assert not made.knows_the_data
    metrics, said = made.observe(100, WINNING, steps=20, skipped_steps=40)
    assert metrics["health/skipped_share"] == 0.0
    assert said == []


def test_samples_are_followed_from_look_to_look_and_through_a_checkpoint(played: Played) -> None:
    made, resumed = health_monitor(played, "warn"), health_monitor(played, "warn")
    undecided = {"loss/D": 2.0}  # of the hinge loss
    first, _ = made.observe(100, undecided, steps=LEAST_STEPS, skipped_steps=0)
    assert "health/sample_motion" not in first, "nothing to compare with yet"
    # An untrained generator is grey, the data noise of mean 127.5: on 4 x 4 pixels both have nearly one place.
    assert first["health/weak_discriminator"] > 0
    resumed.load_state(json.loads(json.dumps(made.state())), skipped_steps=0)
    with torch.no_grad():
        for average in played.state.averages["generator"].weights.values():
            average.mul_(1.5)
    moved = [one.observe(200, undecided, steps=LEAST_STEPS, skipped_steps=0)[0] for one in (made, resumed)]
    assert moved[0]["health/sample_motion"] > 0
    assert moved[0] == moved[1]
    still, _ = made.observe(300, undecided, steps=LEAST_STEPS, skipped_steps=0)
    assert still["health/sample_motion"] == 0.0
    assert made.observe(400, {"loss/D": 1.0}, steps=LEAST_STEPS, skipped_steps=0)[0]["health/weak_discriminator"] == 0.0


def test_a_checkpoint_of_before_there_was_a_place_is_read(played: Played) -> None:
    made = health_monitor(played, "warn")
    old = {name: value for name, value in made.state().items() if name not in ("real_place", "samples")}
    made.load_state(old, skipped_steps=0)
    found, _ = made.observe(100, {"loss/D": 2.0}, steps=LEAST_STEPS, skipped_steps=0)
    assert "health/diversity" in found
    assert "health/weak_discriminator" not in found
