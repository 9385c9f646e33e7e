"""How `device.py` goes through a part: step by step, in a bounded time, whatever becomes of one of them.

A step says what it looks at, and finds it out in about as many seconds as it is given; what it raises is written down
in its place. Where a card is, jobs that have to compile make ready at once, each in a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import multiprocessing
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

Found = dict[str, Any]
Call = Callable[[], object]
Piece = Callable[[Any, argparse.Namespace, Call], Found]

PATIENCE = 120.0  # seconds to compile


class Step(NamedTuple):
    """What is looked at, and what finds it out, given the seconds it may take.

    Attributes:
        what: it is.
        run: finds out.
        most: times those seconds, after which it is ended for the sake of the others.
    """

    what: Found
    run: Callable[[float], Found]
    most: float = 4.0


def on_card(device: str) -> bool:
    """Whether it is a CUDA device."""
    return torch.device(device).type == "cuda"


def failed(error: BaseException) -> Found:
    """What a step has found that raised."""
    return {"failed": f"{type(error).__name__}: {str(error)[:600]}", "where": traceback.format_exc(limit=-3)[-1200:]}


def done(steps: Sequence[Step], limit: float) -> Iterator[Found]:
    """What every step finds. Each is given its part of the time that is left; those that get none say so."""
    end = time.monotonic() + limit
    for number, (what, run, most) in enumerate(steps):
        began, left = time.monotonic(), end - time.monotonic()
        try:
            if left < 0.01 * limit:
                raise TimeoutError("no time was left")
            share = left / (len(steps) - number)
            found = within(min(left, most * share), lambda run=run, share=share: run(share))  # type: ignore[misc]
        except Exception as error:  # the others still say something
            found = failed(error)
        if torch.cuda.is_available():  # what a failed step held
            gc.collect()
            torch.cuda.empty_cache()
        yield {**what, **found, "seconds": time.monotonic() - began}


def within(seconds: float, run: Callable[[], Any]) -> Any:
    """What the call returns; one within another ends no later than that.

    Raises:
        TimeoutError: if it takes longer.
    """

    def late(*_: object) -> None:
        raise TimeoutError(f"took longer than {seconds:.3g} s")

    began, (around, _) = time.monotonic(), signal.getitimer(signal.ITIMER_REAL)
    before = signal.signal(signal.SIGALRM, late)
    if around:
        seconds = min(seconds, around)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3), 1.0)  # again, for callbacks swallow what is raised in them
    try:
        return run()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if around:
            signal.setitimer(signal.ITIMER_REAL, max(1e-3, around - (time.monotonic() - began)), 1.0)


def in_turns(piece: Piece, jobs: Sequence[Any], options: argparse.Namespace) -> list[Step]:
    """A step for every job: what `piece(job, options, turn)` finds.

    On a card every job has a process, or wherever `options.together` says so: all make ready (compile) at once, for as
    long as `PATIENCE`, and each calls `turn()` before it times anything, which returns when no other job does.
    """
    if on_card(options.device) or options.together:
        team = _Team(piece, jobs, options)
        return [
            Step({"job": repr(job)}, functools.partial(team.found, number), len(jobs))  # the first waits for all
            for number, job in enumerate(jobs)
        ]
    return [Step({"job": repr(job)}, lambda _, job=job: piece(job, options, _at_once)) for job in jobs]  # type: ignore[misc]


def _at_once() -> None:
    """The turn of a job that is alone."""


class _Team:
    """The processes of all jobs, which start when the first is asked for."""

    def __init__(self, piece: Piece, jobs: Sequence[Any], options: argparse.Namespace) -> None:
        self.piece, self.jobs, self.options = piece, jobs, options
        self.children: list[tuple[Any, Any]] = []

    def start(self, patience: float) -> None:
        """Start all, and wait until they are ready; those that are not in time are ended."""
        context = multiprocessing.get_context("spawn")
        for job in self.jobs:
            mine, other = context.Pipe()
            child = context.Process(target=_child, args=(self.piece, job, self.options, other), daemon=False)
            self.children.append((mine, child))
            child.start()
            other.close()
        end = time.monotonic() + patience
        for line, child in self.children:
            if not line.poll(max(0.0, end - time.monotonic())):
                child.kill()
        while self.options.after is not None and not self.options.after.exists():
            time.sleep(0.2)

    def found(self, number: int, seconds: float) -> Found:
        """What a job finds, when it is its turn."""
        if not self.children:
            self.start(min(PATIENCE, 0.7 * seconds * len(self.jobs)))
        line, child = self.children[number]
        try:
            found = line.recv()
            if found is None:  # it is ready
                line.send(None)
                found = line.recv()
        except (EOFError, OSError) as error:
            raise RuntimeError("not ready in time, or broken") from error
        finally:
            child.kill()
            child.join()
        return dict(found)


def _child(piece: Piece, job: Any, options: argparse.Namespace, line: Any) -> None:
    def turn() -> None:
        line.send(None)
        line.recv()

    try:
        found = piece(job, options, turn)
    except Exception as error:
        found = failed(error)
    with contextlib.suppress(OSError):
        line.send(found)
        line.recv()  # until it is ended


def end_children() -> None:
    """Leave no process behind."""
    for child in multiprocessing.active_children():
        child.kill()
