"""One process at the trials of a study, of which others may work on the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from optuna.trial import Trial, TrialState

from hdnn.jobs.choices import Choices
from hdnn.jobs.readings import Readings
from hdnn.jobs.searches import taken
from hdnn.jobs.studies import Study
from hdnn.jobs.trials import Watcher, Worse, scored
from hdnn.names import count

_PAUSE = 0.2  # seconds from one look at the others to the next


@dataclass(frozen=True)
class Worker:
    """What a process needs for its trials; all of it is as for `hdnn.jobs.tune`."""

    study: Study
    readings: Readings
    choices: Choices
    seed: int
    device: str
    threads: int | None
    trials: int
    announce: Callable[[str], None]
    progress: Callable[[int, int, str], None]

    def until_done(self) -> None:
        """Try one after the other, until there are enough and nobody here is at work any more."""
        waits = False
        self._tell_progress()
        while True:
            trial = self.study.ask(self.trials)
            while self.study.news:
                self.announce(self.study.news.pop(0))
            if trial is not None:
                waits = False
                self._try(trial)
                self._tell_progress()
                continue
            counts = self.study.counts()
            if counts.finished >= self.trials or not counts.running:
                return
            if not waits:
                self.announce(f"{count(counts.running, 'trial')} of other processes to wait for.")
            waits = True
            time.sleep(_PAUSE)

    def _try(self, trial: Trial) -> None:
        told = Watcher(trial.report, trial.should_prune)
        try:
            read = self.readings.of(trial.params)
            chosen = taken(read.dataset, self.choices, trial.params)
            value = scored(read.dataset, read.rows, read.setup, chosen, self.seed, self.device, self.threads, told)
        except KeyboardInterrupt:
            self.study.give_back(trial)
            raise
        except Worse as error:
            self.study.tell(trial, None, TrialState.PRUNED, str(error))
        except FloatingPointError as error:  # told as pruned, for there the sampler learns from it
            self.study.tell(trial, None, TrialState.PRUNED, f"Diverged: {error}")
            self.announce(f"Trial {trial.number} diverged.")
        except (ValueError, MemoryError, RuntimeError) as error:
            self.study.tell(trial, None, TrialState.FAIL, f"{type(error).__name__}: {error}")
            self.announce(f"Trial {trial.number} failed: {error}")
        else:
            self.study.tell(trial, value, TrialState.COMPLETE)

    def _tell_progress(self) -> None:
        best = self.study.best()
        said = "" if best is None else f"best {self.readings.first.rows.score} {best.value:.4f} (trial {best.number})"
        self.progress(min(self.study.counts().finished, self.trials), self.trials, said)
