"""Memory and time of a flow against its depth: native, and eager with each choice of `memory`.

    python benchmarks/depth.py --output benchmarks/results/DATE-depth.md

Forward + backward of h1 and h2, 4 features, batch 4000, float32, and of a convolutional h2. Memory is what is allocated
beyond inputs, output, parameters and their gradients (see memory.py); every point has a process of its own.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine

MIB, GIB = 2**20, 2**30
NATIVE = "native"
MODES = {"h1": (NATIVE, "store", "recompute"), "h2": (NATIVE, "store", "recompute", "reverse")}
SHARE_OF_FREE = 0.7  # of the free memory that a point may be expected to take


@dataclass(frozen=True)
class Series:
    """One kind of flow, at several depths.

    Args:
        title: for the report.
        model: "h1" or "h2".
        options: of memory.py.
        depths: numbers of layers, ascending.
        modes: "native", or what `memory` is on the eager path.
        target: (mode, shallow, deep): the deep flow may take 1.2 times what the shallow one does, plus 16 MiB.
    """

    title: str
    model: str
    options: tuple[object, ...]
    depths: tuple[int, ...]
    modes: tuple[str, ...]
    target: tuple[str, int, int]


VECTORS = ("--features", 4, "--batch", 4000)
IMAGES = ("--features", 16, "--batch", 16, "--kernel-size", 3, "--side", 32)
DEPTHS, IMAGE_DEPTHS = (16, 100, 1000, 10_000), (16, 64, 256)


def all_series(depths: tuple[int, ...], image_depths: tuple[int, ...]) -> list[Series]:
    """What is measured."""
    vectors = [
        Series(f"{model}, 4 features, batch 4000", model, VECTORS, depths, MODES[model], (NATIVE, 100, 10_000))
        for model in ("h1", "h2")
    ]
    title = "h2, 3 x 3 convolutions, 16 channels, 32 x 32 pixels, batch 16"
    return [*vectors, Series(title, "h2", IMAGES, image_depths, MODES["h2"][1:], ("reverse", 16, 256))]


def measure(series: Series, cores: int) -> dict[str, dict[int, dict[str, Any]]]:
    """Every mode at every depth; a point that would not fit into memory says so instead."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for mode in series.modes:
        points = found.setdefault(mode, {})
        for layers in series.depths:
            expected = expected_bytes(points, layers)
            if expected > SHARE_OF_FREE * free():
                points[layers] = {"reason": f"about {expected / GIB:.0f} GiB needed, {free() / GIB:.0f} GiB free"}
                continue
            machine.say(f"{series.title}: {mode}, {layers} layers")
            way = ("--backend", "native") if mode == NATIVE else ("--backend", "eager", "--memory", mode)
            options = (series.model, "--layers", layers, *series.options, *way, "--threads", cores)
            points[layers] = machine.child("memory.py", options, cores)
    return found


def expected_bytes(points: dict[int, dict[str, Any]], layers: int) -> float:
    """In proportion to the depth, from the deepest point so far."""
    known = {depth: point["extra"] for depth, point in points.items() if "extra" in point}
    return known[max(known)] * layers / max(known) if known else 0.0


def free() -> int:
    """Bytes of memory that the system could hand out."""
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable:"))
    return int(line.split()[1]) * 1024


def verdict(series: Series, found: dict[str, dict[int, dict[str, Any]]]) -> str:
    """Whether the target of a series was met, in numbers."""
    mode, shallow, deep = series.target
    points = found.get(mode, {})
    if not {shallow, deep} <= {depth for depth, point in points.items() if "extra" in point}:
        return f"Target ({mode}, {shallow:,} against {deep:,} layers): not measured."
    allowed = 1.2 * points[shallow]["extra"] + 16 * MIB
    passed = points[deep]["extra"] <= allowed
    return (
        f"Target: {mode} at {deep:,} layers at most 1.2 times that at {shallow:,} plus 16 MiB = {_mib(allowed)} MiB; "
        f"measured {_mib(points[deep]['extra'])} MiB: **{'passed' if passed else 'FAILED'}**."
    )


def report(known: dict[str, Any], measured: list[tuple[Series, dict[str, dict[int, dict[str, Any]]]]]) -> list[str]:
    """The whole report in Markdown."""
    lines = machine.head("Memory and time against depth", known)
    lines += [
        "",
        "Forward + backward, float32. MiB: the peak of the resident memory during the pass, less what was resident "
        "before (input, cotangent, parameters), less the output and the gradients it leaves; a process for each point. "
        "ms: the fastest of a few passes.",
    ]
    for series, found in measured:
        rows = [
            [name, *(_cell(found[mode][layers]) for layers in series.depths)]
            for mode in series.modes
            for name in [mode if mode == NATIVE else f"eager, memory={mode!r}"]
        ]
        lines += ["", f"## {series.title}", ""]
        lines += machine.table(["MiB / ms", *(f"{layers:,} layers" for layers in series.depths)], rows)
        lines += ["", verdict(series, found)]
    return lines


def _cell(point: dict[str, Any]) -> str:
    return point.get("reason") or f"{_mib(point['extra'])} / {1e3 * point['seconds']:.3g}"


def _mib(count: float) -> str:
    return f"{count / MIB:.1f}"


def main() -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", nargs="+", type=int, default=DEPTHS, help="of the flows of vectors")
    parser.add_argument("--image-depths", nargs="+", type=int, default=IMAGE_DEPTHS, help="of the flow of images")
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--output", type=Path, help="Markdown file to write; raw numbers go beside it as JSON")
    chosen = parser.parse_args()
    machine.require_folder(chosen.output)
    machine.require_cores(chosen.cores)
    known = machine.facts()
    series = all_series(tuple(sorted(chosen.depths)), tuple(sorted(chosen.image_depths)))
    measured = [(each, measure(each, chosen.cores)) for each in series]
    raw = {**known, "cores": chosen.cores, "series": [{"title": each.title, "modes": got} for each, got in measured]}
    machine.publish(chosen.output, report(known, measured), raw)


if __name__ == "__main__":
    main()
