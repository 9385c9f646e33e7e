"""Time training steps of networks in stages beside the same by hand: python benchmarks/image_speed.py ...

`hdnn` is `hdnn.image_network(..., normalization="batch")` as it is; `by hand` is the same network in plain PyTorch,
written for speed: weights as they are used, halves apart and in one piece from the first layer to the last. Both have
channels innermost; each runs as it is and compiled by `torch.compile`. ResNet-20 and -32 stand beside for their
multiply-adds a second. All take turns in one process, on one thread; a step is forward, backward and SGD with Nesterov
momentum on random images, and its time the least of the processor of all turns. The losses of the first two steps, from
the same weights, say that the networks are the same.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import hdnn
from image_networks import multiply_adds, resnet
from sequences import keep_memory

SIZES = {
    "2-2-2": ((2, 2, 2), (32, 64, 112)),
    "1-1-2-2": ((1, 1, 2, 2), (32, 96, 192, 256)),
    "74": ((6, 6, 6), (32, 64, 112)),
}
# How far two losses may be apart in float32 and in bfloat16, whose products have 8 bits of precision.
TOLERANCES = {False: 1e-4, True: 0.03}


class Half(nn.Module):
    """Kᵀ σ(normed(K normed(x))), the published block, of c channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.K = nn.Parameter(torch.empty(channels, channels, 3, 3).to(memory_format=torch.channels_last))
        self.before, self.inside = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """What moves the other half."""
        units = functional.relu(self.inside(functional.conv2d(self.before(x), self.K, padding=1)))
        return functional.conv_transpose2d(units, self.K, padding=1)


class ByHand(nn.Module):
    """A network in stages without hdnn, with the weights of one."""

    def __init__(self, source: Any) -> None:
        super().__init__()
        source = copy.deepcopy(source)
        self.lift, self.norm, self.head = source.lift, source.readout.norm, source.head
        self.moves = nn.ModuleList()
        self.steps: list[float] = []
        self.widened: dict[int, int] = {}  # after which move, and by how many channels on each side of a half
        for module in source.flow:
            if isinstance(module, hdnn.Widen):
                self.widened[len(self.moves)] = (module.channels // 2 - self.moves[-1].K.shape[0]) // 2
            elif isinstance(module, hdnn.Stage):
                for layer in range(module.flow.layers):
                    self.add(module.flow, layer)

    @torch.no_grad()
    def add(self, flow: hdnn.Flow, layer: int) -> None:
        """The two moves of a layer: of p by q, then of q by p."""
        half, K = flow.features // 2, flow.K[layer]
        W = flow.interconnection.drive(flow._J(), flow.K, flow.space)[layer]  # K Jᵀ: K again, or its negative
        first, second = slice(half), slice(half, None)
        for units, by, moved in ((second, second, first), (first, first, second)):
            move = Half(half)
            move.K.copy_(K[units, by])
            self.steps.append(flow.step * float((W[units, moved] * K[units, by]).sum().sign()))
            self.moves.append(move)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 10)."""
        halves = [half.clone() for half in self.lift(x).chunk(2, 1)]
        for index, (move, step) in enumerate(zip(self.moves, self.steps, strict=True)):
            moved = index % 2
            halves[moved] = torch.add(halves[moved], move(halves[1 - moved]), alpha=step)
            if (more := self.widened.get(index + 1)) is not None:
                halves = [functional.pad(functional.avg_pool2d(half, 2), (0, 0, 0, 0, more, more)) for half in halves]
        found: Tensor = self.head(functional.relu(self.norm(torch.cat(halves, 1))).mean((2, 3)))
        return found


class Way:
    """A network that trains, by a call of its own or of what was compiled."""

    def __init__(self, model: nn.Module, call: Callable[[Tensor], Tensor], half: bool) -> None:
        self.model, self.call, self.half = model, call, half
        self.optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9, nesterov=True)

    def step(self, x: Tensor, y: Tensor) -> float:
        """One step; the loss before it."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            output = self.call(x)
        loss = functional.cross_entropy(output.float(), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())


def ways(source: nn.Module, half: bool, compiled: bool) -> dict[str, Way]:
    """All that take turns."""
    found = {}
    for label, model in {"hdnn": source, "by hand": ByHand(source)}.items():
        model.to(memory_format=torch.channels_last)
        found[label] = Way(model, model, half)
        if compiled:
            twin = copy.deepcopy(model)
            found[f"{label}, compiled"] = Way(twin, torch.compile(twin), half)
    for blocks in (3, 5):
        beside = resnet(16, blocks, 3).to(memory_format=torch.channels_last)
        found[f"ResNet-{6 * blocks + 2}"] = Way(beside, beside, half)
    return found


def measured(name: str, half: bool, chosen: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds and multiply-adds a second of every way.

    Raises:
        AssertionError: if the networks that are called the same are not.
    """
    torch.manual_seed(0)
    source = hdnn.image_network(*SIZES[name], normalization="batch")
    nn.init.normal_(source.head.weight, std=0.1)
    x = torch.randn(chosen.batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    y = torch.arange(chosen.batch) % 10
    found = ways(source, half, not chosen.eager)
    losses = {label: [way.step(x, y) for _ in range(2)] for label, way in found.items()}
    same = torch.tensor([pair for label, pair in losses.items() if not label.startswith("ResNet")])
    assert (same - same[0]).abs().max() < TOLERANCES[half], losses
    seconds = dict.fromkeys(found, float("inf"))
    for _ in range(chosen.turns):
        for label, way in found.items():
            began = time.process_time()
            way.step(x, y)
            seconds[label] = min(seconds[label], time.process_time() - began)
    rows = {
        label: {
            "milliseconds": 1000 * seconds[label],
            "billion multiply-adds a second": 3 * chosen.batch * multiply_adds(way.model, x)[0] / seconds[label] / 1e9,
        }
        for label, way in found.items()
    }
    return {"network": name, "bfloat16": half, "batch": chosen.batch, "ways": rows, "losses": losses}


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """The choices of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--eager", action="store_true", help="compile nothing: compiling takes minutes")
    parser.add_argument("--out", type=Path, help="a JSON file that gets each result as one more line")
    return parser.parse_args(arguments)


def main() -> None:
    """A row for each network, precision and way."""
    chosen = parsed()
    torch.set_num_threads(1)
    keep_memory()
    print("| network | precision | way | ms a step | 10⁹ multiply-adds a second |\n| --- | --- | --- | --- | --- |")
    for name in chosen.networks:
        for half in (False, True):
            torch.compiler.reset()
            result = measured(name, half, chosen)
            for label, row in result["ways"].items():
                precision = "bfloat16" if half else "float32"
                print(f"| {name} | {precision} | {label} |", *(f"{v:.0f} |" for v in row.values()), flush=True)
            if chosen.out:
                with chosen.out.open("a") as file:
                    file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
