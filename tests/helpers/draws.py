"""Random numbers for networks, penalties and augmentations under test, handed out instead of drawn."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from framework.runtime.seeding import Draws


class Given:
    """The protocol `framework.networks.draw.Draw` with recorded values by name; anything else asked for is an error."""

    def __init__(self, values: Mapping[str, Tensor] | None = None) -> None:
        self._values = dict(values or {})

    def _get(self, what: str, shape: tuple[int, ...]) -> Tensor:
        assert what in self._values, f"unexpected draw for {what}"
        value = self._values[what]
        assert tuple(value.shape[1:]) == shape, f"{what}: recorded {tuple(value.shape)}, asked for (n, {shape})"
        return value

    def normal(self, what: str, *shape: int) -> Tensor:
        """The recorded (n, *shape)."""
        return self._get(what, shape)

    def uniform(self, what: str, *shape: int) -> Tensor:
        """The recorded (n, *shape)."""
        return self._get(what, shape)

    def integers(self, what: str, high: int, *shape: int) -> Tensor:
        """The recorded (n, *shape)."""
        value = self._get(what, shape)
        assert int(value.max()) < high
        return value


class Seeded:
    """The protocol `framework.networks.draw.Draw` for some rows of a global batch, as a game would draw them."""

    def __init__(self, *, batch_size: int, rows: slice = slice(None), seed: int = 0) -> None:
        self._draws, self._batch_size, self._rows = Draws(seed=seed, images_seen=0), batch_size, rows

    def normal(self, what: str, *shape: int) -> Tensor:
        """Standard normal values (n, *shape)."""
        return self._draws.normal(what, self._batch_size, *shape)[self._rows]

    def uniform(self, what: str, *shape: int) -> Tensor:
        """Values in [0, 1), (n, *shape)."""
        return self._draws.uniform(what, self._batch_size, *shape)[self._rows]

    def integers(self, what: str, high: int, *shape: int) -> Tensor:
        """Values in [0, high), (n, *shape)."""
        return self._draws.integers(what, high, self._batch_size, *shape)[self._rows]
