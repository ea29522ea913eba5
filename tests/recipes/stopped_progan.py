"""The tiny growing recipe, whose first process is told to stop in the step from FRAMEWORK_TEST_STOP_AT images on."""

import os
import signal

from framework import launch
from framework.games.runner import GameRunner
from tests.recipes.tiny_progan import RECIPE

STOP_AT = int(os.environ.get("FRAMEWORK_TEST_STOP_AT", "-1"))
_step = GameRunner.step


def step(self, batches, *, images_seen):  # type: ignore[no-untyped-def]
    """The step, and the signal after it."""
    result = _step(self, batches, images_seen=images_seen)
    if images_seen == STOP_AT and os.environ["RANK"] == "0":
        os.kill(os.getpid(), signal.SIGTERM)
    return result


if __name__ == "__main__":
    GameRunner.step = step  # type: ignore[method-assign]
    launch(RECIPE)
