"""Search for choices: `hdnn tune`."""

import json
import re
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hdnn.cli.messages import say, show
from hdnn.cli.options import DATA, NETWORK, TRAINING, AsJson, offering, option, taken
from hdnn.cli.train import DATA_DEFAULTS, result_lines
from hdnn.display import shown
from hdnn.doors import in_options
from hdnn.options import NetworkChoices, RunChoices, SourceChoices, TrainingChoices, flags

if TYPE_CHECKING:
    from hdnn.jobs import Tuned

_STUDY = "Study"
_FIXED = {"model": "searched", "layers": "searched", "horizon": "searched", "features": "searched"}
_TRIED = {"learning_rate": "searched", "weight_decay": "searched", "validation_fraction": "0.2"}


@offering(
    (NetworkChoices, NETWORK, _FIXED, "by data"),
    (TrainingChoices, TRAINING, _TRIED, "by data"),
    (RunChoices, TRAINING, {}, "none"),
    (SourceChoices, DATA, {**DATA_DEFAULTS, "bins": "searched"}, ""),
)
def tune(
    data: Annotated[str, typer.Argument(help="A table or a built-in set, as for hdnn train.")],
    *,
    trials: Annotated[int, option(_STUDY, "Trials in all, of all processes; needs pip install 'hdnn[tune]'.")] = 50,
    study: Annotated[
        Path | None,
        option(
            _STUDY,
            "Folder of the study. Start the command again with the same one, here or on a machine that shares it, for "
            "one more process at work, or to go on after a pause.",
            default="studies/DATA-TIME",
        ),
    ] = None,
    storage: Annotated[
        str | None,
        option(
            _STUDY,
            "URL of a database that has the trials, as sqlite:///trials.db, for machines that share no folder.",
            default="a journal in the folder",
        ),
    ] = None,
    lost_hosts: Annotated[
        list[str] | None,
        option(
            _STUDY,
            "Host that is no more though its trials say that they run; repeat for several.",
            "--lost-host",
            default="none",
        ),
    ] = None,
    seed: Annotated[int, option(TRAINING, "Seed of data, weights, batches and what is tried.")] = 0,
    device: Annotated[str, option(TRAINING, "cpu, cuda, cuda:1, ...")] = "cpu",
    threads: Annotated[int | None, option(TRAINING, "Processor threads.", default="as many as pay")] = None,
    as_json: AsJson = False,
    **chosen: Any,
) -> None:
    """Search for the choices that score best on training rows held back, then train with them.

    What you choose is fixed. A process that is killed loses nothing: the others try its trial again.
    """
    from hdnn.display import Display
    from hdnn.jobs import Choices, Source, tune
    from hdnn.jobs.tuning import BINS

    source = Source(data, seed=seed, **taken(SourceChoices, chosen))
    lists = (NetworkChoices, TrainingChoices, RunChoices)
    choices = Choices(**{name: value for each in lists for name, value in taken(each, chosen).items()})  # type: ignore[typeddict-item]
    folder = study or Path("studies") / f"{Path(data).stem}-{datetime.now():%Y%m%d-%H%M%S}"
    say(f"Study: {folder}")
    try:
        with Display() as display:
            tuned = tune(
                source,
                choices,
                folder,
                trials=trials,
                bins=BINS if chosen["bins"] is None else (),
                seed=seed,
                device=device,
                threads=threads,
                storage=storage,
                lost_hosts=tuple(lost_hosts or ()),
                command=shlex.join(["hdnn", *map(_without_password, sys.argv[1:])]),
                announce=lambda text: display.say(in_options(text, flags(SourceChoices))),
                progress=display.cell,
            )
    except KeyboardInterrupt:
        say(f"The trial that was interrupted is tried again by others, or when the study goes on: --study {folder}.")
        raise
    _report(tuned, as_json)


def _without_password(word: str) -> str:
    """A word of the command as it may stand in a run, which others get to see."""
    word = re.sub(r"(://[^:/@]*):.*@", r"\1:PASSWORD@", word)
    return re.sub(r"([?&][^=&]*(?:pass|pwd|secret|token)[^=&]*=)[^&]*", r"\1PASSWORD", word) if "://" in word else word


def _report(tuned: "Tuned", as_json: bool) -> None:
    """Print what was found; a run that was interrupted ends with exit code 130."""
    outcome = tuned.outcome
    if tuned.remark:
        say(in_options(f"Note: {tuned.remark}", {"lost_hosts": "--lost-host"}))
    if as_json:
        result = {"study": str(tuned.folder), "trials": tuned.trials, "pruned": tuned.pruned, "failed": tuned.failed}
        best = {
            "best": tuned.best,
            "score": tuned.score,
            "value": tuned.value,
            "choices": {**tuned.choices, **tuned.encoding},
        }
        run = {} if outcome is None else {**outcome.metrics, "run": str(outcome.run.folder)}
        show(json.dumps({**result, **best, **run}))
    else:
        show(f"Trials: {tuned.trials} ({tuned.pruned} stopped early, {tuned.failed} failed)")
        held = shown(f"validation_{tuned.score}", tuned.value)
        show(f"Best: trial {tuned.best}, {tuned.score.replace('r2', 'R²')} {held} on the rows held back")
        for name, value in {**tuned.choices, **tuned.encoding}.items():
            show(f"  {name.replace('_', ' ')}: {f'{value:.4g}' if isinstance(value, float) else value}")
        if outcome is not None:
            for line in result_lines(outcome):
                show(line)
            show(f"Run: {outcome.run.folder}")
        show(f"Choices: {tuned.folder / 'best.json'}")
    if outcome is not None and outcome.interrupted:
        say(f"Interrupted while the best was trained. To go on: start again with --study {tuned.folder}.")
        sys.exit(130)
