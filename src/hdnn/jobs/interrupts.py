"""Ctrl-C while a network trains: it waits for the end of the step, so that what has been learned can be saved."""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from hdnn.training import Pace

_PATIENCE = 0.6  # seconds that a step may still take


_NOW_AND_THEN, _AT_ONCE = Pace(seconds=0.1), Pace(steps=1)


class Interrupts:
    """A context in which SIGINT and SIGTERM end training after a step, within moments, as KeyboardInterrupt.

    A step that takes longer than `_PATIENCE` is broken off, and so is anything by a second signal; then nothing is
    saved, and the last checkpoint counts. Outside the main thread, which alone gets signals, it does nothing.

    Args:
        save: called with the progress of the step that the signal met.
    """

    def __init__(self, save: Callable[[Any], None]) -> None:
        self._save = save
        self._noted = self._over = False
        self._lock = threading.Lock()
        self._before: dict[signal.Signals, Any] = {}
        self._timer: threading.Timer | None = None

    @property
    def pace(self) -> Pace:
        """Now and then; at once after a signal."""
        return _AT_ONCE if self._noted else _NOW_AND_THEN

    def __call__(self, progress: object) -> None:
        """After a step: save and end, if there was a signal."""
        if self._noted:
            self._stop_waiting()
            self._save(progress)
            raise KeyboardInterrupt

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if callable(signal.getsignal(number)):  # else it is ignored, or ends the process, as was asked for
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_waiting()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._noted and error is None:  # it came after the last step
            raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._noted:
            raise KeyboardInterrupt
        self._noted = True
        self._timer = threading.Timer(_PATIENCE, self._break_off, [signal.Signals(number)])
        self._timer.daemon = True
        self._timer.start()

    def _break_off(self, number: signal.Signals) -> None:
        with self._lock:
            if self._over:
                return
            if hasattr(signal, "pthread_kill"):  # wakes a system call as well
                signal.pthread_kill(threading.main_thread().ident or 0, number)
            else:
                _thread.interrupt_main(number)

    def _stop_waiting(self) -> None:
        with self._lock:
            self._over = True
        if self._timer is not None:
            self._timer.cancel()
