"""One flow over many processes: each owns some nodes of a network, and asks only its neighbours.

Legend: n = V d features and as many units, of V nodes; f(y) = J Kᵀ σ(K y + b) = J g. A rank owns the rows of K of its
nodes, and their b. Its *ghosts* are the features of other ranks that its units read.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hdnn import entries, nodes
from hdnn.arguments import truth
from hdnn.distributed.checks import check_agreement, check_cut, check_flow, index_of, line_of, owners_of
from hdnn.distributed.cuts import CutDrive, cut_of, parts_of, shared_numbers
from hdnn.distributed.halos import Traffic
from hdnn.fields import Field, Layer
from hdnn.flow import Flow

Run = Callable[[Tensor, Tensor, Tensor], Tensor]


class DistributedFlow(nn.Module):
    """A flow cut by its topology: every process of a group owns some nodes, their state and their weights.

    A half field J Kᵀ σ(K y + b) takes two rounds of messages between neighbouring ranks. In the first the states of the
    features that a neighbour's units read go to it; in the second what one's units push on its features, Kᵀ σ, comes
    back. These are as many numbers, and so does the backward pass: two rounds for two. Each entry of K and b is owned
    by one rank, whose optimizer trains it, and no gradient needs to be averaged. With `rounds=1` a rank computes
    the units of its neighbours too, from the states of their neighbours (those of KᵀK), and one round is enough; the
    weights it lacks are fetched once a pass.

    Up to rounding it is the whole flow. Every rank calls it with the features of its own nodes, for all samples; and
    every rank calls `backward` on something that depends on what came out, be it `0 * y.sum()`. Nodes that
    share a weight, as those of a skew K do, fetch it once a pass.

    Args:
        flow: the whole, the same on every rank, on vectors; it is copied. Its K should be
            `Masked.from_graph(adjacency, node_size)`: a dense K makes every rank the neighbour of all.
        owner: the rank of every node, (V,); the features are n / V for each.
        adjacency: (V, V), where given: which nodes may talk. A K that joins others is refused.
        halves: whether half of a node's features are of p and half of q; as for `Masked.from_graph`.
        rounds: of a half field, 2 or 1.
        group: the processes, a group of torch.distributed; None means all.
        timeout: seconds after which a rank that says nothing is an error.

    Attributes:
        features: those of this rank, as places in a state of the whole, (n_r,): p of its nodes, then q.
        traffic: rounds, messages and bytes that this rank has sent.

    Raises:
        RuntimeError: if no processes were started together, or they give different flows.
        ValueError: if this flow cannot be cut so; the message says why.

    References:
        Galimberti, Furieri, Xu, Ferrari-Trecate, Hamiltonian deep neural networks guaranteeing non-vanishing gradients
        by design, IEEE TAC 2023, distributed networks, https://arxiv.org/abs/2105.13205

    Example:
        >>> import torch, hdnn
        >>> torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        >>> ring = torch.eye(8).roll(1, 0) + torch.eye(8).roll(-1, 0)
        >>> flow = hdnn.Flow(16, layers=4, step=0.1, structure=hdnn.Masked.from_graph(ring, node_size=2),
        ...                  interconnection="canonical", integrator=hdnn.SymplecticEuler)
        >>> cut = hdnn.DistributedFlow(flow, owner=[0] * 8, adjacency=ring)
        >>> y = torch.randn(5, 16)
        >>> torch.allclose(cut(y[..., cut.features]), flow(y)[..., cut.features], atol=1e-6)
        True
        >>> torch.distributed.destroy_process_group()
    """

    features: Tensor
    interconnection_matrix: Tensor | None
    _form: Flow

    def __init__(
        self,
        flow: Flow,
        owner: Tensor | Sequence[int],
        *,
        adjacency: Tensor | None = None,
        halves: bool = True,
        rounds: Literal[1, 2] = 2,
        group: dist.ProcessGroup | None = None,
        timeout: float = 300.0,
    ) -> None:
        super().__init__()
        line, of_node = line_of(group, timeout), owners_of(owner, flow, dist.get_world_size(group))
        check_flow(flow, rounds, truth("halves", halves))
        node = nodes.owners(len(of_node), flow.features // len(of_node), halves)
        index = index_of(flow)
        check_cut(flow, index, node, of_node, adjacency)
        self._line, self._owner = line, of_node[node]
        check_agreement(flow, index, (of_node.tolist(), rounds, halves), line)
        self._cuts = [cut_of(part, index != 0, self._owner, line, rounds) for part in parts_of(flow)]
        self._shared = shared_numbers(index, self._owner, self._cuts, line)
        self._places = [cut.places(index, self._shared.places) for cut in self._cuts]
        self._free = int(index.abs().max())
        features = (self._owner == line.rank).nonzero().flatten()
        self.register_buffer("features", features.to(flow.weight.device), persistent=False)
        self.weight = nn.Parameter(self._own(flow.weight.detach().flatten(1), 0))
        self.bias = nn.Parameter(self._own(flow.bias.detach(), self._free))
        J = flow.interconnection_matrix
        self.register_buffer("interconnection_matrix", None if J is None else J[..., features, :][..., features])
        object.__setattr__(self, "_form", _emptied(flow))  # no module of this one: its numbers are no one's

    @property
    def traffic(self) -> Traffic:
        """What this rank has sent."""
        return self._line.traffic

    @property
    def peers(self) -> list[int]:
        """The ranks that this one talks to."""
        return sorted({peer for halo in (self._shared, *(cut.halo for cut in self._cuts)) for peer in halo.peers})

    def forward(self, y: Tensor) -> Tensor:
        """The state after the last layer, of one's own nodes.

        Args:
            y: (..., n_r), `state[..., flow.features]`; all ranks have the same leading axes.

        Returns:
            The shape of y.

        Raises:
            ValueError: if the features of y are not those of this rank.
            RuntimeError: if a neighbour has ended or is silent.
        """
        flow = self._form
        return self._run(y, lambda fields, y: flow.integrator.steps(fields, y, flow.step))

    def inverse(self, y: Tensor) -> Tensor:
        """The input whose output is y, of one's own nodes; arguments, rounds and errors as for `forward`."""

        def undone(fields: list[Field], y: Tensor) -> Tensor:
            for field in reversed(fields):
                y = self._form.integrator.inverse(field, y, self._form.step)
            return y

        return self._run(y, undone)

    def whole(self) -> Flow:
        """The whole flow with the weights of all ranks, on every rank; all must ask for it."""
        flow = copy.deepcopy(self._form)
        flow.weight = nn.Parameter(self._spread(self.weight, 0, self._free).reshape(flow.weight.shape))
        flow.bias = nn.Parameter(self._spread(self.bias, self._free, flow.bias.shape[1]))
        return flow

    def whole_state(self, y: Tensor) -> Tensor:
        """The state of all nodes (..., n), on every rank, without gradients; all must ask for it.

        Args:
            y: (..., n_r), of one's own nodes.
        """
        whole = y.new_zeros(*y.shape[:-1], len(self._owner)).index_copy(-1, self.features, y.detach())
        dist.all_reduce(whole, group=self._line.group)
        return whole

    def extra_repr(self) -> str:
        """Whose it is, and what it is a part of."""
        own, peers = self.features.numel(), ", ".join(map(str, self.peers)) or "none"
        return (
            f"rank {self._line.rank} owns {own} of {len(self._owner)} features; its neighbours: {peers}\n{self._form!r}"
        )

    def _run(self, y: Tensor, walked: Callable[[list[Field], Tensor], Tensor]) -> Tensor:
        if y.dim() < 1 or y.shape[-1] != self.features.numel():
            raise ValueError(
                f"Expected the features of the nodes of rank {self._line.rank}, (..., {self.features.numel()}); got "
                f"{tuple(y.shape)}. Give `state[..., flow.features]`."
            )
        return _run(lambda y, *own: walked(self._fields(*own), y), y, self.weight, self.bias)

    def _fields(self, weight: Tensor, bias: Tensor) -> list[Field]:
        """Of all layers: what is lacking of the weights is fetched first, for all of them at once."""
        own = torch.cat((weight, bias), -1)
        numbers, J = torch.cat((own, self._shared.fetch(own)), -1), self.interconnection_matrix
        stacks = []
        for cut, (of_K, of_b) in zip(self._cuts, self._places, strict=True):
            K, b = entries.place(numbers, of_K.to(own.device)), numbers[:, of_b.to(own.device)]
            S = None if J is None else cut.turning(J, self.features)
            turned = [None] if S is None else [S] if S.dim() == 2 else S.unbind(0)
            stacks.append([[*x] * (self._form.layers // len(x)) for x in (K.unbind(0), b.unbind(0), turned)])
        activation = self._form.activation
        return [
            Field(
                tuple(
                    CutDrive(Layer(K[j], b[j], S=S[j]), activation, cut)
                    for cut, (K, b, S) in zip(self._cuts, stacks, strict=True)
                ),
                -1,
            )
            for j in range(self._form.layers)
        ]

    def _own(self, numbers: Tensor, start: int) -> Tensor:
        """Those of this rank, of all free numbers (N, F) or all biases (N, m), which are counted after the former."""
        return numbers[:, self._of(start, numbers.shape[1]).to(numbers.device)].clone()

    def _spread(self, own: Tensor, start: int, size: int) -> Tensor:
        """The numbers of all ranks, on every rank, where those of one are zero elsewhere: sums are exact."""
        numbers = own.detach().new_zeros(len(own), size)
        numbers[:, self._of(start, size).to(own.device)] = own.detach()
        dist.all_reduce(numbers, group=self._line.group)
        return numbers

    def _of(self, start: int, size: int) -> Tensor:
        places = self._shared.own - start
        return places[(places >= 0) & (places < size)]


class _Whole(torch.autograd.Function):
    """All layers as one operation: its backward pass takes the same rounds on every rank, whatever each one asks for.

    Autograd leaves out what one process does not need, and a neighbour would wait for it.
    """

    @staticmethod
    def forward(ctx: Any, run: Run, *given: Tensor) -> Tensor:
        ctx.given = [x.detach().requires_grad_() for x in given]
        with torch.enable_grad():
            ctx.out = run(*ctx.given)
        out: Tensor = ctx.out.detach()
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        found = torch.autograd.grad(ctx.out, ctx.given, g)
        wanted = zip(found, ctx.needs_input_grad[1:], strict=True)
        return None, *(x if needed else None for x, needed in wanted)


def _run(run: Run, *given: Tensor) -> Tensor:
    if not (torch.is_grad_enabled() and any(x.requires_grad for x in given)):
        with torch.no_grad():
            return run(*given)
    out: Tensor = _Whole.apply(run, *given)  # type: ignore[no-untyped-call]
    return out


def _emptied(flow: Flow) -> Flow:
    """The flow without its weights: what says how it is made."""
    form = flow[:]
    form.weight = nn.Parameter(torch.empty_like(form.weight, device="meta"))
    form.bias = nn.Parameter(torch.empty_like(form.bias, device="meta"))
    return form
