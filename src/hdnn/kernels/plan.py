"""What a fused kernel is asked to run, in plain values.

`flow/plans.py` fills a plan in; kernels read it and know nothing else of flows, structures or integrators.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Plan:
    """One run of a flow by a fused method.

    Args:
        method: "euler", y⁺ = y + h f(y); "partitioned", one half after the other; or "perceptron", y⁺ = h f(y), whose
            drive is the identity.
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
        p_units: first hidden unit that drives p, and how many; (0, 0) for euler.
        q_units: the same for q.
    """

    method: Literal["euler", "partitioned", "perceptron"]
    first: Literal["", "p", "q"]
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
