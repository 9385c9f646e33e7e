"""The verdict: what was published beside what was found, as a page in HTML and in Markdown."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hdnn.experiments.experiment import Measure
from hdnn.experiments.laboratory import Reproduction
from hdnn.experiments.store import Record
from hdnn.files import write_whole
from hdnn.report import Picture, Report, Section, Table, render

_BEST = "best seed*"
_NOTE = (
    "Means ± standard deviations over the seeds. * The best of the seeds is chosen on test data: it says what the "
    "network can do, not what to expect, and takes no part in the verdict."
)


def write(reproduction: Reproduction, folder: Path, stem: str, command: str) -> list[Path]:
    """Write the verdict as HTML, as Markdown with its pictures beside it, and its numbers as JSON.

    Args:
        reproduction: what was found.
        folder: where to; made if it is not there.
        stem: of the names of all files.
        command: what to type to get the same.

    Returns:
        The files; the page in HTML is the first, the one in Markdown the second.
    """
    page = report(reproduction, command)
    pictures = {part.title: part for section in page.sections for part in section.parts if isinstance(part, Picture)}
    names = {title: f"{stem}-{_slug(title)}.{picture.kind}" for title, picture in pictures.items()}
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(numbers(reproduction), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return [
        write_whole(folder / f"{stem}.html", render(page)),
        write_whole(folder / f"{stem}.md", markdown(page, names)),
        write_whole(folder / f"{stem}.json", text),
        *(write_whole(folder / names[title], picture.data) for title, picture in pictures.items()),
    ]


def numbers(reproduction: Reproduction) -> dict[str, Any]:
    """All numbers of a reproduction, without the arrays, in plain values."""
    experiment = reproduction.experiment
    return {
        "experiment": experiment.name,
        "smoke": reproduction.smoke,
        "reached": sum(verdict == "met" for verdict in _verdicts(reproduction).values()),
        "judged": len(_verdicts(reproduction)),
        "cells": {
            cell: {
                "paper": experiment.paper.numbers.get(cell, {}),
                "seeds": {
                    str(seed): {
                        "metrics": dict(record.outcome.metrics) if record.outcome else None,
                        "failure": record.failure,
                        "wall_seconds": record.wall_seconds,
                        "processor_seconds": record.processor_seconds,
                        **record.made,
                    }
                    for seed, record in records.items()
                },
            }
            for cell, records in reproduction.records.items()
        },
    }


def report(reproduction: Reproduction, command: str) -> Report:
    """The verdict as a page."""
    experiment = reproduction.experiment
    paper = experiment.paper
    found = {cell: outcomes for cell, outcomes in reproduction.found.items() if outcomes}
    pictures = experiment.draw(found) if experiment.draw is not None and found else ()
    tables = [table for table in (_against_paper(reproduction), _all_measures(reproduction)) if table is not None]
    verdicts = list(_verdicts(reproduction).values())
    notes = [f"{cell}, seed {seed}: {r.failure}" for cell, seed, r in _records(reproduction) if r.failure]
    if reproduction.smoke:
        notes.insert(0, "These are the small runs of tests. They say nothing about the paper.")
    wall = sum(record.wall_seconds for _, _, record in _records(reproduction))
    processor = sum(record.processor_seconds for _, _, record in _records(reproduction))
    seeds = sorted({seed for _, seed, _ in _records(reproduction)})
    headline: list[tuple[str, object]] = [("cells", len(reproduction.records)), ("seeds", _span(seeds))]
    headline.append(("time, CPU time", f"{_duration(wall)}, {_duration(processor)}"))
    if verdicts:
        headline.insert(0, ("published numbers reached", f"{verdicts.count('met')} of {len(verdicts)}"))
    return Report(
        experiment.title,
        experiment.method,
        headline,
        [
            Section("Paper and ours", tables, f"Published: {paper.source}, {paper.url}. {paper.note}".strip()),
            *([Section("Figures", list(pictures))] if pictures else []),
        ],
        notes,
        command,
        _made(reproduction),
    )


def markdown(page: Report, names: Mapping[str, str]) -> str:
    """The page in Markdown.

    Args:
        page: what to say.
        names: of the file of every picture, by its title.
    """
    lines = [f"# {page.title}", "", page.lead, "", *(f"- {name}: {value}" for name, value in page.headline)]
    for note in page.notes:
        lines += ["", f"> {note}"]
    for section in page.sections:
        lines += ["", f"## {section.title}", *(["", section.text] if section.text else [])]
        for part in section.parts:
            lines += ["", f"### {part.title}", ""]
            if isinstance(part, Table):
                lines += [*_rows(part), *(["", part.note.replace("*", "\\*")] if part.note else [])]
            else:
                lines += [f"![{part.alt}]({names[part.title]})", *(["", part.caption] if part.caption else [])]
    lines += ["", "## Do it again", "", f"`{page.command}`", "", "## Made with", ""]
    lines += [f"- {name}: {value}" for name, value in page.versions.items()]
    return "\n".join(lines) + "\n"


def _rows(table: Table) -> list[str]:
    cells = [[text.replace("|", "\\|") for text, _ in row] for row in table.cells]
    for i in table.marked:
        cells[i] = [f"**{text}**" if text else "" for text in cells[i]]
    heads = [column.replace("|", "\\|").replace("*", "\\*") for column in table.columns]
    sides = ["---:" if cells and table.cells[0][i][1] else "---" for i in range(len(heads))]
    return [f"| {' | '.join(row)} |" for row in (heads, sides, *cells)]


def _against_paper(reproduction: Reproduction) -> Table | None:
    """A row for every published number."""
    verdicts = _verdicts(reproduction)
    published = reproduction.experiment.paper.numbers
    shown = [
        (cell, measure)
        for cell in reproduction.records
        for measure in reproduction.experiment.measures
        if measure.name in published.get(cell, {})
    ]
    if not shown:
        return None
    measures = {measure.name for _, measure in shown}
    variants = list(dict.fromkeys(cell.partition("@")[2] for cell in reproduction.records if "@" in cell))
    several = any(len(reproduction.records[cell]) > 1 for cell, _ in shown)
    best = several and any(measure.better for _, measure in shown)
    heads = ["cell", *(["measure"] if len(measures) > 1 else []), "paper", "ours"]
    heads += [*(["median"] if several else []), *([_BEST] if best else []), *([""] if verdicts else []), "CPU time, s"]
    heads += [f"{variant} recipe" for variant in variants]
    rows: list[list[object]] = []
    marked: list[int] = []
    for cell, measure in shown:
        records = reproduction.records[cell]
        values = _values(records, measure)
        verdict = verdicts.get((cell, measure.name), "")
        if verdict.startswith("miss"):
            marked.append(len(rows))
        row = [cell, *([measure.title] if len(measures) > 1 else [])]
        row += [format(published[cell][measure.name], measure.format), _mean(values, measure)]
        row += [_one(values, statistics.median, measure)] if several else []
        row += [_one(values, measure.better, measure)] if best else []
        row += [verdict] if verdicts else []
        row += [f"{sum(record.processor_seconds for record in records.values()):.3g}"]
        beside = [reproduction.records.get(f"{cell}@{variant}", {}) for variant in variants]
        rows.append([*row, *(_mean(_values(of_variant, measure), measure) for of_variant in beside)])
    title = next(measure for _, measure in shown).title if len(measures) == 1 else "Published numbers"
    return Table(title[0].upper() + title[1:], heads, rows, _NOTE if best else _NOTE.split(" *")[0], marked)


def _all_measures(reproduction: Reproduction) -> Table | None:
    """A row for every cell and variant, where the other table does not say it all."""
    experiment = reproduction.experiment
    if {measure.name for measure in experiment.measures} <= {
        name for cell in reproduction.records for name in experiment.paper.numbers.get(cell, {})
    } and not any("@" in cell for cell in reproduction.records):
        return None
    rows = [
        [
            cell,
            *(_mean(_values(records, measure), measure) for measure in experiment.measures),
            len(records),
            f"{sum(record.processor_seconds for record in records.values()):.3g}",
        ]
        for cell, records in reproduction.records.items()
    ]
    heads = ["cell", *(measure.title for measure in experiment.measures), "seeds", "CPU time, s"]
    return Table("All that was measured", heads, rows, _NOTE.split(" *")[0])


def _verdicts(reproduction: Reproduction) -> dict[tuple[str, str], str]:
    """By cell and measure, "met" or "miss" with the reason where seeds diverged."""
    found = {}
    for cell, records in reproduction.records.items():
        published = reproduction.experiment.paper.numbers.get(cell, {})
        for measure in reproduction.experiment.measures:
            if measure.meets is None or measure.name not in published or reproduction.smoke:
                continue
            diverged = sum(record.outcome is None for record in records.values())
            if diverged:
                found[cell, measure.name] = f"miss ({diverged} of {len(records)} diverged)"
            else:
                mean = statistics.fmean(_values(records, measure))
                found[cell, measure.name] = "met" if measure.meets(mean, published[measure.name]) else "miss"
    return found


def _values(records: Mapping[int, Record], measure: Measure) -> list[float]:
    return [
        record.outcome.metrics[measure.name]
        for record in records.values()
        if record.outcome is not None and measure.name in record.outcome.metrics
    ]


def _mean(values: Sequence[float], measure: Measure) -> str:
    if not values:
        return "–"
    spread = f" ± {statistics.stdev(values):{measure.format}}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):{measure.format}}{spread}"


def _one(values: Sequence[float], choose: Any, measure: Measure) -> str:
    return "–" if not values or choose is None else format(choose(values), measure.format)


def _records(reproduction: Reproduction) -> list[tuple[str, int, Record]]:
    return [(cell, seed, record) for cell, records in reproduction.records.items() for seed, record in records.items()]


def _made(reproduction: Reproduction) -> dict[str, str]:
    """What took part, each value once."""
    found: dict[str, dict[str, None]] = {}
    for _, _, record in _records(reproduction):
        for name, value in record.made.items():
            found.setdefault(name, {})[value] = None
    return {name: ", ".join(values) for name, values in found.items()}


def _span(seeds: Sequence[int]) -> str:
    if len(seeds) > 1 and seeds[-1] - seeds[0] == len(seeds) - 1:
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 120 else f"{seconds:.3g} s"


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
