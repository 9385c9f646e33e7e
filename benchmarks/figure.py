"""Cost of a flow against depth, features and batch: nanoseconds per sample and layer, one core.

    python benchmarks/figure.py --output benchmarks/results/DATE-cost.png

Forward + backward of h1 as in flow.py, hdnn beside a PyTorch loop and JAX scan, each in its faster layout. The raw
numbers go beside the figure as JSON; with --redraw it is drawn from them again, without measuring.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

import machine
import peers
from flow import best
from hdnn.bench import Regime
from hdnn.files import write_whole
from hdnn.plots.style import COLOURS, MARKERS, blank, dress, save

SWEEPS = {
    "depth": [Regime(4, layers, 1000) for layers in (4, 16, 64, 256, 1024)],
    "features": [Regime(features, 16, 1000) for features in (2, 4, 8, 16, 32, 64, 128)],
    "batch": [Regime(4, 64, batch) for batch in (10, 100, 1000, 10_000, 100_000)],
}
TITLES = {
    "depth": ("layers N", "4 features, 1000 samples"),
    "features": ("features n", "16 layers, 1000 samples"),
    "batch": ("samples B", "4 features, 64 layers"),
}
SHOWN = (peers.OURS, peers.SCAN, peers.BY_HAND, peers.OWN_EAGER)


def size(name: str, regime: dict[str, int]) -> int:
    """What a sweep varies."""
    return regime[{"depth": "layers"}.get(name, name)]


def draw(sweeps: dict[str, list[dict[str, Any]]]) -> Figure:
    """Three panels, cost over size, both logarithmic."""
    figure, panels = blank(1, 3, width=10.5, height=3.9)
    for ax, (name, points) in zip(panels, sweeps.items(), strict=True):
        label, fixed = TITLES[name]
        dress(ax, f"{name.capitalize()}  ({fixed})", x=label, grid=True)
        ax.set_xscale("log")
        ax.set_yscale("log")
        sizes = [size(name, point) for point in points]
        ax.xaxis.set_major_locator(FixedLocator(sizes))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xticklabels([f"{each:,}" for each in sizes])
        for i, peer in enumerate(SHOWN):
            found = [(size(name, point), cost(point, peer)) for point in points]
            known = [(x, y) for x, y in found if y is not None]
            if known:
                ax.plot(*zip(*known, strict=True), color=COLOURS[i], marker=MARKERS[i], markersize=4.5, label=peer)
    for ax in panels[1:]:
        ax.sharey(panels[0])
    panels[0].set_ylabel("ns per sample and layer")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(SHOWN), frameon=False)
    return figure


def cost(point: dict[str, Any], peer: str) -> float | None:
    """Nanoseconds per sample and layer; None where the peer did not run."""
    fastest = best(point["peers"], [peer])
    return fastest and 1e9 * fastest["minimum"] / (point["layers"] * point["batch"])


def measure(regime: Regime, seconds: float) -> dict[str, Any]:
    """The peers that are shown, on one core."""
    machine.say(f"h1 {regime}")
    sizes = (regime.features, regime.layers, regime.batch)
    found = machine.child("peers.py", (*sizes, "--seconds", seconds, "--peers", *SHOWN), cores=1)
    return {"features": regime.features, "layers": regime.layers, "batch": regime.batch, "peers": found}


def main() -> None:
    """Measure and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="PNG file to write")
    parser.add_argument("--seconds", type=float, default=3.0, help="to measure each point for")
    parser.add_argument("--redraw", action="store_true", help="from the numbers beside the figure")
    chosen = parser.parse_args()
    machine.require_folder(chosen.output)
    numbers = chosen.output.with_suffix(".json")
    if chosen.redraw:
        sweeps = json.loads(numbers.read_text())["sweeps"]
    else:
        sweeps = {name: [measure(each, chosen.seconds) for each in regimes] for name, regimes in SWEEPS.items()}
        write_whole(numbers, json.dumps({**machine.facts(), "sweeps": sweeps}, indent=1) + "\n")
    save(draw(sweeps), chosen.output)


if __name__ == "__main__":
    main()
