"""Forward + backward of a flow: hdnn against PyTorch, torch.compile, JAX, diffrax and torchdiffeq.

    python benchmarks/flow.py --output benchmarks/results/DATE-flow.md

Canonical J, forward Euler (h1), tanh, float32; loss = mean square of the output; gradients of y0, K and b. For every
regime and number of cores a fresh, pinned process checks all peers against the oracle in float64 and times them in
turns (see peers.py). Nothing is reported where hdnn disagrees. At the end the partitioned method (h2) in short.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import machine
import peers
from hdnn.bench import Regime

# What the fastest peer must take, as a multiple of our time.
GOALS = {
    Regime(4, 64, 125): 4.0,
    Regime(4, 64, 4000): 1.5,
    Regime(8, 4, 78400): 1.6,
    Regime(8, 32, 78400): 3.0,
    Regime(16, 64, 4096): 1.8,
    Regime(32, 64, 4096): 1.4,
    Regime(128, 16, 1024): 1.25,
}
PARTITIONED = (Regime(4, 64, 125, "h2"), Regime(16, 64, 4096, "h2"), Regime(128, 16, 1024, "h2"))
MARKS = {"": "", peers.SAMPLES: "", peers.FEATURES: " ᶠ", peers.CHECKPOINTED: " ᶠᶜ"}
Results = list[dict[str, Any]]


def measure(regime: Regime, cores: int, seconds: float, names: list[str] | None = None) -> Results:
    """All peers, or those of these names, in one regime, in a process of their own."""
    machine.say(f"{regime.model} {regime}, cores: {cores}")
    sizes = (regime.features, regime.layers, regime.batch)
    chosen = () if names is None else ("--peers", *names)
    options = ("--model", regime.model, "--threads", cores, "--seconds", seconds, *chosen)
    return machine.child("peers.py", (*sizes, *options), cores)


def best(results: Results, names: Iterable[str], variants: Iterable[str] = tuple(MARKS)) -> dict[str, Any] | None:
    """The fastest of these variants of these peers; None if none of them ran."""
    timed = [
        result
        for result in results
        if result["peer"] in names and result["variant"] in variants and "minimum" in result
    ]
    return min(timed, key=lambda result: result["minimum"], default=None)


def others(results: Results) -> list[str]:
    """Every peer but ours, in order."""
    return list(dict.fromkeys(result["peer"] for result in results if result["peer"] != peers.OURS))


def ratio(results: Results, names: Iterable[str], variants: Iterable[str] = tuple(MARKS)) -> float:
    """The fastest of these over ours, by minimum."""
    fastest, ours = best(results, names, variants), best(results, [peers.OURS])
    return fastest["minimum"] / ours["minimum"] if fastest and ours else float("nan")


def times_table(measured: dict[Regime, Results]) -> list[str]:
    """Milliseconds of every peer (minimum / median), in its fastest variant."""
    names = dict.fromkeys(result["peer"] for results in measured.values() for result in results)
    rows = [[name, *(_cell(results, name) for results in measured.values())] for name in names]
    return machine.table(["ms, minimum / median", *map(str, measured)], rows)


def _cell(results: Results, name: str) -> str:
    fastest = best(results, [name])
    if fastest is None:
        return next((result["reason"] for result in results if result["peer"] == name), "–")
    return f"{_ms(fastest['minimum'])} / {_ms(fastest['median'])}{MARKS[fastest['variant']]}"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}" if seconds < 1 else f"{1e3 * seconds:.0f}"


def ratio_table(measured: dict[int, dict[Regime, Results]]) -> list[str]:
    """The fastest peer over ours beside the goal, and the best eager PyTorch over ours, for each number of cores."""
    columns = ["features·layers·batch", "goal"]
    for cores in measured:
        columns += [f"{count(cores)}: fastest peer", "over ours", "samples first", "eager"]
    rows = []
    for regime in next(iter(measured.values())):
        goal = GOALS.get(regime)
        row = [str(regime), f"{goal:g}" if goal else "–"]
        for of_cores in measured.values():
            results = of_cores[regime]
            fastest = best(results, others(results))
            found = ratio(results, others(results))
            usual = ratio(results, others(results), ["", peers.SAMPLES])
            eager = ratio(results, [peers.OWN_EAGER, peers.BY_HAND])
            named = fastest["peer"] + MARKS[fastest["variant"]] if fastest else "–"
            verdict = "" if goal is None else " (met)" if found >= goal else " (missed)"
            row += [named, f"{found:.2f}{verdict}", f"{usual:.2f}", f"{eager:.2f}"]
        rows.append(row)
    return machine.table(columns, rows)


def report(known: dict[str, Any], measured: dict[int, dict[Regime, Results]]) -> list[str]:
    """The whole report in Markdown."""
    lines = machine.head("Forward + backward of a flow", known)
    lines += [
        "",
        "Canonical J, tanh, float32, gradients of y0, K and b. Every number comes from calls made in turns, in one "
        "process for each column; all peers agreed with float64 first, within 1e-5 or three times the error of eager "
        "PyTorch. Peers run samples first or features first (ᶠ), the scan of JAX also with a checkpointed step (ᶜ); "
        f"the faster is shown. Segments are {peers.SEGMENT} layers, unrolled and checkpointed. The tables of ratios "
        "give the time of the fastest peer over ours (the goal is for this), then those of the fastest that runs "
        "samples first, as most people write it, and of the fastest eager PyTorch.",
    ]
    for model, title in (("h1", "Forward Euler (h1)"), ("h2", "Partitioned (h2), against eager PyTorch")):
        part = {n: {r: found for r, found in of.items() if r.model == model} for n, of in measured.items()}
        if not any(part.values()):
            continue
        lines += ["", f"## {title}", "", *ratio_table(part)]
        for cores, of_cores in part.items():
            lines += ["", f"### {count(cores).capitalize()}", "", *times_table(of_cores)]
    reasons = dict.fromkeys(
        f"- {result['peer']} ({result['variant'] or 'only variant'}), {regime.model} {regime}, {count(cores)}: "
        f"{result['reason']}"
        for cores, of_cores in measured.items()
        for regime, results in of_cores.items()
        for result in results
        if "reason" in result
    )
    return [*lines, "", "## Not timed", "", *reasons] if reasons else lines


def count(cores: int) -> str:
    """A number of cores in words."""
    return "one core" if cores == 1 else f"{cores} cores"


def chosen_regimes(texts: list[str] | None) -> list[Regime]:
    """Regimes of h1 by name, as in 4·64·125 or 4,64,125; all of them, and those of h2, where none is named."""
    if texts is None:
        return [*GOALS, *PARTITIONED]
    return [Regime(*(int(number) for number in text.replace("·", ",").split(","))) for text in texts]


def main() -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regimes", nargs="+", help="features,layers,batch; default: the seven of the goals, and h2")
    parser.add_argument("--cores", nargs="+", type=int, default=[n for n in (1, 2) if n <= machine.cores_here()])
    parser.add_argument("--peers", nargs="+", help="their names; default: all")
    parser.add_argument("--seconds", type=float, default=12.0, help="to measure each regime for, without compiling")
    parser.add_argument("--output", type=Path, help="Markdown file to write; raw numbers go beside it as JSON")
    chosen = parser.parse_args()
    machine.require_folder(chosen.output)
    for cores in chosen.cores:
        machine.require_cores(cores)
    regimes = chosen_regimes(chosen.regimes)
    known = machine.facts()
    measured = {
        n: {regime: measure(regime, n, chosen.seconds, chosen.peers) for regime in regimes} for n in chosen.cores
    }
    raw = {
        **known,
        "seconds": chosen.seconds,
        "results": [
            {"model": regime.model, "regime": str(regime), "cores": cores, "peers": results}
            for cores, of_cores in measured.items()
            for regime, results in of_cores.items()
        ],
    }
    machine.publish(chosen.output, report(known, measured), raw)


if __name__ == "__main__":
    main()
