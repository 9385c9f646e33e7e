"""The options that commands share, as annotated types, and how each shows its default."""

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


def option(panel: str | None, help: str, *names: str, default: str | bool = True) -> Any:
    """An option under a heading of the help page.

    Args:
        panel: the heading; None for commands that have few options.
        help: one sentence; brackets stay brackets.
        names: where they do not follow from the parameter.
        default: in words, where it is decided elsewhere; True shows the value that stands in the signature.
    """
    brackets = help.replace("[", "\\[")  # which rich would take for its own
    return typer.Option(*names, help=brackets, rich_help_panel=panel, show_default=default)


_NETWORK = {
    "model": "ms1, ms2, ms3, h1 or h2.",
    "layers": "Number of layers N.",
    "step": "Integration step h.",
    "horizon": "Integration time T = N h, instead of --step.",
    "features": "Size n of the state.",
    "width": "Hidden units a layer (h1, h2).",
    "activation": "tanh, relu, leaky_relu, sigmoid, softplus or identity.",
    "interconnection": "J of h1 and h2: canonical or upper_ones (J1 and J2 of the L4DC paper).",
    "shared": "One K and b for all layers (time-invariant).",
    "init_std": "Standard deviation of the initial weights.",
}


def network(name: str, default: str) -> Any:
    """An option of the network, whose default each command decides."""
    names = ("--shared",) if name == "shared" else ()
    return option(NETWORK, _NETWORK[name], *names, default=default)


AsJson = Annotated[bool, option(OUTPUT, "Print the result as JSON on stdout.", "--json", default="off")]
RunFolder = Annotated[Path, typer.Argument(help="Folder that `hdnn train` wrote.")]
MnistFolder = Annotated[Path | None, option(DATA, "Where the MNIST files are now.", default="where they were")]
