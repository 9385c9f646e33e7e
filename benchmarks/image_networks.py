"""What stands beside networks in stages, ResNets and the same ones without their flows, and how large each is."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import hdnn
from image_step import Block


def resnet(width: int, blocks: int, inputs: int) -> nn.Sequential:
    """Channels w-2w-4w, `blocks` in each of three stages."""
    parts: list[nn.Module] = [nn.Conv2d(inputs, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    widths = [width, *[factor * width for factor in (1, 2, 4) for _ in range(blocks)]]
    parts += [Block(a, b) for a, b in itertools.pairwise(widths)]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, 10))


@torch.no_grad()
def multiply_adds(model: nn.Module, x: Tensor) -> tuple[int, int]:
    """Of an image: all, and those in flows; what the second of x takes, for what weights are made of is done once."""
    model.eval()
    found = []
    for count in (1, 2):
        with FlopCounterMode(display=False) as counter:
            model(x[:count])
        names = [name for name, module in model.named_modules() if isinstance(module, hdnn.Stage)]
        of_flows = sum(
            sum(counter.get_flop_counts().get(f"{type(model).__name__}.{name}", {}).values()) for name in names
        )
        found.append((counter.get_total_flops(), of_flows))
    model.train()
    (one, of_one), (two, of_two) = found
    return (two - one) // 2, (of_two - of_one) // 2


def without_flows(network: nn.Module) -> nn.Module:
    """The same network, its flows taken out: stem, pools, widenings, mean and linear layer."""
    for module in network.modules():
        if isinstance(module, nn.Sequential):
            for name, part in module.named_children():
                if isinstance(part, hdnn.Stage):
                    setattr(module, name, nn.Identity())
    return network


def parameters(model: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
