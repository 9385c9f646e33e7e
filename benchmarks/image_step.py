"""Memory, time and rounding of one training step of a network of images, printed as JSON.

    python benchmarks/image_step.py 74 --memory reverse --normalization units

What is counted: the peak of the resident memory during forward and backward (VmHWM, reset just before), less the
resident memory before it (images, parameters and the state of the optimizer are there already), less the gradients that
it leaves. A small batch has run before, so that code is loaded. Linux only.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import hdnn
from memory import resident, settle

UNITS = {"74": (6, 6, 6), "218": (18, 18, 18), "1202": (100, 100, 100)}
BLOCKS = {"74": 5, "218": 18, "1202": 100}  # a stage of the ResNet of as many parameters
STEP = 0.1  # of the flows; at 1 and more than a thousand layers float32 has no digits left to compare


class Block(nn.Module):
    """The basic block of He et al. for CIFAR-10, with shortcuts that have no parameters."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride, self.more = (1, 0) if inputs == outputs else (2, outputs - inputs)
        self.first = nn.Conv2d(inputs, outputs, 3, self.stride, 1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)])

    def forward(self, x: Tensor) -> Tensor:
        """ReLU(shortcut + two convolutions)."""
        around = x[:, :, :: self.stride, :: self.stride]
        if self.more:
            around = functional.pad(around, (0, 0, 0, 0, self.more // 2, self.more - self.more // 2))
        inside = functional.relu(self.norms[0](self.first(x)))
        return functional.relu(around + self.norms[1](self.second(inside)))


def resnet(blocks: int) -> nn.Sequential:
    """Channels 16-32-64, `blocks` in each of three stages."""
    parts: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    widths = [16, *[width for width in (16, 32, 64) for _ in range(blocks)]]
    parts += [Block(a, b) for a, b in itertools.pairwise(widths)]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def network(chosen: argparse.Namespace) -> nn.Module:
    """The network, or the ResNet of as many parameters."""
    torch.manual_seed(0)
    if chosen.memory == "resnet":
        return resnet(BLOCKS[chosen.name])
    widths = (32, 64, 112 if chosen.name == "74" else 128)
    kind: Any = chosen.normalization
    made = hdnn.image_network(UNITS[chosen.name], widths, normalization=kind, memory=chosen.memory, step=STEP)
    nn.init.normal_(made.head.weight, std=0.1)
    return made


def run(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Forward and backward; gradients are summed into those that are there."""
    functional.cross_entropy(model(x), y).backward()


def gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """All of it, in float64."""
    model.zero_grad()
    run(model, x, y)
    return torch.cat([p.grad.flatten().double() for p in model.parameters() if p.grad is not None])


def rounding(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """‖g − g*‖ / ‖g*‖, g* computed in float64 with every layer kept."""
    truth = copy.deepcopy(model).double()
    for flow in truth.modules():
        if isinstance(flow, hdnn.Flow):
            flow.memory = "store"
    expected = gradient(truth, x.double(), y)
    return float((gradient(model, x, y) - expected).norm() / expected.norm())


def main() -> None:
    """Print bytes, seconds and errors as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=UNITS)
    parser.add_argument("--memory", choices=("store", "recompute", "reverse", "resnet"), required=True)
    parser.add_argument("--normalization", choices=("units", "batch", "bias"), default="units")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--error", action="store_true", help="compare gradients of two images with float64")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    model = network(chosen)
    x, y = torch.randn(chosen.batch, 3, chosen.side, chosen.side), torch.arange(chosen.batch) % 10
    run(model, x[:2, :, :8, :8], y[:2])
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
    optimizer.step()
    optimizer.zero_grad()
    settle()
    before, start = resident("VmRSS"), time.perf_counter()
    run(model, x, y)
    seconds, gradients = time.perf_counter() - start, 4 * sum(p.numel() for p in model.parameters())
    extra = max(0, resident("VmHWM") - before - gradients)
    found: dict[str, Any] = {"extra": extra, "seconds": seconds, "parameters": gradients // 4}
    if chosen.error:
        found["error"] = rounding(model, x[:2], y[:2])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
