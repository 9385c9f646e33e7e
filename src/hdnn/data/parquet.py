"""Parquet tables, whole or part by part, within bounds set by the size of the file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hdnn.data import dialect
from hdnn.data.cells import require_different

if TYPE_CHECKING:
    import pandas as pd

_LEAST_BOUND = 2**28
_LARGEST_RATIO = 100
_LARGEST_NUMBER = 2**31


def read(place: Path) -> pd.DataFrame:
    """The whole table; the columns of a named index come first, an unnamed one is left out.

    Raises:
        ValueError: if it is not Parquet, damaged, or announces far more than its size makes likely.
    """
    with _opened(place) as file:
        names, index, numbered = _columns(file)
        count, size = file.metadata.num_rows, place.stat().st_size
        announced = 8 * count * len(names)
        if announced > max(_LEAST_BOUND, _LARGEST_RATIO * size):
            raise ValueError(
                f"its {size} bytes announce {count} rows of {len(names)} columns, which would take {announced} bytes "
                f"of memory"
            )
        frame = file.read(columns=[*index, *names], use_threads=False).to_pandas(ignore_metadata=True)
        _require_all(len(frame), count)
        return _numbered(frame[[*index, *names]], numbered, 0)


def parts(
    place: Path, needed: Collection[str], size: int, progress: Callable[[int], None] | None
) -> Iterator[pd.DataFrame]:
    """The table part by part, each of about `size` bytes; other columns than the needed ones are not read, but empty.

    See `hdnn.data.table_parts`.
    """
    import pandas as pd

    count = 0
    total = place.stat().st_size
    with _opened(place, as_dictionaries=True) as file:
        names, index, numbered = _columns(file)
        found = [name for name in [*index, *names] if name in needed]
        step = max(1, min(2**16, size // (8 * max(1, len(found)))))
        for batch in file.iter_batches(step, columns=found, use_threads=False):
            # Whole numbers stay whole where one beside them is missing: floats would round the large ones.
            frame = batch.to_pandas(ignore_metadata=True, integer_object_nulls=True, use_threads=False)
            frame.index = pd.RangeIndex(count, count + len(frame))
            if len(frame):
                yield _numbered(frame.reindex(columns=[*index, *names]), numbered, count)
            count += len(frame)
            if progress is not None:
                progress(total * count // max(1, file.metadata.num_rows))
        _require_all(count, file.metadata.num_rows)
    if not count:
        raise ValueError(f"{place} has a header ({', '.join(names[:5])}) but no data rows. Add rows.")


@contextmanager
def _opened(place: Path, *, as_dictionaries: bool = False) -> Iterator[Any]:
    """The file, with the words of its library turned into ours."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    limits = {"thrift_string_size_limit": 2**26, "thrift_container_size_limit": 2**20}
    streamed = {"pre_buffer": False, "buffer_size": 2**16, "page_checksum_verification": True}
    try:
        with pq.ParquetFile(place, **limits, **streamed) as file:
            texts = [column.path for column in map(file.schema.column, range(len(file.schema)))]
            if len(texts) > dialect.MOST_COLUMNS:
                raise ValueError(f"it has {len(texts)} columns; up to {dialect.MOST_COLUMNS} can be read")
            if not as_dictionaries:
                yield file
                return
        # A text that is repeated is written once; so it stays in memory.
        with pq.ParquetFile(place, read_dictionary=texts, **limits, **streamed) as file:
            yield file
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise ValueError(f"{place} cannot be read as Parquet: {' '.join(str(error).split())}") from None


def _columns(file: Any) -> tuple[list[str], list[str], dict[str, tuple[int, int]]]:
    """The names of the columns, those of a named index, and start and step of an index that is a range with a name.

    An index without a name is no more than row numbers, which must not become an input.
    """
    names: list[str] = file.schema_arrow.names
    require_different("it", names)
    try:
        metadata = file.schema_arrow.pandas_metadata
    except RecursionError:
        metadata = None
    said = metadata.get("index_columns") if isinstance(metadata, dict) else None
    index: list[str] = []
    numbered: dict[str, tuple[int, int]] = {}
    for item in said if isinstance(said, list) else []:
        if isinstance(item, str) and item in names:
            index.append(item)
        elif isinstance(item, dict) and isinstance(item.get("name"), str) and item["name"] not in names:
            start, step = item.get("start"), item.get("step")
            if type(start) is type(step) is int and max(abs(start), abs(step)) < _LARGEST_NUMBER:
                numbered[item["name"]] = start, step
    others = [name for name in names if name not in index]
    return others, [name for name in dict.fromkeys(index) if not name.startswith("__index_level_")], numbered


def _require_all(found: int, announced: int) -> None:
    """Columns of different lengths are cut to the shortest where a table is read in parts."""
    if found != announced:
        raise ValueError(f"it announces {announced} rows, but only {found} are in all of its columns")


def _numbered(frame: pd.DataFrame, numbered: dict[str, tuple[int, int]], first: int) -> pd.DataFrame:
    """The rows, with the columns that are no more than a range."""
    for name, (start, step) in numbered.items():
        frame.insert(0, name, start + step * np.arange(first, first + len(frame)))
    return frame
