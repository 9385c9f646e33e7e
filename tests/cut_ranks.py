"""Processes that share a flow, cut by its nodes; `test_distributed.py` starts them.

Run as `python cut_ranks.py RANKS FOLDER`. Every rank writes what it found, by name of the case.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
import torch._dynamo  # PyTorch imports it at the first exchange, slowly: here it is done once for all ranks
import torch.distributed as dist
from torch import Tensor

import hdnn
from hdnn.flow import Flow

LAYERS, SAMPLES = 3, 5


class Case(NamedTuple):
    """A flow, who owns its nodes, and how many rounds a layer takes in one direction; None where a test counts none."""

    flow: Flow
    owner: list[int]
    adjacency: Tensor | None
    options: dict[str, object]
    rounds: int | None = None
    shape: tuple[int, ...] = (SAMPLES,)


def ring(nodes: int) -> Tensor:
    return torch.eye(nodes).roll(1, 0) + torch.eye(nodes).roll(-1, 0)


def within_nodes(nodes: int, size: int) -> Tensor:
    """A random J = [0 −Xᵀ; X 0] within nodes."""
    half = size // 2
    return hdnn.block(torch.block_diag(*[torch.randn(half, half) for _ in range(nodes)]))


def cases(ranks: int) -> Iterator[tuple[str, Case]]:
    nodes = 2 * ranks
    even = torch.arange(ranks).repeat_interleave(2).tolist()
    mixed = torch.arange(ranks).repeat(2).tolist()
    near = ring(nodes)
    Masked, options = hdnn.Masked.from_graph, {"step": 0.2, "interconnection": "canonical"}

    def flow(structure: hdnn.Structure, integrator: object, size: int = 2, **more: object) -> Flow:
        return Flow(nodes * size, LAYERS, structure=structure, integrator=integrator, **{**options, **more})

    for name, integrator, moves in (
        ("SymplecticEuler", hdnn.SymplecticEuler(), 2),
        ("SymplecticEuler, q first, damped", hdnn.SymplecticEuler(first="q", damping=0.3), 2),
        ("StormerVerlet", hdnn.StormerVerlet(), 3),
        ("Yoshida4", hdnn.Yoshida4(), 7),
        ("ForwardEuler", hdnn.ForwardEuler(), 1),
        ("RungeKutta4", hdnn.RungeKutta4(), 4),
    ):
        for rounds in (2, 1):
            yield (
                f"{name}, {rounds} rounds",
                Case(flow(Masked(near, 2), integrator), even, near, {"rounds": rounds}, moves * rounds),
            )
    euler, symplectic = hdnn.ForwardEuler(), hdnn.SymplecticEuler()
    for rounds in (2, 1):
        how = {"rounds": rounds}
        yield f"h1, {rounds}", Case(flow(Masked(near, 2, hdnn.Dense()), euler), even, near, how, rounds)
        yield f"ms3, {rounds}", Case(flow(Masked(near, 2, hdnn.OffDiagonal()), symplectic), even, near, how, 2 * rounds)
        J = torch.stack([within_nodes(nodes, 4) for _ in range(LAYERS)])
        yield (
            f"a J for every layer, owners mixed, {rounds}",
            Case(flow(Masked(near, 4), symplectic, 4, interconnection=hdnn.Fixed(J)), mixed, near, how, 2 * rounds),
        )
        yield (
            f"shared weights, {rounds}",
            Case(flow(Masked(near, 2), symplectic, shared=True), even, near, how, 2 * rounds, (2, 3)),
        )
        yield f"dense, {rounds}", Case(flow(hdnn.BlockDiagonal(), symplectic), even, None, how, 2 * rounds)
        for seed in range(2):
            directed = (torch.rand(nodes, nodes) < 0.3).double()
            owner = torch.randperm(nodes).remainder(ranks).tolist()
            yield f"directed graph {seed}, {rounds}", Case(flow(Masked(directed, 2), symplectic), owner, directed, how)
            square = (directed + directed.mT).sign()
            skew = flow(Masked(square, 2, hdnn.Skew()), euler, interconnection=hdnn.Inverse())
            yield f"ms2 on a graph {seed}, {rounds}", Case(skew, owner, square, how)
    ms1 = flow(Masked(near, 2, hdnn.BlockSkew()), symplectic, interconnection=hdnn.Inverse(), activation="relu")
    yield "ms1", Case(ms1, even, near, {}, 2)
    stretch = flow(Masked(near, 3, hdnn.Skew(), halves=False), euler, 3, interconnection=hdnn.Inverse())
    yield "ms2, odd nodes", Case(stretch, mixed, near, {"halves": False}, 1, ())
    alone = flow(Masked(torch.zeros(nodes, nodes), 2), symplectic)
    yield "no edges", Case(alone, even, near, {}, 0)


def compared(case: Case) -> dict[str, float]:
    """How far the cut flow is from the whole: values, gradients, the way back, the weights put together again."""
    whole, (owner, adjacency, options) = case.flow, case[1:4]
    cut, of_gradients = (hdnn.DistributedFlow(whole, owner, adjacency=adjacency, **options) for _ in range(2))
    generator = torch.Generator().manual_seed(7)
    y, g = (torch.randn(*case.shape, whole.features, generator=generator) for _ in range(2))
    expected = whole(y.requires_grad_())
    expected.backward(g)
    here = cut.features
    own = y.detach()[..., here].requires_grad_()
    found = cut(own)
    forward = dataclasses.replace(cut.traffic)
    found.backward(g[..., here])
    both = dataclasses.replace(cut.traffic)
    with torch.no_grad():
        of_gradients.weight.copy_(cut.weight.grad)
        of_gradients.bias.copy_(cut.bias.grad)
    gradients = of_gradients.whole()
    differences = {
        "output": found - expected[..., here],
        "gradient of the input": own.grad - y.grad[..., here],
        "gradient of the weights": gradients.weight - whole.weight.grad,
        "gradient of the biases": gradients.bias - whole.bias.grad,
        "whole again": cut.whole()(y.detach()) - expected,
        "whole state": cut.whole_state(found) - expected,
    }
    if whole.integrator.reversible:
        differences["way back"] = cut.inverse(found) - own
    for_weights = len(cut._shared.peers) > 0
    return {
        "difference": max(float(x.detach().abs().max()) for x in differences.values()),
        "expected rounds": forward.rounds if case.rounds is None else case.rounds * LAYERS + for_weights,
        "rounds": forward.rounds,
        "bytes": forward.bytes,
        "messages": forward.messages,
        "longest": forward.longest,
        "rounds backward": both.rounds - forward.rounds,
        "bytes backward": both.bytes - forward.bytes,
    }


def trained(rank: int, ranks: int) -> float:
    """How far the weights are from those of the whole flow after steps of Adam, each rank with its own."""
    torch.manual_seed(3)
    near, owner = ring(2 * ranks), torch.arange(ranks).repeat_interleave(2)
    options = {"interconnection": "canonical", "integrator": hdnn.SymplecticEuler()}
    whole = Flow(4 * ranks, 4, step=0.2, structure=hdnn.Masked.from_graph(near, 2), **options)
    cut = hdnn.DistributedFlow(whole, owner, adjacency=near)
    y = torch.randn(16, whole.features)
    for model, x in ((whole, y), (cut, y[..., cut.features])):
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        for _ in range(5):
            optimizer.zero_grad()
            out = model(x)
            # What is asked is at a node of rank 0 alone; the others ask nothing, and pass on what comes.
            loss = out[..., :2].square().sum() if model is whole or rank == 0 else 0 * out.sum()
            loss.backward()
            optimizer.step()
    return float((cut.whole().weight - whole.weight).detach().abs().max())


def error_of(call: Callable[[], object]) -> str:
    try:
        call()
    except RuntimeError as error:
        return str(error)
    return ""


GONE = 100.0  # seconds for which ranks wait for each other


def failures(rank: int, ranks: int) -> Iterator[tuple[str, str, float]]:
    """What a rank says whose neighbours cut another flow, are silent, or are gone; and after how many seconds."""
    options = {"structure": hdnn.BlockDiagonal(), "interconnection": "canonical", "integrator": hdnn.SymplecticEuler()}
    other = Flow(2 * ranks, 2, step=0.1 * (1 + rank), **options)
    yield "another flow", error_of(lambda: hdnn.DistributedFlow(other, range(ranks))), 0.0
    pairs = [dist.new_group([first, first + 1]) for first in range(0, ranks, 2)]
    pair = hdnn.DistributedFlow(Flow(4, 2, step=0.1, **options), [0, 1], group=pairs[rank // 2], timeout=0.5)
    start = time.monotonic()
    yield "silent", error_of(lambda: pair(torch.randn(3, 2))) if rank % 2 == 0 else "", time.monotonic() - start
    everyone = hdnn.DistributedFlow(Flow(2 * ranks, 2, step=0.1, **options), range(ranks), timeout=GONE)
    everyone(torch.randn(3, 2))
    if rank == ranks - 1:
        return
    start = time.monotonic()
    yield "gone", error_of(lambda: everyone(torch.randn(3, 2))), time.monotonic() - start


def main(rank: int, ranks: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=ranks)
    torch.manual_seed(0)
    found: dict[str, object] = {"cases": {name: compared(case) for name, case in cases(ranks)}}
    found["trained"] = trained(rank, ranks)
    found["failures"] = {name: (said, seconds) for name, said, seconds in failures(rank, ranks)}
    (folder / f"{rank}.json").write_text(json.dumps(found))
    os._exit(0)  # as a process that is killed: it takes leave of nobody


if __name__ == "__main__":
    _, how_many, where = sys.argv
    children = []
    for number in range(int(how_many)):  # forked, so that PyTorch is imported once
        if (child := os.fork()) == 0:
            main(number, int(how_many), Path(where))
        children.append(child)
    sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
