"""The counterexample: y' = J tanh(y) in the plane, whose states stay bounded while ∂y(t)/∂y(0) grows like t.

Legend: J = [0 −1; 1 0], M(t) = ∂y(t)/∂y(0); a flow takes N = t / h steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from hdnn.analysis import HamiltonianODE, continuous_sensitivities, layer_jacobians, norms
from hdnn.experiments.experiment import Experiment, Found, Measure, Outcome, Paper
from hdnn.flow import Flow
from hdnn.integrators import SymplecticEuler
from hdnn.interconnections import Fixed, canonical
from hdnn.plots import curves
from hdnn.plots.style import png
from hdnn.report import Picture
from hdnn.structures import BlockDiagonal

TIMES = (5, 10, 20, 50, 100, 200, 500, 1000, 2000)
START = (0.33627683, -0.48627683)  # of the TAC paper, which divides it by its length
F64 = torch.float64


@dataclass(frozen=True)
class Config:
    """How the system is solved.

    Attributes:
        first: which component symplectic Euler moves first, "p" or "q"; None solves the ODE to the tolerance.
        times: t, ascending.
        step: h of symplectic Euler.
        tolerance: of the ODE solver.
    """

    first: Literal["p", "q"] | None = None
    times: tuple[int, ...] = TIMES
    step: float = 0.05
    tolerance: float = 1e-12


CELLS = {"ode": Config(), "euler/first": Config("p"), "euler/second": Config("q")}
SMOKE = {"ode": Config(times=(5, 10), tolerance=1e-8), "euler/first": Config("p", times=(5, 10))}
PAPER = Paper(
    "Galimberti, Furieri, Xu, Ferrari-Trecate, IEEE TAC 2023, appendix III",
    "https://arxiv.org/abs/2105.13205",
    note="The paper proves that the gradients grow while the states stay bounded; norms of it could not be read.",
)


def start() -> Tensor:
    """y(0), of length 1."""
    y0 = torch.tensor(START, dtype=F64)
    return y0 / math.hypot(*START)


def run(config: Config, seed: int, folder: Path | None) -> Outcome:
    """‖M(t)‖₂, |det M(t) − 1| and ‖y(t)‖₂; nothing is random."""
    y, M = solved(config) if config.first is None else stepped(config, config.first)
    found = norms(M).tolist()
    metrics = {f"norm_{t}": value for t, value in zip(config.times, found, strict=True)}
    metrics["determinant"] = float((torch.linalg.det(M) - 1).abs().max())
    metrics["state"] = float(y.norm(dim=-1).max())
    return Outcome(metrics, {"times": list(map(float, config.times)), "norms": found})


def solved(config: Config) -> tuple[Tensor, Tensor]:
    """The states and sensitivities of the ODE at the times."""
    J = -canonical(2, dtype=F64)
    ode = HamiltonianODE.piecewise(torch.eye(2, dtype=F64), torch.zeros(2, dtype=F64), J, float(config.times[-1]))
    found = continuous_sensitivities(ode, start(), config.times, tolerance=config.tolerance)
    return found.states, found.forward


def stepped(config: Config, first: Literal["p", "q"]) -> tuple[Tensor, Tensor]:
    """The same of a flow of symplectic Euler steps."""
    layers = [round(t / config.step) for t in config.times]
    flow = Flow(
        2,
        layers[-1],
        step=config.step,
        structure=BlockDiagonal(),
        interconnection=Fixed(-canonical(2)),
        integrator=SymplecticEuler(first),
        shared=True,
        dtype=F64,
    )
    with torch.no_grad():
        flow.weight.fill_(1.0)
        flow.bias.zero_()
        states = flow.trajectory(start())
    M, found = torch.eye(2, dtype=F64), []
    for layer, L in enumerate(layer_jacobians(flow, start()), 1):
        M = L @ M
        if layer in layers:
            found.append(M)
    return states[layers], torch.stack(found)


def draw(found: Found) -> Sequence[Picture]:
    """The norms of all solutions against time."""
    series = {
        EXPERIMENT.called(cell): (outcome.arrays["times"], outcome.arrays["norms"])
        for cell, outcomes in found.items()
        for outcome in outcomes.values()
    }
    figure = curves(series, x="t", y=r"$\|\partial y(t)/\partial y(0)\|_2$", scales=("log", "log"))
    alt = "Norms against time, both logarithmic: all lines rise side by side, in proportion to the time."
    return [Picture("Growth of the sensitivities", png(figure), alt)]


_SOLVED = {
    "ode": "the ODE",
    "euler/first": "symplectic Euler, first component first",
    "euler/second": "symplectic Euler, second component first",
}
EXPERIMENT = Experiment(
    "counterexample",
    PAPER,
    CELLS,
    SMOKE,
    run,
    (
        *(Measure(f"norm_{t}", f"‖M‖, t = {t}", ".4g") for t in TIMES),
        Measure("state", "largest ‖y‖", ".3f"),
        Measure("determinant", "largest |det M − 1|", ".1e"),
    ),
    "y' = J tanh(y), J = [0 −1; 1 0], from y(0) = (0.336, −0.486) divided by its length. The ODE is solved with its "
    "sensitivity equation to a tolerance of 1e-12; symplectic Euler takes steps of 0.05, its first or its second "
    "component first. Nothing is trained and nothing is random.",
    seeds=1,
    draw=draw,
    layout=lambda cell: (_SOLVED[cell], ""),
)
