"""Figures and report of a finished run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hdnn import plots
from hdnn.analysis import principal_components
from hdnn.data import Dataset, Numeric, TableEncoder
from hdnn.doors import in_options
from hdnn.flow import Flow
from hdnn.flow.promises import in_words
from hdnn.jobs import exhibits, sights, standing
from hdnn.jobs.evidence import pictured
from hdnn.jobs.factors import factors_of
from hdnn.jobs.measures import confusion, reliability
from hdnn.jobs.scores import finite_outputs, tensors
from hdnn.modes import evaluating
from hdnn.names import count, few
from hdnn.networks import Network, SequenceNetwork, class_probabilities, predicted_classes
from hdnn.options import SourceChoices, flags
from hdnn.report import Picture, Report, Section, Table, render
from hdnn.runs import Run
from hdnn.stages import Stages
from hdnn.training import outputs

_SHOWN = 400  # samples in the pictures of features: more hide each other
_AT_ONCE = 64  # of them whose trajectories are computed together
_GRID = 200  # points along each side of a decision region
_FRAMES = 33  # of the animation: drawing them is most of the time between training and the prompt
_LISTED = 40  # classes in the table of classes

Metrics = Mapping[str, Any]
History = Sequence[Mapping[str, float]]


def write_summary(
    run: Run,
    network: Network,
    dataset: Dataset,
    history: History,
    metrics: Metrics,
    starts: Sequence[History] = (),
    search: History = (),
) -> None:
    """Draw the figures of a run and write its report.

    Args:
        run: its folder.
        network: trained.
        dataset: what it was trained and tested on.
        history: one record an epoch.
        metrics: as in metrics.json.
        starts: of each start, where training began several times, one record an epoch.
        search: of the training that found the number of epochs, one record an epoch.
    """
    output = finite_outputs(network, tensors(dataset.x_test, dataset.y_test)[0])
    sections = [Section("Results", _result_parts(run, dataset, output, metrics))]
    if (worth := standing.section(dataset, metrics)) is not None:
        sections.append(worth)
    if network.task == "classification" and (plane := _plane(dataset)) is not None:
        sections.append(Section("Decision regions", [_regions(run, network, dataset, output, plane)]))
    if history:
        sections.append(Section("Training", [_training(run, dataset, history)]))
    if search:
        sections.append(Section("How long to train", [_training(run, dataset, search, "search.png")]))
    if starts and starts[0]:
        sections.append(Section("Starts", _starts(run, starts)))
    if network.task == "classification" and not isinstance(network, SequenceNetwork):  # padding is no depth
        found = exhibits.through_stages if isinstance(network.flow, Stages) else _features
        sections.append(Section("Features through depth", [*found(run, network, dataset)]))
    if (columns := standing.columns(dataset)) is not None:
        sections.append(columns)
    sections.append(Section("Configuration", _configuration(run, network, metrics)))
    run.write_report(render(_report(run, dataset, metrics, sections)))


def _training(run: Run, dataset: Dataset, history: History, file: str = "training.png") -> Picture:
    """Curves in the units of the data; the objective is that of the standardised targets, and says so."""
    names = {"loss": "objective"}
    if dataset.task == "regression":
        names = {"loss": "objective (standardised)", "error": "RMS error (standardised)"}
        if len(dataset.target.columns) == 1:
            from hdnn.plots.style import short

            names["error"] = f"RMS error of {short(dataset.target.columns[0])}"
            history = [_in_units(record, dataset.target.scale[0]) for record in history]
    told = {key for record in history for key, value in record.items() if value is not None}
    caption = "Objective and score, epoch by epoch"
    caption += "; dotted: the learning rate. " if len({record.get("learning_rate") for record in history}) > 1 else ". "
    if any(key.startswith("validation_") for key in told):
        caption += "Where the train curve goes on getting better and the validation curve worse, it is overfitting. "
    alt = sights.of_training(history)
    title = "Training curves"
    if file != "training.png":
        title = "The search for the number of epochs"
        caption = f"A part of the training rows was held back to choose the number of epochs for all of them. {caption}"
    figure = plots.training_curves(history, names=names)
    return pictured(run.figure(file), figure, title, alt, caption + "Jumps ask for a smaller learning rate.")


def _in_units(record: Mapping[str, float], scale: float) -> dict[str, float]:
    """A record of the training with its errors in the units of the data."""
    return {name: value * scale if name.endswith("_error") else value for name, value in record.items()}


def _starts(run: Run, starts: Sequence[History]) -> list[Table | Picture]:
    """The objective of every start by epoch, and how they ended, the best first."""
    last = [history[-1] for history in starts]
    score = next(name for name in last[0] if name.startswith("train_"))
    order = sorted(range(len(last)), key=lambda k: (not math.isfinite(last[k]["loss"]), last[k]["loss"]))
    rows = [(k + 1, last[k]["loss"], last[k][score]) for k in order]
    title = score.replace("_", " ") + (" (standardised)" if score.endswith("_error") else "")
    note = f"Training went on with start {order[0] + 1}, which has the smallest objective on the training data."
    if len(rows) > _LISTED:
        note += f" The first {_LISTED} of {len(rows)}."
    caption = "The objective of every start, epoch by epoch; the thick line is the one that training went on with."
    alt = f"{count(len(starts), 'line')}, which end between {rows[0][1]:.3g} and {rows[-1][1]:.3g}."
    return [
        pictured(run.figure("starts.png"), plots.start_curves(starts), "The starts", alt, caption),
        Table("How the starts ended", ("start", "objective", title), rows[:_LISTED], note),
    ]


def _report(run: Run, dataset: Dataset, metrics: Metrics, sections: list[Section]) -> Report:
    network = run.config.network
    words = flags(SourceChoices)
    notes = [in_options(caution, words) for caution in dataset.cautions]
    if metrics["interrupted"]:
        notes.append(
            f"Training was interrupted after {metrics['epochs']} epochs; these are the weights of that moment."
        )
    if other := metrics.get("resumed_with_other"):
        notes.append(f"The run went on with other circumstances than it began with: {other}. Its last bits may differ.")
    if dataset.task == "classification":
        headline = [("test accuracy", _percent(metrics["test_accuracy"]))]
        headline += [("train accuracy", _percent(metrics["train_accuracy"]))]
        headline += [("parameters", f"{metrics['parameters']:,}")]
    else:
        unit = _unit(dataset)
        headline = [("test R²", f"{metrics['test_r2']:.3f}"), ("train R²", f"{metrics['train_r2']:.3f}")]
        headline += [(f"RMS error of {unit}, test", metrics["test_error"])]
        headline += [("mean absolute error, test", metrics["test_absolute_error"])]
    headline += [("training time", f"{metrics['seconds']:.1f} s")]
    return Report(
        title=f"{run.folder.resolve().name}: {network.model} on {dataset.name}",
        lead=f"A Hamiltonian network, {network.model} with {network.sizes} and step {network.step:.4g}. "
        f"{in_options(dataset.description, words)}.",
        headline=headline,
        sections=sections,
        notes=notes,
        command=run.config.command,
        versions=run.config.versions,
    )


def _result_parts(run: Run, dataset: Dataset, output: torch.Tensor, metrics: Metrics) -> list[Table | Picture]:
    if dataset.task == "classification":
        return _classes(run, dataset, output)
    truth, predicted = dataset.target.decode(dataset.y_test), dataset.target.decode(output.numpy())
    parts: list[Table | Picture] = []
    for i, name in enumerate(dataset.target.columns):
        figure = plots.predicted_against_true(truth[:, i], predicted[:, i], name)
        alt = sights.of_predictions(truth[:, i], predicted[:, i])
        caption = "Each point is a test row; on the line it is exact."
        parts.append(pictured(run.figure(f"predicted_{i}.png"), figure, f"Predicted {name}", alt, caption))
    names = ("r2", "error", "absolute_error", "rows")
    rows = [(part, *(metrics[f"{part}_{name}"] for name in names)) for part in ("train", "test")]
    note = f"Errors in the units of {_unit(dataset)}."
    return [*parts, Table("Scores", ("part", "R²", "RMS error", "mean absolute error", "rows"), rows, note)]


def _unit(dataset: Dataset) -> str:
    return few(dataset.target.columns, 3)


def _classes(run: Run, dataset: Dataset, output: torch.Tensor) -> list[Table | Picture]:
    counts = confusion(dataset.y_test.astype(np.int64), predicted_classes(output).numpy(), len(dataset.classes))
    right, said, true = counts.diagonal(), counts.sum(0), counts.sum(1)
    shares = (np.round(right / np.maximum(all_of_it, 1), 3).tolist() for all_of_it in (said, true))
    rows = list(zip(dataset.classes, *shares, true.tolist(), strict=True))
    note = "" if len(rows) <= _LISTED else f"The first {_LISTED} of {len(rows)} classes."
    figure, alt = plots.confusion_matrix(counts, dataset.classes), sights.of_confusion(counts, dataset.classes)
    caption = "Rows are the true classes of the test data, columns what the network said. Off the diagonal are errors."
    return [
        pictured(run.figure("confusion.png"), figure, "Confusion matrix", alt, caption),
        Table("Classes", ("class", "precision", "recall", "test rows"), rows[:_LISTED], note),
        _reliability(run, dataset, output),
        *([wrong] if (wrong := exhibits.mistakes(run, dataset, output)) is not None else []),
    ]


def _reliability(run: Run, dataset: Dataset, output: torch.Tensor) -> Picture:
    said, probabilities = predicted_classes(output).numpy(), class_probabilities(output.double()).numpy()
    bins = reliability(dataset.y_test.astype(np.int64), said, probabilities)
    caption = (
        "Test rows in bins by the probability of the class that was said, against how often it is right. Below the "
        "line the network is too sure of itself, above not sure enough; few rows scatter."
    )
    figure, alt = plots.reliability_diagram(*bins), sights.of_reliability(*bins)
    return pictured(run.figure("reliability.png"), figure, "Calibration", alt, caption)


def _plane(dataset: Dataset) -> list[int] | None:
    """Where among the inputs the two numbers stand of which all others are made; None if it takes more than two."""
    if dataset.inputs == (2,):
        return [0, 1]
    columns = dataset.encoder.columns if isinstance(dataset.encoder, TableEncoder) else ()
    if len(columns) != 2 or not all(isinstance(column, Numeric) for column in columns):
        return None
    return [0, columns[0].width]


def _encoded(dataset: Dataset, points: NDArray[np.float32]) -> NDArray[np.float32]:
    """The inputs of points (s, 2) of that plane."""
    if dataset.inputs == (2,):
        return points
    import pandas as pd

    columns: Any = dataset.encoder.columns  # type: ignore[union-attr]
    numbers = points.astype(np.float64) * [c.scale for c in columns] + [c.mean for c in columns]
    return dataset.encoder.encode(pd.DataFrame(numbers, columns=[c.name for c in columns]))  # type: ignore[arg-type]


def _regions(run: Run, network: Network, dataset: Dataset, output: torch.Tensor, plane: list[int]) -> Picture:
    x = np.asarray(dataset.x_test)[:, plane]
    low, high = x.min(0), x.max(0)
    margin = 0.08 * (high - low)
    axes = [np.linspace(low[i] - margin[i], high[i] + margin[i], _GRID, dtype=np.float32) for i in range(2)]
    grid = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    inputs = torch.from_numpy(_encoded(dataset, grid))
    probabilities = class_probabilities(outputs(network, inputs).cpu()).numpy()
    said: NDArray[Any] = probabilities[:, 1] if len(dataset.classes) == 2 else probabilities.argmax(1)
    chosen = _sample(len(x), 5 * _SHOWN)
    predicted = predicted_classes(output).numpy()[chosen]
    figure = plots.decision_regions(
        axes[0],
        axes[1],
        said.reshape(_GRID, _GRID),
        x[chosen],
        dataset.y_test[chosen],
        dataset.classes,
        predicted=predicted,
    )
    caption = (
        "What the network says in the plane of the (standardised) inputs, with test points; those in rings are errors."
    )
    wrong = int((predicted != dataset.y_test[chosen]).sum())
    alt = sights.of_regions(dataset.classes, len(chosen), wrong)
    return pictured(run.figure("regions.png"), figure, "Decision regions", alt, caption)


def _features(run: Run, network: Network, dataset: Dataset) -> list[Table | Picture]:
    chosen = _sample(len(dataset.x_test), _SHOWN)
    device = network.head.weight.device
    with torch.no_grad(), evaluating(network):
        # Some at a time: a trajectory is stacked from its layers, and of images one copy is much.
        parts = torch.split(torch.from_numpy(dataset.x_test[chosen]).to(device), _AT_ONCE)
        states = torch.cat([network.trajectory(part).cpu() for part in parts], dim=1)
    labels = dataset.y_test[chosen]
    components = principal_components(states)
    figure = plots.features_by_layer(components.coordinates, labels, dataset.classes, explained=components.explained)
    file = run.figure("features.gif")
    plots.animate_features(components.coordinates, labels, dataset.classes, file, frames=_FRAMES)
    still = (
        f"The states of {len(chosen)} test samples after some of the layers, seen from their first two principal "
        f"components over all layers. The flow is trained to move the classes apart until a hyperplane separates them."
    )
    film = "The same axes throughout; its title names the layer."
    seen = [
        sights.of_features(len(chosen), dataset.classes, len(states) - 1, moving=moving) for moving in (False, True)
    ]
    return [
        pictured(run.figure("features.png"), figure, "Features by layer", seen[0], still),
        Picture("The same as an animation", file.read_bytes(), seen[1], film),
    ]


def _configuration(run: Run, network: Network, metrics: Metrics) -> list[Table | Picture]:
    config = run.config
    about = {name: value for name, value in vars(config.network).items() if value is not None}
    about |= {
        "parameters": sum(p.numel() for p in network.parameters()),
        **_factors(network),
    }
    recipe = dict(config.recipe)
    if network.task == "regression":
        recipe.pop("label_smoothing", None)  # there are no labels
    recipe["augment"] = ", ".join(recipe.get("augment") or ()) or "none"
    recipe["steps"] = {"native": "native", "torch": "by PyTorch"}[str(metrics["training_backend"])]
    return [Table("Network", ("", ""), _rows(about)), Table("Recipe", ("", ""), _rows(recipe))]


def _factors(network: Network) -> dict[str, object]:
    """What the flow is made of, or every stage, or the first of those that sequences drive; and what that keeps."""
    flow: Any = network.flow
    recurrent = isinstance(network, SequenceNetwork)
    flow = flow.cells[0] if recurrent else flow
    whose = "a step with its input" if recurrent else "the flow"
    stage = flow.flows[0] if isinstance(flow, Stages) else None
    flow, whose = (flow, whose) if stage is None else (stage.flow, "a stage in evaluation mode")
    if not isinstance(flow, Flow):
        return {"keeps": "nothing is promised"}
    published = stage is not None and stage.normalization == "batch"
    kept = "volume" if published else in_words(flow, f"M J Mᵀ = J (M the Jacobian of {whose}), and volume")
    kept += "" if stage is None else "; every stage by itself"
    return {
        **factors_of(flow),
        "keeps": kept,
    }


def _rows(choices: Mapping[str, object]) -> list[tuple[str, object]]:
    return [
        (name.replace("_", " "), " x ".join(map(str, value)) if isinstance(value, (tuple, list)) else value)
        for name, value in choices.items()
    ]


def _sample(count: int, shown: int) -> NDArray[np.int64]:
    """Evenly spread indices: the test part comes shuffled, so any of them are a fair sample."""
    return np.unique(np.linspace(0, count - 1, min(count, shown)).astype(np.int64))


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
