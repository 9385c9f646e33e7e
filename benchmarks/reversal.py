"""How accurate gradients are when the layers are undone instead of stored, memory="reverse", against depth.

    python benchmarks/reversal.py --output benchmarks/results/DATE-reversal.md

Largest relative error, in norm, of the gradients of the state and of every parameter, over seeds; the truth is
memory="store" in float64 at the same numbers. 8 features, 16 samples, tanh, random cotangents.
"""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import hdnn
import machine

FEATURES, SAMPLES = 8, 16
Make = Callable[[int, float], hdnn.Flow]


def verlet(layers: int, step: float) -> hdnn.Flow:
    """h2 with the integrator of second order."""
    return hdnn.Flow(
        FEATURES,
        layers,
        step=step,
        structure=hdnn.BlockDiagonal(),
        interconnection=hdnn.Fixed(hdnn.canonical(FEATURES)),
        integrator=hdnn.StormerVerlet(),
    )


MAKERS: dict[str, Make] = {
    "h2": lambda layers, step: hdnn.h2(FEATURES, layers, step=step),
    "ms1": lambda layers, step: hdnn.ms1(FEATURES, layers, step=step),
    "ms3": lambda layers, step: hdnn.ms3(FEATURES, layers, step=step),
    "StormerVerlet": verlet,
}
# flow, layers, step, standard deviation of the weights times √n
CASES = [(name, layers, 0.05, 1.0) for name in MAKERS for layers in (16, 64, 256, 1024)] + [
    ("h2", 256, 0.1, math.sqrt(FEATURES)),
    ("h2", 1024, 0.1, math.sqrt(FEATURES)),
    ("h2", 64, 1.0, math.sqrt(FEATURES)),
]


def gradients(flow: hdnn.Flow, memory: str, y: Tensor, g: Tensor) -> list[Tensor] | None:
    """In float64 whatever the flow's precision; None where the way back was lost, which raises."""
    flow = copy.deepcopy(flow)
    flow.backend, flow.memory = "eager", memory  # type: ignore[assignment]
    y = y.to(flow.weight.dtype).requires_grad_()
    try:
        found = torch.autograd.grad(flow(y), [y, *flow.parameters()], g.to(y.dtype))
    except RuntimeError as error:
        if "lost its way back" not in str(error):
            raise
        return None
    return [x.double() for x in found]


def off(found: list[Tensor] | None, true: list[Tensor]) -> float:
    """The largest relative error; infinite where the pass raised."""
    if found is None:
        return math.inf
    return max(((a - b).norm() / b.norm()).item() for a, b in zip(found, true, strict=True))


def row(name: str, layers: int, step: float, std: float, seeds: int) -> list[str]:
    """The worst over seeds, as a row of the table."""
    worst = [0.0] * 5
    for seed in range(seeds):
        torch.manual_seed(seed)
        flow = MAKERS[name](layers, step)
        with torch.no_grad():
            for parameter in flow.parameters():
                parameter.mul_(std)
        y, g = torch.randn(2, SAMPLES, FEATURES, dtype=torch.float64).float().double()
        exact = copy.deepcopy(flow).double()
        true = gradients(exact, "store", y, g)
        assert true is not None
        M = hdnn.analysis.sensitivities(exact, y)[0]
        found = [
            torch.linalg.matrix_norm(torch.linalg.inv(M), 2).max().item(),
            off(gradients(flow, "store", y, g), true),
            off(gradients(flow, "recompute", y, g), true),
            off(gradients(flow, "reverse", y, g), true),
            off(gradients(exact, "reverse", y, g), true),
        ]
        worst = [max(a, b) for a, b in zip(worst, found, strict=True)]
    cells = ["raises" if math.isinf(value) else f"{value:.1e}" for value in worst]
    machine.say(f"{name}, {layers} layers")
    return [name, str(layers), str(step), f"{std / math.sqrt(FEATURES):.2f}", *cells]


def main() -> None:
    """Print the table, and write it where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    machine.require_folder(chosen.output)
    known = machine.facts()
    torch.set_num_threads(1)
    columns = ["flow", "layers", "step", "std of weights", "‖M⁻¹‖", "store, float32", "recompute, float32"]
    columns += ["reverse, float32", "reverse, float64"]
    rows = [row(*case, chosen.seeds) for case in CASES]
    lines = [
        *machine.head("Gradients by reversal, against depth", known),
        "",
        (__doc__ or "").split("\n\n")[2].strip(),
        "A way back that misses the input by more than 1e-3 raises.",
        "",
        *machine.table(columns, rows),
    ]
    machine.publish(chosen.output, lines, {**known, "columns": columns, "rows": rows})


if __name__ == "__main__":
    main()
