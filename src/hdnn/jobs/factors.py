"""What a flow is made of in words for reports: in those of the command line where it has some."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from hdnn.flow import Flow
from hdnn.integrators import INTEGRATORS

_NAMES: dict[type, str] = {type(integrator): name for name, integrator in INTEGRATORS.items()}


def factors_of(flow: Flow) -> dict[str, str]:
    """The structure, J and the integrator of a flow, as reports name them.

    Example:
        >>> from hdnn import h2
        >>> factors_of(h2(features=4, layers=2, step=0.1))
        {'structure': 'block diagonal', 'J': 'canonical', 'integrator': 'symplectic_euler, p first'}
    """
    return {
        "structure": in_words(flow.structure),
        "J": in_words(flow.interconnection),
        "integrator": in_words(flow.integrator),
    }


def in_words(factor: Any) -> str:
    """One factor: its name, and what of it is not as it always is.

    Example:
        >>> from hdnn import BlockDiagonal, Fixed, Inverse, RungeKutta4, upper_ones
        >>> [in_words(each) for each in (BlockDiagonal(8), RungeKutta4(), Fixed(upper_ones(4)), Inverse())]
        ['block diagonal, width 8', 'runge_kutta4', 'upper_ones', 'K⁻ᵀ']
    """
    if getattr(factor, "is_inverse", False) and factor.skew:
        return "K⁻ᵀ"
    if fixed := re.fullmatch(r"Fixed\((.*)\)", repr(factor)):
        return fixed[1]
    if not dataclasses.is_dataclass(factor):
        return repr(factor)
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(factor).__name__).lower()
    said = [_NAMES.get(type(factor), words)]
    for field in dataclasses.fields(factor):
        value = getattr(factor, field.name)
        if field.name == "first":  # there is no usual half
            said.append(f"{value} first")
        elif field.repr and value != field.default:
            said.append(f"{field.name.replace('_', ' ')} {value}")
    return ", ".join(said)
