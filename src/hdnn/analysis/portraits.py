"""Phase portraits: the energy and the field of one layer over a plane of states, and where trajectories go in it.

Legend: (u, v) the two coordinates that are looked at, H the energy, f the field; all other coordinates stand still.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hdnn.analysis.checks import check_undriven, check_vectors, check_weights
from hdnn.flow import Flow
from hdnn.names import count

Window = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True, eq=False)
class PhasePortrait:
    """A layer over a plane of states, ready to be drawn by `hdnn.plots.phase_portrait`.

    Attributes:
        x: values of the first coordinate, ascending, (P,).
        y: of the second.
        energy: H at (x[k], y[i]), (P, P), row i.
        velocity: (u', v') there, (2, P, P).
        names: of the two coordinates, such as ("p₁", "q₁").
        note: which plane this is, where the flow has more than two features; "" where it has two.
    """

    x: Tensor
    y: Tensor
    energy: Tensor
    velocity: Tensor
    names: tuple[str, str]
    note: str


@torch.no_grad()
def phase_portrait(
    flow: Flow,
    window: Window,
    *,
    layer: int = 0,
    coordinates: Sequence[int] | None = None,
    through: Tensor | None = None,
    points: int = 81,
) -> PhasePortrait:
    """H and the field of one layer over a window of two coordinates of the state.

    A flow of two features is seen whole. Of one with more, two coordinates must be named, and what is seen is the plane
    in which all others stand still: H of that plane, and the part of the field that lies in it. Trajectories leave such
    a plane, so that they need not follow the levels seen in it.

    Args:
        flow: on vectors, undriven.
        window: ((left, right), (bottom, top)).
        layer: j, counted from 0; negative counts from the end.
        coordinates: two different features, counted from 0, needed where there are more than two.
        through: a state, (n,), that the plane goes through; None is the origin.
        points: along each axis, at least 2.

    Raises:
        ValueError: if the flow is not on vectors or is driven, the coordinates are not given, or the window is empty.
        IndexError: if there is no such layer.

    Example:
        >>> import hdnn
        >>> pendulum = hdnn.h2(2, layers=8, step=0.1)
        >>> found = phase_portrait(pendulum, ((-2, 2), (-2, 2)), points=5)
        >>> found.energy.shape, found.names
        (torch.Size([5, 5]), ('p', 'q'))
    """
    check_vectors(flow, "A phase portrait")
    check_weights(flow)
    check_undriven(flow, "portrait")
    chosen = _chosen(flow.features, coordinates)
    (left, right), (bottom, top) = window
    if not (left < right and bottom < top) or points < 2:
        raise ValueError(f"`window` must be ((left, right), (bottom, top)), and `points` at least 2; got {window}.")
    start = torch.zeros(flow.features) if through is None else through
    if start.shape != (flow.features,):
        raise ValueError(f"`through` must be one state ({flow.features},); got {tuple(start.shape)}.")
    x, y = torch.linspace(left, right, points).double(), torch.linspace(bottom, top, points).double()
    states = start.detach().cpu().double().expand(points, points, -1).clone()
    states[..., chosen[0]], states[..., chosen[1]] = x.expand(points, -1), y[:, None].expand(-1, points)
    at = states.to(flow.weight)
    energy, velocity = flow.energy(at, layer), flow.fields()[layer](at)[..., list(chosen)].movedim(-1, 0)
    more = flow.features - 2
    note = f"a plane: {count(more, 'other coordinate')} held still" if more else ""
    names = (_name(chosen[0], flow.features), _name(chosen[1], flow.features))
    return PhasePortrait(x, y, energy.cpu().double(), velocity.cpu().double(), names, note)


def _chosen(features: int, coordinates: Sequence[int] | None) -> tuple[int, int]:
    if coordinates is None and features == 2:
        return 0, 1
    if coordinates is None:
        raise ValueError(
            f"A plane shows two coordinates, and this flow has {features}. Name two, as in coordinates=(0, "
            f"{features // 2}), and the state that the plane goes through with `through=`."
        )
    if len(coordinates) != 2 or len({*coordinates}) != 2 or not all(0 <= i < features for i in coordinates):
        raise ValueError(f"`coordinates` must be two different ones of 0 to {features - 1}; got {tuple(coordinates)}.")
    return coordinates[0], coordinates[1]


def _name(coordinate: int, features: int) -> str:
    """p and q of an even number of features, as the splittings see them, else y."""
    if features % 2:
        return f"y{_subscript(coordinate + 1)}"
    half = features // 2
    return ("p" if coordinate < half else "q") + (_subscript(coordinate % half + 1) if half > 1 else "")


def _subscript(number: int) -> str:
    return "".join(chr(ord("₀") + int(digit)) for digit in str(number))
