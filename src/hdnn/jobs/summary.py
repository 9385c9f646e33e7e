"""Figures and report of a finished run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hdnn import plots
from hdnn.analysis import principal_components
from hdnn.data import Dataset
from hdnn.modes import evaluating
from hdnn.networks import Network, class_probabilities, predicted_classes
from hdnn.report import Picture, Report, Section, Table, render
from hdnn.runs import Run
from hdnn.training import outputs

_SHOWN = 400  # samples in the pictures of features: more hide each other
_GRID = 200  # points along each side of a decision region
_FRAMES = 33  # of the animation: drawing them is most of the time between training and the prompt
_LISTED = 40  # classes in the table of classes

Metrics = Mapping[str, Any]


def write_summary(
    run: Run, network: Network, dataset: Dataset, history: Sequence[Mapping[str, float]], metrics: Metrics
) -> None:
    """Draw the figures of a run and write its report.

    Args:
        run: its folder.
        network: trained.
        dataset: what it was trained and tested on.
        history: one record an epoch.
        metrics: as in metrics.json.
    """
    output = outputs(network, torch.from_numpy(dataset.x_test)).cpu()
    sections = [Section("Results", _result_parts(run, dataset, output))]
    if network.task == "classification" and dataset.inputs == (2,):
        sections.append(Section("Decision regions", [_regions(run, network, dataset, output)]))
    if history:
        plots.save(plots.training_curves(history), run.figure("training.png"))
        sections.append(Section("Training", [_picture(run, "training.png", "Training curves", _TRAINING)]))
    if network.task == "classification":
        sections.append(Section("Features through depth", _features(run, network, dataset)))
    sections.append(Section("Configuration", _configuration(run, network)))
    run.write_report(render(_report(run, dataset, metrics, sections)))


_TRAINING = (
    "Objective and score by epoch. A train curve that keeps rising where the validation curve falls is overfitting; "
    "jumps ask for a smaller learning rate."
)


def _report(run: Run, dataset: Dataset, metrics: Metrics, sections: list[Section]) -> Report:
    network = run.config.network
    notes = []
    if metrics["interrupted"]:
        notes.append(
            f"Training was interrupted after {metrics['epochs']} epochs; these are the weights of that moment."
        )
    if dataset.task == "classification":
        headline = [("test accuracy", _percent(metrics["test_accuracy"]))]
        headline += [("train accuracy", _percent(metrics["train_accuracy"]))]
    else:
        headline = [("test R²", f"{metrics['test_r2']:.3f}"), ("test error (RMS)", f"{metrics['test_error']:.4g}")]
    headline += [("parameters", f"{metrics['parameters']:,}"), ("training time", f"{metrics['seconds']:.1f} s")]
    return Report(
        title=f"{network.model} on {dataset.name}",
        lead=f"A Hamiltonian network, {network.model} with {network.layers} layers, {network.features} features and "
        f"step {network.step:.4g}. {dataset.description}.",
        headline=headline,
        sections=sections,
        notes=notes,
        command=run.config.command,
        versions=run.config.versions,
    )


def _result_parts(run: Run, dataset: Dataset, output: torch.Tensor) -> list[Table | Picture]:
    if dataset.task == "regression":
        truth, predicted = dataset.target.decode(dataset.y_test), dataset.target.decode(output.numpy())
        parts: list[Table | Picture] = []
        for i, name in enumerate(dataset.target.columns):
            file = f"predicted_{i}.png"
            plots.save(plots.predicted_against_true(truth[:, i], predicted[:, i], name), run.figure(file))
            parts.append(_picture(run, file, f"Predicted {name}", "Each point is a test row; on the line it is exact."))
        return parts
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    labels = np.arange(len(dataset.classes))
    predicted_labels = predicted_classes(output).numpy()
    precision, recall, _, support = precision_recall_fscore_support(
        dataset.y_test, predicted_labels, labels=labels, zero_division=0.0
    )
    rows = list(zip(dataset.classes, precision.tolist(), recall.tolist(), support.tolist(), strict=True))
    note = "" if len(rows) <= _LISTED else f"The first {_LISTED} of {len(rows)} classes."
    columns = ("class", "precision", "recall", "test rows")
    plots.save(
        plots.confusion_matrix(confusion_matrix(dataset.y_test, predicted_labels, labels=labels), dataset.classes),
        run.figure("confusion.png"),
    )
    caption = "Rows are the true classes of the test data, columns what the network said. Off the diagonal are errors."
    return [
        _picture(run, "confusion.png", "Confusion matrix", caption),
        Table("Classes", columns, rows[:_LISTED], note),
    ]


def _regions(run: Run, network: Network, dataset: Dataset, output: torch.Tensor) -> Picture:
    x = dataset.x_test
    low, high = x.min(0), x.max(0)
    margin = 0.08 * (high - low)
    axes = [np.linspace(low[i] - margin[i], high[i] + margin[i], _GRID, dtype=np.float32) for i in range(2)]
    grid = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    probabilities = class_probabilities(outputs(network, torch.from_numpy(grid)).cpu()).numpy()
    said: NDArray[Any] = probabilities[:, 1] if len(dataset.classes) == 2 else probabilities.argmax(1)
    chosen = _sample(len(x), 5 * _SHOWN)
    figure = plots.decision_regions(
        axes[0],
        axes[1],
        said.reshape(_GRID, _GRID),
        x[chosen],
        dataset.y_test[chosen],
        dataset.classes,
        predicted=predicted_classes(output).numpy()[chosen],
    )
    plots.save(figure, run.figure("regions.png"))
    caption = (
        "What the network says in the plane of the (standardised) inputs, with test points; those in rings are errors."
    )
    return _picture(run, "regions.png", "Decision regions", caption)


def _features(run: Run, network: Network, dataset: Dataset) -> list[Table | Picture]:
    chosen = _sample(len(dataset.x_test), _SHOWN)
    device = network.head.weight.device
    with torch.no_grad(), evaluating(network):
        states = network.trajectory(torch.from_numpy(dataset.x_test[chosen]).to(device)).cpu()
    labels = dataset.y_test[chosen]
    components = principal_components(states)
    figure = plots.features_by_layer(components.coordinates, labels, dataset.classes, explained=components.explained)
    plots.save(figure, run.figure("features.png"))
    film = run.figure("features.gif")
    plots.animate_features(components.coordinates, labels, dataset.classes, film, frames=_FRAMES)
    still = (
        f"The states of {len(chosen)} test samples after some of the layers, seen from their first two principal "
        f"components over all layers. The flow is trained to move the classes apart until a hyperplane separates them."
    )
    return [
        _picture(run, "features.png", "Features by layer", still),
        _picture(
            run, "features.gif", "The same as an animation", "The same axes throughout; its title names the layer."
        ),
    ]


def _configuration(run: Run, network: Network) -> list[Table | Picture]:
    config = run.config
    about = vars(config.network)
    rows: list[tuple[str, object]] = [(name, _plain(value)) for name, value in about.items()]
    rows += [("structure", repr(network.flow.structure)), ("J", repr(network.flow.interconnection))]
    rows += [("integrator", repr(network.flow.integrator)), ("keeps", _keeps(network))]
    recipe = [(name, _plain(value)) for name, value in config.recipe.items()]
    return [
        Table("Network", ("", ""), rows),
        Table("Recipe", ("", ""), recipe),
    ]


def _keeps(network: Network) -> str:
    if network.flow.preserves_structure:
        return "M J Mᵀ = J (M the Jacobian of the flow), and volume"
    return "volume" if network.flow.preserves_volume else "nothing exactly"


def _plain(value: object) -> object:
    return " x ".join(str(size) for size in value) if isinstance(value, (tuple, list)) else value


def _picture(run: Run, file: str, title: str, caption: str) -> Picture:
    return Picture(title, run.figure(file).read_bytes(), alt=f"{title}. {caption}", caption=caption)


def _sample(count: int, shown: int) -> NDArray[np.int64]:
    """Evenly spread indices: the test part comes shuffled, so any of them are a fair sample."""
    return np.unique(np.linspace(0, count - 1, min(count, shown)).astype(np.int64))


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
