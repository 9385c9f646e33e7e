"""How far the programs of the Triton backend are from the oracle, in its interpreter: a line for every preset and size.

    PYTHONPATH=build/triton-3.9.0 TRITON_INTERPRET=1 python tests/triton_errors.py 4 16

The worst of six activations: output and all gradients, relative in norm, of ours in float64, in float32, and of the
eager path in float32.
"""

from __future__ import annotations

import sys
import warnings

from families import ACTIVATIONS, PRESETS, preset, state
from triton_cases import off


def main(sizes: list[int]) -> None:
    for name in PRESETS:
        for n in sizes:
            found = []
            for number, activation in enumerate(ACTIVATIONS.values()):
                flow = preset(name, n, 2, n**-0.5, number, activation=activation)
                found.append(off(flow, state(flow, 5, seed=number)))
            double, single, eager = (max(column) for column in zip(*found, strict=True))
            print(f"| {name} | {n} | {double:.1e} | {single:.1e} | {eager:.1e} |", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main([int(word) for word in sys.argv[1:]])
