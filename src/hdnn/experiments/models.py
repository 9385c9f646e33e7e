"""The networks of the tables by the names that both papers' readers can tell apart."""

from __future__ import annotations

from hdnn.flow import Flow
from hdnn.interconnections import Fixed, upper_ones
from hdnn.presets import h1, h2, ms1, ms2, ms3

# As tables and legends call them.
CALLED = {
    "ms1": "MS1",
    "ms2": "MS2",
    "ms3": "MS3",
    "h1-j1": "h1 with J1 (H1 of the paper)",
    "h1-j2": "h1 with J2 (H2 of the paper)",
    "h1": "h1",
    "h2": "h2 (H2 of the 2023 paper)",
}
PROBLEMS = {"swiss-roll": "Swiss roll", "double-moons": "Double moons", "double-circles": "Double circles"}
PRESETS = {"ms1": ms1, "ms2": ms2, "ms3": ms3, "h1-j1": h1, "h2": h2}


def layers_of(count: int | str) -> str:
    """Some layers, in words."""
    return "1 layer" if int(count) == 1 else f"{count} layers"


def flow(
    model: str,
    features: int,
    layers: int,
    *,
    step: float | None = None,
    horizon: float | None = None,
    init_std: float | None = None,
    kernel_size: int | None = None,
) -> Flow:
    """A flow with fresh random weights.

    Args:
        model: "ms1", "ms2", "ms3", "h1-j1" (H1 of the L4DC paper), "h1-j2" (its H2) or "h2" (of the TAC paper).
        features: n.
        layers: N.
        step: h; exactly one of this and `horizon` is given.
        horizon: T.
        init_std: of the weights; None means 1/√n.
        kernel_size: None for vectors, 1 for the pixels of images.
    """
    if model == "h1-j2":
        J2 = Fixed(upper_ones(features))
        return h1(
            features,
            layers,
            step=step,
            horizon=horizon,
            interconnection=J2,
            init_std=init_std,
            kernel_size=kernel_size,
        )
    preset = PRESETS[model]
    return preset(features, layers, step=step, horizon=horizon, init_std=init_std, kernel_size=kernel_size)
