"""Plain networks beside a flow: as many layers and features, the same states, and a start that a careful user gives.

Legend: N layers, h the flow's step, M = ∂y_N/∂y_0. A ResNet has the layers y + h tanh(K y + b), a perceptron
tanh(K y + b). Nothing here is trained but the flow, if it was: what is seen is how gradients pass at the start.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hdnn import plots
from hdnn.analysis import log_norms
from hdnn.analysis.pullback import Layers
from hdnn.chains import SMALLEST, Chains, Weights, passage
from hdnn.jobs.evidence import Drawing, Finding, LeftOut, Summary
from hdnn.jobs.subjects import Subject
from hdnn.names import unknown
from hdnn.report import Table

# Starts of every network, and samples at which they are looked at.
STARTS, SAMPLES = 5, 20
_TITLE = "Beside plain networks"
_SHARE = r"$\log_{10}\;\|dL/dy_j\|\,/\,\|dL/dy_N\|$"


@dataclass(frozen=True)
class Peer:
    """A kind of network.

    Attributes:
        name: in reports.
        residual: whether its layers add to their input, by the flow's step.
        weights: how they begin.
    """

    name: str
    residual: bool
    weights: Weights


PEERS: dict[str, dict[str, Peer]] = {
    "resnet": {
        "resnet": Peer("ResNet, step h, PyTorch's weights", True, "pytorch"),
        "resnet_orthogonal": Peer("ResNet, step h, orthogonal weights", True, "orthogonal"),
    },
    "perceptron": {
        "perceptron": Peer("perceptron, PyTorch's weights", False, "pytorch"),
        "perceptron_orthogonal": Peer("perceptron, orthogonal weights", False, "orthogonal"),
    },
}


def named(text: str) -> tuple[str, ...]:
    """The kinds that were asked for, by names with commas between them.

    Raises:
        ValueError: if there is no such kind.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in PEERS:
            raise ValueError(unknown("network to compare with", name, PEERS))
    if not names:
        raise ValueError(f"Name what to compare with, one or more of {', '.join(PEERS)}, with commas between them.")
    return names


def beside(subject: Subject, kinds: Sequence[str]) -> Finding | LeftOut:
    """How much of a gradient passes back through the flow, through fresh ones like it, and through plain networks.

    Args:
        subject: a flow and its states.
        kinds: keys of `PEERS`.
    """
    flow = subject.flow
    if flow.space.rank > 1:
        return LeftOut("peers", _TITLE, "The networks to compare with are of vectors, and this flow is of images.")
    y0 = subject.y0[:SAMPLES]
    looked: dict[str, tuple[str, list[_Seen]]] = {"gradient_passage": (subject.title, [_seen(flow, y0)])}
    if subject.fresh is not None:
        again = [_seen(subject.fresh(seed), y0) for seed in range(STARTS)]
        looked["gradient_passage_of_fresh_flows"] = (f"{subject.model}, fresh weights", again)
    for kind in kinds:
        for key, peer in PEERS[kind].items():
            looked[f"gradient_passage_of_{key}"] = (
                peer.name,
                _of_peer(peer, flow.features, flow.layers, flow.step, y0),
            )
    rows = [(name, *_row(seen)) for name, seen in looked.values()]
    numbers = {
        key: {
            "name": name,
            "log10_gradient_share": [each.share for each in seen],
            "log10_norm": [each.log10_norms for each in seen],
        }
        for key, (name, seen) in looked.items()
    }
    summary: Summary = {key: float(np.mean([each.share[0] for each in seen])) for key, (_, seen) in looked.items()}
    series = {name: (range(flow.layers + 1), [each.share for each in seen]) for name, seen in looked.values()}
    figure = plots.curves(series, x="layer j", y=_SHARE, floor=SMALLEST, enlarge=True)
    text = (
        f"Networks of {flow.layers} layers and {flow.features} features at the same {len(y0)} states, {STARTS} starts "
        f"of each. A layer of a ResNet is y + h tanh(K y + b) with the flow's step h = {flow.step:.4g}, one of a "
        f"perceptron tanh(K y + b); K and b begin as PyTorch's linear layers do, or K orthogonal and b = 0. They "
        f"have not been trained, so that this tells how gradients pass at the start, not which network learns better: "
        f"`hdnn reproduce depth` trains them."
    )
    note = (
        "Powers of ten. Gradient: that of the sum of the outputs at the input over that at the output; 0, all of it "
        "passes, −1, a tenth; ± is the standard deviation over the starts. −300 cannot be told from nothing."
    )
    table = Table("How much passes", ("network", "gradient", "±", "smallest ‖M‖", "largest ‖M‖"), rows, note)
    lines = [f"{name}: {share:.1f}" for name, share, *_ in rows]
    alt = f"The logarithm of the length of gradients against the layer. At the input: {'; '.join(lines)}."
    caption = "Means over the starts; at the right what looks flat at the left."
    return Finding(
        "peers", _TITLE, text, numbers, summary, [table], [Drawing("peers.png", figure, _TITLE, alt, caption)]
    )


@dataclass(frozen=True)
class _Seen:
    """One network: the share of a gradient at every layer, and the smallest and largest ‖M‖, as powers of ten."""

    share: list[float]
    log10_norms: tuple[float, float]


def _seen(layers: Layers, y0: Tensor) -> _Seen:
    norms = (log_norms(layers, y0)[0] / math.log(10)).clamp(min=SMALLEST)
    return _Seen(passage(layers, y0), (float(norms.min()), float(norms.max())))


def _of_peer(peer: Peer, features: int, layers: int, step: float, y0: Tensor) -> list[_Seen]:
    steps = [step] * STARTS if peer.residual else None
    chains = Chains(range(STARTS), features, layers, steps=steps, weights=peer.weights)
    with torch.enable_grad():
        return [_seen(chains.layers(member), y0) for member in range(STARTS)]


def _row(seen: Sequence[_Seen]) -> tuple[float, float | None, float, float]:
    shares = [each.share[0] for each in seen]
    spread = float(np.std(shares, ddof=1)) if len(shares) > 1 else None
    lows, highs = zip(*(each.log10_norms for each in seen), strict=True)
    return float(np.mean(shares)), spread, min(lows), max(highs)
