"""Batches: of tensors, in an order that we draw, or of a loader of the user's, in its own.

Legend: s samples, E members. Inputs are a tensor, several, which a model gets one after the other, or a mapping, which
it gets by name; or images as bytes, `hdnn.data.Pixels`, which become a tensor batch by batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from hdnn.data.pixels import Pixels
from hdnn.ranks import Ranks
from hdnn.training.augmentation import Augmentation
from hdnn.training.joining import joined

Inputs = Tensor | Sequence[Tensor] | Mapping[str, Tensor] | Pixels
Some = TypeVar("Some", bound=Inputs)
_TOGETHER = 2**17  # numbers of inputs that are gathered at a time, half a MiB
Call = Mapping[str, Any]  # what every call of a model gets beside its inputs


class Batch(NamedTuple):
    """Samples: inputs, targets, and weights where they have some.

    Where ranks share a batch, `x` are the rows of this one, and `piece` says which of `y` and `weight` these are.
    """

    x: Inputs
    y: Tensor
    weight: Tensor | None = None
    piece: slice | None = None

    def each(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """The same with all tensors changed; `Pixels` stay as they are."""
        weight = None if self.weight is None else function(self.weight)
        return Batch(each(function, self.x), function(self.y), weight, self.piece)


class Source(Protocol):
    """Where batches come from, an epoch at a time."""

    batches: int
    stacked: bool
    generators: Sequence[torch.Generator]
    ranks: Ranks | None

    def epoch(self, number: int = 1) -> Iterator[Batch]:
        """All batches once; `number` counts epochs from 1, for what changes with them."""

    def parts(self, size: int) -> Iterator[Batch]:
        """All samples once, in their own order, in parts of about this size."""


class Rows:
    """Batches of tensors, in an order drawn anew for every epoch.

    Args:
        data: (s, ...) each; stacked (E, s, ...), each member with its own order.
        size: samples of a batch; the last may be smaller.
        generators: of the order; E where members are stacked, else one.
        stacked: whether the tensors have a leading axis of members.
        augmentation: of images, as they are drawn; `parts` are without.
        ranks: that share each batch of an epoch; the order is that of one process.
    """

    def __init__(
        self,
        data: Batch,
        size: int,
        generators: Sequence[torch.Generator],
        *,
        stacked: bool = False,
        augmentation: Augmentation | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        # What a step goes back through is its own: inputs that want gradients do so anew in every batch.
        self.wanting = [part.requires_grad for part in tensors_of(data.x)]
        self.data = data.each(Tensor.detach)
        self.ranks = ranks
        self.augmentation = augmentation
        self.size = size
        self.generators = generators
        self.stacked = stacked
        self.count = data.y.shape[int(stacked)]
        self.batches = math.ceil(self.count / size)

    def order(self) -> Tensor:
        """The order of an epoch, (s,), or of each member (E, s), drawn anew."""
        orders = [torch.randperm(self.count, generator=generator) for generator in self.generators]
        return torch.stack(orders) if self.stacked else orders[0]

    def orders(self, epochs: int) -> Tensor:
        """Those of epochs to come, (epochs, s), drawn one after the other; not of members."""
        orders = torch.empty(epochs, self.count, dtype=torch.int64)
        for order in orders:
            torch.randperm(self.count, generator=self.generators[0], out=order)
        return orders

    @property
    def is_made(self) -> bool:
        """Whether inputs are there as they are drawn, and not made for each batch."""
        return self.augmentation is None and not isinstance(self.data.x, Pixels)

    def epoch(self, number: int = 1) -> Iterator[Batch]:
        """All batches once."""
        place = self.data.y.device
        order = self.order().to(place)
        member = torch.arange(len(self.generators), device=place)[:, None]
        every = torch.split(order, self.size, dim=-1)
        own = every
        if self.ranks is not None:
            own = tuple(each[self.ranks.piece(len(each))] for each in every)
        drawn = self._drawn([(member, each) if self.stacked else each for each in every], own)
        for chosen, batch in zip(own, drawn, strict=True):
            for part, wants in zip(tensors_of(batch.x), self.wanting, strict=False):
                part.requires_grad_(wants)
            if self.augmentation is None:
                yield batch
            else:
                yield batch._replace(x=self.augmentation(batch.x, number, chosen))  # type: ignore[arg-type]

    def parts(self, size: int) -> Iterator[Batch]:
        """All samples once, in their own order."""
        return self._drawn([(slice(None), part) if self.stacked else part for part in slices(self.count, size)])

    def shared_parts(self, size: int, ranks: Ranks) -> Iterator[Batch]:
        """All samples once, in parts about as long as each other, of which each rank has the inputs of its piece."""
        self.ranks = ranks
        every = slices(self.count, math.ceil(self.count / math.ceil(self.count / size)))
        own = []
        for part in every:
            piece = ranks.piece(min(part.stop, self.count) - part.start)
            own.append(slice(part.start + piece.start, part.start + piece.stop))
        return self._drawn(every, own)

    def _drawn(self, chosen: Sequence[Any], own: Sequence[Any] = ()) -> Iterator[Batch]:
        """One batch after the other; where ranks share them, with inputs of their own."""
        if self.ranks is None or not own:
            own = chosen
        if not isinstance(self.data.x, Pixels):
            if own is chosen:
                return self._gathered(chosen)
            images: Iterator[Inputs] = (each(itemgetter(rows), self.data.x) for rows in own)
        else:
            images = made(self.data.x, own, self.data.y.device)
        others = (Batch((), self.data.y, self.data.weight).each(itemgetter(rows)) for rows in chosen)
        return (
            batch._replace(x=x, piece=None if own is chosen else self.ranks.piece(len(batch.y)))  # type: ignore[union-attr]
            for x, batch in zip(images, others, strict=True)
        )

    def _gathered(self, chosen: Sequence[Any]) -> Iterator[Batch]:
        """Rows of tensors; small batches are gathered many at a time, for one alone takes as long."""
        x, many = self.data.x, 1
        if isinstance(x, Tensor) and chosen and isinstance(chosen[0], Tensor):
            many = max(1, _TOGETHER * self.count // max(1, x.numel() * self.size))
        for start in range(0, len(chosen), many):
            every = chosen[start : start + many]
            if many == 1:
                yield self.data.each(itemgetter(every[0]))
                continue
            sizes = [len(rows) for rows in every]
            gathered: tuple[Any, ...] = self.data.each(itemgetter(torch.cat(list(every))))
            split = [[None] * len(every) if part is None else torch.split(part, sizes) for part in gathered]
            yield from map(Batch, *split)


class Loader:
    """Batches of a loader of the user's, in its order.

    Args:
        loader: gives (x, y) or (x, y, weight), and has a length.
        device: where the batches are wanted.
        checked: makes each of them, or refuses it, before it goes there.
        weigh: makes the weights of a batch, of all ranks, usable.
        ranks: that have a loader each, whose batches together are one.

    Raises:
        TypeError: if it has no length or is none; from `epoch`, if it gives something else.
    """

    generators: Sequence[torch.Generator] = ()
    stacked = False

    def __init__(
        self,
        loader: Iterable[Any] | Pixels,
        device: torch.device,
        checked: Callable[[Batch], Batch] = lambda batch: batch,
        weigh: Callable[[Batch], Batch] = lambda batch: batch,
        ranks: Ranks | None = None,
    ) -> None:
        if isinstance(loader, Pixels):
            raise TypeError(
                "Images do not say what they show: give their classes as targets, `fit(model, x, y, recipe)`."
            )
        if isinstance(loader, Dataset) and not isinstance(loader, IterableDataset):
            raise TypeError(
                f"A {type(loader).__name__} gives single samples, and training takes batches. Use "
                f"`DataLoader(dataset, batch_size=125, shuffle=True)`, with batch_size=None where each of its items is "
                f"a batch."
            )
        try:
            self.batches = len(loader)  # type: ignore[arg-type]
        except TypeError as error:
            raise TypeError(
                f"Without targets, the second argument must be a loader: it is iterated once an epoch for (x, y) or "
                f"(x, y, weight), and says by len() how many batches there are; got {type(loader).__name__}. Give "
                f"tensors, `fit(model, x, y, recipe)`, or a DataLoader or list of batches."
            ) from error
        if self.batches == 0:
            raise ValueError("The loader has no batches, so there is nothing to learn from.")
        self.loader = loader
        self.device = device
        self.checked, self.weigh, self.ranks = checked, weigh, ranks
        self._has_begun = False

    def epoch(self, number: int = 1) -> Iterator[Batch]:
        """All batches once."""
        own = self._given()
        if self.ranks is not None:
            own = joined(own, self.batches, self.ranks, self.device, look=not self._has_begun)
            self._has_begun = True
        count = 0
        for count, batch in enumerate(own, start=1):  # noqa: B007
            yield self.weigh(batch)
        if count != self.batches:
            raise ValueError(
                f"The loader has {self.batches} batches by its len(), but gave {count}. Correct its len()."
            )

    def _given(self) -> Iterator[Batch]:
        """The batches of this process."""
        for given in self.loader:
            batch = self.checked(batch_of(given))
            yield batch.each(lambda tensor: tensor.to(self.device))

    def parts(self, size: int) -> Iterator[Batch]:
        """All batches once, as they come."""
        return self.epoch()


def made(images: Pixels, chosen: Iterable[Any], device: torch.device | str = "cpu") -> Iterator[Tensor]:
    """The inputs of one choice of images after the other.

    Args:
        images: as bytes.
        chosen: of them, a slice or indices (r,) each.
        device: where the inputs are wanted; on another than the CPU they are made there.
    """
    encoder = images.encoder
    rows = (each.cpu().numpy() if isinstance(each, Tensor) else each for each in chosen)
    if torch.device(device).type == "cpu":
        return (torch.from_numpy(encoder.encode(values)) for values in images.read(rows))
    levels = torch.from_numpy(encoder.levels()).to(device)
    channel = torch.arange(len(levels), device=device)[:, None, None]
    values = (torch.from_numpy(np.ascontiguousarray(each)).to(device) for each in images.read(rows))
    return (levels[channel, each.long()] for each in values)


def source_of(x: Inputs | Iterable[Any], y: Tensor | None, device: torch.device) -> Source:
    """Batches of tensors where there are targets, else of a loader."""
    if y is None:
        return Loader(x, device)
    data = Batch(x, y)  # type: ignore[arg-type]
    check_lengths(data)
    return Rows(data, len(y), ())


def batch_of(given: Any) -> Batch:
    """What a loader gives as a batch, if it is one.

    Inputs may have any lengths, as those of a batch of graphs, whose nodes, edges and graphs are unlike many.

    Raises:
        TypeError: if not.
        ValueError: if there are no targets.
    """
    if not isinstance(given, tuple | list) or len(given) not in (2, 3):
        size = f" of {len(given)}" if isinstance(given, tuple | list) else ""
        raise TypeError(
            f"A loader must give batches (x, y) or (x, y, weight); got {type(given).__name__}{size}. Wrap it in a "
            f"generator class of your own that gives these, x being a tensor, a tuple of tensors or a mapping."
        )
    batch = Batch(*given)
    _check_tensors(batch)
    if batch.y.dim() == 0 or len(batch.y) == 0:
        raise ValueError(
            f"The targets of a batch have a first axis that counts them, one at least; got shape "
            f"{tuple(batch.y.shape)}. Give a single one as y[None]."
        )
    return batch


def check_lengths(batch: Batch) -> None:
    """See that tensors are cut into batches along one first axis.

    Raises:
        TypeError: if something else is among them.
        ValueError: if lengths differ or are zero.
    """
    _check_tensors(batch)
    lengths = [len(part) if part.dim() else None for part in tensors_of(batch.x)]
    if isinstance(batch.x, Pixels):
        lengths = [len(batch.x)]
    count = len(batch.y) if batch.y.dim() else None
    if not lengths or {*lengths} != {count} or not count:
        told = ", ".join("no length" if length is None else str(length) for length in lengths)
        raise ValueError(
            f"Inputs and targets must have one equal, positive length; got {told or 'no tensor'} and "
            f"{'no length' if count is None else count}. Where the inputs of a batch are unlike many, as nodes and "
            f"edges are, give a loader of batches, `[(x, y)]`, in the place of x and y."
        )


def _check_tensors(batch: Batch) -> None:
    if isinstance(batch.x, DataLoader | Dataset):
        raise TypeError(
            f"A {type(batch.x).__name__} brings its targets itself, and there are others beside it. Leave those out: "
            f"`fit(model, loader, recipe=recipe)`, `evaluate(model, loader)`."
        )
    weights = [] if batch.weight is None else [("Weights", batch.weight)]
    for what, value in (*(("Inputs", part) for part in tensors_of(batch.x)), ("Targets", batch.y), *weights):
        if not isinstance(value, Tensor):
            raise TypeError(f"{what} must be a tensor; got {type(value).__name__}. Use torch.as_tensor(...).")


def slices(count: int, size: int) -> list[slice]:
    """Which samples make up each part; one part where there are none."""
    return [slice(start, start + size) for start in range(0, max(1, count), size)]


def parts(x: Inputs, size: int) -> Iterator[Inputs]:
    """Inputs of any length in parts of a size that fits into memory; those of unlike lengths, as of graphs, whole."""
    if isinstance(x, Pixels):
        yield from made(x, slices(len(x), size))
        return
    lengths = {len(tensor) if tensor.dim() else None for tensor in tensors_of(x)}
    if len(lengths) > 1 or None in lengths:
        yield x
        return
    for part in slices(next(iter(lengths)), size):  # type: ignore[arg-type]
        yield each(itemgetter(part), x)


def some(x: Some, rows: Tensor) -> Some:
    """Some samples of inputs, of the same kind."""
    found: Any = x.part(rows.cpu().numpy()) if isinstance(x, Pixels) else each(lambda part: part[rows], x)
    return cast(Some, found)


def tensors_of(x: Inputs) -> list[Tensor]:
    """The tensors of inputs; `Pixels` are none yet."""
    if isinstance(x, Pixels):
        return []
    if isinstance(x, Mapping):
        return list(x.values())
    return list(x) if isinstance(x, tuple | list) else [x]  # type: ignore[list-item]


def each(function: Callable[[Tensor], Tensor], x: Inputs) -> Inputs:
    """Inputs with every tensor changed."""
    if isinstance(x, Pixels):
        return x
    if isinstance(x, Mapping):
        return {name: function(part) for name, part in x.items()}
    return tuple(function(part) for part in x) if isinstance(x, tuple | list) else function(x)  # type: ignore[arg-type]


def called(model: nn.Module | Callable[..., Any], x: Inputs, call: Call) -> Any:
    """What a model says to inputs: model(x), model(*x) or model(**x), each with what every call gets."""
    if isinstance(x, Mapping):
        return model(**x, **call)
    return model(*x, **call) if isinstance(x, tuple | list) else model(x, **call)


def placed(call: Call | None, device: torch.device) -> dict[str, Any]:
    """What every call gets, its tensors on a device.

    Raises:
        TypeError: if it has no names.
    """
    if call is not None and not isinstance(call, Mapping):
        raise TypeError(
            f"`call` names what every call of the model gets beside its inputs, as in "
            f'`call={{"edge_index": edge_index}}`; got {type(call).__name__}. Name it.'
        )
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in (call or {}).items()}
