"""The verdict: what was published beside what was found, as a page in HTML and in Markdown."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hdnn.experiments.experiment import Measure
from hdnn.experiments.laboratory import Reproduction
from hdnn.experiments.store import Record
from hdnn.files import make_folder, write_whole
from hdnn.report import Picture, Report, Section, Table, render

MET, WITHIN, MISSED = "met", "within its standard error", "missed"
_JUDGED = (
    f"Under each mean stands the published number. {MET.capitalize()}: the mean reaches it; {WITHIN}: it falls short "
    "by less than its standard error, which is the standard deviation divided by the root of the number of seeds; "
    f"{MISSED}: all others."
)
_BEST = (
    "* The best of the seeds is chosen on test data: it says what the network can do, not what to expect, and takes no "
    "part in the verdict."
)


@dataclass(frozen=True)
class Finding:
    """One measure of one cell, over the seeds.

    Attributes:
        cell: its name.
        measure: which number.
        values: of the seeds that did not diverge.
        published: what stands in the paper; None: nothing.
        seeds: how many were run.
        diverged: how many of them did.
        judged: whether there is a verdict.
    """

    cell: str
    measure: Measure
    values: list[float]
    published: float | None
    seeds: int
    diverged: int
    judged: bool

    @property
    def standard_error(self) -> float | None:
        """Standard deviation / √seeds, of the mean; None for a single seed."""
        return statistics.stdev(self.values) / math.sqrt(len(self.values)) if len(self.values) > 1 else None

    @property
    def verdict(self) -> str:
        """Met, within its standard error of being met, or missed; empty where nothing is judged."""
        if not self.judged or self.measure.meets is None or self.published is None:
            return ""
        if self.diverged:
            return f"{MISSED} ({self.diverged} of {self.seeds} diverged)"
        mean = statistics.fmean(self.values)
        if self.measure.meets(mean, self.published):
            return MET
        towards = -1 if self.measure.better is min else 1
        nearly = self.measure.meets(mean + towards * (self.standard_error or 0.0), self.published)
        return WITHIN if nearly else MISSED

    @property
    def mean(self) -> str:
        """Mean ± standard deviation."""
        if not self.values:
            return "–"
        spread = f" ± {statistics.stdev(self.values):{self.measure.format}}" if len(self.values) > 1 else ""
        return f"{statistics.fmean(self.values):{self.measure.format}}{spread}"

    @property
    def paper(self) -> str:
        """The published number, as it is printed."""
        return "–" if self.published is None else f"{self.published:.6g}"


def finding(reproduction: Reproduction, cell: str, measure: Measure) -> Finding:
    """What was found of a measure of a cell."""
    outcomes = [record.outcome for record in reproduction.records[cell].values()]
    return Finding(
        cell,
        measure,
        [one.metrics[measure.name] for one in outcomes if one is not None and measure.name in one.metrics],
        reproduction.experiment.paper.numbers.get(cell, {}).get(measure.name),
        len(outcomes),
        sum(one is None for one in outcomes),
        not reproduction.smoke,
    )


def findings(reproduction: Reproduction) -> Iterator[Finding]:
    """All of them: cells in order, and of every cell the measures in order."""
    for cell in reproduction.records:
        for measure in reproduction.experiment.measures:
            yield finding(reproduction, cell, measure)


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
    make_folder(folder)
    text = json.dumps(numbers(reproduction), ensure_ascii=False, allow_nan=False)
    text = re.sub(r' ("[^"]+": \{"metrics")', r"\n\1", text)  # a line a seed
    return [
        write_whole(folder / f"{stem}.html", render(page)),
        write_whole(folder / f"{stem}.md", markdown(page, names)),
        write_whole(folder / f"{stem}.json", text + "\n"),
        *(write_whole(folder / names[title], picture.data) for title, picture in pictures.items()),
    ]


def numbers(reproduction: Reproduction) -> dict[str, Any]:
    """All numbers of a reproduction, without the arrays, in plain values; "made" counts in the list of that name."""
    experiment = reproduction.experiment
    made: list[Mapping[str, str]] = []
    for _, _, record in _records(reproduction):
        if record.made not in made:
            made.append(record.made)
    verdicts = _verdicts(reproduction)
    return {
        "experiment": experiment.name,
        "smoke": reproduction.smoke,
        "judged": verdicts.total(),
        **{verdict: verdicts[verdict] for verdict in (MET, WITHIN, MISSED)},
        "made": [dict(each) for each in made],
        "cells": {
            cell: {
                "paper": experiment.paper.numbers.get(cell, {}),
                "verdicts": {
                    found.measure.name: found.verdict
                    for found in (finding(reproduction, cell, measure) for measure in experiment.measures)
                    if found.verdict
                },
                "seeds": {
                    str(seed): {
                        "metrics": dict(record.outcome.metrics) if record.outcome else None,
                        "failure": record.failure,
                        "wall_seconds": float(f"{record.wall_seconds:.4g}"),
                        "processor_seconds": float(f"{record.processor_seconds:.4g}"),
                        "made": made.index(record.made),
                    }
                    for seed, record in records.items()
                },
            }
            for cell, records in reproduction.records.items()
        },
    }


def report(reproduction: Reproduction, command: str) -> Report:
    """The verdict as a page: its table first, then figures and all numbers, then how they were found."""
    experiment = reproduction.experiment
    found = {cell: outcomes for cell, outcomes in reproduction.found.items() if outcomes}
    pictures = experiment.draw(found) if experiment.draw is not None and found else ()
    called = experiment.called
    notes = [f"{called(cell)}, seed {seed}: {r.failure}" for cell, seed, r in _records(reproduction) if r.failure]
    if reproduction.smoke:
        notes.insert(0, "These are the small runs of tests. They say nothing about the paper.")
    if reproduction.left_out:
        notes.append(
            f"Left out, as their results in the folder were made with other settings or versions: "
            f"{', '.join(map(called, reproduction.left_out))}."
        )
    published = f"Published: {experiment.paper.source}, {experiment.paper.url}. {experiment.paper.note}".strip()
    grids, every = _grids(reproduction), _list(reproduction)
    sections = [
        Section("Paper and ours" if experiment.paper.numbers else "What was found", grids or [every]),
        Section("What it says", (), experiment.conclusions if not reproduction.smoke else ""),
        Section("Figures", list(pictures)),
        Section("All that was measured", [every] if grids else ()),
        Section("How it was done", (), f"{published}\n\n{experiment.method}"),
    ]
    return Report(
        experiment.title,
        _lead(reproduction),
        _headline(reproduction),
        [section for section in sections if section.parts or section.text],
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
    lines = [f"# {page.title}", "", page.lead]
    for note in page.notes:
        lines += ["", f"> {note}"]
    for section in page.sections:
        lines += ["", f"## {section.title}", *(["", section.text] if section.text else [])]
        for part in section.parts:
            lines += ["", *([f"### {part.title}", ""] if part.title != section.title else [])]
            if isinstance(part, Table):
                lines += [*_rows(part), *(["", part.note.replace("*", "\\*")] if part.note else [])]
            else:
                lines += [f"![{part.alt}]({names[part.title]})", *(["", part.caption] if part.caption else [])]
    lines += ["", "## Do it again", "", "```text", page.command, "```", "", "## Made with", ""]
    lines += [f"- {name}: {value}" for name, value in (*page.headline, *page.versions.items())]
    return "\n".join(lines) + "\n"


def _rows(table: Table) -> list[str]:
    cells = [[_cell(text) for text, _ in row] for row in table.cells]
    for i in table.marked:
        cells[i] = [f"**{text}**" if text else "" for text in cells[i]]
    heads = [column.replace("|", "\\|").replace("*", "\\*") for column in table.columns]
    sides = ["---:" if cells and table.cells[0][i][1] else "---" for i in range(len(heads))]
    return [f"| {' | '.join(row)} |" for row in (heads, sides, *cells)]


def _cell(text: str) -> str:
    if "±" in text:
        text = text.replace(" ", "\u00a0")  # a mean stays on one line
    return text.replace("|", "\\|").replace("\n", "<br>")


def _lead(reproduction: Reproduction) -> str:
    verdicts = _verdicts(reproduction)
    spread = _spread(len(records) for cell, records in reproduction.records.items() if "@" not in cell)
    if not verdicts:
        return spread
    counts = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in (MET, WITHIN, MISSED) if verdicts[verdict])
    return f"Of {verdicts.total()} published numbers: {counts}. {spread}"


def _headline(reproduction: Reproduction) -> list[tuple[str, object]]:
    verdicts = _verdicts(reproduction)
    wall = sum(record.wall_seconds for _, _, record in _records(reproduction))
    processor = sum(record.processor_seconds for _, _, record in _records(reproduction))
    seeds = list(dict.fromkeys(_span(sorted(records)) for records in reproduction.records.values()))
    return [
        *([("published numbers met", f"{verdicts[MET]} of {verdicts.total()}")] if verdicts else []),
        ("cells", len(reproduction.records)),
        ("seed" if "".join(seeds).isdecimal() and len(seeds) == 1 else "seeds", "; ".join(seeds)),
        ("time, CPU time", f"{_duration(wall)}, {_duration(processor)}"),
    ]


def _spread(counts: Iterable[int]) -> str:
    """What a mean and its ± are of."""
    low, high = min(counts := set(counts), default=1), max(counts, default=1)
    if high == 1:
        return "A single seed."
    single = " A number without ± is that of a single seed." if low == 1 else ""
    more = min((count for count in counts if count > 1), default=high)
    return f"Means ± standard deviations over {more if more == high else f'{more} to {high}'} seeds.{single}"


def _grids(reproduction: Reproduction) -> list[Table]:
    """Tables laid out as that of the paper, one for every published measure, then those of the variants."""
    experiment = reproduction.experiment
    numbers = experiment.paper.numbers
    published = {name for cell in reproduction.records for name in numbers.get(cell, {})}
    shown = [measure for measure in experiment.measures if measure.name in published] or experiment.measures[:1]
    variants = dict.fromkeys(cell.partition("@")[2] for cell in reproduction.records)
    return [
        _grid(reproduction, measure, variant)
        for variant in sorted(variants, key=bool)
        for measure in shown
        if len({experiment.layout(cell.partition("@")[0])[1] for cell in reproduction.records}) > 1
    ]


def _grid(reproduction: Reproduction, measure: Measure, variant: str) -> Table:
    experiment = reproduction.experiment
    places: dict[tuple[str, str], str] = {}
    judged, counts = False, set()
    for cell in reproduction.records:
        name, _, of = cell.partition("@")
        if of == variant:
            found = finding(reproduction, cell, measure)
            beside = [f"paper {found.paper}", found.verdict] if found.published is not None else []
            judged = judged or bool(found.verdict)
            counts.add(found.seeds)
            places[experiment.layout(name)] = "\n".join(filter(None, [found.mean, *beside]))
    rows, columns = (list(dict.fromkeys(place[axis] for place in places)) for axis in (0, 1))
    title = measure.title[0].upper() + measure.title[1:]
    if variant:
        title += f", {experiment.variants.get(variant, variant)}"
    return Table(
        title,
        ["", *columns],
        [[row, *(places.get((row, column), "–") for column in columns)] for row in rows],
        f"{_spread(counts)} {_JUDGED}" if judged else _spread(counts),
    )


def _list(reproduction: Reproduction) -> Table:
    """A row for every cell and variant."""
    experiment = reproduction.experiment
    of_measures = {
        measure.name: [finding(reproduction, cell, measure) for cell in reproduction.records]
        for measure in experiment.measures
    }
    columns: list[tuple[str, list[object]]] = [("", [experiment.called(cell) for cell in reproduction.records])]
    several = any(len(records) > 1 for records in reproduction.records.values())
    marked: set[int] = set()
    for measure in experiment.measures:
        found = of_measures[measure.name]
        columns.append((measure.title, [one.mean for one in found]))
        verdicts = [one.verdict for one in found]
        if any(one.published is not None for one in found):
            columns.append(("paper", [one.paper for one in found]))
        if any(verdicts):
            errors = [one.standard_error for one in found]
            columns.append(("standard error", [None if error is None else f"{error:.2g}" for error in errors]))
            columns.append(("verdict", [*verdicts]))
            marked |= {i for i, verdict in enumerate(verdicts) if verdict.startswith(MISSED)}
        if several and measure.better is not None:
            for head, choose in (("median", statistics.median), ("best seed*", measure.better)):
                cells = [format(choose(one.values), measure.format) if one.values else None for one in found]
                columns.append((head, [*cells]))
    columns.append(("n", [len(records) for records in reproduction.records.values()]))
    columns.append(("seeds", [_span(sorted(records)) for records in reproduction.records.values()]))
    seconds = (sum(r.processor_seconds for r in records.values()) for records in reproduction.records.values())
    columns.append(("CPU time, s", [f"{each:.3g}" for each in seconds]))
    spread = _spread(map(len, reproduction.records.values()))
    note = f"{spread} {_BEST}" if any(head.endswith("*") for head, _ in columns) else spread
    heads, values = zip(*columns, strict=True)
    return Table("Every cell", heads, list(zip(*values, strict=True)), note, marked)


def _verdicts(reproduction: Reproduction) -> Counter[str]:
    """How many there are of each; those with diverged seeds are missed."""
    return Counter(one.verdict.partition(" (")[0] for one in findings(reproduction) if one.verdict)


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
