"""Training for TensorBoard: a callback that writes scalars; pip install 'hdnn[tensorboard]'."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from types import TracebackType
from typing import Any

from hdnn.files import make_folder
from hdnn.flow import Flow
from hdnn.training.pace import Pace
from hdnn.training.progress import Callback, Progress
from hdnn.training.recorders import GradientRecorder

# Scores of one kind share a chart: the part of the data is the last word of their tag.
_PARTS = ("train", "validation")


class TensorBoardLogger:
    """A callback that writes every epoch to an event file of TensorBoard.

    Scalars by epoch: "loss/train", "accuracy/train" or "error/train", the same with "/validation", "learning_rate" and
    "seconds". With a `flow`, also the norms ‖dL/dθ_j‖₂ that the layers got in the last step of the epoch, as
    "gradient/smallest", "gradient/mean" and "gradient/largest" over the layers. Look at them with
    `tensorboard --logdir FOLDER`.

    Use it in a `with` statement, or call `close`: what is written in between may wait in memory.

    Args:
        folder: a new folder for each training; made if it is not there.
        flow: the flow of the network that is trained, for its gradients; None leaves them out.

    Raises:
        ImportError: if tensorboard is not installed.
        OSError: if the folder cannot be made.

    Example:
        >>> import tempfile, torch, hdnn
        >>> from hdnn.training.tensorboard import TensorBoardLogger
        >>> x = torch.randn(100, 2)
        >>> network = hdnn.vector_classifier(2, 2, hdnn.h2(4, layers=8, horizon=1.0))
        >>> with tempfile.TemporaryDirectory() as folder, TensorBoardLogger(folder, network.flow) as logger:
        ...     history = hdnn.fit(network, x, (x[:, 0] > 0).long(), hdnn.Recipe(epochs=2), callbacks=[logger])
    """

    pace = Pace(epochs=1)

    def __init__(self, folder: str | PathLike[str], flow: Flow | None = None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(
                "Logging for TensorBoard needs the package tensorboard, which is not installed. Install it with "
                "pip install 'hdnn[tensorboard]'."
            ) from error
        self._writer: Any = SummaryWriter(fspath(make_folder(Path(folder))))
        self._flow = flow

    def __call__(self, progress: Progress) -> None:
        """Write the epoch, if it is over."""
        if progress.record is None:
            return
        for name, value in progress.record.items():
            if name != "epoch":
                self._writer.add_scalar(_tag(name), value, progress.epoch)
        if self._flow is not None:
            recorder = GradientRecorder(self._flow)
            recorder(progress)
            norms = recorder.norms[0]
            for name, value in {"smallest": norms.min(), "mean": norms.mean(), "largest": norms.max()}.items():
                self._writer.add_scalar(f"gradient/{name}", value, progress.epoch)
        self._writer.flush()

    def close(self) -> None:
        """Write what still waits and close the file."""
        self._writer.close()

    def __enter__(self) -> TensorBoardLogger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def logging_to(folder: str | PathLike[str] | None) -> Iterator[tuple[Callback, ...]]:
    """The callbacks that write to a folder, closed in the end; none where there is no folder.

    Args:
        folder: see `TensorBoardLogger`.

    Raises:
        ImportError: if a folder is named and tensorboard is not installed.
    """
    if folder is None:
        yield ()
        return
    with TensorBoardLogger(folder) as logger:
        yield (logger,)


def _tag(name: str) -> str:
    part, _, score = name.partition("_")
    if part in _PARTS and score:
        return f"{score}/{part}"
    return "loss/train" if name == "loss" else name
