"""What can be cut over processes, and the words for what cannot.

Legend: V nodes of d features, n = V d; K (n, n), J (n, n); a rank owns nodes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from hdnn import nodes
from hdnn.arguments import real, shown
from hdnn.distributed.halos import Line
from hdnn.flow import Flow


def line_of(group: dist.ProcessGroup | None, timeout: float) -> Line:
    """How this process talks to the others."""
    if not (dist.is_available() and dist.is_initialized()):
        raise RuntimeError(
            "A flow is cut over processes that were started together, and torch.distributed knows of none. Start the "
            "script with `torchrun --nproc-per-node 4 script.py`, and call "
            'torch.distributed.init_process_group("gloo") first.'
        )
    if not (timeout := real("timeout", timeout)) > 0:
        raise ValueError(f"`timeout` is how many seconds to wait for a neighbour, more than 0; got {timeout:g}.")
    if (rank := dist.get_rank(group)) < 0:
        raise ValueError("This process is none of `group`. Make the flow on the processes of the group alone.")
    return Line(rank, group, timeout)


def owners_of(owner: Tensor | Sequence[int], flow: Flow, ranks: int) -> Tensor:
    """The rank of every node, (V,)."""
    if not isinstance(flow, Flow):
        raise TypeError(f"`flow` must be an `hdnn.Flow`, the whole one, on every rank; got {shown(flow)}.")
    if isinstance(owner, Tensor) and (owner.is_floating_point() or owner.dtype == torch.bool):
        raise TypeError(f"`owner` holds the rank of every node, whole numbers; got {shown(owner)}.")
    try:
        found = torch.as_tensor(owner, device="cpu").detach().to(torch.int64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"`owner` must be a list of ranks, one for each node; got {shown(owner)}.") from error
    if found.dim() != 1 or not len(found) or flow.features % len(found):
        raise ValueError(
            f"`owner` has one rank for each node, and every node has as many of the {flow.features} features; got "
            f"{tuple(found.shape)}. Give as many ranks as there are nodes."
        )
    missing = sorted({*range(ranks)} - {*found.tolist()})
    if int(found.min()) < 0 or int(found.max()) >= ranks or missing:
        what = f"none is of rank {missing[0]}" if missing else f"they reach from {found.min()} to {found.max()}"
        raise ValueError(
            f"Every node belongs to a rank of 0 to {ranks - 1}, and every rank has a node; of `owner` {what}. Start as "
            f"many processes as `owner` has ranks (`torchrun --nproc-per-node`)."
        )
    return found


def check_flow(flow: Flow, rounds: object, halves: bool) -> None:
    """Refuse what no topology cuts."""
    H, step = flow.hamiltonian, type(flow.integrator).__name__
    if rounds not in (1, 2) or isinstance(rounds, bool):
        raise ValueError(f"`rounds` of messages a half field are 2 (states, then Kᵀσ) or 1; got {shown(rounds)}.")
    if flow.space.rank > 1 or flow.space.taps:
        raise ValueError(
            f"Nodes are cut of vectors (..., n), whose features belong to them; this flow acts on `{flow.space!r}`. "
            f"Use `Vectors()` and `Masked.from_graph(adjacency, node_size)`."
        )
    for there, what in (
        (flow.inputs is not None, "`inputs`"),
        (H.own is not None, "an energy of its own"),
        (H.interconnection.of_state is not None, "a J of the state"),
        (bool(flow._beside), "unit weights or ports"),
        (flow.integrator.learn_damping, "a learned damping"),
    ):
        if there:
            raise ValueError(
                f"A flow with {what} is not cut over processes: what it holds beside K and b belongs to no node. Leave "
                f"it out, or train the whole flow on batches (DistributedDataParallel)."
            )
    if flow.interconnection_weight is not None:
        raise ValueError(
            f"`{flow.interconnection!r}` is one matrix that all nodes would train together. Use `Fixed(J)` with a J "
            f'within nodes, such as "canonical".'
        )
    if not flow.integrator.explicit:
        raise ValueError(
            f"`{step}` solves equations for the whole state, which no rank holds. Use `SymplecticEuler`, "
            f"`StormerVerlet`, `ForwardEuler` or another explicit step."
        )
    if flow.memory in ("recompute", "reverse"):
        raise ValueError(
            f'A flow cut over processes keeps every layer (memory="store"); this one has memory="{flow.memory}". Set '
            f"`flow.memory = None` first: each rank stores its own nodes alone."
        )
    if flow.integrator.separable_only and not halves:
        raise ValueError(
            f"`{step}` moves halves of the state, so that a node has its share of p and of q. Leave `halves=True`."
        )


def index_of(flow: Flow) -> Tensor:
    """Where the free numbers stand in K, (n, n)."""
    index = flow.structure.index(flow.features, flow.space)
    if index is None:
        raise ValueError(
            f"The free numbers of `{flow.structure!r}` have no places in K, so that they belong to no node. Use "
            f"`Masked.from_graph(adjacency, node_size)`."
        )
    if index.shape[0] != index.shape[1]:
        raise ValueError(
            f"K is {index.shape[0]} x {index.shape[1]}, so that its units belong to no node. Leave `width` out."
        )
    return index


def check_cut(flow: Flow, index: Tensor, node: Tensor, of_node: Tensor, adjacency: Tensor | None) -> None:
    """Refuse a J that joins ranks, and a K outside of the topology."""
    J, owner = flow.interconnection.pattern(flow.features), of_node[node]
    if J is not None and (apart := (J & (owner[:, None] != owner)).nonzero()).numel():
        i, k = apart[0].tolist()
        raise ValueError(
            f"J joins feature {i} of rank {owner[i]} with feature {k} of rank {owner[k]}: what drives a node must be "
            f'on its rank. Use a J within nodes, such as "canonical" with `halves=True`, or give both to one rank.'
        )
    if adjacency is None:
        return
    near = nodes.graph(adjacency)
    if len(near) != len(of_node):
        raise ValueError(f"`adjacency` is of {len(near)} nodes, and `owner` of {len(of_node)}. Both must agree.")
    beyond = ((index != 0) & ~near[node[:, None], node]).nonzero()
    if len(beyond):
        i, k = (int(node[place]) for place in beyond[0])
        raise ValueError(
            f"K joins node {i} with node {k}, which are no neighbours in `adjacency`; K is `{flow.structure!r}`. Use "
            f"`Masked.from_graph(adjacency, node_size={flow.features // len(near)})`."
        )


def check_agreement(flow: Flow, index: Tensor, choices: object, line: Line) -> None:
    """Refuse ranks that would cut different flows, and wait for each other for ever.

    Raises:
        RuntimeError: on all ranks.
    """
    J = flow.interconnection_matrix
    tensors = [x.detach().cpu().contiguous().numpy().tobytes() for x in (index, J) if x is not None]
    mine = (repr(flow), str(flow.weight.dtype), choices, hashlib.sha256(b"".join(tensors)).hexdigest())
    all_of_them: list[object] = [None] * dist.get_world_size(line.group)
    dist.all_gather_object(all_of_them, mine, group=line.group)
    if others := [rank for rank, theirs in enumerate(all_of_them) if theirs != mine]:
        raise RuntimeError(
            f"Ranks {others} cut another flow, or otherwise, than rank {line.rank}. Make the same flow on all ranks "
            f"(its weights may differ), with the same `owner`, `rounds` and `halves`."
        )
