r"""
A value carried along a graph
=============================

The nodes of a line hold numbers; the last node must return that of the first. Whatever lies between must pass it on and
lose nothing, through as many layers as there are steps to go. A Hamiltonian flow on a graph can do that: its layers are
those of a wave.
"""

# %%
# The task. Every node has a number from U(0, 1), and two flags say which node is the source and which the target. The
# number is drawn anew for every sample, so that no map of single nodes can help: the best constant has a mean squared
# error of 1/12. Here the line has 12 nodes; results for 50 stand below.

import csv
import math
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import nn

import hdnn

NODES, LAYERS, FEATURES = 12, 12, 8
i = torch.arange(NODES - 1)
edge_index = torch.cat((torch.stack((i, i + 1)), torch.stack((i + 1, i))), 1)


def samples(count, generator):
    """A number and two flags a node, (count, nodes, 3), and the number at the source."""
    x = torch.zeros(count, NODES, 3)
    x[..., 0] = torch.rand(count, NODES, generator=generator)
    x[:, 0, 1] = x[:, -1, 2] = 1
    return x, x[:, 0, 0].clone()


# %%
# The model: a linear lift of every node, ``h2`` on the graph, and a linear readout at the target. The graph is always
# the same, so it is given once; a flow with ``space=hdnn.Graph()`` takes ``edge_index=`` with every call
# (:doc:`/spaces`). The flow starts as a wave equation, p' = −(1 − A)² q and q' = p, which carries something along from
# the beginning: K\ :sub:`p` is the identity, and K\ :sub:`q` subtracts the neighbours from the node.


class Transfer(nn.Module):
    """Lift, flow, and what the last node says."""

    def __init__(self, space):
        super().__init__()
        self.lift, self.head = nn.Linear(3, FEATURES), nn.Linear(FEATURES, 1)
        self.flow = hdnn.h2(FEATURES, LAYERS, step=0.95, space=space)
        one = torch.eye(FEATURES // 2)
        with torch.no_grad():
            self.lift.weight.mul_(0.5)
            self.flow.bias.zero_()
            self.flow.weight.zero_()
            self.flow.weight[:, :, :, :, 0] = one  # (layer, half of p or q, ., ., tap): the node itself
            self.flow.weight[:, 1, :, :, 1] = -one  # the sum over its neighbours

    def forward(self, x):
        """From (B, nodes, 3) to (B,)."""
        return self.head(self.flow(self.lift(x))[:, -1]).squeeze(-1)


torch.manual_seed(0)
generator = torch.Generator().manual_seed(1)
model = Transfer(hdnn.Graph(edge_index, normalization="symmetric"))
groups = [
    {"params": [*model.lift.parameters(), *model.flow.parameters()], "lr": 2e-3},
    {"params": model.head.parameters(), "lr": 2e-2},
]
optimizer = torch.optim.Adam(groups)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [2e-3, 2e-2], total_steps=400, pct_start=0.1)
for _ in range(400):
    x, y = samples(32, generator)
    optimizer.zero_grad()
    (model(x) - y).square().mean().backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()

with torch.no_grad():
    x, y = samples(2000, torch.Generator().manual_seed(2))
    mse = (model(x) - y).square().mean()
print(f"constant: log10 MSE {math.log10(1 / 12):.2f}   h2 on the graph, fresh samples: {mse.log10():.2f}")

# %%
# What a change at the source does. The derivative of the state at every node, after every layer, with respect to the
# number at the source: the trained flow moves it along the line, about one node a layer, to the target.


def states(value):
    """The states of all layers, with another number at the source of the first sample."""
    changed = torch.cat((value.reshape(1, 1, 1), x[:1, 1:, :1]), 1)
    return model.flow.trajectory(model.lift(torch.cat((changed, x[:1, :, 1:]), 2)))[:, 0]


moved = torch.func.jacrev(states)(x[0, 0, 0]).detach().norm(dim=-1).numpy()
figure = Figure(figsize=(5.6, 3.6), layout="constrained")
panel = figure.subplots()
panel.set(title="Sensitivity to the number at the source", xlabel="node", ylabel="after layer")
shown = panel.imshow(moved, origin="lower", aspect="auto", cmap="viridis")
figure.colorbar(shown, ax=panel, label="norm of the derivative")

# %%
# The full task, a line of 50 nodes: 50 layers and 8 features in every model, the same six trials each, the best of
# them trained from three seeds for 1500 batches, and tested on fresh samples (``benchmarks/graph_transfer.py``).
# All of them may start as a wave. The flow carries the number across from every seed; the
# convolutions lose what they start with, and without the sum over neighbours nothing can do better than the constant.

NAMES = {
    "h2": "h2 on the graph",
    "convolution": "graph convolution",
    "residual": "residual, step T/N",
    "pointwise": "h2, neighbour tap zero",
}


def drawn(rows):
    """log10 MSE of every training, a line for each model."""
    figure = Figure(figsize=(6.4, 2.8), layout="constrained")
    panel = figure.subplots()
    panel.set(title="Line of 50 nodes: three trainings each", xlabel="log10 MSE on fresh samples")
    for place, (model, name) in enumerate(reversed(NAMES.items())):
        errors = [float(row["test"]) for row in rows if row["model"] == model]
        panel.plot(errors, [place] * len(errors), "o", color="C0", markersize=7, alpha=0.7)
        print(f"{name:24}", "  ".join(f"{error:.2f}" for error in errors))
    panel.axvline(math.log10(1 / 12), color="0.5", linestyle="--", linewidth=1)
    panel.text(math.log10(1 / 12), len(NAMES) - 0.55, "constant ", color="0.5", ha="right", va="center")
    panel.set_yticks(range(len(NAMES)), list(reversed(NAMES.values())))
    panel.set_ylim(-0.6, len(NAMES) - 0.3)
    return figure


here = Path(globals().get("__file__", "graph_transfer.py")).resolve()  # the gallery runs examples where they stand
results = sorted((here.parents[2] / "benchmarks" / "results").glob("*-graph-transfer.csv"))[-1]
with results.open(encoding="utf-8") as file:
    rows = list(csv.DictReader(file))
figure = drawn(rows)
