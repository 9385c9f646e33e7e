"""One model on many processes: each computes its piece of every batch, and all take the same step.

The outputs of all pieces are joined, so that the objective is that of the whole batch, whatever loss it has: no mean of
means. Each rank differentiates its own rows of it; the mean of what all find is the gradient of the whole.

Legend: R ranks; B rows of a batch, of all ranks together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm

from hdnn.ranks import Ranks, present, sharing, var_mean
from hdnn.training.batches import Batch, Rows, Source, each, tensors_of
from hdnn.training.objective import Objective
from hdnn.training.recipe import Recipe
from hdnn.training.state import TrainingState

_DROPS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


class Team:
    """What a model on one of the ranks needs of the others.

    Batch norms of PyTorch take the moments of all ranks, and dropout draws for the whole batch, on every rank the same:
    how many ranks there are changes nothing but rounding.

    Args:
        objective: of the model.
        ranks: of which this is one.
    """

    def __init__(self, objective: Objective, ranks: Ranks) -> None:
        self.objective, self.ranks = objective, ranks
        self.coupled = [module for module in objective.network.modules() if _is_norm(module) or _drops(module)]

    @contextmanager
    def at(self, batch: Batch) -> Iterator[None]:
        """Forward and backward on a piece of a batch."""
        with ExitStack() as stack:
            stack.enter_context(sharing(self.ranks))
            for module in self.coupled:
                forward = _normed if _is_norm(module) else _dropped
                module.__dict__["forward"] = partial(forward, batch, module)
                stack.callback(module.__dict__.pop, "forward")
            yield

    def losses(self, batch: Batch) -> tuple[Tensor, Any]:
        """The objective of the whole batch, and its outputs."""
        output = self.joined(self.objective.said(batch.x), batch)
        return self.objective.of(output, batch.y, batch.weight), output

    def joined(self, own: Any, batch: Batch) -> Any:
        """What all ranks say, from what this one says to its rows.

        Raises:
            ValueError: if that is no tensors with a row for each of them.
        """
        piece, rows = batch.piece or slice(0, len(batch.y)), len(batch.y)

        def whole(part: Tensor) -> Tensor:
            if not isinstance(part, Tensor) or part.dim() == 0 or len(part) != piece.stop - piece.start:
                got = f"shape {tuple(part.shape)}" if isinstance(part, Tensor) else type(part).__name__
                raise ValueError(
                    f"Where {self.ranks.count} processes share a batch, each joins its outputs to those of the others, "
                    f"so the network must give one row for each of its {piece.stop - piece.start} samples, as a tensor "
                    f"or several; got {got}. Let it, or train in one process."
                )
            return self.ranks.joined(part, rows, piece)

        return each(whole, own)

    def average(self, parameters: Sequence[nn.Parameter]) -> None:
        """Give all parameters the mean of the gradients over the ranks, at once.

        What has a gradient on one rank has it on all; what has none anywhere still has none.
        """
        learning = [p for p in parameters if p.requires_grad]
        if not learning:
            return
        found = [_dense(p) for p in learning]
        one = next((g for g in found if g is not None), learning[0])
        met = torch.tensor([g is not None for g in found]).to(one)
        parts = [torch.zeros_like(p) if g is None else g for p, g in zip(learning, found, strict=True)]
        flat = torch.cat([*(part.reshape(-1) for part in parts), met])
        flat = self.ranks.add(flat.to(torch.promote_types(flat.dtype, torch.float32))) / self.ranks.count
        *sums, met = torch.split_with_sizes(flat, [*(p.numel() for p in learning), len(learning)])
        some = met.tolist() if any(g is None for g in found) else [1.0] * len(learning)
        for p, g, has in zip(learning, sums, some, strict=True):
            p.grad = _like(p, g) if has else None


def _dense(p: nn.Parameter) -> Tensor | None:
    return p.grad.to_dense() if p.grad is not None and p.grad.is_sparse else p.grad


def _like(p: nn.Parameter, flat: Tensor) -> Tensor:
    """Numbers as a gradient that lies as its parameter does, which fused optimizers want."""
    g = flat.view(p.shape).to(p.dtype)
    return g if p.is_contiguous() else torch.empty_like(p).copy_(g)


@contextmanager
def refusing_together() -> Iterator[None]:
    """Let all ranks refuse what one refuses."""
    ranks, error = present(), None
    try:
        yield
    except (TypeError, ValueError) as found:
        if ranks is None:
            raise
        error = found
    if ranks is not None:
        ranks.agree(error)


def begin(
    ranks: Ranks,
    objective: Objective,
    recipe: Recipe,
    source: Source,
    resume: TrainingState | None,
    watched: Mapping[str, Any],
) -> None:
    """See that all ranks are about to do the same, from the weights of the first.

    Args:
        ranks: of which this is one.
        objective: of the network.
        recipe: how to train.
        source: from what.
        resume: where to go on.
        watched: words on what is recorded beside, by the name of what they are about.

    Raises:
        ValueError: if they are not; the message names what differs.
    """
    network = objective.network
    if any(hasattr(p, "device_mesh") for p in network.parameters()):
        raise ValueError(
            "The parameters of this network are sharded over processes, and `fit` shares batches among whole copies. "
            "Give it the network before `fully_shard`, or train the sharded one in a loop of your own."
        )
    position = None if resume is None else (resume.epochs, resume.batches, resume.is_starting)
    mine = {
        "network": [(name, tuple(p.shape), str(p.dtype), p.requires_grad) for name, p in network.named_parameters()],
        "recipe": repr(recipe),
        "number of batches": source.batches,
        "loss": "its own" if objective.loss is None else type(objective.loss).__qualname__,
        "number of penalties": len(objective.penalties),
        "data": digest(source.data) if isinstance(source, Rows) else "",
        **watched,
        "state to resume": position,
    }
    every = ranks.told(mine)
    for name, value in every[0].items():
        others = [rank for rank, said in enumerate(every) if said[name] != value]
        if others:
            remedy = {
                "data": " Give all of them the same tensors, of which each takes its own part of every batch; or give "
                "each a loader of rows of its own.",
                "validation": " Give all of them the same data to watch, for what the first finds decides.",
                "number of batches": " Cut the rows so that the loaders of all have as many.",
            }.get(name, "")
            raise ValueError(
                f"Process {others[0]} of {ranks.count} has another {name} than process 0, and they train one model "
                f"together.{remedy}"
            )
    hand_out(ranks, network)
    if any(map(_drops, network.modules())):
        torch.set_rng_state(ranks.told(torch.get_rng_state() if ranks.rank == 0 else None)[0])


@torch.no_grad()
def hand_out(ranks: Ranks, network: nn.Module, giver: int = 0) -> None:
    """Give all ranks the weights and buffers of one of them."""
    given = [*network.parameters(), *network.buffers()]
    whole = [x.detach().contiguous() for x in given]
    ranks.hand_out(whole, giver)
    for x, value in zip(given, whole, strict=True):
        if x.data_ptr() != value.data_ptr():
            x.copy_(value)


def agreed(ranks: Ranks, record: Mapping[str, float], device: torch.device) -> dict[str, float]:
    """A record with the numbers of the first rank, for what is decided by it is decided for all."""
    values = torch.tensor(list(record.values()), dtype=torch.float64, device=device)
    ranks.hand_out([values])
    return dict(zip(record, values.tolist(), strict=True))


def digest(data: Batch) -> str:
    """Tells other data by their targets, weights and some of their inputs, without reading all."""
    found = hashlib.sha256(repr([tuple(part.shape) for part in tensors_of(data.x)]).encode())
    few = [part[:: max(1, len(part) // 64)] for part in tensors_of(data.x)]
    for part in (data.y, *_present(data.weight), *few):
        found.update(part.detach().contiguous().cpu().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _present(x: Tensor | None) -> Iterable[Tensor]:
    return () if x is None else (x,)


def _is_norm(module: nn.Module) -> bool:
    """Whether it is a batch norm that does what PyTorch's does."""
    if not isinstance(module, _BatchNorm) or isinstance(module, SyncBatchNorm):
        return False
    return type(module).forward is _BatchNorm.forward


def _drops(module: nn.Module) -> bool:
    """Whether it draws numbers for every sample."""
    return type(module) in _DROPS


def _normed(batch: Batch, module: _BatchNorm, x: Tensor) -> Tensor:
    """What a batch norm does, with the moments of the rows of all ranks."""
    if not module.training or len(batch.y) * x[:1, :1].numel() == 1 == len(x):
        return type(module).forward(module, x)  # which refuses to take the variance of one number
    module._check_input_dim(x)  # type: ignore[no-untyped-call]
    variance, mean, count = var_mean(x)
    channels = (1, -1, *[1] * (x.dim() - 2))
    y = (x - mean.view(channels)) * torch.rsqrt(variance + module.eps).view(channels)
    if module.weight is not None:
        y = y * module.weight.view(channels) + module.bias.view(channels)
    if module.running_mean is not None and module.running_var is not None:
        with torch.no_grad():
            number = module.num_batches_tracked
            if number is not None:
                number.add_(1)
            share = module.momentum if module.momentum is not None else 1 / float(number)  # type: ignore[arg-type]
            module.running_mean.lerp_(mean.to(module.running_mean.dtype), share)
            sample = variance * (count / (count - 1))
            module.running_var.lerp_(sample.to(module.running_var.dtype), share)
    return y.to(x.dtype)


def _dropped(batch: Batch, module: nn.Module, x: Tensor) -> Tensor:
    """What a dropout does to the rows of this rank, drawn for those of all."""
    piece = batch.piece
    if not module.training or piece is None or len(x) != piece.stop - piece.start:
        return type(module).forward(module, x)  # type: ignore[no-any-return]  # what has no rows has nothing in common
    factors: Tensor = type(module).forward(module, x.new_ones(len(batch.y), *x.shape[1:]))
    return x * factors[piece]
