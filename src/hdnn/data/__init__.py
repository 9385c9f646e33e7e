"""Data sets and the encoders that turn raw rows into network inputs and answers back into words."""

from typing import TYPE_CHECKING, Any

from hdnn.data.cifar import cifar10
from hdnn.data.columns import Categorical, Numeric
from hdnn.data.dataset import Dataset, Encoder, encoder_from_dict, planar, split
from hdnn.data.encoders import ImageEncoder, Report, TableEncoder
from hdnn.data.idx import idx_parts, read_idx
from hdnn.data.images import digits, fashion_mnist, idx_images, mnist
from hdnn.data.moments import Moment
from hdnn.data.notation import Notation
from hdnn.data.pictures import pictures
from hdnn.data.pixels import Pixels
from hdnn.data.planar import DOMAINS, double_circles, double_moons, swiss_roll
from hdnn.data.reading import PART, read_table, table_parts
from hdnn.data.sequence_encoder import SequenceEncoder, Steps
from hdnn.data.sequence_sets import sequences, time_series
from hdnn.data.series import Series, read_ts, series_of
from hdnn.data.tables import table
from hdnn.data.targets import TargetEncoder, Task

if TYPE_CHECKING:
    from hdnn.data.arrow_batches import ArrowBatches


def __getattr__(name: str) -> Any:
    if name == "ArrowBatches":  # which imports torch, as nothing else here does
        from hdnn.data.arrow_batches import ArrowBatches

        return ArrowBatches
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "DOMAINS",
    "PART",
    "ArrowBatches",
    "Categorical",
    "Dataset",
    "Encoder",
    "ImageEncoder",
    "Moment",
    "Notation",
    "Numeric",
    "Pixels",
    "Report",
    "SequenceEncoder",
    "Series",
    "Steps",
    "TableEncoder",
    "TargetEncoder",
    "Task",
    "cifar10",
    "digits",
    "double_circles",
    "double_moons",
    "encoder_from_dict",
    "fashion_mnist",
    "idx_images",
    "idx_parts",
    "mnist",
    "pictures",
    "planar",
    "read_idx",
    "read_table",
    "read_ts",
    "sequences",
    "series_of",
    "split",
    "swiss_roll",
    "table",
    "table_parts",
    "time_series",
]
