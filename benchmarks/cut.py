"""A flow cut over processes: how far from the whole it is, and what a layer sends, beside the dense exchange.

python benchmarks/cut.py --output benchmarks/results/DATE-cut.md
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from functools import partial
from pathlib import Path

import torch
import torch._dynamo  # which exchanges import, slowly: once, before the ranks are forked
import torch.distributed as dist

import hdnn
from forking import forked, joined

RANKS, LAYERS, SAMPLES = 4, 8, 32


def cases():
    """What is cut, and in how many rounds: nodes, features of each, integrator, K, rounds."""
    for nodes, size in ((8, 2), (64, 8)):
        for name, integrator in (
            ("SymplecticEuler", hdnn.SymplecticEuler()),
            ("StormerVerlet", hdnn.StormerVerlet()),
            ("ForwardEuler", hdnn.ForwardEuler()),
        ):
            for K, rounds in (("ring", 2), ("ring", 1), ("dense", 2)):
                yield nodes, size, name, integrator, K, rounds


def measured(nodes, size, integrator, K, rounds):
    """Differences from the whole flow, and what this rank sent a layer, forward and backward."""
    torch.manual_seed(0)
    ring = torch.eye(nodes).roll(1, 0) + torch.eye(nodes).roll(-1, 0)
    inner = hdnn.BlockDiagonal()
    structure = hdnn.Masked.from_graph(ring, size, inner) if K == "ring" else inner
    flow = hdnn.Flow(
        nodes * size, LAYERS, step=0.1, structure=structure, interconnection="canonical", integrator=integrator
    )
    cut = hdnn.DistributedFlow(flow, torch.arange(RANKS).repeat_interleave(nodes // RANKS), rounds=rounds)
    y, g = torch.randn(2, SAMPLES, flow.features)
    expected = flow(y.requires_grad_())
    expected.backward(g)
    own = y.detach()[:, cut.features].requires_grad_()
    out = cut(own)
    forward = cut.traffic.rounds, cut.traffic.bytes
    out.backward(g[:, cut.features])
    both = cut.traffic.rounds, cut.traffic.bytes
    with torch.no_grad():
        cut.weight.copy_(cut.weight.grad)
    apart = {
        "values": out - expected[:, cut.features],
        "gradient of the input": own.grad - y.grad[:, cut.features],
        "gradient of the weights": cut.whole().weight - flow.weight.grad,
    }
    sent = {"forward": forward, "backward": (both[0] - forward[0], both[1] - forward[1])}
    return {
        "apart": {name: float(x.detach().abs().max()) for name, x in apart.items()},
        "rounds": {way: rounds / LAYERS for way, (rounds, _) in sent.items()},
        "bytes": {way: size / LAYERS for way, (_, size) in sent.items()},
    }


def main(rank, folder):
    """What one rank finds of all cases."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS)
    found = [measured(nodes, size, *rest) for nodes, size, _, *rest in cases()]
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found))
    dist.barrier()
    os._exit(0)


def table(of_ranks):
    """Lines of Markdown: the largest difference over all ranks, and what the first sends."""
    yield "| nodes x features | step | K | rounds asked | apart: values | inputs | weights | rounds a layer | bytes |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for i, (nodes, size, name, _, K, rounds) in enumerate(cases()):
        apart = [max(rank[i]["apart"][what] for rank in of_ranks) for what in of_ranks[0][i]["apart"]]
        numbers = " | ".join(f"{x:.1e}" for x in apart)
        first = of_ranks[0][i]
        sent = " | ".join("{forward:g} + {backward:g}".format(**first[what]) for what in ("rounds", "bytes"))
        yield f"| {nodes} x {size} | {name} | {K} | {rounds} | {numbers} | {sent} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        joined([forked(partial(main, rank, folder)) for rank in range(RANKS)])
        of_ranks = [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(RANKS)]
    text = "\n".join(table(of_ranks)) + "\n"
    print(text)
    if chosen.output is not None:
        chosen.output.write_text(text, encoding="utf-8")
