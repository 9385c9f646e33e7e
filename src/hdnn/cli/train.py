"""Train a network: `hdnn train`."""

import json
import math
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hdnn.cli import processes as team
from hdnn.cli.messages import say, show
from hdnn.cli.options import DATA, NETWORK, OUTPUT, TRAINING, AsJson, offering, option, taken
from hdnn.display import Display, shown
from hdnn.doors import in_options
from hdnn.options import NetworkChoices, RunChoices, SourceChoices, TrainingChoices, flags

if TYPE_CHECKING:
    from hdnn.jobs import Outcome, Precedent, Source

_SHOWN = 0.1  # seconds from one look at a training to the next
_NETWORK = {
    "width": "features",
    "activation": "tanh",
    "integrator": "the model's",
    "damping": "none; 0.2 for h2 of sequences",
    "shared": "off",
}
DATA_DEFAULTS = {
    "target": "none",
    "task": "as its values suggest",
    "columns": "all that can help",
    "without": "none",
    "separator": "as its first lines suggest",
    "decimal": "as its cells suggest",
    "no_header": "off",
    "skip_lines": "0",
    "encoding": "UTF-8, or what is beyond doubt",
    "missing": "the usual marks",
    "date_format": "as its cells suggest",
    "sequence": "none",
    "time": "none",
    "bins": "8",
    "image_size": "that of all, or 32",
    "size": "8000",
    "folder": "the cache of the user",
    "download": "off",
}


@offering(
    (NetworkChoices, NETWORK, _NETWORK, "by data"),
    (TrainingChoices, TRAINING, {}, "by data"),
    (RunChoices, TRAINING, {}, "none"),
    (SourceChoices, DATA, DATA_DEFAULTS, ""),
)
def train(
    context: typer.Context,
    data: Annotated[
        str,
        typer.Argument(
            help="digits, mnist, fashion-mnist, cifar10, swiss-roll, double-moons, double-circles, a .csv, .tsv, .txt "
            "or .parquet table, a .ts file of sequences, or a folder of pictures."
        ),
    ] = "digits",
    *,
    seed: Annotated[int, option(TRAINING, "Seed of data, weights and batches.")] = 0,
    device: Annotated[str, option(TRAINING, "cpu, cuda, cuda:1, ...")] = "cpu",
    threads: Annotated[int | None, option(TRAINING, "Processor threads.", default="as many as pay")] = None,
    processes: Annotated[
        int | None, option(TRAINING, "Processes that share every batch; the result is that of one.", default="1")
    ] = None,
    max_restarts: Annotated[
        int, option(TRAINING, "How often to go on from the checkpoint when one of the processes has died.")
    ] = 0,
    output: Annotated[
        Path | None, option(OUTPUT, "Run folder to write.", "--output", "-o", default="runs/DATA-TIME")
    ] = None,
    overwrite: Annotated[
        bool, option(OUTPUT, "Replace the run in the output folder.", "--overwrite", default="off")
    ] = False,
    like: Annotated[
        Path | None,
        option(
            None,
            "Start from network, recipe and seed of this run, and its data where DATA is not given; other "
            "options lie over them.",
            default="none",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        option(
            None,
            'Start from the choices in this JSON file, as in {"layers": 8, "epochs": 100}.',
            default="none",
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        option(OUTPUT, "Go on with this run, which was killed or interrupted, as it was begun.", default="none"),
    ] = None,
    checkpoint_every: Annotated[float, option(OUTPUT, "Seconds from one checkpoint to the next.")] = 30.0,
    tensorboard: Annotated[
        Path | None, option(OUTPUT, "Folder for TensorBoard's logs (pip install 'hdnn[tensorboard]').", default="none")
    ] = None,
    as_json: AsJson = False,
    **chosen: Any,
) -> None:
    """Train a Hamiltonian network and write a run folder with weights, results and a report.

    What you do not choose is taken from a set-up that suits the data (default: by data); the command says what it took.
    """
    team.check(processes, max_restarts)
    if (code := team.given_up()) is not None:
        sys.exit(code)
    if resume is not None:
        _require_alone(context)
        if processes is not None and not team.is_one():
            from hdnn.jobs.following import require_resumable

            device = require_resumable(resume, checkpoint_every=checkpoint_every)
            if processes > 1:
                team.check_device(device, processes)
            sys.exit(team.launch(processes, max_restarts, resume, team.arguments(None)))
        _go_on(resume, checkpoint_every, tensorboard, as_json)
        return
    typed = {name: value for name, value in (("data", data), ("seed", seed)) if _is_typed(context, name)}
    known = _known(like, config, take_data="data" not in typed)
    source, seed = _source(known, {**typed, **taken(SourceChoices, chosen)}, data, seed)
    lists = (NetworkChoices, TrainingChoices, RunChoices)
    choices = known.with_choices({name: value for each in lists for name, value in taken(each, chosen).items()})
    name = Path(source.data).stem
    folder = output or Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    if processes is not None and not team.is_one():
        from hdnn.jobs.following import require_ready

        if processes > 1:
            team.check_device(device, processes)
        require_ready(
            source, choices, folder,
            setup=known.setup, seed=seed, device=device, threads=threads, overwrite=overwrite,
            checkpoint_every=checkpoint_every,
        )  # fmt: skip
        sys.exit(team.launch(processes, max_restarts, folder, team.arguments(None if output else folder)))
    if output is None and team.may_restart():
        raise ValueError("With --max-restarts, name the run folder by --output: what begins again must find it.")
    command = shlex.join(["hdnn", *sys.argv[1:]])
    if team.is_restarted() and _is_begun(folder, command):
        _go_on(folder, checkpoint_every, tensorboard, as_json)
        return
    with team.joined(device):
        if team.follows():
            from hdnn.jobs.following import follow

            follow(source, choices, setup=known.setup, seed=seed, device=device, threads=threads)
            return
        from hdnn.jobs import train
        from hdnn.training import every
        from hdnn.training.tensorboard import logging_to

        with Display() as display, logging_to(tensorboard) as watching:
            if known.said:
                display.say(known.said)
            outcome = train(
                source,
                choices,
                folder,
                setup=known.setup,
                seed=seed,
                device=device,
                threads=threads,
                overwrite=overwrite,
                command=command,
                checkpoint_every=checkpoint_every,
                callbacks=(every(seconds=_SHOWN)(display.step), *watching),
                start_callbacks=(every(seconds=_SHOWN)(display.start),),
                announce=lambda text: display.say(in_options(text, flags(SourceChoices))),
                download_progress=display.fetch,
            )
        _report(outcome, as_json)


def _go_on(folder: Path, checkpoint_every: float, tensorboard: Path | None, as_json: bool) -> None:
    """Resume a run, with the other processes that are there."""
    from hdnn.runs import Run

    with team.joined(str(Run.open(folder).config.start.get("device", "cpu"))):
        if not team.follows():
            _report(_resumed(folder, checkpoint_every, tensorboard), as_json)
            return
        from hdnn.jobs.following import follow_resumed

        follow_resumed(folder)


def _is_begun(folder: Path, command: str) -> bool:
    """Whether this very command has begun a run that is not finished."""
    from hdnn.runs import Run

    try:
        run = Run.open(folder)
    except (OSError, ValueError):
        return False
    return run.config.command == command and not run.is_finished


def _is_typed(context: typer.Context, name: str) -> bool:
    return getattr(context.get_parameter_source(name), "name", "DEFAULT") == "COMMANDLINE"


def _known(like: Path | None, config: Path | None, *, take_data: bool) -> "Precedent":
    """What a run and a file say, the file over the run; data of the run only where nobody else names any."""
    from hdnn.jobs import Precedent, as_file, as_run

    file = Precedent() if config is None else as_file(config)
    run = Precedent() if like is None else as_run(like, data=take_data and "data" not in file.data)
    return run.under(file)


def _source(known: "Precedent", typed: dict[str, Any], data: str, seed: int) -> tuple["Source", int]:
    """The data, and the seed of all: as typed, else as known, else by default."""
    from hdnn.jobs import Source

    seed = typed.get("seed", seed if known.seed is None else known.seed)
    return Source(**{"data": data, **known.data, **typed, "seed": seed}), seed


def _resumed(folder: Path, checkpoint_every: float, tensorboard: Path | None) -> "Outcome":
    from hdnn.jobs import resume
    from hdnn.training import every
    from hdnn.training.tensorboard import logging_to

    with Display() as display, logging_to(tensorboard) as watching:
        return resume(
            folder,
            checkpoint_every=checkpoint_every,
            callbacks=(every(seconds=_SHOWN)(display.step), *watching),
            start_callbacks=(every(seconds=_SHOWN)(display.start),),
            announce=lambda text: display.say(in_options(text, flags(SourceChoices))),
        )


def _require_alone(context: typer.Context) -> None:
    """A run goes on as it was begun, so nothing else may be chosen."""
    free = {"resume", "checkpoint_every", "tensorboard", "as_json", "processes", "max_restarts"}
    chosen = [
        parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.opts[0].upper()
        for parameter in context.command.params
        if parameter.name not in free and _is_typed(context, parameter.name or "")
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
        from hdnn.jobs.standing import lines

        for line in [*result_lines(outcome), *lines(metrics)]:
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


def result_lines(outcome: "Outcome") -> list[str]:
    """The scores on the test part, a line each."""
    metrics = outcome.metrics
    names = [name for name in ("test_accuracy", "test_error", "test_r2") if name in metrics]
    noun = "sequences" if outcome.run.config.network.of_sequences else "rows"
    rows = f"on {metrics['test_rows']} test {noun}"
    return [f"{name.replace('_', ' ').capitalize()}: {shown(name, metrics[name])} {rows}" for name in names]
