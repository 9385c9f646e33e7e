"""Memory and time of one forward + backward of one flow, printed as JSON.

    python benchmarks/memory.py h1 --features 4 --layers 100 --batch 4000 --backend native

What is counted: the peak of the resident memory of this process during the pass (VmHWM, reset just before), less the
resident memory before it (inputs, parameters and the cotangent are there already), less the bytes of the output and of
the gradients that the pass leaves behind. A tiny flow has run before, so that code is loaded; buffers that grow with
the size of the problem are counted. Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import hdnn

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_STEP = 0.001  # over 10,000 layers still a horizon of 10
_PATIENCE = 2.0  # seconds to repeat the pass for


def resident(name: str) -> int:
    """Bytes of "VmRSS" (now) or "VmHWM" (the peak)."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1]) * 1024


def settle() -> None:
    """Hand freed memory back to the system and forget the peak."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    CLEAR.write_text("5")


def extra(flow: torch.nn.Module, y: Tensor, cotangent: Tensor) -> dict[str, int]:
    """Bytes allocated beyond inputs, output, parameters and gradients, and what was subtracted."""
    settle()
    before = resident("VmRSS")
    out = run(flow, y, cotangent)
    peak = resident("VmHWM")
    left = [out, *(leaf.grad for leaf in (y, *flow.parameters()) if leaf.grad is not None)]
    kept = sum(tensor.numel() * tensor.element_size() for tensor in left)
    return {"extra": max(0, peak - before - kept), "output_and_gradients": kept}


def run(flow: torch.nn.Module, y: Tensor, cotangent: Tensor) -> Tensor:
    """One pass; no loss, whose memory would be counted."""
    for leaf in (y, *flow.parameters()):
        leaf.grad = None
    out: Tensor = flow(y)
    torch.autograd.backward(out, cotangent)
    return out.detach()


def fastest(flow: torch.nn.Module, y: Tensor, cotangent: Tensor) -> float:
    """Seconds of the fastest of a few passes."""
    times: list[float] = []
    while not times or sum(times) < _PATIENCE:
        start = time.perf_counter()
        run(flow, y, cotangent)
        times.append(time.perf_counter() - start)
    return min(times)


def problem(chosen: argparse.Namespace, layers: int, batch: int) -> tuple[torch.nn.Module, Tensor, Tensor]:
    """A flow, its input and a cotangent."""
    torch.manual_seed(0)
    preset = {"h1": hdnn.h1, "h2": hdnn.h2}[chosen.model]
    memory: dict[str, Any] = {} if chosen.memory is None else {"memory": chosen.memory}
    flow = preset(chosen.features, layers, step=_STEP, kernel_size=chosen.kernel_size, backend=chosen.backend, **memory)
    pixels = () if chosen.kernel_size is None else (chosen.side, chosen.side)
    y, cotangent = torch.randn(2, batch, chosen.features, *pixels)
    return flow, y.clone().requires_grad_(), cotangent.clone()


def main() -> None:
    """Print bytes and seconds as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=("h1", "h2"))
    parser.add_argument("--features", type=int, required=True)
    parser.add_argument("--layers", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--backend", choices=("eager", "native"), required=True)
    parser.add_argument("--memory", choices=("store", "recompute", "reverse"), help="of the eager path")
    parser.add_argument("--kernel-size", type=int, help="images instead of vectors")
    parser.add_argument("--side", type=int, default=32, help="of the images")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    run(*problem(chosen, layers=2, batch=2))
    ready = problem(chosen, chosen.layers, chosen.batch)
    print(json.dumps({**extra(*ready), "seconds": fastest(*ready)}))


if __name__ == "__main__":
    main()
