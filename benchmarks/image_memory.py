"""Memory of a training step of deep networks of images against their depth, beside ResNets of as many parameters.

    python benchmarks/image_memory.py --output benchmarks/results/DATE-image-memory.md

Batch 32 of 32 x 32 images, float32; every point has a process of its own (see image_step.py). The gradients of two
images are compared with float64.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import machine

MIB = 2**20
NAMES = ("74", "218", "1202")
LIMIT = 1.25  # what 1202 layers may take, in what 74 take
RESNETS = {"74": "ResNet-32", "218": "ResNet-110", "1202": "ResNet-602"}
Found = dict[tuple[str, str], dict[str, Any]]


def measure(names: tuple[str, ...], cores: int, batch: int, error: bool) -> Found:
    """Every network with each way to remember."""
    found: Found = {}
    for name in names:
        for memory in ("reverse", "store", "resnet"):
            machine.say(f"{name} layers: {memory}")
            options = (name, "--memory", memory, "--threads", cores, "--batch", batch)
            more = ("--error",) if error and memory != "resnet" else ()
            found[name, memory] = machine.child("image_step.py", (*options, *more), cores)
    return found


def verdict(found: Found) -> str:
    """Whether depth is free, in numbers."""
    if not {("74", "reverse"), ("1202", "reverse")} <= found.keys():
        return "1202 against 74 layers: not measured."
    shallow, deep = (found[name, "reverse"]["extra"] for name in ("74", "1202"))
    met = "met" if deep <= LIMIT * shallow else "MISSED"
    share = f"{deep / shallow:.2f} times what 74 take (at most {LIMIT})"
    return f'1202 layers with `memory="reverse"` take {share}: **{met}**.'


def report(known: dict[str, Any], found: Found, batch: int) -> list[str]:
    """The whole report in Markdown."""
    lines = machine.head("Memory of deep networks of images", known)
    lines += [
        "",
        f'Forward + backward, batch {batch}, 32 x 32 images, float32, normalization="units". MiB: the peak of the '
        "resident memory during the pass, less what was resident before (parameters, state of the optimizer, images), "
        "less the gradients it leaves. Error: ‖g − g*‖ / ‖g*‖ of the gradient of two images, g* computed in float64. "
        "Seconds of one pass. ResNets have the basic block, channels 16-32-64, and keep everything.",
        "",
    ]
    rows = []
    for (name, memory), point in found.items():
        who = RESNETS[name] if memory == "resnet" else f"Hamiltonian-{name}, memory={memory!r}"
        error = f"{point['error']:.1e}" if "error" in point else ""
        rows.append([who, f"{point['parameters']:,}", f"{point['extra'] / MIB:.0f}", f"{point['seconds']:.1f}", error])
    lines += machine.table(["network", "parameters", "MiB", "seconds", "error"], rows)
    return [*lines, "", verdict(found)]


def main() -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--no-error", action="store_true", help="leave the comparison with float64 out")
    parser.add_argument("--output", type=Path, help="Markdown file to write; raw numbers go beside it as JSON")
    chosen = parser.parse_args()
    machine.require_folder(chosen.output)
    machine.require_cores(chosen.cores)
    known = machine.facts()
    found = measure(tuple(chosen.names), chosen.cores, chosen.batch, not chosen.no_error)
    raw = {**known, "batch": chosen.batch, "points": {" ".join(key): point for key, point in found.items()}}
    machine.publish(chosen.output, report(known, found, chosen.batch), raw)


if __name__ == "__main__":
    main()
