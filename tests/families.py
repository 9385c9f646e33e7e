"""Every member of every family, for the parametrised tests; `test_families.py` asserts that nothing is missing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from hdnn import activations, presets
from hdnn.activations import Activation, LeakyReLU
from hdnn.dissipation import Dissipation
from hdnn.flow import Flow
from hdnn.hamiltonian import Hamiltonian
from hdnn.integrators import (
    DiscreteGradient,
    ForwardEuler,
    GaussLegendre,
    ImplicitMidpoint,
    Integrator,
    RungeKutta4,
    StormerVerlet,
    Suzuki4,
    SymplecticEuler,
    Yoshida4,
)
from hdnn.interconnections import Fixed, Interconnection, Inverse, Learned, block, canonical, upper_ones
from hdnn.spaces import VECTORS, Graph, Images, Signals, Space
from hdnn.structures import BlockDiagonal, BlockSkew, Dense, Masked, OffDiagonal, Skew, Structure

F64 = torch.float64
DEVICE = "cpu"  # of flows and states: see --device in conftest.py


def explicit_first(names: Iterable[str]) -> list[object]:
    """Names of integrators for costly properties: steps that solve an equation take seconds, among the long tests."""
    return [pytest.param(name, marks=pytest.mark.long) if name in IMPLICIT else name for name in names]


def random(*shape: int, seed: int = 0) -> Tensor:
    """N(0, 1) numbers in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def skew(features: int, seed: int = 0) -> Tensor:
    """A random skew matrix."""
    half = random(features, features, seed=seed).triu(1)
    return half - half.mT


def gram(features: int, seed: int = 41) -> Tensor:
    """A random symmetric, positive definite matrix."""
    root = random(features, features, seed=seed)
    R = root @ root.mT / features
    return (R + R.mT) / 2


def fill(flow: Flow, std: float = 1.0, seed: int = 0) -> Flow:
    """The flow with N(0, std²) weights and biases; a learned J keeps its start."""
    with torch.no_grad():
        for number, parameter in enumerate((flow.weight, flow.bias)):
            parameter.copy_(std * random(*parameter.shape, seed=100 * seed + number))
    return flow if DEVICE == "cpu" else flow.to(DEVICE)


def ring(features: int) -> Tensor:
    """Nodes of two features, each tied to itself and its two neighbours."""
    nodes = features // 2
    near = torch.eye(nodes) + torch.eye(nodes).roll(1, 0) + torch.eye(nodes).roll(-1, 0)
    return (near != 0).repeat_interleave(2, 0).repeat_interleave(2, 1)


def halves(features: int) -> Tensor:
    """A mask of two diagonal blocks."""
    return torch.block_diag(*[torch.ones(features // 2, features // 2)] * 2) != 0


ACTIVATIONS: dict[str, Activation] = {
    "tanh": activations.tanh,
    "relu": activations.relu,
    "leaky_relu": activations.leaky_relu,
    "leaky_relu_0.3": LeakyReLU(0.3),
    "sigmoid": activations.sigmoid,
    "softplus": activations.softplus,
    "identity": activations.identity,
}
SMOOTH = ("tanh", "sigmoid", "softplus", "identity")

STRUCTURES: dict[str, Callable[[int], Structure]] = {
    "Dense": lambda n: Dense(),
    "Dense_wide": lambda n: Dense(n + 3),
    "Dense_narrow": lambda n: Dense(n - 1),
    "Skew": lambda n: Skew(),
    "BlockSkew": lambda n: BlockSkew(),
    "OffDiagonal": lambda n: OffDiagonal(),
    "BlockDiagonal": lambda n: BlockDiagonal(),
    "BlockDiagonal_wide": lambda n: BlockDiagonal(n + 2),
    "Masked_Dense": lambda n: Masked(Dense(), halves(n)),
    "Masked_Dense_tri": lambda n: Masked(Dense(), torch.ones(n, n).tril()),
    "Masked_Skew": lambda n: Masked(Skew(), torch.ones(n, n) - torch.eye(n).flip(0)),
    "Masked_BlockDiagonal": lambda n: Masked(BlockDiagonal(), torch.ones(n, n).triu()),
}

INTERCONNECTIONS: dict[str, Callable[[int, int], Interconnection]] = {
    "canonical": lambda n, layers: Fixed(canonical(n)),
    "upper_ones": lambda n, layers: Fixed(upper_ones(n)),
    "skew": lambda n, layers: Fixed(skew(n, seed=7)),
    "block": lambda n, layers: Fixed(block(random(n // 2, n // 2, seed=8))),
    "per_layer": lambda n, layers: Fixed(block(random(layers, n // 2, n // 2, seed=9))),
    "per_layer_skew": lambda n, layers: Fixed(torch.stack([skew(n, seed=20 + j) for j in range(layers)])),
    "Inverse": lambda n, layers: Inverse(),
    "Learned": lambda n, layers: Learned(skew(n, seed=10)),
    "Learned_block": lambda n, layers: Learned(
        block(random(n // 2, n // 2, seed=11)), block(torch.ones(n // 2, n // 2)) != 0
    ),
}

DISSIPATIONS: dict[str, Callable[[int, int], Dissipation]] = {
    "diagonal": lambda n, layers: Dissipation(canonical(n), random(n, seed=40).abs()),
    "full": lambda n, layers: Dissipation(Fixed(skew(n, seed=7)), gram(n)),
    "per_layer": lambda n, layers: Dissipation(INTERCONNECTIONS["per_layer_skew"](n, layers), gram(n)),
    "learned_diagonal": lambda n, layers: Dissipation(canonical(n), random(n, seed=40).abs(), learned=True),
    "learned_full": lambda n, layers: Dissipation(canonical(n), gram(n), learned=True),
    "learned_both": lambda n, layers: Dissipation(Learned(skew(n, seed=10)), gram(n), learned=True),
    "learned_J": lambda n, layers: Dissipation(Learned(skew(n, seed=10)), gram(n)),
}

INTEGRATORS: dict[str, Integrator] = {
    "ForwardEuler": ForwardEuler(),
    "SymplecticEuler_p": SymplecticEuler("p"),
    "SymplecticEuler_q": SymplecticEuler("q"),
    "StormerVerlet_p": StormerVerlet("p"),
    "StormerVerlet_q": StormerVerlet("q"),
    "Yoshida4_p": Yoshida4("p"),
    "Suzuki4_q": Suzuki4("q"),
    "ImplicitMidpoint": ImplicitMidpoint(),
    "RungeKutta4": RungeKutta4(),
    "GaussLegendre2": GaussLegendre(2),
    "DiscreteGradient": DiscreteGradient(),
}

IMPLICIT = ("ImplicitMidpoint", "GaussLegendre2", "DiscreteGradient")  # steps that solve an equation

SPACES: dict[str, Callable[[], Space]] = {
    "Vectors": lambda: VECTORS,
    "Images_1": lambda: Images(1),
    "Images_3": lambda: Images(3),
    "Signals_1": lambda: Signals(1),
    "Signals_5": lambda: Signals(5),
    "Graph_call": lambda: Graph(),
    "Graph_given": lambda: Graph(LINE, nodes=NODES),
    "Graph_mean": lambda: Graph(normalization="mean"),
    "Graph_symmetric": lambda: Graph(normalization="symmetric"),
}
NODES = 5
# A line of five nodes, both ways; and edges that go one way, twice, from a node to itself, and nowhere.
LINE = torch.tensor([[0, 1, 1, 2, 2, 3, 3, 4], [1, 0, 2, 1, 3, 2, 4, 3]])
DIRECTED = torch.tensor([[0, 1, 3, 3, 2, 2], [1, 2, 0, 0, 2, 1]])


def call(space: str, directed: bool = False) -> dict[str, Tensor]:
    """What a call of a flow on this space brings: weighted edges where it asks for a graph."""
    if not space.startswith("Graph") or space == "Graph_given":
        return {}
    edges = DIRECTED if directed else LINE
    weights = 0.5 + random(edges.shape[1], seed=31).abs()
    if not directed:  # every edge with its reverse, of one weight
        weights = weights[::2].repeat_interleave(2)
    return {"edge_index": edges, "edge_weight": weights}


def position(space: str) -> tuple[int, ...]:
    """The sizes of the positions of a state."""
    return {"Vec": (), "Ima": (3, 4), "Sig": (6,), "Gra": (NODES,)}[space[:3]]


def state_on(space: str, features: int, *leading: int, seed: int = 5) -> Tensor:
    """A random state on a named space."""
    of = SPACES[space]()
    size = (features, *position(space)) if of.axis != -1 else (*position(space), features)
    return random(*leading, *size, seed=seed)


PRESETS: dict[str, Callable[..., Flow]] = {
    "ms1": presets.ms1,
    "ms2": presets.ms2,
    "ms3": presets.ms3,
    "h1": presets.h1,
    "h2": presets.h2,
}


class Factors(NamedTuple):
    """The names of three factors that combine."""

    structure: str
    interconnection: str
    integrator: str

    def flow(self, features: int, layers: int, std: float = 0.5, seed: int = 0, **options: object) -> Flow:
        """The flow of these factors with seeded N(0, std²) weights, float64."""
        settings = {"step": 0.1, "dtype": F64, "integrator": INTEGRATORS[self.integrator], **options}
        made = Flow(
            features,
            layers,
            structure=STRUCTURES[self.structure](features),
            interconnection=INTERCONNECTIONS[self.interconnection](features, layers),
            **settings,  # type: ignore[arg-type]
        )
        return fill(made, std, seed)


# Written by hand, independently of `Hamiltonian.separable`: which pairs let each half drive the other half only.
_BLOCK_J = ("canonical", "block", "per_layer", "Learned_block")
SEPARABLE = {
    *(
        (structure, J)
        for structure in (
            "BlockDiagonal",
            "BlockDiagonal_wide",
            "OffDiagonal",
            "BlockSkew",
            "Masked_Dense",
            "Masked_BlockDiagonal",
        )
        for J in _BLOCK_J
    ),
    ("BlockSkew", "Inverse"),
}
SKEW = ("Skew", "BlockSkew", "Masked_Skew")


def _pairs() -> Iterator[tuple[str, str]]:
    for structure, J in itertools.product(STRUCTURES, INTERCONNECTIONS):
        if J != "Inverse" or structure in SKEW:
            yield structure, J


PAIRS = list(_pairs())
COMBINATIONS = [
    Factors(structure, J, name)
    for (structure, J), (name, integrator) in itertools.product(PAIRS, INTEGRATORS.items())
    if (structure, J) in SEPARABLE or not integrator.separable_only
]
# One structure and J for each preset, with all that its free J allows; for the costlier tests.
LITERATURE = [
    ("BlockSkew", "Inverse"),
    ("Skew", "Inverse"),
    ("OffDiagonal", "canonical"),
    ("Dense", "canonical"),
    ("Dense", "upper_ones"),
    ("Dense", "skew"),
    ("BlockDiagonal", "canonical"),
    ("BlockDiagonal", "block"),
    ("BlockDiagonal_wide", "per_layer"),
    ("BlockDiagonal", "Learned_block"),
]
REPRESENTATIVE = [c for c in COMBINATIONS if (c.structure, c.interconnection) in LITERATURE]
# All combinations, those beyond the literature among the slow tests.
SWEEP = [c if c in REPRESENTATIVE else pytest.param(c, marks=pytest.mark.slow) for c in COMBINATIONS]
# One integrator for each pair of structure and J, the partitioned one where it may be. The default suite takes every J
# with two structures and every structure with four J, the slow one all pairs.
ONE_EACH = [
    pytest.param(
        Factors(s, J, "SymplecticEuler_p" if (s, J) in SEPARABLE else "ForwardEuler"),
        marks=()
        if s in ("Dense", "BlockDiagonal") or J in ("canonical", "per_layer", "Inverse", "Learned")
        else pytest.mark.slow,
    )
    for s, J in PAIRS
]

# Those whose weights have places in K or J that an index tells.
INDEXED = [
    Factors("Skew", "Inverse", "ForwardEuler"),
    Factors("Masked_Dense", "canonical", "SymplecticEuler_p"),
    Factors("Masked_Skew", "Inverse", "ForwardEuler"),
    Factors("Dense", "Learned", "ForwardEuler"),
    Factors("BlockDiagonal", "Learned_block", "SymplecticEuler_p"),
    Factors("Dense", "skew", "ForwardEuler"),
]


def hamiltonian(structure: str, J: str, features: int = 4, layers: int = 3, space: Space = VECTORS) -> Hamiltonian:
    """The Hamiltonian of a named pair with tanh."""
    return Hamiltonian(
        features,
        STRUCTURES[structure](features),
        INTERCONNECTIONS[J](features, layers),
        activations.tanh,
        space,
    )


def preset(name: str, features: int = 4, layers: int = 3, std: float = 0.5, seed: int = 0, **options: object) -> Flow:
    """A preset with seeded weights, float64."""
    return fill(PRESETS[name](features, layers, **{"step": 0.1, "dtype": F64, **options}), std, seed)


def state(flow: Flow, *leading: int, seed: int = 5, size: tuple[int, int] = (3, 4)) -> Tensor:
    """A random state for the flow: (*leading, n), or (*leading, n, H, W)."""
    return random(*leading, flow.features, *(() if flow.space.rank == 1 else size), seed=seed).to(DEVICE)


def jacobian(function: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
    """∂f/∂y of one vector, by autograd, row by row."""
    return torch.autograd.functional.jacobian(function, y)


def tight(a: Tensor, b: Tensor) -> None:
    """Equal but for the rounding of float64."""
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
