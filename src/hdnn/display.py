"""What the command line shows while it works, and how it prints numbers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from hdnn.names import printable

if TYPE_CHECKING:
    from hdnn.training import Progress, TogetherProgress, TrainingState


def shown(name: str, value: float) -> str:
    """A number as people read it: shares in percent, others to four digits."""
    return f"{100 * value:.2f} %" if name.endswith("accuracy") else f"{value:.4g}"


def while_training(name: str) -> str:
    """A score of a record in words; an error is that of the standardised target, until the report gives it its unit.

    Example:
        >>> while_training("train_accuracy"), while_training("validation_error")
        ('train accuracy', 'validation error (standardised)')
    """
    return name.replace("_", " ").replace("error", "error (standardised)")


def loss_shown(loss: float) -> str:
    """A loss to four decimals, a small one to three digits that count."""
    return f"{loss:.4f}" if not loss or abs(loss) >= 0.1 else f"{loss:.3g}"


class Display:
    """A live progress bar on stderr; where that is no terminal, only what was decided is said."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[numbers]}", markup=False),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.tasks: dict[str, Any] = {}
        self.score = ""
        self.began: tuple[str, int, float] | None = None  # of which training, after how many steps, when

    def __enter__(self) -> Display:
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def say(self, text: str) -> None:
        """One line, above the bar."""
        self.console.print(printable(text), markup=False, highlight=False, soft_wrap=True)

    def step(self, progress: Progress) -> None:
        """A training callback; reading the loss waits for the device, so it is to be told now and then."""
        if not self.console.is_terminal:
            return
        if progress.record is not None:
            self.score = "".join(
                f", {while_training(name)} {shown(name, value)}"
                for name, value in progress.record.items()
                if name.endswith(("_accuracy", "_error"))
            )
        steps = progress.epochs * progress.batches
        on = "all rows, " if progress.search else "how long? " if progress.is_search else ""
        self._update(
            on or "training",
            f"{on}epoch {progress.epoch}/{progress.epochs}",
            progress.iteration,
            steps,
            f"loss {loss_shown(float(progress.loss))}{self.score}{self._pace(on, progress)}",
        )
        if progress.record is not None and progress.epoch == progress.epochs and not progress.is_search:
            self.say("Trained. Now the test part, the figures and the report.")

    def _pace(self, which: str, progress: Progress) -> str:
        """Rows a second since it was first looked at, with the looks at validation parts between."""
        now = time.monotonic()
        if self.began is None or self.began[0] != which:
            self.began = (which, progress.iteration, now)
        steps, seconds = progress.iteration - self.began[1], now - self.began[2]
        if not (progress.rows and steps and seconds > 0):
            return ""
        return f", {steps * progress.rows / progress.batches / seconds:,.0f} rows a second"

    def start(self, progress: TogetherProgress[TrainingState]) -> None:
        """A callback of the starts."""
        ended = progress.batch == progress.batches
        starts, best = len(progress.histories), progress.best
        if not self.console.is_terminal:
            return
        told = f"{starts} starts" + (f", best loss {loss_shown(best[1])}" if best is not None else "")
        steps = progress.epochs * progress.batches
        self._update("starts", f"starts {progress.epoch}/{progress.epochs}", progress.iteration, steps, told)
        if ended and progress.epoch == progress.epochs and best is not None:
            loss = loss_shown(best[1])
            self.say(f"Start {best[0] + 1} of {starts} is the best, with loss {loss}: training goes on with it.")

    def fetch(self, name: str, done: int, total: int) -> None:
        """Progress of a download."""
        self._update(name, name, done, total, f"{done / 1e6:.1f} of {total / 1e6:.1f} MB")

    def cell(self, done: int, total: int, name: str) -> None:
        """Progress of an experiment: runs done, and the cell of the last one."""
        self._update("runs", "runs", done, total, f"{done} of {total} {name}")
        if not self.console.is_terminal and name:
            self.say(f"{done} of {total}: {name}")

    def _update(self, key: str, description: str, done: int, total: int, numbers: str) -> None:
        if key not in self.tasks:
            self.tasks[key] = self.bar.add_task(description, total=total, numbers=numbers)
        description, numbers = printable(description), printable(numbers)
        self.bar.update(self.tasks[key], description=description, completed=done, numbers=numbers)
