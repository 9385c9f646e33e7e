"""Write a network for other programs: `hdnn export`."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

from hdnn.cli.messages import show
from hdnn.cli.options import OUTPUT, AsJson, RunFolder, option


def export(
    run: RunFolder,
    onnx: Annotated[
        Path | None, option(OUTPUT, "ONNX file to write; needs pip install 'hdnn[onnx]'.", default="none")
    ] = None,
    torch: Annotated[Path | None, option(OUTPUT, "PyTorch program (.pt2) to write.", default="none")] = None,
    overwrite: Annotated[bool, option(OUTPUT, "Replace the files.", "--overwrite", default="off")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the network of a run as an ONNX file or a PyTorch program that needs no hdnn to be loaded."""
    from hdnn.jobs.export import export

    written = export(run, onnx=onnx, program=torch, overwrite=overwrite)
    if as_json:
        show(json.dumps([_plain(dataclasses.asdict(each)) for each in written]))
        return
    for each in written:
        show(each.description)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """What JSON can say: paths as text, a difference that is not a number as null."""
    texts = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
    return {name: None if isinstance(value, float) and value != value else value for name, value in texts.items()}
