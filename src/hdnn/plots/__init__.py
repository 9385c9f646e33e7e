"""Figures of what was computed elsewhere: every function takes numbers and only draws them.

All drawing goes through `matplotlib.figure.Figure`: no display is needed and no global setting is touched.
`save` writes a figure to a PNG file. Layers are counted as in a trajectory: layer 0 is the input.
"""

from hdnn.plots.continuous import sensitivity_entries
from hdnn.plots.curves import curves
from hdnn.plots.depth import energy_by_depth, gradients_by_depth, norms_by_depth, singular_values_by_depth
from hdnn.plots.features import animate_features, features_by_layer
from hdnn.plots.history import start_curves, training_curves
from hdnn.plots.iterations import gradients_by_iteration, sensitivities_by_iteration
from hdnn.plots.predictions import confusion_matrix, decision_regions, predicted_against_true
from hdnn.plots.spectra import eigenvalues
from hdnn.plots.style import save

__all__ = [
    "animate_features",
    "confusion_matrix",
    "curves",
    "decision_regions",
    "eigenvalues",
    "energy_by_depth",
    "features_by_layer",
    "gradients_by_depth",
    "gradients_by_iteration",
    "norms_by_depth",
    "predicted_against_true",
    "save",
    "sensitivities_by_iteration",
    "sensitivity_entries",
    "singular_values_by_depth",
    "start_curves",
    "training_curves",
]
