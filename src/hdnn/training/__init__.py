"""Training: the objective of the paper, the recipes that minimize it, and a plain loop."""

from hdnn.training.loop import Callback, Progress, fit, split
from hdnn.training.objective import Objective, Record, evaluate, outputs
from hdnn.training.recipe import Recipe

__all__ = ["Callback", "Objective", "Progress", "Recipe", "Record", "evaluate", "fit", "outputs", "split"]
