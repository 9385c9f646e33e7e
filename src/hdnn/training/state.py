"""Training that stands still: all that is needed to go on after a step as if nothing had happened.

Legend: s samples, i the number of a parameter among those that the optimizer moves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hdnn.training.objective import Record

Weights = dict[str, Tensor]
Memory = dict[str, Tensor | int | float]

# What L-BFGS keeps as lists, one tensor for each step that it remembers.
_LISTS = ("old_dirs", "old_stps", "ro")
_SCALARS = ("step", "ro", "t", "H_diag")
_ONE_FOR_ALL = ("d", "old_dirs", "old_stps", "prev_flat_grad")
_COUNTS = ("func_evals", "n_iter")
_NUMBERS = (*_COUNTS, "t", "H_diag", "prev_loss")


@dataclass(frozen=True)
class TrainingState:
    """All that is needed to go on after a step; `fit(..., resume=state)` does.

    With the same data, recipe, device and number of threads the result has the same bits as without the pause. Made by
    `Progress.state`; its tensors are copies, so that it stays as it is while training goes on.

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

    @property
    def epochs(self) -> int:
        """Finished epochs."""
        return len(self.history)

    @property
    def batches(self) -> int:
        """Steps done in the epoch that has begun."""
        return len(self.losses)

    def to_tensors(self) -> Weights:
        """The state as named tensors on the CPU, and nothing else: what a file can hold without pickling."""
        numbers = {name: value for name, value in self.optimizer.items() if not isinstance(value, Tensor)}
        arrays = {name: value for name, value in self.optimizer.items() if isinstance(value, Tensor)}
        columns = list(self.history[0]) if self.history else []
        # Files do not keep the order of names.
        places = {name: f"{k}.{name}" for k, name in enumerate(columns)}
        found = {
            **_under("network", self.network),
            **_under("optimizer", arrays),
            **_under("number", {name: _number(value) for name, value in numbers.items()}),
            **_under("history", {places[name]: _doubles(record[name] for record in self.history) for name in columns}),
            **_under("best", self.best),
            "order": self.order,
            "losses": self.losses,
            "outputs": self.outputs,
            "seconds": _number(self.seconds),
            "best_score": _doubles(self.best_score),
            "waited": _number(self.waited),
        }
        return {name: value.cpu().contiguous() for name, value in found.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> TrainingState:
        """The state that `to_tensors` took apart.

        Raises:
            ValueError: if names, shapes or kinds of numbers are not those of a state. Whether they fit a network and an
                optimizer is checked by `fit`.
        """
        parts: dict[str, Weights] = {name: {} for name in ("network", "optimizer", "number", "history", "best")}
        single: Weights = {}
        for name, value in tensors.items():
            part, dot, rest = name.partition(".")
            if dot and part in parts:
                parts[part][rest] = value
            else:
                single[name] = value
        expected = {"order", "losses", "outputs", "seconds", "best_score", "waited"}
        if single.keys() != expected:
            odd = sorted(single.keys() ^ expected)[0]
            raise ValueError(f"A training state consists of other parts than these: {odd!r} is missing or unknown.")
        _require("order", single["order"], torch.uint8, tuple(torch.Generator().get_state().shape))
        _require("best_score", single["best_score"], torch.float64, (2,))
        for name, kind in (("seconds", torch.float64), ("waited", torch.int64)):
            _require(name, single[name], kind, ())
        for name, value in parts["number"].items():
            _require(name, value, torch.int64 if name.endswith(_COUNTS) else value.dtype, ())
        epochs = max((value.numel() for value in parts["history"].values()), default=0)
        for name, value in parts["history"].items():
            _require(name, value, torch.float64, (epochs,))
        if single["losses"].dim() != 1 or single["outputs"].dim() != 2:
            raise ValueError("The losses and outputs of a training state must have one axis and two.")
        ordered = sorted(parts["history"].items(), key=lambda item: _place(item[0]))
        columns = {name.partition(".")[2]: value.tolist() for name, value in ordered}
        return cls(
            network=parts["network"],
            optimizer={**parts["optimizer"], **{name: value.item() for name, value in parts["number"].items()}},
            order=single["order"],
            losses=single["losses"],
            outputs=single["outputs"],
            history=tuple(dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)),
            seconds=float(single["seconds"]),
            best=parts["best"],
            best_score=(float(single["best_score"][0]), float(single["best_score"][1])),
            waited=int(single["waited"]),
        )


def copied(weights: Mapping[str, Tensor]) -> Weights:
    """Copies that later steps do not move."""
    return {name: value.detach().clone() for name, value in weights.items()}


def memory(optimizer: torch.optim.Optimizer) -> Memory:
    """Copies of what an optimizer remembers, by parameter and name."""
    found: Memory = {}
    for i, kept in optimizer.state_dict()["state"].items():
        for name, value in kept.items():
            if isinstance(value, Tensor):
                found[f"{i}.{name}"] = value.detach().clone()
            elif name in _LISTS:
                found |= {f"{i}.{name}.{k}": part.detach().clone() for k, part in enumerate(value)}
            elif isinstance(value, int | float):  # else a work space of L-BFGS, which fills it before it reads it
                found[f"{i}.{name}"] = value
    return found


def remember(optimizer: torch.optim.Optimizer, kept: Memory) -> None:
    """Give a new optimizer the memory of another of its kind.

    Raises:
        ValueError: if the memory is not that of such an optimizer with such parameters.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    lbfgs = isinstance(optimizer, torch.optim.LBFGS)
    known = _known(optimizer)
    state: dict[int, dict[str, object]] = {}
    for key, value in sorted(kept.items(), key=lambda item: _place(item[0].rpartition(".")[2])):
        number, _, rest = key.partition(".")
        name, _, place = rest.partition(".")
        i = int(number) if number.isdecimal() and len(number) < 9 else len(parameters)
        if i >= (1 if lbfgs else len(parameters)) or name not in known or bool(place) != (lbfgs and name in _LISTS):
            raise ValueError(f"{type(optimizer).__name__} remembers nothing called {key!r} for this network.")
        if isinstance(value, Tensor):
            _check_shape(key, name, value, parameters, i)
            value = value.detach().clone()
        elif name not in _NUMBERS:
            raise ValueError(f"{key!r} of the training state must be a tensor; got {value}.")
        mine = state.setdefault(i, {name: [] for name in _LISTS} if lbfgs else {})
        if not place:
            mine[name] = value
            continue
        row = mine[name]
        if not isinstance(row, list) or place != str(len(row)):
            raise ValueError(f"The memory of LBFGS is not in order at {key!r}.")
        row.append(value)
    for i, mine in state.items():
        if missing := known - mine.keys():
            raise ValueError(f"The memory of {type(optimizer).__name__} for parameter {i} lacks {sorted(missing)[0]}.")
        lengths = {len(row) for row in mine.values() if isinstance(row, list)}
        if len(lengths) > 1 or max(lengths, default=0) > optimizer.param_groups[0].get("history_size", 0):
            raise ValueError(f"The memory of LBFGS holds lists of {sorted(lengths)} steps.")
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _known(optimizer: torch.optim.Optimizer) -> set[str]:
    if isinstance(optimizer, torch.optim.LBFGS):
        return {*_COUNTS, *_LISTS, "d", "t", "H_diag", "prev_flat_grad", "prev_loss"}
    return {"momentum_buffer"} if isinstance(optimizer, torch.optim.SGD) else {"step", "exp_avg", "exp_avg_sq"}


def _check_shape(key: str, name: str, value: Tensor, parameters: list[Tensor], i: int) -> None:
    if name in _SCALARS:
        shape: tuple[int, ...] = ()
    elif name in _ONE_FOR_ALL:
        shape = (sum(p.numel() for p in parameters),)
    else:
        shape = tuple(parameters[i].shape)
    _require(key, value, torch.float32 if name == "step" else parameters[i].dtype, shape)


def require_alike(what: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """See that tensors have the names, shapes and kinds of others.

    Raises:
        ValueError: if not.
    """
    if found.keys() != expected.keys():
        odd = sorted(found.keys() ^ expected.keys())[0]
        raise ValueError(f"The training state belongs to another network: {odd!r} is in one of them only.")
    for name, value in found.items():
        _require(f"{what} {name}", value, expected[name].dtype, tuple(expected[name].shape))


def _require(name: str, value: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    if value.dtype != dtype or tuple(value.shape) != shape:
        raise ValueError(
            f"{name!r} of the training state must be {dtype} of shape {shape}; got {value.dtype} of shape "
            f"{tuple(value.shape)}. Does it belong to this network, recipe and data?"
        )


def _place(text: str) -> int:
    """The number with which a name begins, to sort by; 0 for one that has none."""
    number = text.partition(".")[0]
    return int(number) if number.isdecimal() and len(number) < 9 else 0


def _under(part: str, tensors: Mapping[str, Tensor]) -> Weights:
    return {f"{part}.{name}": value for name, value in tensors.items()}


def _number(value: int | float) -> Tensor:
    return torch.tensor(value, dtype=torch.int64 if isinstance(value, int) else torch.float64)


def _doubles(values: Iterable[float]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float64)
