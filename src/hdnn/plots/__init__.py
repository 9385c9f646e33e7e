"""Figures of what was computed elsewhere: every function takes numbers and only draws them.

All drawing goes through `matplotlib.figure.Figure`: no display is needed and no global setting is touched.
`save` writes a figure to a PNG or SVG file. Layers are counted as in a trajectory: layer 0 is the input.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hdnn.plots.continuous import sensitivity_entries as sensitivity_entries
    from hdnn.plots.depth import energy_by_depth as energy_by_depth
    from hdnn.plots.depth import gradients_by_depth as gradients_by_depth
    from hdnn.plots.depth import norms_by_depth as norms_by_depth
    from hdnn.plots.depth import singular_values_by_depth as singular_values_by_depth
    from hdnn.plots.features import animate_features as animate_features
    from hdnn.plots.features import features_by_layer as features_by_layer
    from hdnn.plots.history import compared_curves as compared_curves
    from hdnn.plots.history import start_curves as start_curves
    from hdnn.plots.history import training_curves as training_curves
    from hdnn.plots.iterations import gradients_by_iteration as gradients_by_iteration
    from hdnn.plots.iterations import sensitivities_by_iteration as sensitivities_by_iteration
    from hdnn.plots.lines import curves as curves
    from hdnn.plots.pictures import picture_rows as picture_rows
    from hdnn.plots.portraits import phase_portrait as phase_portrait
    from hdnn.plots.predictions import confusion_matrix as confusion_matrix
    from hdnn.plots.predictions import decision_regions as decision_regions
    from hdnn.plots.predictions import predicted_against_true as predicted_against_true
    from hdnn.plots.predictions import reliability_diagram as reliability_diagram
    from hdnn.plots.spectra import eigenvalues as eigenvalues
    from hdnn.plots.style import save as save

# Lazy, because matplotlib takes a third of a second to import and who predicts or trains does not draw, or not yet.
_HOME = {
    "continuous": "sensitivity_entries",
    "depth": "energy_by_depth gradients_by_depth norms_by_depth singular_values_by_depth",
    "features": "animate_features features_by_layer",
    "history": "compared_curves start_curves training_curves",
    "iterations": "gradients_by_iteration sensitivities_by_iteration",
    "lines": "curves",
    "pictures": "picture_rows",
    "portraits": "phase_portrait",
    "predictions": "confusion_matrix decision_regions predicted_against_true reliability_diagram",
    "spectra": "eigenvalues",
    "style": "save",
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names.split()}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
