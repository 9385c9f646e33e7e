"""The laboratory: results of the papers, made again from scratch with seeds and spreads.

One module a result. Their titles stand here, so that they can be listed without waiting for PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from hdnn.names import unknown

if TYPE_CHECKING:
    from hdnn.experiments.experiment import Experiment

TITLES: dict[str, str] = {
    "table1": "Swiss roll and double moons: test accuracy of five networks by depth (L4DC, table 1)",
    "table2": "MNIST: train and test accuracy by depth (L4DC, table 2)",
    "figure1": "What trained networks say all over the plane (L4DC, figure 1)",
    "figure2": "Sensitivity norms of 64 layers while training (L4DC, figure 2)",
    "mlp": "Double moons: 64 layers of H1 against a perceptron of 32 (L4DC, section 4.1)",
    "counterexample": "Gradients that grow while states stay bounded (TAC, appendix III)",
    "distributed": "Eight nodes on a ring: sparse and full K (TAC)",
    "propagation": "Films of the features on their way through the layers",
    "depth": "16 to 4096 layers: H2 against ResNets and perceptrons",
}
"""Name and title of every result, in the order of the papers."""


def load(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        ValueError: if there is none.

    Example:
        >>> load("counterexample").title
        'Gradients that grow while states stay bounded (TAC, appendix III)'
    """
    if name not in TITLES:
        raise ValueError(unknown("experiment", name, TITLES))
    found: Experiment = import_module(f"{__name__}.{name}").EXPERIMENT
    return found
