"""How sphinx-gallery runs the examples: in which order, with warnings as errors, and which figures it takes."""

import warnings
from pathlib import Path
from typing import Any
from weakref import WeakSet

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

ORDER = ("flow_in_your_model", "vanishing_gradients", "spectra", "counterexample", "swiss_roll")
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
    paths = []
    for figure in variables["example_globals"].values():
        if isinstance(figure, Figure) and figure not in _drawn:
            _drawn.add(figure)
            paths.append(next(variables["image_path_iterator"]))
            figure.savefig(paths[-1], dpi=150)
    return figure_rst(paths, gallery["src_dir"])
