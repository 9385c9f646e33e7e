"""Tables larger than memory: batches of an Arrow dataset, shared by ranks and workers, in an order drawn from a seed.

Legend: the dataset is a list of pieces (row groups of Parquet files, or whole files of other kinds). An epoch shuffles
the pieces, cuts their rows into one share a rank and B batches a share, and shuffles the rows of each *block* of
neighbouring batches: what is read at a time. So every row comes once, and only blocks and pieces are in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from hdnn.arguments import shown, whole

if TYPE_CHECKING:
    import pyarrow as pa

Converter = Callable[["pa.Table"], tuple[Any, Tensor]]
_MOST_WORKERS = 1024


class ArrowBatches(IterableDataset[tuple[Any, Tensor]]):
    """Batches (x, y) of a table that need not fit into memory, for `fit` or a `DataLoader`.

    Under several ranks each gets a share of the rows, all shares have as many batches, and the batches of all ranks
    with one number are one larger batch. Workers of a DataLoader share the batches of their rank: which batches there
    are does not depend on how many workers read them, only in what order they come.

    Args:
        source: a folder, a file or several, or a `pyarrow.dataset.Dataset`.
        inputs: columns of numbers, in the order of x.
        target: the column of y; whole numbers are classes.
        batch_size: rows of a batch on each rank at most; batches differ by one row.
        shuffle: in blocks, anew for every epoch; False keeps the order of the files.
        block: batches whose rows are shuffled together, and read at a time. The more, the better they are mixed.
        seed: of the order; the same seed gives the same batches, and the same on every rank.
        convert: makes (x, y) of rows as a `pyarrow.Table`, in the place of plain columns of numbers.
        rank: of this process; None asks torch.distributed.
        ranks: how many there are; None asks torch.distributed.

    Attributes:
        rows: of the whole table.

    Raises:
        ImportError: without pyarrow.
        ValueError: if columns are missing, there are too few rows, or a number makes no sense.
        TypeError: if a column holds no numbers.

    Example:
        >>> import hdnn, tempfile, torch
        >>> import pyarrow as pa, pyarrow.parquet as pq
        >>> folder = tempfile.mkdtemp()
        >>> x = torch.randn(100, 2)
        >>> table = pa.table({"a": x[:, 0].numpy(), "b": x[:, 1].numpy(), "y": (x[:, 0] > 0).long().numpy()})
        >>> pq.write_table(table, f"{folder}/part-0.parquet", row_group_size=30)
        >>> batches = ArrowBatches(folder, ["a", "b"], "y", batch_size=25)
        >>> network = hdnn.vector_classifier(2, 2, hdnn.h2(4, layers=4, step=0.2))
        >>> history = hdnn.fit(network, batches, recipe=hdnn.Recipe(epochs=2))
        >>> loader = torch.utils.data.DataLoader(batches, batch_size=None, num_workers=0)
        >>> len(loader), sum(len(y) for x, y in loader)
        (4, 100)
    """

    def __init__(
        self,
        source: str | Path | Sequence[str] | Any,
        inputs: Sequence[str],
        target: str,
        *,
        batch_size: int = 125,
        shuffle: bool = True,
        block: int = 256,
        seed: int = 0,
        convert: Converter | None = None,
        rank: int | None = None,
        ranks: int | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("batch_size", batch_size), ("block", block)):
            if whole(name, value) < 1:
                raise ValueError(f"`{name}` counts at least 1; got {value}.")
        if isinstance(inputs, str) or not all(isinstance(name, str) for name in inputs) or not inputs:
            raise TypeError(f"`inputs` is a list of names of columns; got {shown(inputs)}.")
        if whole("seed", seed) < 0:
            raise ValueError(f"`seed` is a whole number of at least 0; got {seed}.")
        self.batch_size, self.shuffle, self.block, self.seed = batch_size, shuffle, block, seed
        self.rank, self.ranks = _place(rank, ranks)
        self.inputs, self.target = list(inputs), target
        self.convert = convert
        dataset = _opened(source)
        if missing := [name for name in (*self.inputs, target) if name not in dataset.schema.names]:
            raise ValueError(f"The table has no column {', '.join(missing)}. It has {', '.join(dataset.schema.names)}.")
        if convert is None:
            _check_numbers(dataset.schema, (*self.inputs, target))
        self._schema = dataset.schema
        self._pieces, self._counts = _pieces_of(dataset)
        self.rows = int(self._counts.sum())
        self.batches = -(-self.rows // (self.ranks * batch_size))  # of the largest share: all ranks have as many
        if self.rows // self.ranks < self.batches or not self.batches:
            raise ValueError(
                f"{self.rows} rows are too few for batches of {batch_size} on {self.ranks} ranks, one row each at "
                f"least. Use larger batches, or fewer ranks."
            )
        # Each worker counts its epochs in a place that all processes see: workers begin anew with every epoch.
        self._begun = torch.zeros(_MOST_WORKERS, dtype=torch.int64)
        self._begun.share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        """Batches of an epoch, of this rank."""
        return self.batches

    def set_epoch(self, number: int) -> None:
        """Let the next epoch be this one, counted from 0: where a run goes on, say."""
        if whole("number", number) < 0:
            raise ValueError(f"Epochs are counted from 0; got {number}.")
        self._begun.fill_(number)

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:
        """The batches of the next epoch, or a worker's share of them."""
        worker = get_worker_info()
        own, count = (0, 1) if worker is None else (worker.id, worker.num_workers)
        epoch = int(self._begun[own])
        self._begun[own] += 1
        order = np.arange(len(self._pieces))
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(order)
        reader = _Reader([self._pieces[i] for i in order], self._counts[order], self._schema, self._columns())
        first, last = (self.rows * (self.rank + i) // self.ranks for i in (0, 1))
        bounds = [first + (last - first) * i // self.batches for i in range(self.batches + 1)]
        blocks = -(-self.batches // self.block)
        for number in range(blocks * own // count, blocks * (own + 1) // count):
            edges = bounds[number * self.block : (number + 1) * self.block + 1]
            rows = np.arange(edges[-1] - edges[0])
            if self.shuffle:
                rows = np.random.default_rng([self.seed, epoch, self.rank, number]).permutation(rows)
            table = reader.read(edges[0], edges[-1])
            for start, stop in pairwise(edges):
                yield self._converted(table.take(rows[start - edges[0] : stop - edges[0]]))

    def _columns(self) -> list[str]:
        return list(self._schema.names) if self.convert is not None else [*self.inputs, self.target]

    def _converted(self, table: pa.Table) -> tuple[Any, Tensor]:
        if self.convert is not None:
            return self.convert(table)
        x = torch.stack([_numbers(table, name).float() for name in self.inputs], 1)
        y = _numbers(table, self.target)
        return x, y.float() if y.is_floating_point() else y.long()


class _Reader:
    """Rows of pieces one after the other, the last piece kept: the next block often goes on within it."""

    def __init__(self, pieces: Sequence[Any], counts: np.ndarray[Any, Any], schema: Any, columns: list[str]) -> None:
        self.pieces, self.schema, self.columns = pieces, schema, columns
        self.ends = counts.cumsum()
        self.kept: tuple[int, Any] = (-1, None)

    def read(self, first: int, last: int) -> pa.Table:
        """The rows from `first` to `last`."""
        import pyarrow as pa

        parts = []
        for number in range(int(np.searchsorted(self.ends, first, "right")), len(self.pieces)):
            start = int(self.ends[number - 1]) if number else 0
            if start >= last:
                break
            if self.kept[0] != number:
                table = self.pieces[number].to_table(schema=self.schema, columns=self.columns, use_threads=False)
                self.kept = (number, table)
            here = self.kept[1].slice(max(0, first - start), last - max(first, start))
            parts.append(here)
        return pa.concat_tables(parts)


def _place(rank: int | None, ranks: int | None) -> tuple[int, int]:
    if (rank is None) != (ranks is None):
        raise ValueError(f"Give `rank` and `ranks` both, or neither; got {rank} and {ranks}.")
    if rank is None or ranks is None:
        dist = torch.distributed
        there = dist.is_available() and dist.is_initialized()
        return (dist.get_rank(), dist.get_world_size()) if there else (0, 1)
    if not 0 <= whole("rank", rank) < whole("ranks", ranks):
        raise ValueError(f"`rank` is one of 0 to ranks - 1; got {rank} of {ranks}.")
    return rank, ranks


def _opened(source: Any) -> Any:
    try:
        import pyarrow as pa
        from pyarrow import dataset
    except ImportError as error:
        raise ImportError("Arrow datasets need pyarrow: pip install pyarrow.") from error
    if isinstance(source, dataset.Dataset):
        return source
    try:
        place = str(source) if isinstance(source, str | Path) else [str(each) for each in source]
        return dataset.dataset(place, partitioning="hive")
    except (pa.ArrowException, OSError, TypeError, ValueError) as error:
        raise ValueError(
            f"{source} is no Arrow dataset: {' '.join(str(error).split())}. Give a folder or file of Parquet, or a "
            f"pyarrow.dataset.Dataset."
        ) from error


def _pieces_of(dataset: Any) -> tuple[list[Any], np.ndarray[Any, Any]]:
    """The row groups of Parquet files, other files whole; and their rows."""
    pieces: list[Any] = []
    counts: list[int] = []
    for fragment in dataset.get_fragments():
        if hasattr(fragment, "split_by_row_group"):
            groups = fragment.split_by_row_group()
            pieces += groups
            counts += [group.row_groups[0].num_rows for group in groups]
        else:
            pieces.append(fragment)
            counts.append(fragment.count_rows())
    return pieces, np.array(counts, np.int64)


def _check_numbers(schema: Any, names: Sequence[str]) -> None:
    import pyarrow as pa

    for name in names:
        kind = schema.field(name).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            raise TypeError(
                f"Column {name} holds {kind}, and plain batches are of numbers. Give `convert`, which makes (x, y) of "
                f"rows, as with a fitted `TableEncoder`."
            )


def _numbers(table: pa.Table, name: str) -> Tensor:
    column = table[name]
    if column.null_count:
        raise ValueError(f"Column {name} has missing values. Leave them out, or give `convert`, which fills them.")
    return torch.from_numpy(np.ascontiguousarray(column.to_numpy()).copy())
