"""Networks of one shape whose parameters are one block of numbers, which native steps move.

Legend: E networks, P numbers in the parameters of one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hdnn.kernels.training import Trainees
from hdnn.networks import Network
from hdnn.training.fused import setup_of, tensors_of
from hdnn.training.recipe import Recipe
from hdnn.training.tensors import Memory, require

_OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}


class Block:
    """Networks in one block: until `close`, their parameters are views of its rows, so that everybody sees them move.

    Args:
        networks: E of them, for which `hdnn.training.fused.why_not` has no words.
        recipe: how they are trained.

    Attributes:
        setup: what native steps do.
        trainees: what they move.
        gradient: (E, P), what the last step moved along.
        moving: (2 or 3, E, P), parameters and moments.
    """

    def __init__(self, networks: Sequence[Network], recipe: Recipe) -> None:
        self.networks = networks
        self.setup = setup_of(networks[0], recipe)
        self._parts = [tensors_of(network) for network in networks]
        rows = [torch.cat([p.detach().flatten() for p in parts.values()]) for parts in self._parts]
        self.trainees = Trainees.fresh(torch.stack(rows), self.setup.optimizer)
        # One memory for all that moves, which is then copied and looked at in one go.
        moments = [self.trainees.first, *([] if self.trainees.second is None else [self.trainees.second])]
        self.moving = torch.stack([self.trainees.parameters, *moments])
        self.trainees.parameters, self.trainees.first = self.moving[0], self.moving[1]
        self.trainees.second = None if self.trainees.second is None else self.moving[2]
        self.gradient = torch.zeros_like(self.trainees.parameters)
        self._own = [[p.data for p in parts.values()] for parts in self._parts]
        self._views = [self._parted(row) for row in self.trainees.parameters]
        self._slopes = [self._parted(row) for row in self.gradient]
        for parts in self._parts:
            for p in parts.values():
                p.grad = None
        self.bind()

    def bind(self) -> None:
        """Let parameters be views of the block, also where somebody has put others in their place.

        Raises:
            ValueError: if some no longer learn, or do now.
        """
        for parts, views in zip(self._parts, self._views, strict=True):
            for (name, p), view in zip(parts.items(), views, strict=True):
                if p.requires_grad != (name in self.setup.trains):
                    done = "frozen" if name in self.setup.trains else "unfrozen"
                    raise ValueError(
                        f"A callback has {done} a parameter of the network ({name}) in the middle of a training. Do so "
                        f'between two calls of `fit`, or use fit(..., backend="torch").'
                    )
                if p.data_ptr() != view.data_ptr():
                    view.copy_(p.detach())
                    p.data = view

    def show_gradient(self) -> None:
        """Let the gradients of the parameters be views of that of the block."""
        for parts, slopes in zip(self._parts, self._slopes, strict=True):
            for (name, p), slope in zip(parts.items(), slopes, strict=True):
                if name in self.setup.trains:
                    p.grad = slope

    def close(self) -> None:
        """Give the networks what they have learned, in the memory that they had."""
        with torch.no_grad():
            for parts, own, views in zip(self._parts, self._own, self._views, strict=True):
                for p, before, view in zip(parts.values(), own, views, strict=True):
                    before.copy_(view)
                    p.data = before
                    p.grad = None if p.grad is None else p.grad.clone()

    def weights(self) -> dict[str, Tensor]:
        """The parameters by name, (E, ...)."""
        names = {id(p): name for name, p in self.networks[0].named_parameters()}
        columns = self._columns(self.trainees.parameters)
        return {names[id(p)]: values for p, values in zip(self._parts[0].values(), columns, strict=True)}

    def memory(self, *, stacked: bool) -> Memory:
        """Copies of what the optimizer remembers, by parameter and name as PyTorch's has it."""
        if not self.trainees.done:
            return {}
        return {key: value.clone() for key, value in self._kept(stacked).items()}

    def remember(self, memory: Memory, *, stacked: bool) -> None:
        """Go on with a memory, which PyTorch's optimizer of this kind may have, too.

        Raises:
            ValueError: if it is none.
        """
        if not memory:
            return
        kept, kind = self._kept(stacked), _OPTIMIZERS[self.setup.optimizer]
        if unknown := sorted(memory.keys() - kept.keys()):
            raise ValueError(f"{kind} remembers nothing called {unknown[0]!r} for this network.")
        if missing := sorted(kept.keys() - memory.keys()):
            owner, _, name = missing[0].partition(".")
            raise ValueError(f"The memory of {kind} for parameter {owner} lacks {name}.")
        given = {key: torch.as_tensor(value) for key, value in memory.items()}
        for key, value in kept.items():
            require(key, given[key], given[key].dtype if key.endswith(".step") else value.dtype, tuple(value.shape))
        steps = {float(value) for key, value in given.items() if key.endswith(".step")}
        if len(steps) > 1 or not all(0 <= step < 2**53 and step == int(step) for step in steps):
            raise ValueError(
                f"The memory of {kind} has taken {', '.join(f'{step:g}' for step in sorted(steps))} steps, parameter "
                f"by parameter; native steps are whole, and taken by all at once."
            )
        for key, value in kept.items():
            if not key.endswith(".step"):
                value.copy_(given[key])
        self.trainees.done = int(next(iter(steps), 1))

    def _kept(self, stacked: bool) -> dict[str, Tensor]:
        """What is remembered by key, itself; the number of steps as a copy."""
        moments = {"exp_avg": self.trainees.first, "exp_avg_sq": self.trainees.second}
        if self.trainees.second is None:
            moments = {"momentum_buffer": self.trainees.first}
        found: dict[str, Tensor] = {}
        # PyTorch's optimizer of one network counts frozen parameters, too.
        known = [name for name in self._parts[0] if not stacked or name in self.setup.trains]
        for moment, rows in moments.items():
            if rows is None:
                continue
            columns = dict(zip(self._parts[0], self._columns(rows), strict=True))
            for i, name in enumerate(known):
                if name in self.setup.trains:
                    found[f"{i}.{moment}"] = columns[name] if stacked else columns[name][0]
                    if self.trainees.second is not None:
                        found[f"{i}.step"] = torch.tensor(float(self.trainees.done))
        return found

    def _columns(self, rows: Tensor) -> list[Tensor]:
        """The parts of (E, P) numbers, (E, ...) each."""
        parts = list(self._parts[0].values())
        split = torch.split(rows, [p.numel() for p in parts], 1)
        return [values.view(len(rows), *p.shape) for values, p in zip(split, parts, strict=True)]

    def _parted(self, row: Tensor) -> list[Tensor]:
        """The parts of the P numbers of a network."""
        return [values[0] for values in self._columns(row[None])]
