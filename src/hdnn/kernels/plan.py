"""What a fused kernel is asked to run, in plain values.

`flow/plans.py` fills a plan in; kernels read it and know nothing else of flows, structures or integrators. Operators of
`torch.library` carry its values one by one, for a compiler knows plain values alone.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal


@dataclass(frozen=True)
class Plan:
    """One run of a flow by a fused method; factors state the words in it as their `kernel`.

    Args:
        method: "euler", y⁺ = y + h f(y); "runge_kutta", the classical method; "partitioned", one half after the other;
            or "perceptron", y⁺ = h f(y), whose drive is the identity.
        first: the half that moves first in the partitioned method; "" for the others.
        structure: where the free numbers stand: "dense", "skew", "block_skew", "off_diagonal", "block_diagonal" or
            "masked".
        drive: how J Kᵀ acts: "identity", "canonical" (a signed permutation) or "matrix".
        activation: "tanh", "relu", "leaky_relu", "sigmoid", "softplus" or "identity".
        negative_slope: of leaky_relu; 0 for the others.
        step: h.
        features: n.
        hidden: m, the rows of K.
        layers: N.
        shared: whether all layers have one K and b.
        images: whether states are channels-first images with a pointwise K.
        p_units: first hidden unit that drives p, and how many; (0, 0) where the whole moves.
        q_units: the same for q.
        fractions: what part of h each move takes in the partitioned method, the halves in turn; () for the others.
        damping: γ, p ← e^(−γh) p before every layer of the partitioned method.
        learn_damping: whether γ = g² is learned instead: biases are then one row of numbers (S · m + 1,), g the last.
        driven: whether inputs drive every step of every sample: the biases are then (N, B, m).
        states: whether the state before the first layer and those after every layer are asked for, (N + 1, B, n).
    """

    method: str
    first: str
    structure: str
    drive: Literal["identity", "canonical", "matrix"]
    activation: str
    negative_slope: float
    step: float
    features: int
    hidden: int
    layers: int
    shared: bool
    images: bool
    p_units: tuple[int, int] = (0, 0)
    q_units: tuple[int, int] = (0, 0)
    fractions: tuple[float, ...] = ()
    damping: float = 0.0
    learn_damping: bool = False
    driven: bool = False
    states: bool = False

    def values(self) -> list[Any]:
        """As operators carry them, in the order of `SCHEMA`."""
        return [getattr(self, name) for name in _NAMES]


_NAMES = tuple(field.name for field in fields(Plan))
_KINDS = {"int": "int", "float": "float", "bool": "bool", "tuple[int, int]": "int[]", "tuple[float, ...]": "float[]"}

# The values of a plan as arguments of an operator.
SCHEMA = ", ".join(f"{_KINDS.get(str(field.type), 'str')} {field.name}" for field in fields(Plan))


def plan_of(*values: Any) -> Plan:
    """`Plan.values` undone."""
    own: list[Any] = [tuple(value) if isinstance(value, list) else value for value in values]
    return Plan(*own)
