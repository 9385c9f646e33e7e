"""Look inside a flow: `hdnn analyze`."""

import json
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from hdnn.cli.messages import say, show
from hdnn.cli.options import (
    OUTPUT,
    AsJson,
    MnistFolder,
    network,
    option,
)
from hdnn.display import shown


def analyze(
    run: Annotated[Path | None, typer.Argument(help="Folder that `hdnn train` wrote; none with --model.")] = None,
    model: Annotated[str | None, network("model", "none")] = None,
    layers: Annotated[int | None, network("layers", "64")] = None,
    step: Annotated[float | None, network("step", "0.1")] = None,
    horizon: Annotated[float | None, network("horizon", "layers x step")] = None,
    features: Annotated[int | None, network("features", "4")] = None,
    width: Annotated[int | None, network("width", "features")] = None,
    activation: Annotated[str | None, network("activation", "tanh")] = None,
    interconnection: Annotated[str | None, network("interconnection", "canonical")] = None,
    shared: Annotated[bool, network("shared", "off")] = False,
    init_std: Annotated[float | None, network("init_std", "1/√features")] = None,
    samples: Annotated[int, option(None, "Test samples of the run, or random states.")] = 100,
    seed: Annotated[int, option(None, "Seed of the samples, and of the weights of an untrained flow.")] = 0,
    data_folder: MnistFolder = None,
    output: Annotated[
        Path | None,
        option(OUTPUT, "Folder to write.", "--output", "-o", default="RUN/analysis, or analyses/MODEL-TIME"),
    ] = None,
    overwrite: Annotated[
        bool, option(OUTPUT, "Replace the analysis in the output folder.", "--overwrite", default="off")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """See what the flow of a run, or an untrained one, does to states and gradients: numbers, figures, a report."""
    from hdnn.jobs import analyze, choose_subject

    network = {
        "model": model,
        "layers": layers,
        "step": step,
        "horizon": horizon,
        "features": features,
        "width": width,
        "activation": activation,
        "interconnection": interconnection,
        "shared": shared or None,
        "init_std": init_std,
    }
    folder = output or (run / "analysis" if run else Path("analyses") / f"{model}-{datetime.now():%Y%m%d-%H%M%S}")
    subject = choose_subject(run, network, samples, seed, str(data_folder) if data_folder else None)
    say(subject.lead)
    found = analyze(subject, folder, overwrite=overwrite, command=shlex.join(["hdnn", *sys.argv[1:]]))
    if as_json:
        show(json.dumps({**found.summary, "left_out": found.left_out, "report": str(found.report)}))
        return
    for name, value in found.summary.items():
        if value is not None:
            show(f"{name.replace('_', ' ')}: {value if isinstance(value, str) else shown(name, value)}")
    for title, reason in found.left_out.items():
        say(f"Left out: {title}. {reason}")
    show(f"Report: {found.report}")
