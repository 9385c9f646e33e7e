"""The command line: each command calls one function of the library and shows what it returns.

Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 the numbers came out wrong
(training diverged, a backend disagrees with float64), 2 bad input, 130 interrupted.
"""

# Annotations are read by Typer at run time, so they are not postponed. Heavy imports stand inside the commands:
# `hdnn --help` must not wait for PyTorch.
import json
import os
import shlex
import sys
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from hdnn.display import Display, shown

app = typer.Typer(
    name="hdnn",
    help="Train Hamiltonian deep neural networks and see why they work.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


# As dictionaries, for type checkers then know the values.
Lifts = StrEnum("Lifts", {"zeros": "zeros", "linear": "linear"})
Optimizers = StrEnum("Optimizers", {"adam": "adam", "adamw": "adamw", "sgd": "sgd", "lbfgs": "lbfgs"})
Methods = StrEnum("Methods", {"joint": "joint", "alternating": "alternating"})
Tasks = StrEnum("Tasks", {"classification": "classification", "regression": "regression"})

_NETWORK, _TRAINING, _DATA, _OUTPUT = "Network", "Training", "Data", "Output"
_JSON = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.", rich_help_panel=_OUTPUT)]
_RUN = Annotated[Path, typer.Argument(help="Folder that `hdnn train` wrote.")]


def _option(panel: str, help: str, *names: str) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=False)


_MODEL = Annotated[str | None, _option(_NETWORK, "ms1, ms2, ms3, h1 or h2.")]
_LAYERS = Annotated[int | None, _option(_NETWORK, "Number of layers N.")]
_STEP = Annotated[float | None, _option(_NETWORK, "Integration step h.")]
_HORIZON = Annotated[float | None, _option(_NETWORK, "Integration time T = N h, instead of --step.")]
_FEATURES = Annotated[int | None, _option(_NETWORK, "Size n of the state.")]
_WIDTH = Annotated[int | None, _option(_NETWORK, "Hidden units a layer (h1, h2).")]
_ACTIVATION = Annotated[str | None, _option(_NETWORK, "tanh, relu, leaky_relu, sigmoid, softplus or identity.")]
_INTERCONNECTION = Annotated[
    str | None, _option(_NETWORK, "J of h1 and h2: canonical or upper_ones (J1 and J2 of the L4DC paper).")
]
_SHARED = Annotated[bool, _option(_NETWORK, "One K and b for all layers (time-invariant).", "--shared")]
_INIT_STD = Annotated[float | None, _option(_NETWORK, "Standard deviation of the initial weights.")]
_MNIST = Annotated[Path | None, _option(_DATA, "Where the MNIST files are now.")]


@app.command()
def train(
    data: Annotated[
        str,
        typer.Argument(
            help="digits, mnist, swiss-roll, double-moons, double-circles, or a .csv, .tsv or .parquet table."
        ),
    ] = "digits",
    model: _MODEL = None,
    layers: _LAYERS = None,
    step: _STEP = None,
    horizon: _HORIZON = None,
    features: _FEATURES = None,
    width: _WIDTH = None,
    activation: _ACTIVATION = None,
    interconnection: _INTERCONNECTION = None,
    lift: Annotated[Lifts | None, _option(_NETWORK, "How vectors become states.")] = None,
    shared: _SHARED = False,
    init_std: _INIT_STD = None,
    epochs: Annotated[int | None, _option(_TRAINING, "Passes over the training data.")] = None,
    batch_size: Annotated[int | None, _option(_TRAINING, "Samples a step.")] = None,
    optimizer: Annotated[Optimizers | None, _option(_TRAINING, "Optimizer.")] = None,
    learning_rate: Annotated[float | None, _option(_TRAINING, "Largest learning rate of the schedule.")] = None,
    alpha: Annotated[float | None, _option(_TRAINING, "Weight of smoothness over depth.")] = None,
    alpha_c: Annotated[float | None, _option(_TRAINING, "Weight decay of the output layer, in the loss.")] = None,
    weight_decay: Annotated[float | None, _option(_TRAINING, "Weight decay of all parameters.")] = None,
    label_smoothing: Annotated[float | None, _option(_TRAINING, "Label smoothing, 0 to 1.")] = None,
    clip: Annotated[float | None, _option(_TRAINING, "Largest norm of the gradient.")] = None,
    method: Annotated[Methods | None, _option(_TRAINING, "joint, or alternating as in the paper.")] = None,
    validation: Annotated[float | None, _option(_TRAINING, "Share of the training data held back to watch.")] = None,
    patience: Annotated[
        int | None, _option(_TRAINING, "Stop after so many epochs without a better validation score.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of data, weights and batches.", rich_help_panel=_TRAINING)] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...", rich_help_panel=_TRAINING)] = "cpu",
    threads: Annotated[int | None, _option(_TRAINING, "Processor threads. Default: as many as pay.")] = None,
    target: Annotated[str | None, _option(_DATA, "Column of a table to predict.")] = None,
    task: Annotated[Tasks | None, _option(_DATA, "What the target of a table is.")] = None,
    column: Annotated[
        list[str] | None, _option(_DATA, "Input column of a table; repeat for several. Default: all that can help.")
    ] = None,
    size: Annotated[int | None, _option(_DATA, "Points of a planar set. Default: 8000.")] = None,
    data_folder: Annotated[Path | None, _option(_DATA, "Where the MNIST files are, or go with --download.")] = None,
    download: Annotated[bool, _option(_DATA, "Fetch MNIST if it is not there.", "--download")] = False,
    output: Annotated[
        Path | None, _option(_OUTPUT, "Run folder to write. Default: runs/DATA-TIME.", "--output", "-o")
    ] = None,
    overwrite: Annotated[bool, _option(_OUTPUT, "Replace the run in the output folder.", "--overwrite")] = False,
    as_json: _JSON = False,
) -> None:
    """Train a Hamiltonian network and write a run folder with weights, results and a report.

    What you do not choose is taken from a set-up that suits the data.
    """
    from hdnn.jobs import Choices, Source, train

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
        alpha=alpha,
        alpha_c=alpha_c,
        weight_decay=weight_decay,
        label_smoothing=label_smoothing,
        clip=clip,
        method=method.value if method else None,
        validation=validation,
        patience=patience,
    )
    name = Path(data).stem
    folder = output or Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    with Display() as display:
        outcome = train(
            source,
            choices,
            folder,
            seed=seed,
            device=device,
            threads=threads,
            overwrite=overwrite,
            command=shlex.join(["hdnn", *sys.argv[1:]]),
            callbacks=(display.step,),
            announce=display.say,
            download_progress=display.fetch,
        )
    metrics = outcome.metrics
    if as_json:
        print(json.dumps({**metrics, "run": str(folder), "report": str(outcome.run.report)}))
    else:
        for line in _result_lines(metrics):
            print(line)
        print(f"Report: {outcome.run.report}")
    if outcome.interrupted:
        done = "1 epoch" if metrics["epochs"] == 1 else f"{metrics['epochs']} epochs"
        _say(f"Interrupted after {done}. The weights of that moment are in {folder}; it can be loaded.")
        sys.exit(130)


@app.command()
def predict(
    run: _RUN,
    file: Annotated[Path, typer.Argument(help="Table with the run's input columns, or an IDX file of images.")],
    output: Annotated[Path | None, _option(_OUTPUT, "CSV file to write; default: stdout.", "--output", "-o")] = None,
    overwrite: Annotated[bool, _option(_OUTPUT, "Replace the output file.", "--overwrite")] = False,
    as_json: _JSON = False,
) -> None:
    """Predict the rows of a table, or the images of an IDX file, with a trained run."""
    from hdnn.files import write_whole
    from hdnn.jobs import predict

    if output is not None and output.is_dir():
        raise IsADirectoryError(f"{output} is a folder. Name the file to write, as in {output / 'predictions.csv'}.")
    if output is not None and output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists; nothing was changed. Choose another --output, or give --overwrite.")
    prediction = predict(run, file)
    frame = prediction.frame
    text = frame.to_json(orient="records") + "\n" if as_json else frame.to_csv(index=False)
    if output is None:
        sys.stdout.write(text)
    else:
        write_whole(output, text)
        _say(f"{len(frame)} predictions: {output}")
    if prediction.remarks:
        _say(prediction.remarks)


@app.command()
def evaluate(
    run: _RUN,
    data: Annotated[
        Path | None, typer.Argument(help="Table with inputs and target. Default: the test part of the run.")
    ] = None,
    data_folder: _MNIST = None,
    as_json: _JSON = False,
) -> None:
    """Loss and score of a trained run on its test part or on a table with known answers."""
    from hdnn.jobs import evaluate

    scores = evaluate(run, data, mnist_folder=str(data_folder) if data_folder else None)
    if as_json:
        print(json.dumps(scores))
    else:
        for name, value in scores.items():
            print(f"{name}: {shown(name, value)}")


@app.command()
def analyze(
    run: Annotated[Path | None, typer.Argument(help="Folder that `hdnn train` wrote; none with --model.")] = None,
    model: _MODEL = None,
    layers: _LAYERS = None,
    step: _STEP = None,
    horizon: _HORIZON = None,
    features: _FEATURES = None,
    width: _WIDTH = None,
    activation: _ACTIVATION = None,
    interconnection: _INTERCONNECTION = None,
    shared: _SHARED = False,
    init_std: _INIT_STD = None,
    samples: Annotated[int, typer.Option(help="Test samples of the run, or random states.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of the samples, and of the weights of an untrained flow.")] = 0,
    data_folder: _MNIST = None,
    output: Annotated[
        Path | None,
        _option(_OUTPUT, "Folder to write. Default: RUN/analysis, or analyses/MODEL-TIME.", "--output", "-o"),
    ] = None,
    overwrite: Annotated[bool, _option(_OUTPUT, "Replace the analysis in the output folder.", "--overwrite")] = False,
    as_json: _JSON = False,
) -> None:
    """See what the flow of a run, or an untrained one, does to states and gradients: numbers, figures, a report."""
    from hdnn.jobs import analyze, choose_subject

    network = {
        "model": model,
        "layers": layers,
        "step": step,
        "horizon": horizon,
        "features": features,
        "width": width,
        "activation": activation,
        "interconnection": interconnection,
        "shared": shared or None,
        "init_std": init_std,
    }
    folder = output or (run / "analysis" if run else Path("analyses") / f"{model}-{datetime.now():%Y%m%d-%H%M%S}")
    subject = choose_subject(run, network, samples, seed, str(data_folder) if data_folder else None)
    _say(subject.lead)
    found = analyze(subject, folder, overwrite=overwrite, command=shlex.join(["hdnn", *sys.argv[1:]]))
    if as_json:
        print(json.dumps({**found.summary, "left_out": found.left_out, "report": str(found.report)}))
        return
    for name, value in found.summary.items():
        if value is not None:
            print(f"{name.replace('_', ' ')}: {value if isinstance(value, str) else shown(name, value)}")
    for title, reason in found.left_out.items():
        _say(f"Left out: {title}. {reason}")
    print(f"Report: {found.report}")


@app.command()
def info(as_json: _JSON = False) -> None:
    """Versions, devices and backends of this installation."""
    from hdnn.info import info

    facts = info()
    if as_json:
        print(json.dumps(facts))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in facts.items():
        lines = [f"{key} {item}" for key, item in value.items()] if isinstance(value, dict) else value
        table.add_row(name, "\n".join(lines) if isinstance(lines, list) else str(lines))
    Console().print(table, markup=False, highlight=False)


@app.command()
def bench(
    threads: Annotated[
        int | None, typer.Option(help="Processor threads. Default: PyTorch's own number.", show_default=False)
    ] = None,
    seconds: Annotated[float, typer.Option(help="Time to measure for; making ready takes a few more.")] = 10.0,
    as_json: _JSON = False,
) -> None:
    """How fast flows run here: forward and backward, native beside eager, checked against float64."""
    from rich.console import Console

    from hdnn.bench import bench

    with Console(stderr=True).status("Making ready") as status:
        result = bench(seconds=seconds, threads=threads, announce=lambda regime: status.update(f"Measuring {regime}"))
    if as_json:
        print(json.dumps(result))
        return
    from rich.table import Table

    table = Table("flow", "n·N·batch", box=None, pad_edge=False)
    columns = {"eager_ms": ".3f", "native_ms": ".3f", "ratio": ".1f", "eager_error": ".0e", "native_error": ".0e"}
    for name in columns:
        table.add_column(name.replace("_", " "), justify="right")
    for row in result["regimes"]:
        numbers = ["–" if row[name] is None else f"{row[name]:{form}}" for name, form in columns.items()]
        table.add_row(row["model"], f"{row['features']}·{row['layers']}·{row['batch']}", *numbers)
    console = Console()
    console.print(table, highlight=False)
    console.print(
        f"Forward + backward of a batch through N layers of n features, {result['dtype']},\n"
        f"threads: {result['threads']}. The fastest of interleaved calls; the largest relative error\n"
        f"of loss and gradients, against float64. Native: {result['native']}.",
        markup=False,
        highlight=False,
    )


def main() -> None:
    """Run the command line; bad input ends with one message and exit code 2."""
    try:
        code = app(args=sys.argv[1:] or ["--help"], prog_name="hdnn", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough, as in `hdnn predict RUN FILE | head`; nothing may be flushed to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except FloatingPointError as error:
        code = _failed(error, 1)
    except (ValueError, OSError, ImportError, MemoryError) as error:
        code = _failed(error, 2)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:
        # Typer's own, for arguments that cannot be read; its class has moved from version to version.
        if not hasattr(error, "format_message"):
            raise
        code = _failed(error, 2)
    if code == 130:
        _say("Interrupted.")
    sys.exit(code)


def _result_lines(metrics: dict[str, Any]) -> list[str]:
    names = [name for name in ("test_accuracy", "test_error", "test_r2") if name in metrics]
    rows = f"on {metrics['test_rows']} test rows"
    return [f"{name.replace('_', ' ').capitalize()}: {shown(name, metrics[name])} {rows}" for name in names]


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _failed(error: Exception, code: int) -> int:
    # str() of an OSError made by the system starts with its number; the sentence is in strerror.
    text = str(error)
    if isinstance(error, OSError) and error.strerror is not None:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif hasattr(error, "format_message"):
        text = error.format_message()
        text += " See hdnn --help." if text.endswith((".", "?")) else ". See hdnn --help."
    _say(f"Error: {' '.join(text.split())}")
    return code
