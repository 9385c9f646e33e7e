"""Graphs: every node has a vector, and weights see the node itself and the sum over its neighbours.

Legend: V nodes, E edges from a source to a target, A (V, V) with A[target, source] = the weight of an edge (those of
parallel edges add up), n features; K (m, n, 2), its taps K₀ for the node itself and K₁ for the sum over its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from hdnn.arguments import shown, whole
from hdnn.spaces.norms import spectral
from hdnn.spaces.rows import Edges, Nodes, Rows
from hdnn.spaces.space import Space

Normalization = Literal["sum", "mean", "symmetric"]

# Nodes up to which ‖A‖ is a singular value; beyond it a bound, √(‖A‖₁ ‖A‖_∞).
_SMALL = 1024
# Units of rounding by which the weights of an edge and of its reverse may differ.
_ULPS = 8


class Graph(Space):
    """States (..., V, n), one vector a node: K y_i = K₀ y_i + K₁ Σ_j A[i, j] y_j, summed over the edges j → i.

    Without edges they come with every call, `flow(x, edge_index=e, edge_weight=w)`, in the layout of PyTorch Geometric:
    e (2, E), sources above targets; graphs of a batch stand one after the other in x (ΣV, n), their numbers in e
    counted on. Leading axes of x are samples that share one graph. With edges, all calls use these.

    Args:
        edge_index: (2, E), whole numbers: sources, then targets. None: it comes with the call.
        edge_weight: (E,), any weights; None means 1. Learned ones come with the call.
        nodes: V of a graph given here; None means the largest number in `edge_index`, and one.
        normalization: "sum" takes the weights as they are, "mean" divides them by their sum at the target,
            "symmetric" by √(d_source d_target), d the sum at a node (no loops are added; K₀ is the node itself).

    Raises:
        TypeError: if edges are not whole numbers.
        ValueError: if shapes do not fit, weights are learned, or an edge names a node that is not there.

    References:
        Heilig, Gravina, Trenta, Gallicchio, Bacciu, Port-Hamiltonian architectural bias for long-range propagation in
        deep graph networks, ICLR 2025, https://arxiv.org/abs/2405.17163

    Example:
        >>> import torch, hdnn
        >>> line = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> flow = hdnn.h2(4, layers=8, step=0.1, space=hdnn.Graph())
        >>> flow(torch.randn(3, 4), edge_index=line).shape
        torch.Size([3, 4])
    """

    axis: ClassVar[int] = -1
    rank: ClassVar[int] = 2
    taps: ClassVar[tuple[int, ...]] = (2,)
    given: _Bound | None

    def __init__(
        self,
        edge_index: Tensor | None = None,
        edge_weight: Tensor | None = None,
        *,
        nodes: int | None = None,
        normalization: Normalization = "sum",
    ) -> None:
        if normalization not in get_args(Normalization):
            raise ValueError(f'`normalization` must be "sum", "mean" or "symmetric"; got {normalization!r}.')
        if edge_index is None and (edge_weight is not None or nodes is not None):
            raise ValueError("`edge_weight` and `nodes` belong to edges; give `edge_index` too, or all at the call.")
        self.normalization: Normalization = normalization
        self.given = None
        if edge_index is not None:
            _check_edges(edge_index, edge_weight)
            if edge_weight is not None and edge_weight.requires_grad:
                raise ValueError(
                    "`edge_weight` is learned, and a graph that is given keeps the numbers of now. Give learned "
                    "weights with every call of a flow on `Graph()`, `flow(x, edge_index=e, edge_weight=w)`, or "
                    "edge_weight.detach() here."
                )
            count = int(edge_index.max()) + 1 if edge_index.numel() else 0
            nodes = count if nodes is None else whole("nodes", nodes)
            _check_nodes(edge_index, nodes)
            # Two tensors of their own: operators that exporters know refuse views of one.
            source, target = (ends.to("cpu", torch.int64, copy=True) for ends in edge_index)
            weight = None if edge_weight is None else edge_weight.detach().to("cpu", torch.float64, copy=True)
            bound = _Bound(self.normalization, source, target, weight, nodes).normalized()
            bound.known = bound.reversible(edge_weight)
            self.given = bound

    @property
    def transposes(self) -> bool:
        """Whether A = Aᵀ is known: of edges that come with the call it is not."""
        return self.given is not None and self.given.symmetric

    @property
    def asks(self) -> tuple[str, ...]:
        """The edges, where none were given here."""
        return ("edge_index",) if self.given is None else ()

    def directed(self) -> bool:
        """Whether A ≠ Aᵀ is known: of edges given here."""
        return self.given is not None and self.given.directed()

    def check(self, y: Tensor, features: int) -> None:
        """Refuse what is not (..., V, n)."""
        nodes = "V" if self.given is None else self.given.nodes
        wrong = self.given is not None and y.dim() >= 2 and y.shape[-2] != nodes
        if y.dim() < 2 or y.shape[-1] != features or wrong:
            raise ValueError(f"Expected the nodes of a graph, (..., {nodes}, {features}); got {tuple(y.shape)}.")

    def bind(self, y: Tensor | None, **call: Any) -> Space:
        """The graph of one call.

        Raises:
            ValueError: if edges are missing, given twice, or do not fit the nodes of y.
            TypeError: if they are not whole numbers, or the weights other numbers than the state.
        """
        call = dict(call)
        edge_index, edge_weight = call.pop("edge_index", None), call.pop("edge_weight", None)
        if call.get("edge_attr") is not None:
            raise TypeError(
                "A flow takes no `edge_attr`: an edge carries one number, `edge_weight=` (E,). Make one of the "
                "attributes of every edge, as a linear layer does, or leave them out."
            )
        super().bind(y, **call)
        if self.given is not None:
            if edge_index is not None or edge_weight is not None:
                raise ValueError(
                    f"The edges of this flow were given with `{self!r}`; leave `edge_index` and `edge_weight` out of "
                    f"the call, or make the flow with `space=Graph()`."
                )
            return self.given if y is None else self.given.like(y)
        if edge_index is None and y is None:
            return self  # of the weights alone, as bounds ask for them
        if edge_index is None or y is None:
            raise ValueError(
                "A flow on a graph needs its edges: give `edge_index=` (2, E), sources above targets, with the call, "
                "or `space=Graph(edge_index)` when the flow is made."
            )
        _check_edges(edge_index, edge_weight)
        if edge_weight is not None and edge_weight.dtype is not y.dtype:
            raise TypeError(
                f"`edge_weight` holds {edge_weight.dtype} numbers and the state {y.dtype}. Convert it with "
                f"edge_weight.to({y.dtype})."
            )
        if edge_index.device != y.device or (edge_weight is not None and edge_weight.device != y.device):
            raise ValueError(f"The edges are on {edge_index.device} and the state on {y.device}. Move one of them.")
        _check_nodes(edge_index, y.shape[-2])
        source, target = edge_index.unbind(0)
        return _Bound(self.normalization, source, target, edge_weight, y.shape[-2]).normalized(y)

    def map(self, K: Tensor, y: Tensor, b: Tensor | None = None) -> Tensor:
        """K₀ y_i + K₁ Σ_j A[i, j] y_j + b, of the edges given here."""
        return self._edges(y).map(K, y, b)

    def adjoint(self, K: Tensor, z: Tensor) -> Tensor:
        """K₀ᵀ z_i + K₁ᵀ Σ_j A[j, i] z_j, of the edges given here."""
        return self._edges(z).adjoint(K, z)

    def norm(self, K: Tensor, size: tuple[int, ...] | None = None) -> Tensor:
        """‖K₀‖ + ‖A‖ ‖K₁‖, an upper bound of ‖K‖; the largest ‖K₀ + λ K₁‖ over the eigenvalues of a symmetric A.

        Raises:
            ValueError: for edges that come with the call.
        """
        if self.given is None:
            raise ValueError(
                "‖K‖ depends on the edges, which come with the call of this flow. Make it with "
                "`space=Graph(edge_index)`, or measure: `largest_singular_values(flow, y0, edge_index=...)`."
            )
        return self.given.norm(K, size)

    def _edges(self, y: Tensor) -> Space:
        if self.given is None:
            raise ValueError(
                "The edges of this graph come with the call; bind it first: space.bind(y, edge_index=...)."
            )
        return self.given.like(y)

    def __repr__(self) -> str:
        how = "" if self.normalization == "sum" else f"normalization={self.normalization!r}"
        if self.given is None:
            return f"Graph({how})"
        edges = f"{self.given.nodes} nodes, {self.given.source.numel()} edges"
        return f"Graph({edges}{', ' + how if how else ''})"


class _Bound(Graph):
    """A graph with its edges, as the layers use it."""

    _sorted: Edges | None = None

    def __init__(
        self, normalization: Normalization, source: Tensor, target: Tensor, weight: Tensor | None, nodes: int,
        known: bool | None = None,
    ) -> None:  # fmt: skip
        self.normalization: Normalization = normalization
        self.source, self.target, self.weight, self.nodes = source, target, weight, nodes
        self.known = known  # whether A = Aᵀ, where somebody looked
        self._likes: dict[tuple[torch.device, torch.dtype], _Bound] = {}

    @property
    def given(self) -> _Bound:  # type: ignore[override]
        """Itself."""
        return self

    @property
    def numbers(self) -> tuple[Tensor, ...]:
        """Sources, targets and, where there are any, weights."""
        return (self.source, self.target, *(() if self.weight is None else (self.weight,)))

    def rebound(self, numbers: tuple[Tensor, ...]) -> Space:
        """The same graph with other numbers."""
        source, target, *weight = numbers
        return _Bound(self.normalization, source, target, weight[0] if weight else None, self.nodes, self.known)

    def like(self, y: Tensor) -> _Bound:
        """On the device and in the numbers of a state."""
        if self.source.device == y.device and (self.weight is None or self.weight.dtype is y.dtype):
            return self
        kind = (y.device, y.dtype)
        if (found := self._likes.get(kind)) is None:
            weight = None if self.weight is None else self.weight.to(y)
            source, target = self.source.to(y.device), self.target.to(y.device)
            found = _Bound(self.normalization, source, target, weight, self.nodes, self.known)
            # Kept for the calls to come, unless a compiler or a mode of PyTorch makes the tensors up for a while.
            if type(source) is Tensor and not (torch.compiler.is_compiling() or source.is_meta):
                self._likes[kind] = found
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Copies on other devices and sorted edges stay out of pickles."""
        return {**self.__dict__, "_likes": {}, "_sorted": None}

    def rows(self, y: Tensor) -> Rows | None:
        """Rows whose sums over neighbours are taken along sorted edges, on a CPU; weights that learn have none."""
        learn = self.weight is not None and self.weight.requires_grad
        odd = self.source.device.type != "cpu" or type(self.source) is not Tensor or not y.numel() or learn
        if odd or y.dtype not in (torch.float32, torch.float64):
            return None
        if self._sorted is None:
            self._sorted = Edges(self.source, self.target, self.weight, self.nodes)
        there, back = ((self.source, self.target), (self.target, self.source))
        general = (lambda x: self._summed(x, *there), lambda x: self._summed(x, *back))
        return Nodes(self._sorted, general, y.shape[:-2].numel())

    def map(self, K: Tensor, y: Tensor, b: Tensor | None = None) -> Tensor:
        """K₀ y_i + K₁ Σ_j A[i, j] y_j + b."""
        itself, near = K.unbind(-1)
        z = functional.linear(y, itself) + functional.linear(self._summed(y, self.source, self.target), near)
        return z if b is None else z + b

    def adjoint(self, K: Tensor, z: Tensor) -> Tensor:
        """K₀ᵀ z_i + K₁ᵀ Σ_j A[j, i] z_j: the edges backwards."""
        itself, near = K.unbind(-1)
        return torch.matmul(z, itself) + self._summed(torch.matmul(z, near), self.target, self.source)

    def norm(self, K: Tensor, size: tuple[int, ...] | None = None) -> Tensor:
        """See `Graph.norm`."""
        if size is not None:
            raise ValueError(f"`image_size` is (H, W), the pixels of images; this flow is one of graphs. Got {size}.")
        itself, near = K[..., 0], K[..., 1]
        if self.nodes <= _SMALL:
            A = self.dense().to(K)
            if self.symmetric or torch.equal(A, A.mT):
                values: Tensor = torch.linalg.eigvalsh(A) if len(A) else K.new_zeros(1)
                # ‖K₀ + λ K₁‖ is convex in λ: largest at an end. `eigvalsh` reads one half of A.
                at_ends = torch.maximum(spectral(itself + values[0] * near), spectral(itself + values[-1] * near))
                missed = (A - A.mT).abs().sum(0)
                return at_ends + missed.amax() * spectral(near) if bool(missed.any()) else at_ends
            of_A = spectral(A)
        else:
            w = self._weight(K).abs()
            of_A = (self._at(w, self.target).amax() * self._at(w, self.source).amax()).sqrt()
        return spectral(itself) + of_A * spectral(near)

    def dense(self) -> Tensor:
        """A, (V, V), float64."""
        A = torch.zeros(self.nodes, self.nodes, dtype=torch.float64, device=self.source.device)
        return A.index_put((self.target, self.source), self._weight(A), accumulate=True)

    @property
    def symmetric(self) -> bool:
        """Whether A = Aᵀ up to the rounding of the weights, parallel edges added up."""
        return self.reversible(self.weight) if self.known is None else self.known

    def reversible(self, weight: Tensor | None) -> bool:
        """Whether every edge has its reverse, of one weight up to rounding in the numbers that weights were given in.

        Those that were divided by √(d_source d_target) differ by the order of the divisions.
        """
        ends = ((self.source, self.target), (self.target, self.source))
        (places, w), (others, back) = (self._merged(*pair) for pair in ends)
        dtype = torch.float64 if weight is None or not weight.is_floating_point() else weight.dtype
        return torch.equal(places, others) and torch.allclose(w, back, rtol=_ULPS * torch.finfo(dtype).eps, atol=0.0)

    @property
    def transposes(self) -> bool:
        """Whether A = Aᵀ."""
        return self.symmetric

    def directed(self) -> bool:
        """Whether A ≠ Aᵀ, where somebody can look."""
        return _found(lambda: not self.symmetric)

    def normalized(self, y: Tensor | None = None) -> _Bound:
        """With the weights divided as `normalization` says."""
        if self.normalization == "sum":
            return self
        w = self._weight(torch.empty(0, dtype=torch.float64) if y is None else y)
        if _found(lambda: bool((w < 0).any())):
            raise ValueError(
                f"normalization={self.normalization!r} divides by sums of the weights, which must not be negative. Use "
                f'normalization="sum", and weights that are divided as you like.'
            )
        d = self._at(w, self.target)
        if self.normalization == "mean":
            divided = w / torch.where(d > 0, d, 1).index_select(0, self.target)
        else:
            root = torch.where(d > 0, d, 1).rsqrt() * (d > 0)
            divided = w * root.index_select(0, self.source) * root.index_select(0, self.target)
        return _Bound(self.normalization, self.source, self.target, divided, self.nodes)

    def _summed(self, y: Tensor, start: Tensor, end: Tensor) -> Tensor:
        """At every node the weighted sum over the edges that end there, of y where they start."""
        messages = y.index_select(-2, start)
        if self.weight is not None:
            messages = messages * self.weight.unsqueeze(-1)
        return torch.zeros_like(y).index_add(-2, end, messages)

    def _weight(self, like: Tensor) -> Tensor:
        return torch.ones_like(self.source, dtype=like.dtype) if self.weight is None else self.weight.to(like.dtype)

    def _at(self, w: Tensor, ends: Tensor) -> Tensor:
        """The sum of the weights at every node."""
        return w.new_zeros(self.nodes).index_add(0, ends, w)

    def _merged(self, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
        """Every entry of A once: its place, and its weight."""
        places, which = torch.unique(row.long() * self.nodes + column, return_inverse=True)
        # Sums of parallel edges in the order of their weights, so that both directions add up alike.
        w = self._weight(torch.empty(0, dtype=torch.float64)).detach()
        order = w.argsort(stable=True)
        return places, w.new_zeros(len(places)).index_add(0, which[order], w[order])


def _check_edges(edge_index: Tensor, edge_weight: Tensor | None) -> None:
    if not isinstance(edge_index, Tensor) or edge_index.dtype not in (torch.int64, torch.int32):
        got = edge_index.dtype if isinstance(edge_index, Tensor) else shown(edge_index)
        raise TypeError(f"`edge_index` must be a tensor (2, E) of whole numbers, torch.int64; got {got}.")
    if edge_index.dim() != 2 or edge_index.shape[0] != 2:
        hint = " Transpose it: edge_index.mT." if edge_index.dim() == 2 and edge_index.shape[1] == 2 else ""
        raise ValueError(f"`edge_index` must be (2, E), sources above targets; got {tuple(edge_index.shape)}.{hint}")
    if edge_weight is not None and not isinstance(edge_weight, Tensor):
        raise TypeError(f"`edge_weight` must be a tensor (E,), one number for each edge; got {shown(edge_weight)}.")
    if edge_weight is not None and tuple(edge_weight.shape) != tuple(edge_index.shape[1:]):
        raise ValueError(
            f"`edge_weight` must have one number for each of the {edge_index.shape[1]} edges; got "
            f"{tuple(edge_weight.shape)}."
        )


def _check_nodes(edge_index: Tensor, nodes: int) -> None:
    odd: list[int] = []

    def outside() -> bool:
        odd.extend(edge_index[(edge_index < 0) | (edge_index >= nodes)].tolist()[:1])
        return bool(odd)

    if _found(outside):
        raise ValueError(
            f"`edge_index` names node {odd[0]}, and the state has the nodes 0 to {nodes - 1}. In a batch the numbers "
            f"of every graph are counted on from those of the graphs before it."
        )


def _found(ask: Callable[[], bool]) -> bool:
    """Whether numbers are wrong; no where they cannot be looked at: while something is compiled, traced or mapped."""
    if torch.compiler.is_compiling():
        return False
    try:
        return ask()
    except (RuntimeError, NotImplementedError):
        return False
