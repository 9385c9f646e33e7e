"""The table of docs/spaces.md says what flows do: its cells are made here, from what is kept, refused or served."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from families import DIRECTED, F64, LINE, NODES, PRESETS, preset, random
from hdnn import Graph, Images, Signals, Space, Vectors, export
from hdnn.analysis import gradient_lower_bound, lower_bound, upper_bound
from hdnn.flow import Flow
from hdnn.networks import Network

PAGE = Path(__file__).parents[1] / "docs" / "spaces.md"
COLUMNS: dict[str, list[tuple[Space, tuple[int, ...]]]] = {
    "`Vectors()`": [(Vectors(), (4,))],
    "`Images(1)`, `Signals(1)`": [(Images(1), (4, 2, 3)), (Signals(1), (4, 3))],
    "`Images(3)`, `Signals(5)`": [(Images(3), (4, 2, 3)), (Signals(5), (4, 3))],
    "`Graph(edges)`, $A = A^\\top$": [(Graph(LINE), (NODES, 4))],
    "`Graph(edges)`, directed": [(Graph(DIRECTED, nodes=NODES), (NODES, 4))],
    "`Graph()`": [(Graph(), (NODES, 4))],
}


class Reached(Exception):
    """Nothing was refused."""


def served(ask: Callable[[], object]) -> bool:
    """Whether something is done rather than refused."""
    try:
        ask()
    except ValueError:
        return False
    return True


def brought(flow: Flow) -> dict[str, torch.Tensor]:
    return {"edge_index": LINE} if flow.space.asks else {}


def defect(flow: Flow, size: tuple[int, ...]) -> float:
    """‖M J Mᵀ − J‖ with the canonical J at every position."""
    y = random(*size)
    M = torch.func.jacrev(lambda y: flow(y, **brought(flow)))(y).reshape(y.numel(), -1)
    half = torch.zeros_like(y).index_fill(flow.space.axis, torch.arange(2), 1.0).flatten() == 1
    J = torch.zeros_like(M)
    J[half, ~half], J[~half, half] = 0.0, 0.0
    p, q = half.nonzero().flatten(), (~half).nonzero().flatten()
    J[p, q], J[q, p] = 1.0, -1.0
    return float((M @ J @ M.mT - J).norm().detach())


def keeps_structure(flow: Flow, size: tuple[int, ...]) -> bool:
    assert (defect(flow, size) < 1e-12) is flow.preserves_structure
    return flow.preserves_structure


def runs(flow: Flow, size: tuple[int, ...]) -> bool:
    flow(random(2, *size), **brought(flow)).sum().backward()
    return flow.weight.grad is not None


def program(flow: Flow, size: tuple[int, ...]) -> bool:
    """Whether a network reaches the tracing, which the slow tests of `to_program` go through to its end."""
    network = Network(nn.Identity(), flow, nn.Linear(torch.Size(size).numel(), 1, dtype=F64), "regression")
    try:
        return served(lambda: export.to_program(network, size))
    except Reached:
        return True


ROWS: dict[str, Callable[[Flow, tuple[int, ...]], bool]] = {
    "runs, trains": runs,
    "$M J M^\\top = J$": keeps_structure,
    "volume": lambda flow, size: flow.preserves_volume,
    "$\\lVert M \\rVert \\ge 1$": lambda flow, size: served(lambda: lower_bound(flow)),
    "`upper_bound`, `gradient_lower_bound`": lambda flow, size: (
        served(lambda: upper_bound(flow)) and served(lambda: gradient_lower_bound(flow))
    ),
    "`inverse`": lambda flow, size: served(lambda: flow.inverse(random(*size), **brought(flow))),
    '`memory="reverse"`': lambda flow, size: served(lambda: setattr(flow, "memory", "reverse")),
    "`to_program`, ONNX": program,
    "compiled kernels (native)": lambda flow, size: flow.plan is not None,
}


def cell(ask: Callable[[Flow, tuple[int, ...]], bool], members: list[tuple[Space, tuple[int, ...]]]) -> str:
    """The presets for which something holds; where the spaces of a column differ, one after the other."""
    found = []
    for space, size in members:
        holds = [
            name
            for name in PRESETS
            if served(lambda name=name, space=space: preset(name, space=space)) and ask(preset(name, space=space), size)
        ]
        found.append("all" if len(holds) == len(PRESETS) else " ".join(holds) or "none")
    return " / ".join(dict.fromkeys(found))


def table() -> list[str]:
    return [
        f"| {row} | " + " | ".join(cell(ask, members) for members in COLUMNS.values()) + " |"
        for row, ask in ROWS.items()
    ]


def hops(flow: Flow) -> int:
    """How far along a line of nodes the state moves the output."""
    y = random(NODES, 4)
    reached = torch.func.jacrev(flow)(y).abs().amax((1, 3)) > 0
    distances = (torch.arange(NODES)[:, None] - torch.arange(NODES)).abs()
    return int(distances[reached].max())


def test_layers_reach_as_far_as_the_page_says() -> None:
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert "four hops with `h2` and `ms3`" in text
    assert "two with `h1` and `ms1`, one with `ms2`" in text
    far = {name: hops(preset(name, 4, 1, space=Graph(LINE))) for name in PRESETS}
    assert far == {"h2": 4, "ms3": 4, "h1": 2, "ms1": 2, "ms2": 1}


def test_the_table_is_true(monkeypatch: pytest.MonkeyPatch) -> None:
    def reach(*_: object, **__: object) -> None:
        raise Reached

    monkeypatch.setattr(torch.export, "export", reach)
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = lines.index(f"| | {' | '.join(COLUMNS)} |") + 2
    stands = lines[start : lines.index("", start)]
    assert stands == table(), "docs/spaces.md: put this table there:\n" + "\n".join(table())
