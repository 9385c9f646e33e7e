"""Hamiltonian deep neural networks: deep networks whose sensitivities never fall below 1 in norm.

A network is a time discretization of y' = J ∂H/∂y with H(y) = 1ᵀ σ̃(K y + b). Every public name is importable from
here and is loaded on first use, so that `import hdnn` stays light.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hdnn import analysis, data, networks, plots, presets, spaces, training
    from hdnn.activations import (
        Activation,
        LeakyReLU,
        identity,
        leaky_relu,
        relu,
        sigmoid,
        softplus,
        tanh,
    )
    from hdnn.estimator import HamiltonianClassifier, HamiltonianFeatures, HamiltonianRegressor
    from hdnn.flow import Flow
    from hdnn.hamiltonian import Drive, Field, Hamiltonian, Layer
    from hdnn.integrators import (
        ForwardEuler,
        ImplicitMidpoint,
        Integrator,
        RungeKutta4,
        Splitting,
        StormerVerlet,
        Suzuki4,
        SymplecticEuler,
        Yoshida4,
    )
    from hdnn.interconnections import Fixed, Interconnection, Inverse, Learned, block, canonical, upper_ones
    from hdnn.networks import Network, image_classifier, vector_classifier, vector_regressor
    from hdnn.presets import h1, h2, ms1, ms2, ms3
    from hdnn.spaces import Graph, Images, Signals, Space, Vectors
    from hdnn.structures import BlockDiagonal, BlockSkew, Dense, Masked, OffDiagonal, Skew, Structure
    from hdnn.training import GradientRecorder, Objective, Recipe, SensitivityRecorder, evaluate, fit, fit_together

__version__ = "0.1.0"

_HOME = {
    "activations": (
        "Activation",
        "LeakyReLU",
        "identity",
        "leaky_relu",
        "relu",
        "sigmoid",
        "softplus",
        "tanh",
    ),
    "spaces": ("Graph", "Images", "Signals", "Space", "Vectors"),
    "structures": ("BlockDiagonal", "BlockSkew", "Dense", "Masked", "OffDiagonal", "Skew", "Structure"),
    "interconnections": (
        "Fixed",
        "Interconnection",
        "Inverse",
        "Learned",
        "block",
        "canonical",
        "upper_ones",
    ),
    "hamiltonian": ("Drive", "Field", "Hamiltonian", "Layer"),
    "integrators": (
        "ForwardEuler",
        "ImplicitMidpoint",
        "Integrator",
        "RungeKutta4",
        "Splitting",
        "StormerVerlet",
        "Suzuki4",
        "SymplecticEuler",
        "Yoshida4",
    ),
    "estimator": ("HamiltonianClassifier", "HamiltonianFeatures", "HamiltonianRegressor"),
    "flow": ("Flow",),
    "networks": ("Network", "image_classifier", "vector_classifier", "vector_regressor"),
    "presets": ("h1", "h2", "ms1", "ms2", "ms3"),
    "training": ("GradientRecorder", "Objective", "Recipe", "SensitivityRecorder", "evaluate", "fit", "fit_together"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}
_SUBMODULES = ("analysis", "data", "networks", "plots", "presets", "spaces", "training")

__all__ = [
    "Activation",
    "BlockDiagonal",
    "BlockSkew",
    "Dense",
    "Drive",
    "Field",
    "Fixed",
    "Flow",
    "ForwardEuler",
    "GradientRecorder",
    "Graph",
    "Hamiltonian",
    "HamiltonianClassifier",
    "HamiltonianFeatures",
    "HamiltonianRegressor",
    "Images",
    "ImplicitMidpoint",
    "Integrator",
    "Interconnection",
    "Inverse",
    "Layer",
    "LeakyReLU",
    "Learned",
    "Masked",
    "Network",
    "Objective",
    "OffDiagonal",
    "Recipe",
    "RungeKutta4",
    "SensitivityRecorder",
    "Signals",
    "Skew",
    "Space",
    "Splitting",
    "StormerVerlet",
    "Structure",
    "Suzuki4",
    "SymplecticEuler",
    "Vectors",
    "Yoshida4",
    "__version__",
    "analysis",
    "block",
    "canonical",
    "data",
    "evaluate",
    "fit",
    "fit_together",
    "h1",
    "h2",
    "identity",
    "image_classifier",
    "leaky_relu",
    "ms1",
    "ms2",
    "ms3",
    "networks",
    "plots",
    "presets",
    "relu",
    "sigmoid",
    "softplus",
    "spaces",
    "tanh",
    "training",
    "upper_ones",
    "vector_classifier",
    "vector_regressor",
]


def __getattr__(name: str) -> object:
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f"hdnn.{_MODULE_OF[name]}"), name)
    if not name.startswith("_") and importlib.util.find_spec(f"hdnn.{name}") is not None:
        return importlib.import_module(f"hdnn.{name}")
    raise AttributeError(f"module 'hdnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
