"""The parts `sizes` and `tiles` of `device.py`: where one launch is faster than the loop over layers, and how tiled.

`sizes` says what `backend="auto"` should take; `tiles` tries other shapes of programs than those of
`hdnn.kernels.launches.shape_of`, and says which of those that agree with the loop is the fastest.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import time
from collections.abc import Iterator
from typing import Any

from device_flows import graphed, waited
from device_steps import Call, Found, Step, in_turns, on_card, within
from hdnn.bench import Pass, Regime, _seconds, disagreement, flow_pass, interleaved
from hdnn.kernels import launches

FEATURES, BATCHES = (2, 4, 8, 16, 32, 64, 128), (128, 1024, 8192, 65536)
TILED = (128, 4096, 65536)  # batches of `tiles`
LAYERS = 16
SMALL = (2, 4), (3, 5), (5,)  # the same three for a trial of the script
MOST_BYTES = 1 << 31  # of the states that the loop keeps
READY = 110.0  # seconds for shapes to compile


def _pass(regime: Regime, backend: Any, options: argparse.Namespace) -> Pass:
    flow, y = regime.problem("eager")
    flow = copy.deepcopy(flow)
    flow.backend = backend
    return flow_pass(flow.to(options.device), y.to(options.device))


def _runs(name: str, regime: Regime, options: argparse.Namespace, failed: Found) -> dict[str, Call]:
    """The pass, and its CUDA graph; which of them failed, and how."""
    found: dict[str, Call] = {}
    try:
        run = _pass(regime, name, options)
        run()
        found[name] = waited(run, options.device)
        if on_card(options.device):
            found[f"{name}, graph"] = waited(graphed(run), options.device)
    except Exception as error:  # the others still say something
        failed[f"{name}, batch {regime.batch}"] = f"{type(error).__name__}: {str(error)[:200]}"
    return found


def sized(job: tuple[str, int], options: argparse.Namespace, turn: Call) -> Found:
    """Milliseconds of both ways at every batch."""
    (model, n), found, failed = job, [], {}
    all_runs = []
    for batch in SMALL[1] if options.small else BATCHES:
        if batch * n * LAYERS * 4 * 6 <= MOST_BYTES:
            regime = Regime(n, LAYERS, batch, model)  # type: ignore[arg-type]
            runs = {}
            for name in ("eager", "triton"):
                runs |= _runs(name, regime, options, failed)
            all_runs.append((batch, runs))
    turn()
    for batch, runs in all_runs:
        timings = interleaved(runs, options.seconds / 100)
        found.append({"batch": batch, **{name: 1e3 * each.minimum for name, each in timings.items()}})
    return {"what": "sizes", "model": model, "features": n, "layers": LAYERS, "ms": found, "failed": failed}


def _jobs(options: argparse.Namespace) -> list[tuple[str, int]]:
    """Every number of features, of both methods."""
    features = SMALL[0] if options.small else FEATURES
    return [(model, n) for n in features for model in ("h1", "h2") if n > 2 or model == "h1"]


def sizes(options: argparse.Namespace) -> list[Step]:
    """The loop over layers and one launch, at every size."""
    return in_turns(sized, _jobs(options), options)


def shapes(regime: Regime) -> Iterator[launches.Shape]:
    """Shapes of programs worth a trial, that of `shape_of` first."""
    flow, _ = regime.problem("eager")
    assert flow.plan is not None
    now = launches.shape_of(flow.plan, regime.batch)
    yield now
    units = regime.features // 2 if regime.model == "h2" else regime.features
    tried = []
    for S, U, warps in itertools.product((16, 32, 64, 128, 256), (1, 2, 4, 8, 16), (1, 2, 4, 8)):
        each = now.F * U * S // (32 * warps)  # numbers of a tile for each thread
        if max(2, units) >= U and 1 <= each <= 64:
            tried.append((abs(each - 8), launches.Shape(now.F, U, S, warps)))
    yield from (shape for _, shape in sorted(tried) if shape != now)


def tiled(job: tuple[str, int], options: argparse.Namespace, turn: Call) -> Found:
    """Milliseconds of a graph of the pass, by batch and shape."""
    (model, n), began, failed = job, time.monotonic(), {}
    batches, ready = (SMALL[2], 2.0) if options.small else (TILED, READY)
    runs: dict[int, dict[str, Call]] = {batch: {} for batch in batches}
    choose, now = launches.shape_of, ""
    exact = {}
    for shape in shapes(Regime(n, LAYERS, 4, model)):  # type: ignore[arg-type]
        if time.monotonic() - began > ready:
            break
        name = str(tuple(shape))
        now = now or name
        launches.shape_of = lambda *_, shape=shape: shape  # type: ignore[assignment]
        try:
            for batch in batches:
                regime = Regime(n, LAYERS, batch, model)  # type: ignore[arg-type]
                if batch not in exact:
                    exact[batch] = [x.cpu().double() for x in _pass(regime, "eager", options).results()]
                run = _pass(regime, "triton", options)
                if within(30.0, lambda run=run, batch=batch: disagreement(run.results(), exact[batch])) > 1e-4:  # type: ignore[misc]
                    raise ValueError("disagrees with the loop over layers")
                runs[batch][name] = waited(graphed(run) if on_card(options.device) else run, options.device)
        except Exception as error:  # the others still say something
            failed[name] = f"{type(error).__name__}: {str(error)[:100]}"
        finally:
            launches.shape_of = choose
    turn()
    found: Found = {}
    for batch, of_batch in runs.items():
        timings = {name: min(_seconds(run) for _ in range(7)) for name, run in of_batch.items()}
        found[str(batch)] = {name: 1e3 * s for name, s in sorted(timings.items(), key=lambda pair: pair[1])}
    return {"what": "tiles", "model": model, "features": n, "layers": LAYERS, "now": now, "ms": found, "failed": failed}


def tiles(options: argparse.Namespace) -> list[Step]:
    """Shapes of programs, at every size."""
    return in_turns(tiled, _jobs(options), options)
