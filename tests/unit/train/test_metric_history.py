"""Best and latest of every series, and how far the latest is from the best."""

from __future__ import annotations

import json

from framework.train.metric_history import MetricHistory, is_distance


def test_best_and_latest_of_every_series() -> None:
    standing = MetricHistory()
    for images, fid, recall in ((10, 30.0, 0.1), (20, 12.0, 0.3), (30, 12.0, 0.2)):
        standing.take(images, {"metrics/fid50k-00000001": fid, "metrics/recall50k-00000001": recall})
    assert standing.best == {"metrics/fid50k-00000001": (20, 12.0), "metrics/recall50k-00000001": (20, 0.3)}
    assert standing.latest == {"metrics/fid50k-00000001": (30, 12.0), "metrics/recall50k-00000001": (30, 0.2)}
    again = MetricHistory()
    again.load_state(json.loads(json.dumps(standing.state())))
    assert (again.best, again.latest) == (standing.best, standing.latest)
    again.load_state({})
    assert again.best == again.latest == {}


def test_the_protocol_tells_which_value_is_the_best() -> None:
    standing = MetricHistory()
    lower = {"metrics/modes_hit-00000001": False, "metrics/paired_lpips-00000001": True}
    for images, modes, distance in ((10, 3.0, 0.5), (20, 8.0, 0.2), (30, 7.0, 0.9)):
        values = {"metrics/modes_hit-00000001": modes, "metrics/paired_lpips-00000001": distance}
        standing.take(images, values, lower_is_better=lower)
    assert standing.best == {"metrics/modes_hit-00000001": (20, 8.0), "metrics/paired_lpips-00000001": (20, 0.2)}


def test_growth_is_within_one_protocol() -> None:
    standing = MetricHistory()
    assert standing.growth("fid50k") is None
    standing.take(10, {"metrics/fid50k-00000001": 10.0, "metrics/kid50k-00000001": -0.5})
    assert standing.growth("fid50k") == 1.0
    assert standing.growth("kid50k") is None, "relative to a negative best means nothing"
    standing.take(20, {"metrics/fid50k-00000001": 25.0})
    assert standing.growth("fid50k") == 2.5
    standing.take(30, {"metrics/fid50k-00000002": 90.0})  # the protocol changed: another line begins
    assert standing.growth("fid50k") == 1.0
    assert standing.growth("fid10k") is None


def test_which_metrics_are_distances() -> None:
    names = ("fid50k", "fd_fashion_classifier_10k", "kid", "ppl10k", "is", "is50k", "precision10k", "lpips2k")
    assert [is_distance(name) for name in names] == [True] * 4 + [False] * 4
