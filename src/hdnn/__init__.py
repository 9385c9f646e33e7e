"""Hamiltonian deep neural networks: deep networks whose sensitivities never fall below 1 in norm.

A network is a time discretization of y' = J ∂H/∂y with H(y) = 1ᵀ σ̃(K y + b). Every public name is importable from
here and is loaded on first use, so that `import hdnn` stays light.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hdnn import analysis as analysis
    from hdnn import data as data
    from hdnn import networks as networks
    from hdnn import plots as plots
    from hdnn import presets as presets
    from hdnn import spaces as spaces
    from hdnn import training as training
    from hdnn.activations import Activation as Activation
    from hdnn.activations import LeakyReLU as LeakyReLU
    from hdnn.activations import identity as identity
    from hdnn.activations import leaky_relu as leaky_relu
    from hdnn.activations import relu as relu
    from hdnn.activations import sigmoid as sigmoid
    from hdnn.activations import softplus as softplus
    from hdnn.activations import tanh as tanh
    from hdnn.contractive import ch_node as ch_node
    from hdnn.dissipation import Dissipation as Dissipation
    from hdnn.distributed import DistributedFlow as DistributedFlow
    from hdnn.energies import Energy as Energy
    from hdnn.energies import Quadratic as Quadratic
    from hdnn.energies import Separable as Separable
    from hdnn.estimator import DataFrameEncoder as DataFrameEncoder
    from hdnn.estimator import HamiltonianClassifier as HamiltonianClassifier
    from hdnn.estimator import HamiltonianFeatures as HamiltonianFeatures
    from hdnn.estimator import HamiltonianRegressor as HamiltonianRegressor
    from hdnn.estimator import HamiltonianSequenceClassifier as HamiltonianSequenceClassifier
    from hdnn.estimator import HamiltonianSequenceRegressor as HamiltonianSequenceRegressor
    from hdnn.estimator import PiecewiseLinearEncoder as PiecewiseLinearEncoder
    from hdnn.flow import Flow as Flow
    from hdnn.hamiltonian import Drive as Drive
    from hdnn.hamiltonian import Field as Field
    from hdnn.hamiltonian import Hamiltonian as Hamiltonian
    from hdnn.hamiltonian import Layer as Layer
    from hdnn.integrators import DiscreteGradient as DiscreteGradient
    from hdnn.integrators import ForwardEuler as ForwardEuler
    from hdnn.integrators import GaussLegendre as GaussLegendre
    from hdnn.integrators import ImplicitMidpoint as ImplicitMidpoint
    from hdnn.integrators import Integrator as Integrator
    from hdnn.integrators import RungeKutta4 as RungeKutta4
    from hdnn.integrators import Splitting as Splitting
    from hdnn.integrators import StormerVerlet as StormerVerlet
    from hdnn.integrators import Suzuki4 as Suzuki4
    from hdnn.integrators import SymplecticEuler as SymplecticEuler
    from hdnn.integrators import Yoshida4 as Yoshida4
    from hdnn.interconnections import Fixed as Fixed
    from hdnn.interconnections import Interconnection as Interconnection
    from hdnn.interconnections import Inverse as Inverse
    from hdnn.interconnections import Learned as Learned
    from hdnn.interconnections import block as block
    from hdnn.interconnections import canonical as canonical
    from hdnn.interconnections import upper_ones as upper_ones
    from hdnn.networks import GraphNetwork as GraphNetwork
    from hdnn.networks import Network as Network
    from hdnn.networks import SequenceNetwork as SequenceNetwork
    from hdnn.networks import graph_classifier as graph_classifier
    from hdnn.networks import graph_regressor as graph_regressor
    from hdnn.networks import hamiltonian74 as hamiltonian74
    from hdnn.networks import hamiltonian218 as hamiltonian218
    from hdnn.networks import hamiltonian1202 as hamiltonian1202
    from hdnn.networks import image_classifier as image_classifier
    from hdnn.networks import image_network as image_network
    from hdnn.networks import node_classifier as node_classifier
    from hdnn.networks import node_regressor as node_regressor
    from hdnn.networks import sequence_classifier as sequence_classifier
    from hdnn.networks import sequence_regressor as sequence_regressor
    from hdnn.networks import signal_classifier as signal_classifier
    from hdnn.networks import signal_regressor as signal_regressor
    from hdnn.networks import vector_classifier as vector_classifier
    from hdnn.networks import vector_regressor as vector_regressor
    from hdnn.poisson import StateDependent as StateDependent
    from hdnn.presets import h1 as h1
    from hdnn.presets import h2 as h2
    from hdnn.presets import ms1 as ms1
    from hdnn.presets import ms2 as ms2
    from hdnn.presets import ms3 as ms3
    from hdnn.recurrent import HamiltonianRNN as HamiltonianRNN
    from hdnn.runs import pretrained as pretrained
    from hdnn.spaces import Graph as Graph
    from hdnn.spaces import Images as Images
    from hdnn.spaces import Signals as Signals
    from hdnn.spaces import Space as Space
    from hdnn.spaces import Vectors as Vectors
    from hdnn.stages import Pool as Pool
    from hdnn.stages import Stage as Stage
    from hdnn.stages import Widen as Widen
    from hdnn.structures import BlockDiagonal as BlockDiagonal
    from hdnn.structures import BlockSkew as BlockSkew
    from hdnn.structures import Dense as Dense
    from hdnn.structures import Masked as Masked
    from hdnn.structures import OffDiagonal as OffDiagonal
    from hdnn.structures import Skew as Skew
    from hdnn.structures import Structure as Structure
    from hdnn.training import GradientRecorder as GradientRecorder
    from hdnn.training import Objective as Objective
    from hdnn.training import Recipe as Recipe
    from hdnn.training import SensitivityRecorder as SensitivityRecorder
    from hdnn.training import evaluate as evaluate
    from hdnn.training import every as every
    from hdnn.training import fit as fit
    from hdnn.training import fit_together as fit_together
    from hdnn.training import training_backend as training_backend

__version__ = "0.1.0"

_HOME = {
    "activations": "Activation LeakyReLU identity leaky_relu relu sigmoid softplus tanh",
    "contractive": "ch_node",
    "dissipation": "Dissipation",
    "distributed": "DistributedFlow",
    "energies": "Energy Quadratic Separable",
    "estimator": "DataFrameEncoder HamiltonianClassifier HamiltonianFeatures HamiltonianRegressor "
    "HamiltonianSequenceClassifier HamiltonianSequenceRegressor PiecewiseLinearEncoder",
    "flow": "Flow",
    "hamiltonian": "Drive Field Hamiltonian Layer",
    "integrators": "DiscreteGradient ForwardEuler GaussLegendre ImplicitMidpoint Integrator RungeKutta4 Splitting "
    "StormerVerlet Suzuki4 SymplecticEuler Yoshida4",
    "interconnections": "Fixed Interconnection Inverse Learned block canonical upper_ones",
    "networks": "GraphNetwork Network SequenceNetwork graph_classifier graph_regressor hamiltonian74 hamiltonian218 "
    "hamiltonian1202 image_classifier image_network node_classifier node_regressor sequence_classifier "
    "sequence_regressor signal_classifier signal_regressor vector_classifier vector_regressor",
    "poisson": "StateDependent",
    "presets": "h1 h2 ms1 ms2 ms3",
    "recurrent": "HamiltonianRNN",
    "runs": "pretrained",
    "spaces": "Graph Images Signals Space Vectors",
    "stages": "Pool Stage Widen",
    "structures": "BlockDiagonal BlockSkew Dense Masked OffDiagonal Skew Structure",
    "training": "GradientRecorder Objective Recipe SensitivityRecorder evaluate every fit fit_together "
    "training_backend",
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names.split()}
_SUBMODULES = ("analysis", "data", "networks", "plots", "presets", "spaces", "training")

__all__ = sorted([*_MODULE_OF, *_SUBMODULES, "__version__"])


def __getattr__(name: str) -> object:
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f"hdnn.{_MODULE_OF[name]}"), name)
    if not name.startswith("_") and importlib.util.find_spec(f"hdnn.{name}") is not None:
        return importlib.import_module(f"hdnn.{name}")
    raise AttributeError(f"module 'hdnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
