"""The job that searches for choices: trials scored on rows held back from training, and the best as a run."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hdnn import files
from hdnn.data import Dataset, Pixels
from hdnn.data.stored import Stored
from hdnn.jobs.beginnings import fingerprint
from hdnn.jobs.choices import Choices, chosen_recipe, given
from hdnn.jobs.readings import Readings, encoded
from hdnn.jobs.setups import Setup
from hdnn.jobs.sources import DataSource, Source
from hdnn.jobs.task import Outcome
from hdnn.jobs.train import announced, resume, train
from hdnn.locks import held
from hdnn.names import count
from hdnn.training.devices import require_device, require_threads

if TYPE_CHECKING:
    from hdnn.jobs.studies import Study

CHOICES, HISTORY, IMPORTANCES = "best.json", "history.png", "importances.png"
BINS = (0, 4, 8, 16)
_SHARE = 0.2  # of the training rows, held back where the user names none
_ENDING = ".ending"


@dataclass(frozen=True)
class Tuned:
    """What a study has found.

    Args:
        folder: of the study.
        score: what was maximized on the rows held back, "accuracy" or "r2".
        trials: that have ended, of those asked for.
        pruned: of them, stopped early.
        failed: of them, not trained to the end for other reasons.
        best: the number of the best trial.
        value: its score.
        choices: the best, with those that were given.
        encoding: "bins" of the best, where they were searched.
        outcome: its run on all training rows; None where another worker trains it, or other hosts still work.
        remark: what else is to be known, or "".
    """

    folder: Path
    score: str
    trials: int
    pruned: int
    failed: int
    best: int
    value: float
    choices: Choices
    encoding: Mapping[str, int]
    outcome: Outcome | None
    remark: str = ""


def tune(
    source: DataSource,
    choices: Choices,
    study: Path,
    *,
    trials: int = 50,
    bins: Sequence[int] = BINS,
    seed: int = 0,
    device: str = "cpu",
    threads: int | None = None,
    storage: str | None = None,
    lost_hosts: Collection[str] = (),
    command: str = "",
    announce: Callable[[str], None] = lambda text: None,
    progress: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> Tuned:
    """Search for the choices that score best on rows held back from training, then train with them on all of them.

    Trials are proposed by Optuna's TPE, the first being the set-up of the data, and stopped early where others had been
    better by then. Test rows take no part. Several processes that name the same folder share the trials; one that is
    killed loses nothing, for the others, or the next that names the folder, try its trial again.

    Args:
        source: the data.
        choices: what is fixed, and not searched; of `validation_fraction` and `patience` too.
        study: its folder; new, or that of one that goes on.
        trials: that end, of all processes together, failed ones among them.
        bins: pieces of each number to try, where the data are a table, see `Source`; none leaves them to the source.
        seed: of data, weights, batches, the rows held back and the proposals. In one process the same seed gives the
            same trials, also after a pause.
        device: as for `train`.
        threads: of each process; None takes as many as pay.
        storage: URL of a database with the trials, for processes without a common folder; None keeps a journal in the
            folder.
        lost_hosts: hosts whose workers are no more, though their trials say that they run. Workers of this host are
            known by themselves.
        command: what repeats the study, for the record of the run.
        announce: told in words what was decided.
        progress: told of trials: how many have ended, of how many, and the best score in words.

    Returns:
        What was found. Also written to the folder: the choices as `best.json` for `as_file`, figures of the history and
        of the importances of the choices by Optuna, and the run in a folder with the number of the trial.

    Raises:
        ImportError: if Optuna is not installed.
        ValueError: for choices or data that make no sense, if the study in the folder is about others, or if no trial
            could be trained.
        OSError: if the folder cannot be used.
        KeyboardInterrupt: for Ctrl-C, after the trial was given back.
    """
    _require_optuna()
    from hdnn.jobs import searches, studies
    from hdnn.jobs.figures import quietly
    from hdnn.jobs.workers import Worker

    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 1:
        raise ValueError(f"`trials` must be a whole number, at least 1; got {trials}.")
    if threads is not None:
        require_threads(threads)
    require_device(device)
    choices = cast(Choices, given(choices))
    share = choices.get("validation_fraction") or _SHARE
    dataset = source.load()
    announced(dataset, announce)
    readings = Readings(source, dataset, share, seed, choices.get("class_weight"))
    setup, rows = readings.first.setup.of(choices), readings.first.rows
    of_table = isinstance(source, Source) and source.is_table and source.sequence is None
    space = searches.space(dataset, setup, choices, bins if of_table else ())
    if not space:
        raise ValueError("All that could be searched is chosen already. Leave out one of the choices, or train.")
    announce(
        f"Searching {', '.join(name.replace('_', ' ') for name in space)}: {rows.score} on {len(rows.held[0])} of "
        f"{len(dataset.x_train)} training rows decides."
    )
    asked = {
        "data": _digest(source, dataset),
        "options of the data": _options(source),
        "choices": _plain(choices),
        "values to search": searches.described(space),
        "seed": seed,
    }
    first = searches.beginning(space, setup, source.bins if isinstance(source, Source) else None)
    warmup = chosen_recipe(setup, choices, seed).epochs // 4
    earlier = {"data": source.data} if isinstance(source, Source) and source.is_folder else {}
    beginning = studies.Beginning(asked, space, first, seed, warmup, earlier)
    with quietly(), studies.opened(study, beginning, storage=storage, lost_hosts=lost_hosts) as begun:
        Worker(begun, readings, choices, seed, device, threads, trials, announce, progress).until_done()
        counts, best = begun.counts(), begun.best()
        if best is None:
            raise ValueError(f"No trial of {counts.finished} came to its end. {_reason(begun)}")
        found = searches.taken(readings.of(best.params).dataset, _of_run(choices, setup), best.params)
        encoding = {name: best.params[name] for name in best.params.keys() & {"bins"}}
        ended = (counts.finished, counts.pruned, counts.failed, best.number, float(best.value or 0.0))
        if counts.finished < trials:
            return Tuned(study, rows.score, *ended, found, encoding, None, _elsewhere(counts.elsewhere))
        try:
            with held(study / _ENDING):
                _write(begun, {**found, **encoding}, rows.score, announce)
                announce(f"Trial {best.number} is the best. Training with its choices, on all training rows.")
                place, read = study / f"trial-{best.number}", encoded(source, encoding)
                outcome = _trained(read, found, place, seed, device, threads, command, announce)
        except BlockingIOError:
            remark = "Another process of the study trains with the best choices."
            return Tuned(study, rows.score, *ended, found, encoding, None, remark)
        return Tuned(study, rows.score, *ended, found, encoding, outcome)


def _require_optuna() -> None:
    if importlib.util.find_spec("optuna") is None:
        raise ImportError(
            "Tuning needs the package Optuna, which is not installed. Install it with pip install 'hdnn[tune]'."
        )


def _of_run(choices: Choices, setup: Setup) -> Choices:
    """What was given, as it is for the run: it takes all training rows, and is lost none to watch."""
    if setup.recipe.refit:
        return choices
    kept = {name: value for name, value in choices.items() if name not in ("validation_fraction", "patience")}
    return cast(Choices, kept)


def _write(study: Study, choices: Mapping[str, Any], score: str, announce: Callable[[str], None]) -> None:
    """Write the best choices and the figures of a study."""
    from hdnn.jobs.figures import drawn

    files.require_own(study.folder, (CHOICES, HISTORY, IMPORTANCES))
    files.write_whole(study.folder / CHOICES, json.dumps(_plain(choices), indent=2) + "\n")
    for left_out in drawn(study.optuna, score, study.folder / HISTORY, study.folder / IMPORTANCES):
        announce(left_out)


def _trained(
    source: DataSource,
    choices: Choices,
    folder: Path,
    seed: int,
    device: str,
    threads: int | None,
    command: str,
    announce: Callable[[str], None],
) -> Outcome:
    """The run of the best choices: trained, gone on with where a process was killed at it, or there already."""
    if not (folder / "config.json").is_file():
        return train(
            source, choices, folder, seed=seed, device=device, threads=threads, command=command, announce=announce
        )
    return resume(folder, source=None if isinstance(source, Source) else source, announce=announce)


def _digest(source: DataSource, dataset: Dataset) -> str:
    """Of the data: of files what is in them, so that another machine, which may round otherwise, finds the same."""
    if isinstance(source, Source):
        if source.is_folder:
            return _of_images(dataset)
        if not source.is_table and not source.is_series:
            return source.data
        with Path(source.data).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    return fingerprint(dataset)


def _of_images(dataset: Dataset) -> str:
    """A digest of the bytes of all images, or of the mark of each where it has one, and of what they show."""
    digest = hashlib.sha256(repr((dataset.classes, dataset.x_train.shape)).encode("utf-8", "backslashreplace"))
    for x, y in ((dataset.x_train, dataset.y_train), (dataset.x_test, dataset.y_test)):
        pieces = [x.marks] if isinstance(x, Stored) else x.parts() if isinstance(x, Pixels) else [x]
        for piece in pieces:
            digest.update(np.ascontiguousarray(piece).data)
        digest.update(np.ascontiguousarray(y).data)
    return digest.hexdigest()


def _options(source: DataSource) -> dict[str, Any]:
    """How data are read, but for where they are."""
    known = source.described()
    return {
        name: known[name] for name in known.keys() - {"data", "folder", "download"} if known[name] not in (None, ())
    }


def _plain(choices: Mapping[str, Any]) -> dict[str, Any]:
    """Choices as JSON can say them."""
    return {name: "inf" if value == math.inf else value for name, value in choices.items()}


def _elsewhere(hosts: Mapping[str, int]) -> str:
    """What is to be known of trials that nobody here can see the end of."""
    if not hosts:
        return ""
    places = ", ".join(f"{count(number, 'trial')} on {host}" for host, number in sorted(hosts.items()))
    return (
        f"Still at work elsewhere: {places}. Their last worker trains with the best choices; if a host is no more, "
        f"start again with `lost_hosts=HOST`."
    )


def _reason(study: Study) -> str:
    """The first reason of trials that went wrong."""
    reasons = [str(each.user_attrs["reason"]) for each in study.trials() if "reason" in each.user_attrs]
    return f"The first ended so: {reasons[0]}" if reasons else "Nothing is left to try."
