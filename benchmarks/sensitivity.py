"""All sensitivities dy_N/dy_j of a batch: `hdnn.analysis.sensitivities` beside backward passes, timed in turns.

    python benchmarks/sensitivity.py                       # two minutes, one core; prints Markdown
    python benchmarks/sensitivity.py --output benchmarks/results/DATE-sensitivity.md

Nothing is timed before all ways agree to 1e-12 (Frobenius, relative to every matrix) in float64.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import hdnn
from hdnn.analysis import norms, sensitivities
from hdnn.bench import interleaved
from machine import facts, head, publish, say, table

# features, layers, batch; the first is the goal: 4, 64, 125 at least 30 times faster.
REGIMES = ((4, 64, 125), (4, 64, 4000), (16, 64, 125), (64, 16, 32))
PRESETS = {"h1": hdnn.h1, "h2": hdnn.h2}


def states(flow: hdnn.Flow, y0: Tensor) -> list[Tensor]:
    """The state before every layer and after the last, with the graph between them."""
    found = [y0.clone().requires_grad_()]
    for field in flow.fields():
        found.append(flow.integrator.step(field, found[-1], flow.step))
    return found


def passes_per_layer(flow: hdnn.Flow, y0: Tensor) -> Tensor:
    """For every layer n backward passes, one per output, from the output to that layer."""
    ys = states(flow, y0)
    rows = [
        [torch.autograd.grad(ys[-1][:, i].sum(), y, retain_graph=True)[0] for i in range(flow.features)] for y in ys
    ]
    return torch.stack([torch.stack(of_layer, -2) for of_layer in rows])


def passes_per_output(flow: hdnn.Flow, y0: Tensor) -> Tensor:
    """One backward pass per output, which leaves its gradient at every layer it comes through."""
    ys = states(flow, y0)
    rows = [torch.stack(torch.autograd.grad(ys[-1][:, i].sum(), ys, retain_graph=True)) for i in range(flow.features)]
    return torch.stack(rows, -2)


WAYS: dict[str, Callable[[hdnn.Flow, Tensor], Tensor]] = {
    "sensitivities": sensitivities,
    "n passes per layer": passes_per_layer,
    "n passes": passes_per_output,
}


def measure(name: str, features: int, layers: int, batch: int, seconds: float) -> list[str]:
    """One row of the table: sizes, milliseconds of every way, and how many times faster ours is."""
    torch.manual_seed(0)
    flow = PRESETS[name](features, layers, step=0.1, dtype=torch.float64)
    y0 = torch.randn(batch, features, dtype=torch.float64)
    found = {way: run(flow, y0) for way, run in WAYS.items()}
    true = found["n passes per layer"]
    error = max(float((norms(M - true, "fro") / norms(true, "fro")).max()) for M in found.values())
    if not error <= 1e-12:
        raise SystemExit(
            f"{name} {features} {layers} {batch}: the ways differ by {error:.1e}, so no time means anything."
        )
    timings = interleaved({way: lambda run=run: run(flow, y0) for way, run in WAYS.items()}, seconds)
    ours = timings["sensitivities"]
    cells = [f"{timing.minimum * 1e3:.2f} / {timing.median * 1e3:.2f}" for timing in timings.values()]
    ratios = [f"{timings[way].minimum / ours.minimum:.1f}" for way in list(WAYS)[1:]]
    return [name, f"{features} · {layers} · {batch}", *cells, *ratios, f"{error:.0e}"]


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0, help="time to measure each row for")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, help="a .md path; the raw numbers go beside it")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    known = facts()
    rows = []
    for regime in REGIMES:
        for name in PRESETS:
            say(f"{name} {regime}")
            rows.append(measure(name, *regime, chosen.seconds))
    columns = [
        "flow",
        "n · N · B",
        *(f"{way}, ms (min / median)" for way in WAYS),
        *(f"{way}: ours is faster by" for way in list(WAYS)[1:]),
        "largest error",
    ]
    lines = [*head("Sensitivities", known), f"- float64, {chosen.threads} thread(s)", "", *table(columns, rows)]
    publish(chosen.output, lines, {**known, "columns": columns, "rows": rows})


if __name__ == "__main__":
    main()
