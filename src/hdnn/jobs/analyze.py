"""The job that looks into a flow: a folder with a report, its figures and all numbers.

    FOLDER/report.html    a page to read, with everything inside;  FOLDER/figures/ its pictures
    FOLDER/numbers.json   what the figures and tables show, and more

Every file appears whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hdnn.files import make_folder, require_makeable, require_outside, require_own, write_whole
from hdnn.flow import Flow
from hdnn.flow.promises import in_words
from hdnn.jobs.evidence import Finding, LeftOut, Summary, pictured
from hdnn.jobs.factors import factors_of
from hdnn.jobs.findings import find
from hdnn.jobs.meanings import MEANINGS
from hdnn.jobs.peers import beside
from hdnn.jobs.staged import StagedSubject, factors
from hdnn.jobs.subjects import Subject
from hdnn.report import Report, Section, Table, render
from hdnn.runs import versions
from hdnn.stages import Stages

FORMAT = 1
_NUMBERS, _REPORT, _FIGURES = "numbers.json", "report.html", "figures"
_KIND = "hdnn analysis"
_DRAWN = (
    *("norms.png", "singular_values.png", "energy.png", "spectrum.png", "layer_spectrum.png", "gradients.png"),
    "peers.png",
)


@dataclass(frozen=True)
class Analysis:
    """What an analysis left.

    Args:
        folder: where report, figures and numbers are.
        summary: the few numbers that matter, by name; None where an analysis does not apply.
        left_out: analyses that do not apply, with the reason.
    """

    folder: Path
    summary: Summary
    left_out: dict[str, str]

    @property
    def report(self) -> Path:
        """The page to read."""
        return self.folder / _REPORT


def analyze(
    subject: Subject | StagedSubject,
    folder: Path,
    *,
    compare: Sequence[str] = (),
    overwrite: bool = False,
    command: str = "",
) -> Analysis:
    """Look into a flow and write what is found: those analyses that apply, and why the others do not.

    Args:
        subject: a flow and its states, made by `trained` or `untrained`.
        compare: which plain networks to set beside it, "resnet" and "perceptron", both as they begin.
        folder: to write to; new or empty, or with `overwrite` one that holds an analysis.
        overwrite: replace the analysis in it.
        command: what repeats it, for the record.

    Raises:
        OSError: if the folder cannot be used.
        ValueError: if the weights are not finite.
        FloatingPointError: if states are not finite.

    Example:
        >>> import tempfile
        >>> from hdnn.jobs import analyze, untrained
        >>> with tempfile.TemporaryDirectory() as place:
        ...     found = analyze(untrained("h2", layers=8, samples=5), Path(place) / "h2")
        ...     found.report.is_file(), found.summary["lower_bound"]
        (True, 1.0)
    """
    require_free(folder, overwrite=overwrite)
    if compare and isinstance(subject, StagedSubject):
        raise ValueError("Plain networks are set beside one flow, and this run has stages. Leave `compare` out.")
    _ = subject.states  # divergence is found before anything is written
    findings = [*find(subject), *([beside(subject, compare)] if compare and isinstance(subject, Subject) else [])]
    found = [finding for finding in findings if isinstance(finding, Finding)]
    left_out = [finding for finding in findings if isinstance(finding, LeftOut)]
    summary = {name: value for finding in found for name, value in finding.summary.items()}
    numbers = {
        "format": FORMAT,
        "kind": _KIND,
        "subject": subject.lead,
        "command": command,
        "versions": versions(),
        "summary": summary,
        "meanings": {name: MEANINGS[name] for name in summary},
        **{finding.key: finding.numbers for finding in found},
        "left_out": {each.key: each.reason for each in left_out},
    }
    document = json.dumps(numbers, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    _clear(folder)
    write_whole(folder / _NUMBERS, document)
    rows = [(name.replace("_", " "), value, MEANINGS[name]) for name, value in summary.items() if value is not None]
    sections = [
        Section("In numbers", [Table("What was found", ("", "value", "which means"), rows)]),
        *(_section(finding, folder) for finding in found),
    ]
    if left_out:
        reasons = [(each.title, each.reason) for each in left_out]
        sections.append(Section("Left out", [Table("What does not apply", ("analysis", "reason"), reasons)]))
    sections.append(Section("Flow", [Table("Factors", ("", ""), _factors(subject.flow))]))
    report = Report(
        title=f"{folder.resolve().name}: {subject.title}",
        lead=subject.lead,
        headline=_headline(summary, subject.flow),
        sections=sections,
        notes=subject.notes,
        command=command,
        versions=versions(),
    )
    write_whole(folder / _REPORT, render(report))
    return Analysis(folder, summary, {each.title: each.reason for each in left_out})


def require_free(folder: Path, *, overwrite: bool = False) -> None:
    """See that an analysis can go into a folder, before any work is done for it.

    Raises:
        FileExistsError: if the folder is a file or holds something else.
        PermissionError: if it lies in the package.
    """
    require_outside(folder)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file. Choose another folder with --output.")
    require_makeable(folder)
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise FileExistsError(
            f"The folder {folder} exists and is not empty; nothing in it was changed. Choose another with --output, or "
            f"give --overwrite to replace the analysis in it."
        )
    if not _holds_analysis(folder):
        raise FileExistsError(
            f"The folder {folder} holds no analysis, so --overwrite leaves it alone. Choose another with --output."
        )
    _require_own(folder)


def _require_own(folder: Path) -> None:
    """See that a link or a device that stands where an analysis writes is neither followed nor replaced."""
    require_own(folder, (_REPORT, _NUMBERS), (_FIGURES,))
    require_own(folder / _FIGURES, _DRAWN)


def _holds_analysis(folder: Path) -> bool:
    try:
        document: Any = json.loads((folder / _NUMBERS).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("kind") == _KIND


def _clear(folder: Path) -> None:
    """Make the folder, without the files of an older analysis; what else is there is the user's."""
    try:
        make_folder(folder)
        for name in (_REPORT, *[f"{_FIGURES}/{drawn}" for drawn in _DRAWN], _NUMBERS):
            (folder / name).unlink(missing_ok=True)
        make_folder(folder / _FIGURES)
    except OSError as error:
        raise OSError(
            f"The folder {folder} cannot be written: {error.strerror or error}. Choose another with --output."
        ) from error


def _section(finding: Finding, folder: Path) -> Section:
    pictures = [pictured(folder / _FIGURES / d.file, d.figure, d.title, d.alt, d.caption) for d in finding.drawings]
    return Section(finding.title, [*pictures, *finding.tables], finding.text)


def _headline(summary: Summary, flow: Flow | Stages) -> list[tuple[str, object]]:
    return [
        (f"largest ‖∂y_N/∂y_{summary.get('from_layer', 0)}‖", summary["largest_norm"]),
        ("smallest ‖∂y_N/∂y_j‖, j < N", summary["smallest_norm_at_any_depth"]),
        ("guaranteed lower bound", summary["lower_bound"]),
        ("keeps", in_words(flow) if isinstance(flow, Flow) else "what its stages keep"),
    ]


def _factors(flow: Flow | Stages) -> Sequence[tuple[str, object]]:
    if isinstance(flow, Stages):
        return factors(flow)
    return [
        ("layers", flow.layers),
        ("features", flow.features),
        ("step", flow.step),
        ("horizon", flow.horizon),
        ("shared weights", flow.shared),
        *factors_of(flow).items(),
        ("activation", repr(flow.activation)),
        ("computed in", str(flow.weight.dtype).removeprefix("torch.")),
    ]
