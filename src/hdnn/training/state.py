"""Training that stands still: all that is needed to go on after a step as if nothing had happened.

Legend: s samples, i the number of a parameter among those that the optimizer moves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hdnn.training.optimizers import AnyOptimizer
from hdnn.training.scores import Record
from hdnn.training.tensors import (
    Memory,
    Weights,
    backend_of,
    columns,
    doubles,
    number,
    parted,
    place,
    records,
    require,
    text,
    under,
    words,
)
from hdnn.training.together import TogetherState


@dataclass(frozen=True)
class TrainingState:
    """All that is needed to go on after a step; `fit(..., resume=state)` does.

    With the same data, recipe, device, number of threads and instruction set the result has the same bits as without
    the pause, unless modules of the user's own draw random numbers. Made by `Progress.state`; its tensors are copies,
    so that it stays as it is while training goes on.

    Args:
        network: state dict of the network.
        optimizer: memory of the optimizer by parameter and name, as in "0.exp_avg".
        order: state of the generator before it drew the order of the epoch that has begun.
        losses: (batches done in this epoch,), their objectives.
        outputs: (samples seen in this epoch, outputs), what the network said to them.
        history: records of the finished epochs.
        seconds: spent in this epoch so far.
        best: state dict of the best weights, empty without `patience`.
        best_score: of these weights.
        waited: epochs since then.
        first: state dict of the weights that the training began with, while it is one to find a number of epochs
            (`Recipe.refit`).
        search: records of the training that found the number of epochs, once it has ended; `history` is then that of
            the training on all rows.
        starts: of a training with `restarts` where these stand, or how they went; None for one that begins once.
        circumstances: what took part that may make a difference to the last bits, in words by name, such as the
            instruction set of the kernels.
        backend: what took the steps, "native" or "torch".
        mean: of the weights (`Recipe.average`), and how many went into it; empty where none is kept.
    """

    network: Weights
    optimizer: Memory
    order: Tensor
    losses: Tensor
    outputs: Tensor
    history: tuple[Record, ...]
    seconds: float
    best: Weights
    best_score: tuple[float, float]
    waited: int
    first: Weights = field(default_factory=dict)
    search: tuple[Record, ...] = ()
    starts: TogetherState | None = None
    circumstances: Mapping[str, str] | None = None  # as in states that earlier versions pickled
    backend: str = "torch"  # of earlier versions, too
    mean: Weights = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """Finished epochs."""
        return len(self.history)

    @property
    def batches(self) -> int:
        """Steps done in the epoch that has begun."""
        return len(self.losses)

    @property
    def is_starting(self) -> bool:
        """Whether the starts of `restarts` have not come to their end."""
        return self.starts is not None and not self.starts.is_over

    def to_tensors(self) -> Weights:
        """The state as named tensors on the CPU, and nothing else: what a file can hold without pickling."""
        numbers = {name: value for name, value in self.optimizer.items() if not isinstance(value, Tensor)}
        arrays = {name: value for name, value in self.optimizer.items() if isinstance(value, Tensor)}
        found = {
            **under("network", self.network),
            **under("optimizer", arrays),
            **under("number", {name: number(value) for name, value in numbers.items()}),
            **under("history", columns(self.history)),
            **under("best", self.best),
            **under("mean", self.mean),
            **under("first", self.first),
            **under("search", columns(self.search)),
            **(under("starts", self.starts.to_tensors()) if self.starts is not None else {}),
            "order": self.order,
            "losses": self.losses,
            "outputs": self.outputs,
            "seconds": number(self.seconds),
            "best_score": doubles(self.best_score),
            "waited": number(self.waited),
            "circumstances": text(self.circumstances or {}),
            "native": number(int(self.backend == "native")),
        }
        return {name: value.cpu().contiguous() for name, value in found.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> TrainingState:
        """The state that `to_tensors` took apart.

        Raises:
            ValueError: if names, shapes or kinds of numbers are not those of a state. Whether they fit a network and an
                optimizer is checked by `fit`.
        """
        parts, single = parted(
            tensors, ("network", "optimizer", "number", "history", "best", "mean", "first", "search", "starts")
        )
        circumstances = single.pop("circumstances", None)  # earlier versions wrote none
        backend = backend_of(single)
        expected = {"order", "losses", "outputs", "seconds", "best_score", "waited"}
        if single.keys() != expected:
            odd = sorted(single.keys() ^ expected)[0]
            raise ValueError(f"A training state consists of other parts than these: {odd!r} is missing or unknown.")
        require("order", single["order"], torch.uint8, tuple(torch.Generator().get_state().shape))
        require("best_score", single["best_score"], torch.float64, (2,))
        for name, kind in (("seconds", torch.float64), ("waited", torch.int64)):
            require(name, single[name], kind, ())
        for name, value in parts["number"].items():
            require(name, value, value.dtype, ())
        if single["losses"].dim() != 1 or single["outputs"].dim() == 0:
            raise ValueError("The losses of a training state must have one axis, its outputs one or more.")
        if not len(single["losses"]) and len(single["outputs"]):
            raise ValueError("A training state that stands where an epoch ended cannot have outputs of its samples.")
        return cls(
            network=parts["network"],
            optimizer={**parts["optimizer"], **{name: value.item() for name, value in parts["number"].items()}},
            order=single["order"],
            losses=single["losses"],
            outputs=single["outputs"],
            history=tuple(records(parts["history"])),
            seconds=float(single["seconds"]),
            best=parts["best"],
            best_score=(float(single["best_score"][0]), float(single["best_score"][1])),
            waited=int(single["waited"]),
            first=parts["first"],
            search=tuple(records(parts["search"])),
            starts=TogetherState.from_tensors(parts["starts"]) if parts["starts"] else None,
            circumstances=None if circumstances is None else words(circumstances),
            backend=backend,
            mean=parts["mean"],
        )


def memory(optimizer: AnyOptimizer) -> Memory:
    """Copies of what an optimizer remembers, by parameter and name; of what it keeps as a list, by place."""
    found: Memory = {}
    for i, kept in optimizer.state_dict()["state"].items():
        for name, value in kept.items():
            if isinstance(value, list) and name not in _WORKSPACES:
                found |= {f"{i}.{name}.{k}": part.detach().clone() for k, part in enumerate(value)}
            elif isinstance(value, Tensor | int | float):
                found[f"{i}.{name}"] = value.detach().clone() if isinstance(value, Tensor) else value
    return found


def remember(optimizer: AnyOptimizer, kept: Memory) -> None:
    """Give a new optimizer the memory of another of its kind.

    Raises:
        ValueError: if the memory is not that of such an optimizer with such parameters.
    """
    kind, like = type(optimizer).__name__, _example(optimizer) if kept else {}
    state: dict[int, dict[str, Any]] = {}
    for key, value in sorted(kept.items(), key=lambda item: place(item[0].rpartition(".")[2])):
        owner, _, rest = key.partition(".")
        name, _, row_number = rest.partition(".")
        i = place(owner) if owner.isdecimal() and len(owner) < 9 else -1
        example = like.get(i, {}).get(name)
        if example is None or bool(row_number) != isinstance(example, list):
            raise ValueError(f"{kind} remembers nothing called {key!r} for this network.")
        value = _alike(key, value, example[0] if isinstance(example, list) else example)
        mine = state.setdefault(i, {other: [] for other, of_all in like[i].items() if isinstance(of_all, list)})
        if not row_number:
            mine[name] = value
        elif row_number == str(len(mine[name])):
            mine[name].append(value)
        else:
            raise ValueError(f"The memory of {kind} is not in order at {key!r}.")
    for i, mine in state.items():
        if missing := like[i].keys() - mine.keys():
            raise ValueError(f"The memory of {kind} for parameter {i} lacks {sorted(missing)[0]}.")
        lengths = {len(row) for row in mine.values() if isinstance(row, list)}
        if len(lengths) > 1 or max(lengths, default=0) > optimizer.param_groups[0].get("history_size", 0):
            raise ValueError(f"The memory of {kind} holds lists of {sorted(lengths)} steps.")
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


# What L-BFGS fills before it reads it.
_WORKSPACES = ("al",)


def _example(optimizer: AnyOptimizer) -> dict[int, dict[str, Any]]:
    """What an optimizer of this kind remembers of such parameters, shown by another that has taken steps."""
    groups = [
        {**group, "params": [nn.Parameter(torch.ones_like(p)) for p in group["params"]]}
        for group in optimizer.param_groups
    ]
    other: Any = type(optimizer)(groups)  # type: ignore[call-arg]  # each has a default for the rest

    def closure() -> Tensor:
        other.zero_grad()
        loss = torch.stack([p.cosh().sum() for group in groups for p in group["params"]]).sum()
        torch.autograd.backward(loss)
        return loss

    with torch.enable_grad():
        closure()
        other.step(closure)
    found: dict[int, dict[str, Any]] = other.state_dict()["state"]
    return {
        i: {name: value for name, value in kept.items() if value is not None and name not in _WORKSPACES}
        for i, kept in found.items()
    }


def _alike(key: str, value: Tensor | int | float, example: Any) -> Tensor | int | float:
    """Something remembered, of the kind and shape of an example; what has no axes may come as a number, too."""
    if isinstance(example, Tensor) and example.dim() == 0 and not isinstance(value, Tensor):
        return torch.tensor(value, dtype=example.dtype, device=example.device)
    given, wanted = torch.as_tensor(value), torch.as_tensor(example)
    require(key, given, given.dtype if isinstance(example, float) else wanted.dtype, tuple(wanted.shape))
    return value.detach().clone() if isinstance(value, Tensor) else value
