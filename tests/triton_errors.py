"""How far the programs of the Triton backend are from the oracle, in its interpreter: preset by activation by size.

    PYTHONPATH=build/triton-3.9.0 TRITON_INTERPRET=1 python tests/triton_errors.py 4 16 128

A line of JSON for each: output and all gradients, relative in norm, the worst of ours in both precisions and of eager
float32; of the last the worst of nine draws where ours exceeds 1e-5 and three times the first.
"""

from __future__ import annotations

import json
import sys
import warnings

from families import ACTIVATIONS, PRESETS, preset, state
from triton_cases import off, wide_tiles


def main(sizes: list[int]) -> None:
    for n in sizes:
        with wide_tiles(n):
            for name in PRESETS:
                for number, (activation, value) in enumerate(ACTIVATIONS.items()):
                    flow = preset(name, n, 2, n**-0.5, number, activation=value)
                    double, single, eager = off(flow, state(flow, 5, seed=number))
                    line = {"preset": name, "method": flow.plan.method, "structure": flow.plan.structure, "n": n}
                    line |= {"activation": activation, "float64": double, "float32": single, "eager": eager}
                    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main([int(word) for word in sys.argv[1:]])
