"""The parts `sizes` and `tiles` of `device.py`: where one launch is faster than the loop over layers, and how tiled.

`sizes` says what `backend="auto"` should take; `tiles` tries other shapes of programs than those of
`hdnn.kernels.launches.shape_of`, and says which of those that agree with float64 is the fastest.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any

from device_flows import REGIMES, Call, Found, graphed, in_turns, on_card, waited, within
from hdnn.bench import Pass, Regime, disagreement, flow_pass, interleaved, tolerance, truth
from hdnn.kernels import launches

FEATURES, BATCHES = (2, 4, 8, 16, 32, 64, 128), (128, 1024, 8192, 65536)
LAYERS = 16
MOST_BYTES = 1 << 31  # of the states that the loop keeps
READY = 130.0  # seconds for shapes to compile


def _pass(regime: Regime, backend: Any, options: argparse.Namespace) -> Pass:
    flow, y = regime.problem("eager")
    flow = copy.deepcopy(flow)
    flow.backend = backend
    return flow_pass(flow.to(options.device), y.to(options.device))


def _runs(name: str, run: Pass, options: argparse.Namespace) -> dict[str, Call]:
    """The pass, and its CUDA graph."""
    run()
    found: dict[str, Call] = {name: waited(run, options.device)}
    if on_card(options.device):
        found[f"{name}, graph"] = waited(graphed(run), options.device)
    return found


def sized(job: tuple[str, int], options: argparse.Namespace, turn: Call) -> Found:
    """Milliseconds of both ways at every batch."""
    (model, n), found = job, []
    all_runs = []
    for batch in BATCHES:
        if batch * n * LAYERS * 4 * 6 <= MOST_BYTES:
            regime = Regime(n, LAYERS, batch, model)  # type: ignore[arg-type]
            runs = {}
            for name in ("eager", "triton"):
                runs |= _runs(name, _pass(regime, name, options), options)
            all_runs.append((batch, runs))
    turn()
    for batch, runs in all_runs:
        timings = interleaved(runs, options.seconds / 100)
        found.append({"batch": batch, **{name: 1e3 * each.minimum for name, each in timings.items()}})
    return {"what": "sizes", "model": model, "features": n, "layers": LAYERS, "ms": found}


def sizes(options: argparse.Namespace, features: Sequence[int] = FEATURES) -> Iterator[Found]:
    """Every number of features, of both methods."""
    yield from in_turns(sized, [(m, n) for m in ("h1", "h2") for n in features if n > 2 or m == "h1"], options)


def shapes(regime: Regime) -> Iterator[launches.Shape]:
    """Shapes of programs worth a trial, that of `shape_of` first."""
    flow, _ = regime.problem("eager")
    assert flow.plan is not None
    now = launches.shape_of(flow.plan)
    yield now
    units = regime.features // 2 if regime.model == "h2" else regime.features
    # The fewest numbers of a tile for each thread come first: they compile fast, and hide latency.
    tried = [
        (now.F * U * S // (32 * warps), launches.Shape(now.F, U, S, warps))
        for S, U, warps in itertools.product((16, 32, 64, 128), (1, 2, 4, 8, 16), (1, 2, 4, 8))
        if max(1, units) >= U
    ]
    for each, shape in sorted(tried):
        if 1 <= each <= 64 and shape != now:
            yield shape


def tiled(regime: Regime, options: argparse.Namespace, turn: Call) -> Found:
    """Milliseconds of a graph of the pass, by shape."""
    began, runs, failed = time.monotonic(), {}, {}
    true = truth(*regime.problem("eager"))
    allowed = tolerance(disagreement(_pass(regime, "eager", options).results(), true))
    choose = launches.shape_of
    for shape in shapes(regime):
        if time.monotonic() - began > READY:
            break
        name = str(tuple(shape))
        launches.shape_of = lambda plan, double=False, shape=shape: shape  # type: ignore[assignment]
        try:
            run = _pass(regime, "triton", options)
            if within(30.0, lambda run=run: disagreement(run.results(), true)) <= allowed:  # type: ignore[misc]
                runs[name] = waited(graphed(run) if on_card(options.device) else run, options.device)
            else:
                failed[name] = "disagrees with float64"
        except Exception as error:  # the others still say something
            failed[name] = f"{type(error).__name__}: {str(error)[:100]}"
        finally:
            launches.shape_of = choose
    turn()
    timings = interleaved(runs, options.seconds / 20)
    ms = dict(sorted(((name, 1e3 * each.minimum) for name, each in timings.items()), key=lambda pair: pair[1]))
    return {"what": "tiles", "flow": f"{regime.model} {regime}", "now": str(tuple(next(shapes(regime)))),
            "ms": ms, "failed": failed}  # fmt: skip


def tiles(options: argparse.Namespace, regimes: Sequence[Regime] = REGIMES) -> Iterator[Found]:
    """Every row of the part `flow`."""
    yield from in_turns(tiled, regimes, options)
