"""One of several processes that train the same models together; `test_many_processes.py` starts them.

Run as `python ranks.py RANK RANKS FOLDER`. The last rank also trains every model alone and writes how far apart the
weights end, by name of the case.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import hdnn
from hdnn.flow import Flow

ROWS, FEATURES, NODES = 8, 4, 5
LINE = torch.tensor([[0, 1, 1, 2, 2, 3, 3, 4], [1, 0, 2, 1, 3, 2, 4, 3]])


class Model(nn.Module):
    """A learned lift, a flow and a mean over the positions, for one space."""

    def __init__(self, lift: nn.Module, flow: Flow) -> None:
        super().__init__()
        self.lift, self.flow, self.head = lift, flow, nn.Linear(FEATURES, 1)

    def forward(self, x: Tensor, **call: Tensor) -> Tensor:
        y = self.flow(self.lift(x), **call).movedim(self.flow.space.axis, -1)
        outputs: Tensor = self.head(y.flatten(1, -2).mean(1))
        return outputs


def cases() -> Iterator[tuple[str, Callable[[], Model], Tensor, dict[str, Tensor]]]:
    """Name, maker, inputs and what every call brings."""
    nodes = torch.randn(ROWS, NODES, 2)
    images, signals = torch.randn(ROWS, 2, 5, 6), torch.randn(ROWS, 2, 7)
    weights = torch.rand(LINE.shape[1])
    for memory in (None, "recompute", "reverse"):
        options = {"step": 0.2, "memory": memory, "backend": "eager"}
        yield f"vectors {memory}", lambda o=options: Model(nn.Linear(2, FEATURES), hdnn.h2(4, 6, **o)), nodes, {}
        yield (
            f"graph at the call {memory}",
            lambda o=options: Model(nn.Linear(2, FEATURES), hdnn.h2(4, 6, space=hdnn.Graph(), **o)),
            nodes,
            {"edge_index": LINE, "edge_weight": weights},
        )
        yield (
            f"images {memory}",
            lambda o=options: Model(nn.Conv2d(2, FEATURES, 3, padding=1), hdnn.h2(4, 6, kernel_size=3, **o)),
            images,
            {},
        )
    yield "native", lambda: Model(nn.Linear(2, FEATURES), hdnn.h2(4, 6, step=0.2, backend="auto")), nodes, {}
    yield "learned J", lambda: Model(nn.Linear(2, FEATURES), learned()), nodes, {}
    yield (
        "skew on a given graph",
        lambda: Model(nn.Linear(2, FEATURES), hdnn.ms2(4, 6, step=0.2, space=hdnn.Graph(LINE))),
        nodes,
        {},
    )
    yield (
        "signals",
        lambda: Model(nn.Conv1d(2, FEATURES, 1), hdnn.ms3(4, 6, step=0.2, space=hdnn.Signals(3))),
        signals,
        {},
    )


def learned() -> Flow:
    return hdnn.h1(4, 6, step=0.2, interconnection=hdnn.Learned(hdnn.canonical(4)))


def train(model: nn.Module, x: Tensor, call: dict[str, Tensor]) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        (model(x, **call) - x.flatten(1).sum(1, keepdim=True)).square().mean().backward()
        optimizer.step()


def main(rank: int, ranks: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=ranks)
    mesh = init_device_mesh("cpu", (ranks,))
    torch.manual_seed(0)
    apart: dict[str, float] = {}
    for name, make, x, call in list(cases()):
        for how in ("DDP", "fully_shard"):
            torch.manual_seed(1)
            together, part = make(), x.chunk(ranks)[rank]
            torch.manual_seed(1)
            alone = make()
            if how == "DDP":
                train(DistributedDataParallel(together), part, call)
                found = dict(together.named_parameters())
            else:
                fully_shard(together, mesh=mesh)
                train(together, part, call)
                found = {key: value.full_tensor() for key, value in together.named_parameters()}
            train(alone, x, call)
            differences = [(found[key] - value).detach().abs().max() for key, value in alone.named_parameters()]
            apart[f"{how}, {name}"] = float(torch.stack(differences).max())
    if rank == ranks - 1:
        (folder / "apart.json").write_text(json.dumps(apart))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
