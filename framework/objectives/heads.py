"""What a term needs of a discriminator's further heads, and the errors that say what is missing."""

from __future__ import annotations

from torch import Tensor

from framework.objectives.terms import Term, TermInputs
from framework.utils.errors import FrameworkError


def head_of(inputs: TermInputs, which: str, head: str, *, term: Term, advice: str) -> Tensor:
    """Return a field of what the discriminator returned of real or of generated samples, (N, K).

    Args:
        inputs: of the turn.
        which: `real` or `fake`.
        head: the name of the field, such as `classes`.
        term: the term that asks, for the message.
        advice: how a discriminator gets this head, for the message.

    Raises:
        FrameworkError: the turn does not have it: there is no such head, or the term is lazy and has a step of its own.
    """
    name = type(term).__name__
    if which not in inputs.outputs:
        kind = "real" if which == "real" else "generated"
        raise FrameworkError(
            f"{name} needs what the discriminator returns of {kind} samples, which the {inputs.player}'s turn does not "
            "have here; a term that is not due on every turn has it only with lazy_steps=False"
        )
    output = inputs.outputs[which]
    found = getattr(output, head, None)
    if not isinstance(found, Tensor):
        raise FrameworkError(
            f"{name} reads `{head}` of what the discriminator returns, which is a {type(output).__name__} without it: "
            f"{advice}"
        )
    if found.dim() != 2:
        raise FrameworkError(f"{name}: `{head}` has the shape {tuple(found.shape)}, it must be (N, K)")
    return found
