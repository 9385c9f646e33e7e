"""Read MNIST out of the state of h2 oscillators that are not trained: python benchmarks/linear_memory.py FOLDER.

Where inputs are small the last state is a linear function of the 784 pixels. Its matrix is found from the network
itself, all images go through it at once, and layer norm, an h2 flow and a linear layer, the readout of
`benchmarks/sequences.py`, are trained on the result: seconds where a whole training takes half an hour. K, V and b
stay as they begin. Scored is the part for choices; test images are not read.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

import hdnn
from sequences import Data, mnist, pair

SMALL = 1e-4


def matrix(options: argparse.Namespace) -> Tensor:
    """The derivative (784, 128) of the last state by the pixels, where all are 0."""
    rnn = hdnn.HamiltonianRNN(
        1, 128, step=0.1, damping=options.damping, frequencies=options.frequencies, dtype=torch.float64
    )
    with torch.no_grad():
        _, last = rnn(SMALL * torch.eye(784, dtype=torch.float64).unsqueeze(-1))
    return (last[-1] / SMALL).float()


def trained(train: Data, validation: Data, options: argparse.Namespace) -> tuple[float, float]:
    """Percent of right answers on the part for choices, and the loss of the last hundred steps."""
    M = matrix(options)
    x, kept = train.x.squeeze(-1).T @ M, validation.x.squeeze(-1).T @ M
    readout = nn.Sequential(nn.LayerNorm(128), hdnn.h2(128, options.readout, step=0.5), nn.Linear(128, 10))
    nn.init.zeros_(readout[-1].weight)
    optimizer = torch.optim.AdamW(readout.parameters(), weight_decay=options.weight_decay)
    of_epoch = len(x) // 128
    steps, losses = options.epochs * of_epoch, []
    for step in range(steps):
        if step % of_epoch == 0:
            order = torch.randperm(len(x))
        for group in optimizer.param_groups:
            group["lr"] = options.rate * min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / steps))
        place = step % of_epoch
        chosen = order[place * 128 : (place + 1) * 128]
        loss = functional.cross_entropy(readout(x[chosen]), train.y[chosen], label_smoothing=options.smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    with torch.no_grad():
        right = readout(kept).argmax(-1) == validation.y
    return 100 * float(right.float().mean()), sum(losses[-100:]) / 100


def main() -> None:
    """One training, on one thread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--permuted", action="store_true")
    parser.add_argument("--frequencies", type=pair, default=(0.02, 0.6), metavar="LOW,HIGH")
    parser.add_argument("--damping", type=float, default=0.01)
    parser.add_argument("--readout", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--rate", type=float, default=0.004)
    parser.add_argument("--weight-decay", type=float, default=0.0)
    parser.add_argument("--smoothing", type=float, default=0.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    train, validation, _ = mnist(options.folder, options.permuted)
    began = time.process_time()
    score, loss = trained(train, validation, options)
    print(f"{score:.2f} % right, loss {loss:.4f}, {time.process_time() - began:.0f} s of the processor")


if __name__ == "__main__":
    main()
