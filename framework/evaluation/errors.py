"""Errors of evaluation that a user can mend."""

from __future__ import annotations

from framework.utils.errors import FrameworkError


class EvaluationError(FrameworkError):
    """An evaluation cannot be done as asked: a metric, weights, images or a reference set do not fit."""


class MissingError(EvaluationError):
    """Something a metric needs is missing here (weights, enough images): its record is marked missing."""
