"""The jobs on a finished run: predict new rows, evaluate on data with known answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from hdnn import data
from hdnn.jobs.scores import measure
from hdnn.jobs.sources import Source, load
from hdnn.networks import class_probabilities, predicted_classes
from hdnn.runs import Run
from hdnn.training import outputs

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predictions for the rows of a file.

    Args:
        frame: one row for each: the predicted class and the probabilities of all, or the predicted numbers.
        remarks: what had to be made up on the way, such as missing values that were filled in; may be empty.
    """

    frame: pd.DataFrame
    remarks: str


def predict(folder: Path, file: Path) -> Prediction:
    """Predict the rows of a table, or the images of an IDX file.

    Args:
        folder: of a run.
        file: .csv, .tsv or .parquet with the input columns of the run; for images an IDX file, with or without .gz.

    Raises:
        OSError: if a file is not there.
        ValueError: if the run or the file is damaged, or columns are missing or hold what cannot be read.
    """
    import pandas as pd

    run = Run.open(folder)
    encoder, target = data.encoder_from_dict(run.config.encoder), data.TargetEncoder.from_dict(run.config.target)
    network = run.load_network()
    if isinstance(encoder, data.TableEncoder):
        rows = data.read_table(file, text=encoder.text_columns)
        x, remarks = encoder.encode(rows), encoder.report(rows).description
    else:
        x, remarks = encoder.encode(data.read_idx(file)), ""
    output = outputs(network, torch.from_numpy(x))
    if network.task == "regression":
        return Prediction(pd.DataFrame(target.decode(output.numpy()), columns=list(target.columns)), remarks)
    probabilities = class_probabilities(output).numpy()
    frame = pd.DataFrame(probabilities, columns=[f"probability_{label}" for label in target.classes])
    frame.insert(0, target.columns[0], target.decode(predicted_classes(output).numpy()))
    return Prediction(frame, remarks)


def evaluate(folder: Path, file: Path | None = None, *, mnist_folder: str | None = None) -> dict[str, float]:
    """Loss and scores of a run.

    Args:
        folder: of the run.
        file: a table with the input and target columns; None takes the test part that the run held back.
        mnist_folder: where the MNIST files are now, if they have moved.

    Returns:
        "loss", "accuracy" (or "error" and "r2" for regression) and "rows".

    Raises:
        OSError: if a file is not there.
        ValueError: if the run or the data is damaged or they do not fit each other.
    """
    run = Run.open(folder)
    network = run.load_network()
    target = data.TargetEncoder.from_dict(run.config.target)
    if file is None:
        dataset = load(_source(run, mnist_folder))
        if dataset.inputs != run.config.network.inputs:
            raise ValueError(
                f"The data of this run has changed: its inputs were {run.config.network.inputs}, now they are "
                f"{dataset.inputs}. Give the data as a file."
            )
        x, y = dataset.x_test, dataset.y_test
    else:
        encoder = data.encoder_from_dict(run.config.encoder)
        if not isinstance(encoder, data.TableEncoder):
            raise ValueError("A run on images is evaluated on its own test images; give no file.")
        rows = data.read_table(file, text=(*encoder.text_columns, *(target.columns if target.classes else ())))
        x, y = encoder.encode(rows), target.encode(rows)
    scores = measure(network, target, torch.from_numpy(x), torch.from_numpy(np.ascontiguousarray(y)))
    return {**scores, "rows": len(x)}


def _source(run: Run, mnist_folder: str | None) -> Source:
    described = dict(run.config.data)
    if mnist_folder is not None:
        described["folder"] = mnist_folder
    described["download"] = False
    try:
        return Source(**described)
    except TypeError as error:
        raise ValueError(f"The run {run.folder} does not say where its data came from: {error}.") from error
