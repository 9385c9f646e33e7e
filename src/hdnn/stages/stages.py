"""Stages one after the other, and the maps between them: what a network of several resolutions has for its flow."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hdnn.kernels.transforms import hooked
from hdnn.stages.halves import Halves
from hdnn.stages.maps import Pool, Widen
from hdnn.stages.stage import Stage
from hdnn.steps import packed


class Stages(nn.Sequential):
    """A sequence of `Stage`, `Pool` and `Widen`; what holds of every stage need not hold of the whole.

    Args:
        parts: the first is a stage.

    Raises:
        TypeError: if it is none.

    Example:
        >>> import torch, hdnn
        >>> flows = [hdnn.h2(c, layers=2, step=0.5, kernel_size=3) for c in (4, 8)]
        >>> stages = Stages(hdnn.Stage(flows[0]), hdnn.Pool(2), hdnn.Widen(8), hdnn.Stage(flows[1]))
        >>> stages.features, stages.layers
        (4, 4)
        >>> [tuple(y.shape) for y in stages.ends(torch.zeros(1, 4, 6, 6))]
        [(1, 4, 6, 6), (1, 4, 6, 6), (1, 8, 3, 3)]
    """

    def __init__(self, *parts: nn.Module) -> None:
        if not parts or not isinstance(parts[0], Stage):
            first = type(parts[0]).__name__ if parts else "nothing"
            raise TypeError(f"The first part must be a `Stage`, made of a flow; got {first}.")
        super().__init__(*parts)

    def forward(self, y: Tensor) -> Tensor:
        """Part after part; where every part can, the halves of the state are cut once and joined once.

        Args:
            y: (B, c, H, W) or (B, c, L).

        Returns:
            The state after the last part.
        """
        if not self._apart(y):
            found: Tensor = super().forward(y)  # type: ignore[no-untyped-call]
            return found
        # Compiled layers would read the halves out of the state again and again.
        alone = torch.clone if torch.compiler.is_compiling() else packed
        halves = Halves(*map(alone, y.chunk(2, 1)))
        for part in self:
            halves = part(halves)
        return halves.joined()

    def _apart(self, y: Tensor) -> bool:
        """Whether the state may go in two pieces: through parts that know them, whose hooks nobody waits for."""
        first = self[0]
        if not isinstance(first, Stage) or not all(_takes_halves(part) for part in self):
            return False  # parts may have been wrapped since they were given
        fits = y.dim() == first.flow.space.rank + 1 and y.shape[1] == first.flow.features
        return fits and (torch.compiler.is_compiling() or not hooked())

    @property
    def flows(self) -> list[Stage]:
        """Those of the parts that are stages, in order."""
        return [part for part in self if isinstance(part, Stage)]

    @property
    def features(self) -> int:
        """Channels of the first state."""
        return self.flows[0].flow.features

    @property
    def layers(self) -> int:
        """Of all stages together."""
        return sum(stage.flow.layers for stage in self.flows)

    def links(self) -> list[Callable[[Tensor], Tensor]]:
        """The layers as they are now, as functions of states; in evaluation mode, for nothing is counted in moments.

        A pool and a widening belong to the layer before them. Functions of `hdnn.analysis` take them as a flow.
        """
        found: list[Callable[[Tensor], Tensor]] = []
        for part in self:
            if isinstance(part, Stage):
                fields, flow = part.fields(None), part.flow
                found += [partial(_step, flow.integrator, field, flow.step) for field in fields]
            else:
                found = [*found[:-1], partial(_both, found[-1], part)] if found else [part]
        return found

    def ends(self, y: Tensor) -> list[Tensor]:
        """The state before the first stage and after every one, each of its own size.

        Args:
            y: (B, c, H, W).
        """
        found = [y]
        for part in self:
            y = part(y)
            if isinstance(part, Stage):
                found.append(y)
        return found


def _takes_halves(part: nn.Module) -> bool:
    """Whether a part knows them, and no hook of it, and no `forward` set on it alone, waits for a state."""
    if "forward" in vars(part) or part._forward_hooks or part._forward_pre_hooks:
        return False
    if part._backward_hooks or part._backward_pre_hooks:
        return False
    return part.apart if isinstance(part, Stage) and type(part) is Stage else type(part) in (Pool, Widen)


def _step(integrator: Any, field: Any, h: float, y: Tensor) -> Tensor:
    stepped: Tensor = integrator.step(field, y, h)
    return stepped


def _both(first: Callable[[Tensor], Tensor], second: nn.Module, y: Tensor) -> Tensor:
    after: Tensor = second(first(y))
    return after
