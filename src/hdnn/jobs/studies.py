"""A study: trials in a storage that several processes share, of which each may be killed at any moment.

    STUDY/study.json     that this is a study, and where its trials are
    STUDY/journal.log    the trials, as Optuna writes them, unless a database has them
    STUDY/.turn          held by the process that chooses its next trial
    STUDY/.workers/      a file for each process, which it holds as long as it lives

A trial is asked for, given its values and stamped with its worker while the turn is held. So a trial that runs has a
stamp, and where nobody holds the file that the stamp names, its worker has ended: the values are tried again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from hdnn import files
from hdnn.data import documents
from hdnn.jobs.journals import journal_storage
from hdnn.jobs.searches import Space
from hdnn.locks import held, waited_for

FORMAT = 1
_MARK, _JOURNAL, _TURN, _WORKERS = "study.json", "journal.log", ".turn", ".workers"
_OURS = (_MARK, _JOURNAL, f".{_JOURNAL}.lock", _TURN, _WORKERS)
_LARGEST_FILE = 2**20
# Trials that try what the set-up takes and what chance gives, before the sampler and the pruner judge.
_AT_FIRST, _UNPRUNED = 10, 5
# A trial in a database without a stamp may be another's that is just being asked for.
_UNSTAMPED = timedelta(minutes=1)


@dataclass(frozen=True)
class Counts:
    """How far a study has come.

    Args:
        finished: trials that have ended, `pruned` and `failed` among them.
        pruned: stopped early, for others had been better by then, or because training diverged.
        failed: that could not be trained, or whose workers ended twice.
        running: of workers here that are alive.
        elsewhere: by host, those of workers that cannot be seen from here.
    """

    finished: int
    pruned: int
    failed: int
    running: int
    elsewhere: Mapping[str, int]


@dataclass(frozen=True)
class Beginning:
    """What a study begins with, and goes on with.

    Args:
        asked: what it is about, in plain values; who goes on with it must ask the same.
        space: what to choose among.
        first: values to try first.
        seed: of all that is drawn.
        warmup: epochs that no trial is stopped before.
        earlier: what earlier versions wrote for parts of `asked`; a study with that goes on, too.
    """

    asked: Mapping[str, Any]
    space: Space
    first: Mapping[str, Any]
    seed: int
    warmup: int
    earlier: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Study:
    """The trials of a study, and this process as one of its workers. Made by `opened`."""

    folder: Path
    optuna: optuna.Study
    storage: BaseStorage
    beginning: Beginning
    worker: Mapping[str, Any]
    lost_hosts: Collection[str]
    shared: bool
    news: list[str] = field(default_factory=list)

    def ask(self, trials: int) -> Trial | None:
        """The next trial, if there is one to begin; those of workers that have ended come first.

        Args:
            trials: of the study in all.
        """
        with _turn(self.folder):
            self._requeue()
            counts = self.counts()
            if counts.finished + counts.running + sum(counts.elsewhere.values()) >= trials:
                return None
            kept = sum(not _is_dropped(each) and each.state != TrialState.WAITING for each in self.trials())
            # Each trial has a seed of its own, so that one that is asked for again after a pause is the same.
            seed = int(np.random.SeedSequence([self.beginning.seed, kept]).generate_state(1)[0])
            self.optuna.sampler = TPESampler(seed=seed, n_startup_trials=_AT_FIRST)
            trial = self.optuna.ask(dict(self.beginning.space))
            trial.set_user_attr("worker", dict(self.worker))
            return trial

    def tell(self, trial: Trial, value: float | None, state: TrialState, reason: str = "") -> None:
        """How a trial ended; a trial that was given to another worker meanwhile is the other's."""
        with contextlib.suppress(ValueError, RuntimeError):
            if reason:
                trial.set_user_attr("reason", reason)
            self.optuna.tell(trial, value, state)

    def give_back(self, trial: Trial) -> None:
        """Leave a trial that has begun to the next who asks."""
        with _turn(self.folder):
            for each in self.trials():
                if each.number == trial.number and each.state == TrialState.RUNNING:
                    self._drop(each, "Interrupted.", ended=False)

    def trials(self) -> list[FrozenTrial]:
        """All, dropped ones among them."""
        return self.optuna.get_trials(deepcopy=False)

    def counts(self) -> Counts:
        """How far it has come."""
        ended = [each for each in self.trials() if each.state.is_finished() and not _is_dropped(each)]
        running = [each for each in self.trials() if each.state == TrialState.RUNNING]
        elsewhere: dict[str, int] = {}
        for each in running:
            if not self._is_here(each):
                host = str(_stamp(each).get("host", "unknown"))
                elsewhere[host] = elsewhere.get(host, 0) + 1
        return Counts(
            len(ended),
            sum(each.state == TrialState.PRUNED for each in ended),
            sum(each.state == TrialState.FAIL for each in ended),
            len(running) - sum(elsewhere.values()),
            elsewhere,
        )

    def best(self) -> FrozenTrial | None:
        """The trial with the largest score, the first of several."""
        done = [each for each in self.trials() if each.state == TrialState.COMPLETE]
        return max(done, key=lambda each: (each.value or 0.0, -each.number), default=None)

    def _is_here(self, trial: FrozenTrial) -> bool:
        stamp = _stamp(trial)
        return not stamp or all(stamp.get(name) == self.worker[name] for name in ("host", "folder"))

    def _requeue(self) -> None:
        """Drop the trials of workers that have ended, and try their values again, once."""
        for each in self.trials():
            if each.state != TrialState.RUNNING or not self._has_ended(each):
                continue
            stamp = _stamp(each)
            worker = f"Its worker (process {stamp.get('pid')} on {stamp.get('host')}) ended." if stamp else "Not begun."
            if stamp and each.user_attrs.get("ended"):
                self.storage.set_trial_user_attr(each._trial_id, "reason", f"{worker} So did the one before.")
                self.optuna.tell(each.number, state=TrialState.FAIL)
            else:
                self._drop(each, worker, ended=bool(stamp))

    def _drop(self, trial: FrozenTrial, reason: str, *, ended: bool) -> None:
        """Take a trial out of the count, its values to be tried again; killed in between, that is done later.

        Args:
            trial: that runs, or seems to.
            reason: for people.
            ended: whether it may have been what ended its worker.
        """
        # One without a stamp had not got all of its values, but for those that it was begun with.
        values = trial.params if _stamp(trial) else trial.user_attrs.get("values")
        if values and not any(each.user_attrs.get("again") == trial.number for each in self.trials()):
            known = {"again": trial.number, "ended": ended or bool(trial.user_attrs.get("ended")), "values": values}
            self.optuna.enqueue_trial(values, user_attrs=known)
            self.news.append(f"Trial {trial.number} is tried again: {reason}")
        self.storage.set_trial_user_attr(trial._trial_id, "dropped", True)
        self.storage.set_trial_user_attr(trial._trial_id, "reason", reason)
        self.optuna.tell(trial.number, state=TrialState.FAIL)

    def _has_ended(self, trial: FrozenTrial) -> bool:
        """Whether the worker of a trial that runs is no more."""
        stamp = _stamp(trial)
        if not stamp:  # its worker ended before it could stamp it
            began = trial.datetime_start or datetime.now()
            return not self.shared or datetime.now() - began > _UNSTAMPED
        if stamp.get("host") in self.lost_hosts and stamp.get("name") != self.worker["name"]:
            return True
        if not self._is_here(trial) or stamp.get("name") == self.worker["name"]:
            return False
        name = str(stamp.get("name"))
        if name != os.path.basename(name):
            return True  # nothing that we wrote
        try:
            with held(self.folder / _WORKERS / name):
                return True
        except BlockingIOError:
            return False


def _stamp(trial: FrozenTrial) -> Mapping[str, Any]:
    stamp = trial.user_attrs.get("worker")
    return stamp if isinstance(stamp, Mapping) else {}


def _is_dropped(trial: FrozenTrial) -> bool:
    return bool(trial.user_attrs.get("dropped"))


@contextmanager
def opened(
    folder: Path,
    beginning: Beginning,
    *,
    storage: str | None = None,
    lost_hosts: Collection[str] = (),
) -> Iterator[Study]:
    """A study, begun or gone on with, and this process as one of its workers.

    Args:
        folder: new or empty, or that of the study.
        beginning: what it is about.
        storage: the URL of a database that has the trials, under the name of the folder; None takes a journal in the
            folder.
        lost_hosts: hosts whose workers are no more.

    Raises:
        FileExistsError: if the folder holds something else.
        ValueError: if the study is about something else, or damaged.
        OSError: if the folder cannot be written, or its file system knows no locks.
    """
    _require_study(folder, storage)
    files.make_folder(folder)
    files.require_own(folder, (_MARK, _JOURNAL, _TURN), (_WORKERS,))
    files.make_folder(folder / _WORKERS)
    name = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    worker = {"host": platform.node(), "folder": str(folder.resolve()), "pid": os.getpid(), "name": name}
    try:
        with held(folder / _WORKERS / name):
            with _turn(folder):
                mark = {"format": FORMAT, "trials": "database" if storage else _JOURNAL}
                if not (folder / _MARK).exists():
                    files.write_whole(folder / _MARK, json.dumps(mark, indent=2) + "\n")
                kept = journal_storage(folder / _JOURNAL) if storage is None else _database(storage)
                # A folder may get another name; in a database there are other studies.
                called = "hdnn" if storage is None else folder.resolve().name
                study = _begun(folder, kept, called, beginning)
            yield Study(folder, study, kept, beginning, worker, lost_hosts, storage is not None)
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP):
            raise OSError(
                f"The file system of {folder} knows no locks, so processes could not take turns there. Choose another "
                f"folder with `study`."
            ) from error
        raise
    finally:
        _sweep(folder / _WORKERS)


def _begun(folder: Path, storage: BaseStorage, name: str, beginning: Beginning) -> optuna.Study:
    pruner = MedianPruner(_UNPRUNED, n_warmup_steps=beginning.warmup)
    if any(each.study_name == name for each in storage.get_all_studies()):
        study = optuna.load_study(study_name=name, storage=storage, pruner=pruner)
    else:
        study = optuna.create_study(study_name=name, storage=storage, pruner=pruner, direction="maximize")
    began = study.user_attrs.get("asked")
    if began is None:
        study.set_user_attr("asked", dict(beginning.asked))
    elif other := differing(began, beginning.asked, beginning.earlier):
        raise ValueError(
            f"The study in {folder} was begun with other {', '.join(other)}, so its trials say nothing about these. "
            f"Give what it was begun with, or another folder with `study`."
        )
    if beginning.first and not study.get_trials(deepcopy=False):
        study.enqueue_trial(dict(beginning.first), user_attrs={"values": dict(beginning.first)})
    return study


def differing(began: object, asked: Mapping[str, Any], earlier: Mapping[str, Any]) -> list[str]:
    """The parts in which what is asked, or was by earlier versions, differs from what a study was begun with."""
    known = began if isinstance(began, Mapping) else {}
    plain = json.loads(json.dumps(dict(asked)))
    other = [name for name in dict.fromkeys([*plain, *known]) if plain.get(name) != known.get(name)]
    return [name for name in other if name not in earlier or earlier[name] != known.get(name)]


def _database(url: str) -> BaseStorage:
    try:
        return RDBStorage(url)
    except ImportError as error:
        raise ImportError(f"That database needs a package that is not installed: {error}.") from error
    except Exception as error:  # of SQLAlchemy's many kinds; their words may hold the password of the URL
        raise ValueError(
            f"The database of `storage` cannot be used ({type(error).__name__}). An URL is wanted, such as "
            f"sqlite:///study.db or mysql://USER:PASSWORD@HOST/NAME."
        ) from error


def _require_study(folder: Path, storage: str | None) -> None:
    """See that a study can be in a folder, and is where it is looked for."""
    if files.kind(folder) not in ("", "a folder") and not folder.is_dir():
        raise FileExistsError(f"{folder} is {files.kind(folder)}. Choose another folder with `study`.")
    if not folder.is_dir():
        return
    mark = folder / _MARK
    if files.kind(mark) == "a file":
        document = documents.read(mark, _LARGEST_FILE, "the mark of a study")
        where = "database" if storage else _JOURNAL
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ValueError(f"{mark} is no study that this hdnn knows. Choose another folder, or update hdnn.")
        if document.get("trials") != where:
            instead = "Leave out `storage`" if storage else "Give its URL with `storage`"
            raise ValueError(f"The trials of the study in {folder} are in its {document.get('trials')}. {instead}.")
        return
    # The mark may be being written by another process that has just begun the study.
    strange = [name for name in os.listdir(folder) if name not in _OURS and not name.startswith(f".{_MARK}.")]
    if strange:
        raise FileExistsError(
            f"The folder {folder} holds something else than a study ({sorted(strange)[0]}); nothing was changed. "
            f"Choose another with `study`."
        )


def _turn(folder: Path) -> contextlib.AbstractContextManager[None]:
    return waited_for(folder / _TURN)


def _sweep(workers: Path) -> None:
    """Remove the files of workers that have ended."""
    for path in [*workers.glob("*-*")]:
        with contextlib.suppress(OSError), held(path):
            pass
