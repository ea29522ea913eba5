"""The training report, a self-contained HTML page about one run or several side by side, made from their folders."""

from framework.review.game import write_game
from framework.review.page import write_report
from framework.review.run import Run, read_run

__all__ = ["Run", "read_run", "write_game", "write_report"]
