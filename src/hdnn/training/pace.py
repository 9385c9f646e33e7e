"""How often callbacks are told: what nobody asks to see need not be shown, so that steps can run without Python.

Legend: an iteration is a step, counted from the first of the training; a batch is a step, counted from the first of
its epoch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import MethodType
from typing import Any


@dataclass(frozen=True)
class Pace:
    """How often a callback is told; one of the three is given. A callback says so by its attribute `pace`.

    Args:
        steps: after every so many steps.
        epochs: at the end of every so many epochs.
        seconds: after the step that is about so long after the last time, and at the end of every epoch.

    Raises:
        TypeError: if one of them is no number.
        ValueError: if not one of them is positive, and the others zero.
    """

    steps: int = 0
    epochs: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        given = {"steps": self.steps, "epochs": self.epochs, "seconds": self.seconds}
        if not all(isinstance(value, int | float) for value in given.values()):
            raise TypeError(f"`steps`, `epochs` and `seconds` of a pace are numbers; got {given}.")
        chosen = [name for name, value in given.items() if value]
        if len(chosen) != 1 or not 0 < given[chosen[0]] < math.inf:
            raise ValueError(f"A pace is one of `steps`, `epochs` and `seconds`, and positive; got {given}.")
        if any(value != int(value) for value in (self.steps, self.epochs)):
            raise ValueError(f"`steps` and `epochs` of a pace must be whole numbers; got {given}.")
        object.__setattr__(self, "steps", int(self.steps))
        object.__setattr__(self, "epochs", int(self.epochs))


_EACH_STEP = Pace(steps=1)


@dataclass(frozen=True)
class _Paced:
    callback: Callable[[Any], None]
    pace: Pace

    def __call__(self, progress: Any) -> None:
        self.callback(progress)

    def __get__(self, owner: object, kind: type | None = None) -> _Paced:
        """Of a class whose method it decorates."""
        return self if owner is None else _Paced(MethodType(self.callback, owner), self.pace)


def every(
    *, steps: int = 0, epochs: int = 0, seconds: float = 0.0
) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """A decorator that gives a callback its pace; see `Pace`.

    A callback without a pace is told after every step. The less often it is told, the longer the native training step
    runs without Python.

    Example:
        >>> import torch, hdnn
        >>> @hdnn.every(epochs=1)
        ... def tell(progress):
        ...     print(progress.epoch, progress.batch)
        >>> x = torch.randn(200, 2)
        >>> network = hdnn.vector_classifier(2, 2, hdnn.h1(4, layers=4, horizon=1.0))
        >>> history = hdnn.fit(network, x, (x[:, 0] > 0).long(), hdnn.Recipe(epochs=2), callbacks=[tell])
        1 2
        2 2
    """
    pace = Pace(steps, epochs, seconds)
    return lambda callback: _Paced(callback, pace)


@dataclass(frozen=True)
class _Like:
    callback: Callable[[Any], None]
    other: object

    @property
    def pace(self) -> Pace:
        return _pace_of(self.other)

    def __call__(self, progress: Any) -> None:
        self.callback(progress)


def at_pace_of(other: object, callback: Callable[[Any], None]) -> Callable[[Any], None]:
    """A callback that is told when another wants to be."""
    return _Like(callback, other)


class Audience:
    """Callbacks, each told at its pace, which may change while it is told."""

    def __init__(self, callbacks: Iterable[Callable[[Any], None]]) -> None:
        self._callbacks = list(callbacks)
        self._told = [time.perf_counter()] * len(self._callbacks)
        self._step_seconds = math.inf
        self._begun, self._from = time.perf_counter(), 0

    def __bool__(self) -> bool:
        return bool(self._callbacks)

    def stop(self, epoch: int, batch: int, batches: int) -> int:
        """The batch of this epoch after which somebody is to be told next."""
        iteration = (epoch - 1) * batches + batch
        now = time.perf_counter()
        self._begun, self._from = now, batch
        stops = [batches]
        for callback, told in zip(self._callbacks, self._told, strict=True):
            pace = _pace_of(callback)
            if pace.steps:
                stops.append(batch + pace.steps - iteration % pace.steps)
            elif pace.seconds:
                left = (pace.seconds - (now - told)) / self._step_seconds
                stops.append(batch + max(1, int(min(left, batches))))
        return min(stops)

    def tell(self, epoch: int, batch: int, batches: int, progress: Callable[[], Any]) -> bool:
        """Tell those who want to know of this step; whether there were any."""
        now = time.perf_counter()
        if batch > self._from:
            self._step_seconds = (now - self._begun) / (batch - self._from)
        iteration = (epoch - 1) * batches + batch
        told = None
        for k, callback in enumerate(self._callbacks):
            pace = _pace_of(callback)
            if pace.steps:
                due = iteration % pace.steps == 0
            elif pace.epochs:
                due = batch == batches and epoch % pace.epochs == 0
            else:
                due = batch == batches or now - self._told[k] >= pace.seconds
            if due:
                told = progress() if told is None else told
                callback(told)
                self._told[k] = time.perf_counter()
        return told is not None


def _pace_of(callback: object) -> Pace:
    found = getattr(callback, "pace", None)
    return found if isinstance(found, Pace) else _EACH_STEP  # a user's own attribute may mean something else
