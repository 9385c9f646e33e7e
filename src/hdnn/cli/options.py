"""The options that commands share, as annotated types."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

# As dictionaries, for type checkers then know the values.
Lifts = StrEnum("Lifts", {"zeros": "zeros", "linear": "linear"})
Optimizers = StrEnum("Optimizers", {"adam": "adam", "adamw": "adamw", "sgd": "sgd", "lbfgs": "lbfgs"})
Methods = StrEnum("Methods", {"joint": "joint", "alternating": "alternating"})
Tasks = StrEnum("Tasks", {"classification": "classification", "regression": "regression"})

NETWORK, TRAINING, DATA, OUTPUT = "Network", "Training", "Data", "Output"
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.", rich_help_panel=OUTPUT)]
RunFolder = Annotated[Path, typer.Argument(help="Folder that `hdnn train` wrote.")]


def option(panel: str, help: str, *names: str) -> Any:
    """An option whose default is decided elsewhere, under a heading of the help page."""
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=False)


Model = Annotated[str | None, option(NETWORK, "ms1, ms2, ms3, h1 or h2.")]
Layers = Annotated[int | None, option(NETWORK, "Number of layers N.")]
Step = Annotated[float | None, option(NETWORK, "Integration step h.")]
Horizon = Annotated[float | None, option(NETWORK, "Integration time T = N h, instead of --step.")]
Features = Annotated[int | None, option(NETWORK, "Size n of the state.")]
Width = Annotated[int | None, option(NETWORK, "Hidden units a layer (h1, h2).")]
ActivationName = Annotated[str | None, option(NETWORK, "tanh, relu, leaky_relu, sigmoid, softplus or identity.")]
InterconnectionName = Annotated[
    str | None, option(NETWORK, "J of h1 and h2: canonical or upper_ones (J1 and J2 of the L4DC paper).")
]
Shared = Annotated[bool, option(NETWORK, "One K and b for all layers (time-invariant).", "--shared")]
InitStd = Annotated[float | None, option(NETWORK, "Standard deviation of the initial weights.")]
MnistFolder = Annotated[Path | None, option(DATA, "Where the MNIST files are now.")]
