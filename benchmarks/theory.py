"""The statements of the theory, measured: what `hdnn.analysis` finds for the counterexample and for random networks.

    python benchmarks/theory.py                                              # three minutes, one core; prints Markdown
    python benchmarks/theory.py --output benchmarks/results/DATE-theory.md

Nothing is trained and nothing is chosen: every number follows from the seeds, which count from 0.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import hdnn
from hdnn.activations import Activation
from hdnn.analysis import (
    HamiltonianODE,
    continuous_sensitivities,
    layer_jacobians,
    linearize,
    log_layer_bounds,
    log_norms,
    marginal_stability,
    norms,
    sensitivities,
    singular_values,
)
from machine import facts, head, publish, require_folder, say, table

F64 = torch.float64
TIMES = (5, 10, 20, 50, 100, 200, 500, 1000, 2000)
START = (0.33627683, -0.48627683)  # of the TAC paper, which divides it by its length
PRESETS: dict[str, Callable[..., hdnn.Flow]] = {
    "ms1": hdnn.ms1,
    "ms2": hdnn.ms2,
    "ms3": hdnn.ms3,
    "h1": hdnn.h1,
    "h2": hdnn.h2,
}
ACTIVATIONS: tuple[Activation, ...] = (hdnn.tanh, hdnn.relu, hdnn.softplus, hdnn.sigmoid)
STEPS = (0.05, 0.5)
DEEPEST = 512
LARGEST_NORM = 3.0
ANSWERS = ("yes", "no", "not established")


def start() -> Tensor:
    """y(0) of the counterexample, of length 1."""
    y0 = torch.tensor(START, dtype=F64)
    return y0 / y0.norm()


def exact_norms(times: tuple[int, ...] = TIMES, tolerance: float = 1e-12) -> list[float]:
    """‖∂y(t)/∂y(0)‖₂ of the counterexample y' = J tanh(y), J = [0 −1; 1 0], solved to the tolerance."""
    J = -hdnn.canonical(2, dtype=F64)
    ode = HamiltonianODE.piecewise(torch.eye(2, dtype=F64), torch.zeros(2, dtype=F64), J, float(max(times)))
    found = continuous_sensitivities(ode, start(), times, tolerance=tolerance)
    return norms(found.forward).tolist()


def discrete_norms(first: str, times: tuple[int, ...] = TIMES, step: float = 0.05) -> list[float]:
    """The same for the flow of symplectic Euler, its first or second component ("p" or "q") moving first."""
    layers = [round(t / step) for t in times]
    flow = hdnn.Flow(
        2,
        max(layers),
        step=step,
        structure=hdnn.BlockDiagonal(),
        interconnection=hdnn.Fixed(-hdnn.canonical(2)),
        integrator=hdnn.SymplecticEuler(first),  # type: ignore[arg-type]
        shared=True,
        dtype=F64,
    )
    with torch.no_grad():
        flow.weight.fill_(1.0)
        flow.bias.zero_()
    M, found = torch.eye(2, dtype=F64), {0: 1.0}
    for layer, L in enumerate(layer_jacobians(flow, start()), 1):
        M = L @ M
        if layer in layers:
            found[layer] = float(norms(M))
    return [found[layer] for layer in layers]


def random_flow(preset: str, seed: int, activation: Activation | None = None) -> tuple[hdnn.Flow, Tensor]:
    """A flow of 1 to 512 layers with ‖K_j‖ = r ≤ 3 in every layer and any J of norm 1, and four inputs.

    The depth is log-uniform and r uniform. Of the networks that leave J free, a third have the canonical one, a third
    one random J, a third one for each layer.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform() -> float:
        return float(torch.rand((), generator=generator))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=F64)

    n, N = 2 * (1 + int(8 * uniform())), round(DEEPEST ** uniform())
    options: dict[str, object] = {"step": STEPS[seed // 4 % 2], "activation": activation or ACTIVATIONS[seed % 4]}
    kind = int(3 * uniform())
    if preset in ("h1", "h2") and kind:
        count = 1 if kind == 1 else N
        half = normal(count, n, n).triu(1)
        J = hdnn.block(normal(count, n // 2, n // 2)) if preset == "h2" else half - half.mT
        J = J / torch.linalg.matrix_norm(J, 2)[:, None, None]
        options["interconnection"] = hdnn.Fixed(J if kind == 2 else J[0])
    flow = PRESETS[preset](n, N, dtype=F64, **options)
    r = LARGEST_NORM * uniform()
    with torch.no_grad():
        flow.weight.copy_(normal(*flow.weight.shape))
        flow.bias.copy_(normal(*flow.bias.shape))
        sizes = torch.linalg.matrix_norm(flow.K, 2)
        flow.weight.mul_((r / sizes).reshape(-1, *[1] * (flow.weight.dim() - 1)))
    return flow, 2 * normal(4, n)


@dataclass
class Sweep:
    """What was found over random flows of one preset, in logarithms of norms over all depths and inputs.

    Attributes:
        flows: how many.
        matrices: how many Jacobians ∂y_N/∂y_j, j < N.
        smallest: the smallest log ‖∂y_N/∂y_j‖₂.
        largest: the largest.
        excess: the largest of log ‖∂y_N/∂y_j‖₂ less its upper bound.
        tightest: the smallest ratio of the upper bound of log ‖∂y_N/∂y_0‖₂ to itself.
        diverged: seeds of flows whose states are not finite.
    """

    flows: int = 0
    matrices: int = 0
    smallest: float = math.inf
    largest: float = -math.inf
    excess: float = -math.inf
    tightest: float = math.inf
    diverged: list[int] = field(default_factory=list)


def sweep(preset: str, seeds: range) -> Sweep:
    """The extremes of ‖∂y_N/∂y_j‖₂ over random flows of a preset, rescaled so that no product overflows."""
    found = Sweep()
    for seed in seeds:
        flow, y0 = random_flow(preset, seed)
        found.flows += 1
        try:
            logarithms = log_norms(flow, y0)[:-1]
        except ValueError:
            found.diverged.append(seed)
            continue
        bounds = log_layer_bounds(flow).detach().flip(0).cumsum(0).flip(0)
        found.matrices += logarithms.numel()
        found.smallest = min(found.smallest, float(logarithms.min()))
        found.largest = max(found.largest, float(logarithms.max()))
        found.excess = max(found.excess, float((logarithms - bounds[:, None]).max()))
        found.tightest = min(found.tightest, float(bounds[0] / logarithms[0].max()))
    return found


def symplectic_pairs(seeds: range, largest: float = 1e4) -> tuple[int, float]:
    """How many ∂y_N/∂y_j of random `h2` have s_max < `largest`, and the largest |s_i s_{n+1−i} − 1| among them."""
    count, error = 0, 0.0
    for seed in seeds:
        flow, y0 = random_flow("h2", seed)
        if repr(flow.interconnection) != "Fixed(canonical)":
            continue
        tame = (log_norms(flow, y0) < math.log(largest)).all(1).nonzero()[0].item()  # layers from here on
        s = singular_values(sensitivities(flow[int(tame) :], flow.trajectory(y0)[int(tame)]))
        count += s.shape[0] * s.shape[1]
        error = max(error, float((s * s.flip(-1) - 1).abs().max()))
    return count, error


def runge_kutta_norm(layers: int) -> float:
    """‖∂y_N/∂y_0‖₂ of `RungeKutta4` on the harmonic oscillator with h ω = 1."""
    flow = hdnn.Flow(
        2,
        layers,
        step=1.0,
        structure=hdnn.Dense(),
        interconnection=hdnn.Fixed(hdnn.canonical(2)),
        activation=hdnn.activations.identity,
        integrator=hdnn.RungeKutta4(),
        shared=True,
        dtype=F64,
    )
    with torch.no_grad():
        flow.weight.copy_(torch.eye(2))
    return float(norms(sensitivities(flow, torch.zeros(2, dtype=F64))[0]))


def mlp_norms(layers: int = 32, features: int = 4, seed: int = 0) -> Tensor:
    """‖∂y_N/∂y_0‖₂ of a tanh MLP with PyTorch's initial weights, at 100 inputs."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        mlp = [nn.Sequential(nn.Linear(features, features), nn.Tanh()).to(F64) for _ in range(layers)]
        return norms(sensitivities(mlp, torch.randn(100, features, dtype=F64))[0])


@dataclass
class Spectra:
    """Answers of `marginal_stability` over random fields of one activation.

    Attributes:
        answers: how often each was given.
        real_part: over "yes" with S positive definite, the largest |Re λ| / max |λ| of a general eigensolver.
        scaled: the same divided by the conditioning of S, field by field.
        least_refused: the smallest conditioning of S among the "not established"; None where there are none.
    """

    answers: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ANSWERS, 0))
    real_part: float = 0.0
    scaled: float = 0.0
    least_refused: float | None = None


def spectra(activation: Activation, seeds: range) -> Spectra:
    """The first layer of random flows of all presets, frozen at a random state."""
    found = Spectra()
    names = list(PRESETS)
    for seed in seeds:
        flow, y0 = random_flow(names[seed % 5], seed, activation)
        evidence = marginal_stability(linearize(flow, y0[0]))
        found.answers[evidence.answer] += 1
        if evidence.answer == "yes" and evidence.smallest > 0:
            found.real_part = max(found.real_part, evidence.real_part)
            found.scaled = max(found.scaled, evidence.scaled_real_part)
        elif evidence.answer == "not established":
            found.least_refused = min(found.least_refused or math.inf, evidence.conditioning)
    return found


def counterexample(times: tuple[int, ...] = TIMES) -> dict[str, list[float]]:
    """‖∂y(t)/∂y(0)‖₂ of the exact solution and of both orders of symplectic Euler."""
    return {
        "exact ODE": exact_norms(times),
        "symplectic Euler, h = 0.05, first component first": discrete_norms("p", times),
        "symplectic Euler, h = 0.05, second component first": discrete_norms("q", times),
    }


def report(flows: int, times: tuple[int, ...] = TIMES) -> tuple[list[str], dict[str, Any]]:
    """Lines of Markdown, and the numbers in them."""
    say("counterexample")
    lists = counterexample(times)
    lines = ["", "## Counterexample: y' = J tanh(y), ‖∂y(t)/∂y(0)‖₂ at t", ""]
    lines += table(["", *times], [[name, *(f"{value:.4g}" for value in values)] for name, values in lists.items()])

    say("bounds")
    sweeps = {preset: sweep(preset, range(flows)) for preset in PRESETS}
    columns = ["preset", "Jacobians", "smallest norm − 1", "largest norm", "largest log(norm / bound)", "diverged"]
    rows = [
        [
            preset,
            found.matrices,
            f"{math.expm1(found.smallest):.1e}",
            f"1e{found.largest / math.log(10):.0f}",
            f"{found.excess:.1e}",
            len(found.diverged),
        ]
        for preset, found in sweeps.items()
    ]
    lines += ["", f"## Lower and upper bound: {flows} random flows of each preset", "", *table(columns, rows), ""]
    count, error = symplectic_pairs(range(flows))
    lines.append(f"- h2, canonical J, {count} Jacobians with s_max < 1e4: |s_i s_(n+1−i) − 1| ≤ {error:.1e}")
    one, many, mlp = runge_kutta_norm(1), runge_kutta_norm(512), mlp_norms()
    lines.append(f"- RungeKutta4, σ = identity, h ω = 1: norm {one:.4f} after 1 layer, {many:.4f} after 512")
    lines.append(f"- tanh MLP, 32 layers, PyTorch's initial weights: norms from {mlp.min():.1e} to {mlp.max():.1e}")

    say("spectra")
    seen = {repr(activation): spectra(activation, range(flows)) for activation in ACTIVATIONS}
    columns = ["σ", *ANSWERS, "yes, S definite: Re / max\\|λ\\| ≤", "the same / cond S ≤", "not established: cond S ≥"]
    rows = [
        [name, *(found.answers[answer] for answer in ANSWERS)]
        + ["" if x is None else f"{x:.1e}" for x in (found.real_part, found.scaled, found.least_refused)]
        for name, found in seen.items()
    ]
    lines += ["", f"## Is A = J Kᵀ D K marginally stable? {flows} random fields for each σ", "", *table(columns, rows)]
    raw = {
        "counterexample": {"t": times, **lists},
        "bounds": {preset: asdict(found) for preset, found in sweeps.items()},
        "pairs": {"matrices": count, "error": error},
        "falls below one": {"RungeKutta4, 1 and 512 layers": [one, many], "MLP": mlp.tolist()},
        "spectra": {name: asdict(found) for name, found in seen.items()},
    }
    return lines, raw


def main() -> None:
    """Print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flows", type=int, default=1000, help="random flows of each preset, fields of each σ")
    parser.add_argument("--output", type=Path, help="a .md path; the raw numbers go beside it")
    chosen = parser.parse_args()
    require_folder(chosen.output)
    torch.set_num_threads(1)
    known = facts()
    lines, raw = report(chosen.flows)
    publish(chosen.output, [*head("Theory", known), "- float64, 1 thread", *lines], {**known, **raw})


if __name__ == "__main__":
    main()
