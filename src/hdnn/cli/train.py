"""Train a network: `hdnn train`."""

import json
import math
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hdnn.cli.messages import say, show
from hdnn.cli.options import (
    DATA,
    NETWORK,
    OUTPUT,
    TRAINING,
    AsJson,
    Lifts,
    Methods,
    Optimizers,
    Tasks,
    network,
    option,
)
from hdnn.display import Display, shown

if TYPE_CHECKING:
    from hdnn.jobs import Outcome


def train(
    context: typer.Context,
    data: Annotated[
        str,
        typer.Argument(
            help="digits, mnist, swiss-roll, double-moons, double-circles, or a .csv, .tsv or .parquet table."
        ),
    ] = "digits",
    model: Annotated[str | None, network("model", "by data")] = None,
    layers: Annotated[int | None, network("layers", "by data")] = None,
    step: Annotated[float | None, network("step", "by data")] = None,
    horizon: Annotated[float | None, network("horizon", "by data")] = None,
    features: Annotated[int | None, network("features", "by data")] = None,
    width: Annotated[int | None, network("width", "features")] = None,
    activation: Annotated[str | None, network("activation", "tanh")] = None,
    interconnection: Annotated[str | None, network("interconnection", "by data")] = None,
    lift: Annotated[Lifts | None, option(NETWORK, "How vectors become states.", default="by data")] = None,
    shared: Annotated[bool, network("shared", "off")] = False,
    init_std: Annotated[float | None, network("init_std", "by data")] = None,
    epochs: Annotated[int | None, option(TRAINING, "Passes over the training data.", default="by data")] = None,
    batch_size: Annotated[int | None, option(TRAINING, "Samples a step.", default="by data")] = None,
    optimizer: Annotated[Optimizers | None, option(TRAINING, "Optimizer.", default="by data")] = None,
    learning_rate: Annotated[
        float | None, option(TRAINING, "Largest learning rate of the schedule.", default="by data")
    ] = None,
    smoothness: Annotated[float | None, option(TRAINING, "Weight of smoothness over depth.", default="by data")] = None,
    head_decay: Annotated[
        float | None, option(TRAINING, "Weight decay of the output layer, in the loss.", default="by data")
    ] = None,
    weight_decay: Annotated[
        float | None, option(TRAINING, "Weight decay of all parameters.", default="by data")
    ] = None,
    label_smoothing: Annotated[float | None, option(TRAINING, "Label smoothing, 0 to 1.", default="by data")] = None,
    clip: Annotated[
        float | None, option(TRAINING, "Largest norm of the gradient; inf leaves it alone.", default="by data")
    ] = None,
    method: Annotated[
        Methods | None, option(TRAINING, "joint, or alternating as in the paper.", default="by data")
    ] = None,
    validation_fraction: Annotated[
        float | None, option(TRAINING, "Share of the training data held back to watch.", default="by data")
    ] = None,
    patience: Annotated[
        int | None, option(TRAINING, "Stop after so many epochs without a better validation score.", default="by data")
    ] = None,
    restarts: Annotated[
        int | None,
        option(
            TRAINING, "Starts from fresh weights, of which the best is trained on; 1 begins once.", default="by data"
        ),
    ] = None,
    seed: Annotated[int, option(TRAINING, "Seed of data, weights and batches.")] = 0,
    device: Annotated[str, option(TRAINING, "cpu, cuda, cuda:1, ...")] = "cpu",
    threads: Annotated[int | None, option(TRAINING, "Processor threads.", default="as many as pay")] = None,
    target: Annotated[
        str | None, option(DATA, "Column of a table to predict; a table needs it.", default="none")
    ] = None,
    task: Annotated[
        Tasks | None, option(DATA, "What the target of a table is.", default="as its values suggest")
    ] = None,
    column: Annotated[
        list[str] | None, option(DATA, "Input column of a table; repeat for several.", default="all that can help")
    ] = None,
    size: Annotated[int | None, option(DATA, "Points of a planar set.", default="8000")] = None,
    data_folder: Annotated[
        Path | None, option(DATA, "Where the MNIST files are, or go with --download.", default="the cache of the user")
    ] = None,
    download: Annotated[bool, option(DATA, "Fetch MNIST if it is not there.", "--download", default="off")] = False,
    output: Annotated[
        Path | None, option(OUTPUT, "Run folder to write.", "--output", "-o", default="runs/DATA-TIME")
    ] = None,
    overwrite: Annotated[
        bool, option(OUTPUT, "Replace the run in the output folder.", "--overwrite", default="off")
    ] = False,
    resume: Annotated[
        Path | None,
        option(OUTPUT, "Go on with this run, which was killed or interrupted, as it was begun.", default="none"),
    ] = None,
    checkpoint_every: Annotated[float, option(OUTPUT, "Seconds from one checkpoint to the next.")] = 30.0,
    tensorboard: Annotated[
        Path | None, option(OUTPUT, "Folder for TensorBoard's logs (pip install 'hdnn[tensorboard]').", default="none")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a Hamiltonian network and write a run folder with weights, results and a report.

    What you do not choose is taken from a set-up that suits the data (default: by data); the command says what it took.
    """
    if resume is not None:
        _require_alone(context)
        _report(_resumed(resume, checkpoint_every, tensorboard), as_json)
        return
    from hdnn.jobs import Choices, Source, train
    from hdnn.training.tensorboard import logging_to

    source = Source(
        data,
        seed=seed,
        size=size,
        target=target,
        task=task.value if task else None,
        columns=tuple(column) if column else None,
        folder=str(data_folder) if data_folder else None,
        download=download,
    )
    choices = Choices(
        model=model,
        layers=layers,
        step=step,
        horizon=horizon,
        features=features,
        width=width,
        activation=activation,
        interconnection=interconnection,
        lift=lift.value if lift else None,
        shared=shared,
        init_std=init_std,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer.value if optimizer else None,
        learning_rate=learning_rate,
        smoothness=smoothness,
        head_decay=head_decay,
        weight_decay=weight_decay,
        label_smoothing=label_smoothing,
        clip=clip,
        method=method.value if method else None,
        validation_fraction=validation_fraction,
        patience=patience,
        restarts=restarts,
    )
    name = Path(data).stem
    folder = output or Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    with Display() as display, logging_to(tensorboard) as watching:
        outcome = train(
            source,
            choices,
            folder,
            seed=seed,
            device=device,
            threads=threads,
            overwrite=overwrite,
            command=shlex.join(["hdnn", *sys.argv[1:]]),
            checkpoint_every=checkpoint_every,
            callbacks=(display.step, *watching),
            start_callbacks=(display.start,),
            announce=display.say,
            download_progress=display.fetch,
        )
    _report(outcome, as_json)


def _resumed(folder: Path, checkpoint_every: float, tensorboard: Path | None) -> "Outcome":
    from hdnn.jobs import resume
    from hdnn.training.tensorboard import logging_to

    with Display() as display, logging_to(tensorboard) as watching:
        return resume(
            folder,
            checkpoint_every=checkpoint_every,
            callbacks=(display.step, *watching),
            start_callbacks=(display.start,),
            announce=display.say,
        )


def _require_alone(context: typer.Context) -> None:
    """A run goes on as it was begun, so nothing else may be chosen."""
    free = {"resume", "checkpoint_every", "tensorboard", "as_json"}
    chosen = [
        parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.opts[0].upper()
        for parameter in context.command.params
        if parameter.name not in free
        and getattr(context.get_parameter_source(parameter.name or ""), "name", "DEFAULT") == "COMMANDLINE"
    ]
    if chosen:
        raise ValueError(
            f"--resume goes on with what the run was begun with, so it takes no {', '.join(chosen)}. Leave that out, "
            f"or train anew without --resume."
        )


def _report(outcome: "Outcome", as_json: bool) -> None:
    """Print the results; an interrupted run ends with exit code 130."""
    metrics, folder = outcome.metrics, outcome.run.folder
    if as_json:
        show(json.dumps({**metrics, "run": str(folder), "report": str(outcome.run.report)}))
    else:
        for line in _result_lines(metrics):
            show(line)
        show(f"Report: {outcome.run.report}")
    if outcome.interrupted:
        done = "1 epoch" if metrics["epochs"] == 1 else f"{metrics['epochs']} epochs"
        if metrics.get("start_epochs", math.inf) < outcome.run.config.recipe["restart_epochs"]:
            done = f"{metrics['start_epochs']} epochs of the starts"
        saved = outcome.run.checkpoint.is_file()
        place = "the last checkpoint" if saved else "the beginning, for there is no checkpoint yet"
        say(
            f"Interrupted after {done}. The weights of that moment are in {folder}; it can be loaded. To go on from "
            f"{place}: {shlex.join(['hdnn', 'train', '--resume', str(folder)])}"
        )
        sys.exit(130)


def _result_lines(metrics: dict[str, Any]) -> list[str]:
    names = [name for name in ("test_accuracy", "test_error", "test_r2") if name in metrics]
    rows = f"on {metrics['test_rows']} test rows"
    return [f"{name.replace('_', ' ').capitalize()}: {shown(name, metrics[name])} {rows}" for name in names]
