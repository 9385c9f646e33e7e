"""Figures of what was computed elsewhere: every function takes plain arrays and only draws them.

All drawing goes through `matplotlib.figure.Figure`: no display is needed and no global setting is touched.
`save` writes a figure to a PNG file. Layers are counted as in a trajectory: layer 0 is the input.
"""

from hdnn.plots.features import animate_features, features_by_layer
from hdnn.plots.history import training_curves
from hdnn.plots.predictions import confusion_matrix, decision_regions, predicted_against_true
from hdnn.plots.style import save

__all__ = [
    "animate_features",
    "confusion_matrix",
    "decision_regions",
    "features_by_layer",
    "predicted_against_true",
    "save",
    "training_curves",
]
