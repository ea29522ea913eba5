"""Count, sum and outer product of features, streamed: all that a Frechet distance needs.

A rank adds its share batch by batch; the sums are float64 and are added over ranks at the end, so no process ever holds
the features, and the result does not depend on who saw what.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from framework.runtime.collectives import summed
from framework.runtime.session import Session


@dataclass(kw_only=True)
class Moments:
    """Count, sum (D,) and sum of outer products (D, D) of features, float64."""

    count: int
    sum: Tensor
    outer: Tensor

    @classmethod
    def zeros(cls, dim: int, *, device: torch.device | str = "cpu") -> Moments:
        """Return the moments of no features, for features of `dim` numbers."""
        zeros = torch.zeros(dim, dim, dtype=torch.float64, device=device)
        return cls(count=0, sum=zeros[0].clone(), outer=zeros)

    def add(self, features: Tensor) -> None:
        """Take features (N, D) into account."""
        rows = features.to(self.sum)
        self.count += len(rows)
        self.sum += rows.sum(0)
        self.outer.addmm_(rows.T, rows)

    def over_ranks(self, session: Session) -> Moments:
        """Return the moments of all ranks' features together, on the host. A collective."""
        return Moments(
            count=int(session.sum_over_ranks(self.count)),
            sum=summed(session, self.sum).cpu(),
            outer=summed(session, self.outer).cpu(),
        )

    @property
    def mean(self) -> Tensor:
        """Mean of the features, (D,)."""
        return self.sum / self.count

    @property
    def covariance(self) -> Tensor:
        """Covariance of the features, (D, D), divided by count - 1."""
        return (self.outer - torch.outer(self.sum, self.mean)) / (self.count - 1)

    def factor(self) -> Tensor:
        """Return F (D, r) with F F^T = covariance and r = min(D, count - 1).

        The covariance of n samples has rank n - 1 at most. Further eigenvalues are rounding and are dropped: the
        distance takes square roots, which would turn 1e-16 into 1e-8, two thousand times over.
        """
        values, vectors = torch.linalg.eigh(self.covariance)
        rank = min(len(values), self.count - 1)
        return vectors[:, -rank:] * values[-rank:].clamp_min(0.0).sqrt()
