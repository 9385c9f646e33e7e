"""Look inside a flow: `hdnn analyze`."""

import json
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from hdnn import shelf
from hdnn.cli.messages import say, show
from hdnn.cli.options import NETWORK, OUTPUT, AsJson, MnistFolder, offering, option, taken
from hdnn.display import shown
from hdnn.options import FlowChoices, ModelChoice

_DEFAULTS = {
    "layers": "64",
    "step": "0.1",
    "horizon": "layers x step",
    "features": "4",
    "width": "features",
    "activation": "tanh",
    "interconnection": "canonical",
    "integrator": "the model's",
    "damping": "none",
    "shared": "off",
    "init_std": "1/√features",
}


@offering((ModelChoice, NETWORK, {}, "none"), (FlowChoices, NETWORK, _DEFAULTS, ""))
def analyze(
    run: Annotated[
        Path | None, typer.Argument(help="Folder that `hdnn train` wrote, or pretrained:NAME; none with --model.")
    ] = None,
    *,
    samples: Annotated[int, option(None, "Test samples of the run, or random states.")] = 100,
    seed: Annotated[int, option(None, "Seed of the samples, and of the weights of an untrained flow.")] = 0,
    data_folder: MnistFolder = None,
    output: Annotated[
        Path | None,
        option(OUTPUT, "Folder to write.", "--output", "-o", default="RUN/analysis, or analyses/MODEL-TIME"),
    ] = None,
    compare: Annotated[
        str | None,
        option(None, "Plain networks to set beside it, as they begin: resnet, perceptron or both.", default="none"),
    ] = None,
    overwrite: Annotated[
        bool, option(OUTPUT, "Replace the analysis in the output folder.", "--overwrite", default="off")
    ] = False,
    as_json: AsJson = False,
    **chosen: Any,
) -> None:
    """See what the flow of a run, or an untrained one, does to states and gradients: numbers, figures, a report."""
    from hdnn.jobs import analyze, choose_subject
    from hdnn.jobs.meanings import MEANINGS
    from hdnn.jobs.peers import named

    kinds = named(compare) if compare is not None else ()
    network = taken(ModelChoice, chosen) | taken(FlowChoices, chosen)
    name = shelf.name_of(run) if run else chosen["model"]
    folder = output or (
        run / "analysis" if run and not name else Path("analyses") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    )
    subject = choose_subject(run, network, samples, seed, str(data_folder) if data_folder else None)
    say(subject.lead)
    command = shlex.join(["hdnn", *sys.argv[1:]])
    found = analyze(subject, folder, compare=kinds, overwrite=overwrite, command=command)
    if as_json:
        show(json.dumps({**found.summary, "left_out": found.left_out, "report": str(found.report)}))
        return
    for name, value in found.summary.items():
        if value is not None:
            number = value if isinstance(value, str) else shown(name, value)
            show(f"{name.replace('_', ' ')}: {number} ({MEANINGS[name]})")
    for title, reason in found.left_out.items():
        say(f"Left out: {title}. {reason}")
    show(f"Report: {found.report}")
