"""Conditions of other samples: a discriminator that is shown them learns to look at the condition.

The wrong partner of a sample is the next one of the global batch (matching-aware discriminators, arXiv:1605.05396). So
it depends neither on the number of processes nor on micro-batches, and no sample is its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from framework.games.microbatch import BatchSlice
from framework.runtime.collectives import sum_over_processes
from framework.utils.errors import FrameworkError

MISMATCHED = "_mismatched"
"""The ending of the name under which a term finds the field of another sample."""


def with_mismatched(
    fields: Mapping[str, Tensor], names: Iterable[str], *, slices: Sequence[BatchSlice], batch_size: int
) -> dict[str, Tensor]:
    """Return the fields and, for each of the names, that field of the next sample of the global batch (a collective).

    Args:
        fields: this process's samples by field, each (n, ...), micro-batch after micro-batch.
        names: the fields that are wanted of other samples.
        slices: this process's parts of the global batch, in the order of the samples.
        batch_size: number of samples of the global batch.

    Raises:
        FrameworkError: the data has no such field.
    """
    found = dict(fields)
    rows = torch.cat([torch.arange(part.rows.start, part.rows.stop) for part in slices])
    for name in names:
        if name not in fields:
            raise FrameworkError(f"a term needs the field {name!r} of other samples; the data has {', '.join(fields)}")
        own = fields[name]
        whole = own.new_zeros(batch_size, *own.shape[1:])
        whole[rows.to(own.device)] = own
        whole = sum_over_processes(whole)  # each row is one process's, and the others add 0
        found[name + MISMATCHED] = whole[((rows + 1) % batch_size).to(own.device)]
    return found
