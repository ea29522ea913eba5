"""Errors of evaluation that a user can mend."""

from __future__ import annotations

from framework.errors import FrameworkError


class EvaluationError(FrameworkError):
    """An evaluation cannot be done as asked: a metric, weights, images or a reference do not fit."""


class MissingError(EvaluationError):
    """Something a metric needs is not to be had here (weights, enough images): its record is marked missing."""
