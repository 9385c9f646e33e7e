"""One of several processes that train the same models together; `test_many_processes.py` starts them.

Run as `python ranks.py RANK RANKS FOLDER [compiled]`. The last rank also trains every model alone and writes how far
apart the weights end, by name of the case.
"""

from __future__ import annotations

import copy
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint import load, save
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
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


def sharded(mesh: DeviceMesh, rank: int, folder: Path) -> dict[str, float]:
    """What FSDP2 is asked for beside averaged gradients, with how far each ends from one process alone."""
    ranks, inputs = mesh.size(), torch.randn(ROWS, 2)
    part = inputs.chunk(ranks)[rank]

    def model() -> Model:
        torch.manual_seed(2)
        return Model(nn.Linear(2, FEATURES), hdnn.h2(FEATURES, 6, step=0.2, memory="recompute"))

    apart = {}
    alone, policed = model().float(), model().float()
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a flow is better kept in float32
        fully_shard(policed, mesh=mesh, mp_policy=policy)
        train(policed, part.float()[:, None], {})
    train(alone, inputs.float()[:, None], {})
    apart["bfloat16"] = difference(policed, alone)
    assert {value.dtype for value in policed.parameters()} == {torch.float32}

    with torch.device("meta"):
        empty = model()
    fully_shard(empty.flow, mesh=mesh)
    fully_shard(empty, mesh=mesh)
    empty.to_empty(device="cpu")
    for module in empty.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    canonical = hdnn.canonical(FEATURES)
    apart["J of a flow made on meta"] = float((empty.flow.interconnection_matrix - canonical).abs().max())
    deviation = float(empty.flow.weight.full_tensor().std()) * FEATURES**0.5
    apart["weights of a flow made on meta"] = abs(deviation - 1)

    alone, parts = model(), model()
    fully_shard(parts, mesh=mesh)
    train(alone, inputs[:, None], {})
    train(parts, part[:, None], {})
    save(get_model_state_dict(parts), checkpoint_id=folder / "sharded")
    dist.barrier()
    if rank == ranks - 1:
        dcp_to_torch_save(folder / "sharded", folder / "whole.pt")
        save_file(torch.load(folder / "whole.pt"), folder / "whole.safetensors")
        again = model()
        again.load_state_dict(load_file(folder / "whole.safetensors"))
        apart["one file of a sharded checkpoint"] = difference(again, alone)
    back = model()
    fully_shard(back, mesh=mesh)
    state = get_model_state_dict(back)
    load(state, checkpoint_id=folder / "sharded")
    set_model_state_dict(back, state)
    apart["shards read back"] = difference(back, alone)
    return apart


def difference(found: nn.Module, expected: nn.Module) -> float:
    """The largest of all weights, whether they are in shards or whole."""
    pairs = zip(found.parameters(), expected.parameters(), strict=True)
    whole = ((one.full_tensor() if isinstance(one, DTensor) else one, other) for one, other in pairs)
    return max(float((one - other).detach().abs().max()) for one, other in whole)


def compiled(rank: int, ranks: int) -> dict[str, float]:
    """A compiled DDP of every memory."""
    apart = {}
    x = torch.randn(ROWS, NODES, 2)
    for memory in ("store", "recompute", "reverse"):
        torch.manual_seed(1)
        alone = Model(nn.Linear(2, FEATURES), hdnn.h2(4, 6, step=0.2, memory=memory, backend="eager"))
        together = copy.deepcopy(alone)
        train(torch.compile(DistributedDataParallel(together), backend="aot_eager"), x.chunk(ranks)[rank], {})
        train(alone, x, {})
        apart[memory] = difference(together, alone)
        apart[f"fit, {memory}"] = difference(*fitted(memory, x.mean(1)))
    return apart


def fitted(memory: Literal["store", "recompute", "reverse"], x: Tensor) -> tuple[nn.Module, nn.Module]:
    """A compiled network that `fit` trains on all ranks, and one that it trains alone."""
    models = []
    for together in (True, False):
        torch.manual_seed(1)
        flow = hdnn.h2(FEATURES, 6, step=0.2, memory=memory, backend="eager")
        model = nn.Sequential(nn.Linear(2, FEATURES), flow, nn.Linear(FEATURES, 1))
        module = torch.compile(model, backend="aot_eager") if together else model
        recipe = hdnn.Recipe(epochs=2, batch_size=3)
        with nullcontext() if together else hdnn.ranks.alone():
            hdnn.fit(module, x, x.sum(1, keepdim=True), recipe, nn.functional.mse_loss)
        models.append(model)
    return models[0], models[1]


def main(rank: int, ranks: int, folder: Path, compile_it: bool) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=ranks)
    mesh = init_device_mesh("cpu", (ranks,))
    torch.manual_seed(0)
    if compile_it:
        (folder / f"compiled-{rank}.json").write_text(json.dumps(compiled(rank, ranks)))
        dist.destroy_process_group()
        return
    (folder / f"sharded-{rank}.json").write_text(json.dumps(sharded(mesh, rank, folder)))
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
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), "compiled" in sys.argv[4:])
