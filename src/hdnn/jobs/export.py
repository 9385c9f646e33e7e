"""The job that writes a trained network for other programs: an ONNX file, a PyTorch program, or both."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hdnn.export import Units, onnx_difference, program_bytes, program_difference, to_onnx, to_program
from hdnn.files import require_apart, require_new, write_whole
from hdnn.jobs.prediction import opened
from hdnn.networks import Network
from hdnn.runs import Run, files_of, versions

FORMAT = 1
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Args:
        file: where it is.
        kind: "ONNX" or "PyTorch program".
        size: in bytes.
        difference: the largest between its answers and the network's, see `hdnn.export`; None where the file could not
            be run.
    """

    file: Path
    kind: str
    size: int
    difference: float | None

    @property
    def description(self) -> str:
        """One line for people."""
        said = "not verified: onnxruntime is not installed"
        if self.difference is not None:
            said = f"its answers differ from the network's by at most {self.difference:.1e}"
            if not self.difference <= TOLERANCE:
                said += f", more than {TOLERANCE:g}: this network magnifies rounding"
        return f"{self.kind} {self.file} ({self.size:,} bytes), {said}"


def export(
    folder: Path, *, onnx: Path | None = None, program: Path | None = None, overwrite: bool = False
) -> list[Exported]:
    """Write the network of a run to files that need no hdnn, and compare their answers with its own.

    Input and outputs are those of `hdnn.export.to_program`. Each file carries a JSON document of the network, of the
    encoder that made x from raw rows, and of the target: the property "hdnn" of an ONNX model, the extra file
    "hdnn.json" of a .pt2 archive. Nothing is written before all contents are there.

    Args:
        folder: of the run.
        onnx: the ONNX file to write.
        program: the .pt2 file to write.
        overwrite: replace files of these names.

    Returns:
        What was written, in the order of the arguments.

    Raises:
        ValueError: if no file is named, or the run is damaged or cannot be exported.
        FileExistsError: if a file is there.
        ImportError: if a package that ONNX needs is not installed.
        OSError: if the run is not there, or a file cannot be written.
    """
    files = [file for file in (onnx, program) if file is not None]
    if not files:
        raise ValueError("Say what to write: --onnx FILE, --torch FILE, or both.")
    if len({os.path.realpath(file) for file in files}) < len(files):
        raise ValueError(f"{onnx} cannot be both an ONNX file and a PyTorch program. Name two files.")
    for file in files:
        require_apart(file, files_of(folder))
        require_new(file, overwrite=overwrite)
    run, encoder, target, network = opened(folder)
    if run.config.network.of_sequences:
        raise ValueError(
            f"The run {folder} is one of sequences, which no file of this kind takes: their length is free. Predict "
            f"with hdnn predict."
        )
    inputs = encoder.shape
    units: Units | None = (target.mean, target.scale) if network.task == "regression" else None
    document = _document(run)
    made: list[tuple[Path, str, bytes, float | None]] = []
    if onnx is not None:
        content = to_onnx(network, inputs, units=units, metadata=document)
        made.append((onnx, "ONNX", content, _verified(onnx_difference, content, network, inputs, units)))
    if program is not None:
        content = program_bytes(to_program(network, inputs, units=units), document)
        difference = _verified(program_difference, content, network, inputs, units)
        made.append((program, "PyTorch program", content, difference))
    return [
        Exported(write_whole(file, content), kind, len(content), difference) for file, kind, content, difference in made
    ]


def _document(run: Run) -> dict[str, Any]:
    config = run.config
    return {
        "format": FORMAT,
        "input": {"name": "x", "shape": ["batch", *config.network.inputs]},
        "network": dataclasses.asdict(config.network),
        "encoder": config.encoder,
        "target": config.target,
        "versions": versions(),
    }


def _verified(
    difference: Callable[..., float], content: bytes, network: Network, inputs: tuple[int, ...], units: Units | None
) -> float | None:
    try:
        return difference(content, network, inputs, units=units)
    except ImportError:
        return None
