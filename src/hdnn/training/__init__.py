"""Training: the objective of the paper, the recipes that minimize it, a plain loop, and callbacks that record."""

from hdnn.training.backends import training_backend
from hdnn.training.fitting import fit, fit_together, split
from hdnn.training.objective import Objective, Penalty, evaluate, outputs
from hdnn.training.pace import Pace, every
from hdnn.training.progress import Callback, Progress, StartCallback
from hdnn.training.recipe import Recipe
from hdnn.training.recorders import GradientRecorder, SensitivityRecorder
from hdnn.training.scores import Record
from hdnn.training.state import TrainingState
from hdnn.training.together import TogetherProgress, TogetherState

__all__ = [
    "Callback",
    "GradientRecorder",
    "Objective",
    "Pace",
    "Penalty",
    "Progress",
    "Recipe",
    "Record",
    "SensitivityRecorder",
    "StartCallback",
    "TogetherProgress",
    "TogetherState",
    "TrainingState",
    "evaluate",
    "every",
    "fit",
    "fit_together",
    "outputs",
    "split",
    "training_backend",
]
