"""How sphinx-gallery runs the examples: in which order, with warnings as errors; its figures, and what they show."""

import warnings
from pathlib import Path
from typing import Any
from weakref import WeakSet

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

ORDER = (
    "flow_in_your_model",
    "vanishing_gradients",
    "spectra",
    "counterexample",
    "swiss_roll",
    "images_in_stages",
    "signals_and_graphs",
    "graph_transfer",
)
# What is seen in the figures of each, in their order, for those who do not see them.
SEEN = {
    "flow_in_your_model": [
        "Images of digits as points in the plane, in four panels: mixed up at the input, drawn apart layer by "
        "layer, and after layer 64 in ten groups that hardly overlap.",
    ],
    "vanishing_gradients": [
        "Norms of ∂y_N/∂y_j against depth on a logarithmic axis. The perceptron falls in a straight line to 1e-23 "
        "at layer 0, the residual network grows to about 20, H2 stays just above the bound 1.",
        "Two panels. Left, gradients with respect to the states of H2: one level from layer 0 to 64. Right, with "
        "respect to weights and biases of each layer: they scatter about one level, too.",
        "The four singular values of ∂y_N/∂y_j against depth: two lie above 1 and two below, mirror images of each "
        "other on the logarithmic axis; all meet at 1 at the output.",
    ],
    "spectra": [
        "Eigenvalues of the fields of four layers in the complex plane: all are on the imaginary axis, up to 5 from "
        "zero.",
        "Eigenvalues of layers in the complex plane: those of symplectic Euler and of the implicit midpoint rule "
        "lie on the unit circle, those of Runge-Kutta 4 inside it, those of forward Euler on a line outside of it.",
    ],
    "counterexample": [
        "Left, the trajectory: one closed curve in the plane. Right, the four entries of its sensitivity: "
        "oscillations that grow steadily, to about 25 at t = 100.",
        "The norm of the sensitivity against time: it grows in proportion to time, to about 33 at t = 100; the "
        "exact one and that of symplectic Euler can hardly be told apart. Dashed below them, the lower bound 1.",
    ],
    "swiss_roll": [
        "Two panels over 50 epochs: the objective falls from about 0.7 to 0.005, the accuracy rises from 55 % to "
        "100 %.",
        "The plane in two colours with 600 test points on two arms of a spiral: the border follows the arms, and no "
        "point is on the wrong side.",
        "Points of two classes in four panels: mixed up at the input, drawn out and folded by the layers, and after "
        "layer 64 apart, so that a line divides them.",
        "Norms of ∂y_N/∂y_j against the iteration, a line for every eighth layer. All are above 1; those of early "
        "layers grow to about 10 while the network learns, with jumps of single samples to several hundred.",
    ],
    "images_in_stages": [
        "Four rows of a digit of 8 x 8 pixels and three grey pictures: 8 x 8 spots after the stem and after stage 1, "
        "and 4 x 4 blocks after stage 2, which differ from digit to digit.",
    ],
    "signals_and_graphs": [
        "Two panels of accuracy against size, with the sizes that were learned from in grey. Signals: near 100 % from "
        "24 to 96 positions, about 70 % at 192. Graphs: 100 % from 5 to 12 nodes, guessing from 16 on.",
    ],
    "graph_transfer": [
        "A map of layers against nodes. Nothing is felt beyond a diagonal: what happens at the source reaches about "
        "one node more with every layer, and the last node after the last layers, bright.",
        "Dots on an axis of log10 MSE, three for each model: those of h2 far to the left of a dashed line that marks "
        "the constant answer, those of the flow without neighbours on it.",
    ],
}
_FILTERS = list(warnings.filters)
_drawn: WeakSet[Figure] = WeakSet()


class InOrder:
    """The place of an example in the gallery."""

    def __init__(self, folder: str) -> None:
        pass

    def __call__(self, name: str) -> int:
        """Counted from 0."""
        return ORDER.index(Path(name).stem)


def strictly(gallery: dict[str, Any], path: str | None, when: str) -> None:
    """A warning stops an example, as it stops a test; Sphinx itself goes on as it was."""
    if when == "before" and path is not None:
        warnings.filterwarnings("error")
    else:
        warnings.filters[:] = _FILTERS


def figures(block: Any, variables: dict[str, Any], gallery: dict[str, Any]) -> str:
    """The figures that a block of code left in a variable: those of `hdnn.plots` are unknown to pyplot."""
    text = ""
    seen = SEEN[Path(variables["src_file"]).stem]
    for figure in variables["example_globals"].values():
        if isinstance(figure, Figure) and figure not in _drawn:
            _drawn.add(figure)
            place = next(variables["image_path_iterator"])
            figure.savefig(place, dpi=150)
            text += figure_rst([place], gallery["src_dir"], seen[len(variables["image_path_iterator"]) - 1])
    return text
