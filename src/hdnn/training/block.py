"""Networks of one shape whose parameters are one block of numbers, which native steps move.

Legend: E networks, P numbers in the parameters of one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hdnn.kernels.training import Trainees
from hdnn.training.fused import setup_of, tensors_of
from hdnn.training.losses import Known
from hdnn.training.recipe import Recipe
from hdnn.training.tensors import Memory, require

_OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}


class Block:
    """Networks in one block: until `close`, their parameters are views of its rows, in which they are seen to move.

    Or the block is `apart`, with numbers of its own.

    Args:
        networks: E of them, for which `hdnn.training.fused.why_not` has no words.
        recipe: how they are trained.
        loss: that is given; None where it is their own.
        apart: whether parameters stay where they are; what moves the block copies between them.

    Attributes:
        setup: what native steps do.
        trainees: what they move.
        gradient: (E, P), what the last step moved along.
        moments: (1 or 2, E, P), of the optimizer.
    """

    def __init__(
        self, networks: Sequence[nn.Module], recipe: Recipe, loss: Known | None = None, *, apart: bool = False
    ) -> None:
        self.networks = networks
        self.setup = setup_of(networks[0], recipe, loss)
        self._parts = [tensors_of(network) for network in networks]
        rows = [torch.cat([p.detach().flatten() for p in parts.values()]) for parts in self._parts]
        self.trainees = Trainees.fresh(torch.stack(rows), self.setup.optimizer)
        # One memory for the moments, which is then copied and looked at in one go; that of the parameters is their own,
        # for it is saved with each of them.
        self.moments = torch.zeros(1 if self.trainees.second is None else 2, *self.trainees.parameters.shape).to(
            self.trainees.parameters
        )
        self.trainees.first = self.moments[0]
        self.trainees.second = None if self.trainees.second is None else self.moments[1]
        self.gradient = torch.zeros_like(self.trainees.parameters)
        self._own = [[p.data for p in parts.values()] for parts in self._parts]
        self._views = [self.parted(row) for row in self.trainees.parameters]
        if apart:
            return
        for parts in self._parts:
            for p in parts.values():
                p.grad = None
        self.bind()

    def bind(self) -> None:
        """Let parameters be views of the block, also where somebody has put other numbers in their place.

        Raises:
            ValueError: if some no longer learn, or do now, or others stand in their place.
        """
        for network, parts, views in zip(self.networks, self._parts, self._views, strict=True):
            for (name, p), now, view in zip(parts.items(), tensors_of(network).values(), views, strict=True):
                if p is not now:
                    raise ValueError(
                        f"A callback has put another parameter in the place of one that is trained ({name}). Change "
                        f"its numbers, as `load_state_dict` does without `assign`, do so between two calls of `fit`, "
                        f'or use fit(..., backend="torch").'
                    )
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
        """Give the parameters a copy of their gradients, as whoever keeps one expects."""
        for parts, row in zip(self._parts, self.gradient.clone(), strict=True):
            for (name, p), slope in zip(parts.items(), self.parted(row), strict=True):
                if name in self.setup.trains:
                    p.grad = slope

    def close(self) -> None:
        """Give the networks what they have learned, in the memory that they had."""
        with torch.no_grad():
            for parts, own, views in zip(self._parts, self._own, self._views, strict=True):
                for p, before, view in zip(parts.values(), own, views, strict=True):
                    before.copy_(view if p.data_ptr() == view.data_ptr() else p.detach())
                    p.data = before

    def weights(self) -> dict[str, Tensor]:
        """The parameters by name, (E, ...)."""
        names = {id(p): name for name, p in self.networks[0].named_parameters()}
        columns = self._columns(self.trainees.parameters)
        return {names[id(p)]: values for p, values in zip(self._parts[0].values(), columns, strict=True)}

    def parted(self, row: Tensor) -> list[Tensor]:
        """The parts of the P numbers of a network, in the shapes of its parameters."""
        return [values[0] for values in self._columns(row[None])]

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
        frozen = {str(i) for i, name in enumerate(self._known(stacked)) if name not in self.setup.trains}
        memory = {key: value for key, value in memory.items() if key.partition(".")[0] not in frozen}
        if unknown := sorted(memory.keys() - kept.keys()):
            raise ValueError(f"{kind} remembers nothing called {unknown[0]!r} for this network.")
        if missing := sorted(kept.keys() - memory.keys()):
            owner, _, name = missing[0].partition(".")
            raise ValueError(
                f"The memory of {kind} for parameter {owner} lacks {name}. If it was frozen then and learns now, use "
                f'fit(..., backend="torch"): native steps are taken by all parameters at once.'
            )
        given = {key: torch.as_tensor(value) for key, value in memory.items()}
        for key, value in kept.items():
            require(key, given[key], given[key].dtype if key.endswith(".step") else value.dtype, tuple(value.shape))
        if any(value.is_complex() for value in given.values()):
            raise ValueError(f"The memory of {kind} holds complex numbers.")
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
        known = self._known(stacked)
        for moment, rows in moments.items():
            if rows is None:
                continue
            columns = dict(zip(self._parts[0], self._columns(rows), strict=True))
            for i, name in enumerate(known):
                if name in self.setup.trains:
                    found[f"{i}.{moment}"] = columns[name] if stacked else columns[name][0]
                    if self.trainees.second is not None:
                        found[f"{i}.step"] = torch.tensor(float(self.trainees.done), dtype=torch.float32)
        return found

    def _known(self, stacked: bool) -> list[str]:
        """The parts that PyTorch's optimizer counts: of one network the frozen ones, too."""
        places = {id(p): i for i, p in enumerate(self.networks[0].parameters())}
        known = sorted(self._parts[0], key=lambda name: places[id(self._parts[0][name])])
        return [name for name in known if not stacked or name in self.setup.trains]

    def _columns(self, rows: Tensor) -> list[Tensor]:
        """The parts of (E, P) numbers, (E, ...) each."""
        parts = list(self._parts[0].values())
        split = torch.split(rows, [p.numel() for p in parts], 1)
        return [values.view(len(rows), *p.shape) for values, p in zip(split, parts, strict=True)]
