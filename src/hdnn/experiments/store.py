"""The folder of a reproduction: what every seed of every cell found, one JSON file each.

A file is written once and whole, and no other file is changed for it: processes that share a folder need no lock, and
one that is killed loses what it had not finished. A file holds the Config that its result belongs to, so that a
reproduction goes on only where it is the same. Folders of older versions have one file a cell, with all of its seeds in
it: they are read as well.
"""

from __future__ import annotations

import datetime
import json
import platform
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from hdnn import renames
from hdnn.experiments.experiment import Outcome
from hdnn.files import make_folder, write_whole
from hdnn.runs import versions as versions_here
from hdnn.training import Recipe

_FORMAT = 1
_ADVICE = "Give --overwrite to make it again, or another --output."


@dataclass(frozen=True)
class Record:
    """One seed of one cell.

    Attributes:
        outcome: what it found; None if it diverged.
        failure: why it diverged; empty if it did not.
        wall_seconds: how long it took.
        processor_seconds: of the process that ran it.
        made: where it comes from, by name; see `provenance`.
    """

    outcome: Outcome | None
    failure: str
    wall_seconds: float
    processor_seconds: float
    made: Mapping[str, str]


def path(folder: Path, cell: str, seed: int) -> Path:
    """Where the result of a seed is."""
    return folder / "cells" / cell / f"seed-{seed}.json"


def paths(folder: Path, cell: str) -> list[Path]:
    """The files that hold results of a cell: that of an older version first, then one a seed."""
    older = folder / "cells" / f"{cell}.json"
    return [*([older] if older.exists() else []), *sorted((folder / "cells" / cell).glob("seed-*.json"))]


def read(folder: Path, cell: str, config: Any, versions: Mapping[str, str]) -> dict[int, Record]:
    """The seeds of a cell that are done, by seed.

    Args:
        folder: of the reproduction.
        cell: its name.
        config: what it must have been made with.
        versions: of software that results must have been made with, by the names of `Record.made`.

    Raises:
        ValueError: if the file is damaged, or was made with another Config or other versions.
    """
    records: dict[int, Record] = {}
    for place in paths(folder, cell):
        records.update(_read(place, config, versions))
    return dict(sorted(records.items()))


def _read(place: Path, config: Any, versions: Mapping[str, str]) -> dict[int, Record]:
    try:
        document = json.loads(place.read_text(encoding="utf-8"))
        if document["format"] != _FORMAT:
            raise ValueError(f"format {document['format']}")
        known, seeds = document["config"], document["seeds"]
        records = {int(seed): Record(**{**entry, "outcome": _outcome(entry)}) for seed, entry in seeds.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{place} does not hold results of this laboratory ({error}). {_ADVICE}") from error
    changes = list(_changes(known, config))
    if changes:
        raise ValueError(f"{place} was made with other settings: {'; '.join(changes)}. {_ADVICE}")
    for record in records.values():
        for name, wanted in versions.items():
            if record.made.get(name) != wanted:
                raise ValueError(
                    f"{place} was made with {name} {record.made.get(name)}; this is {name} {wanted}. {_ADVICE}"
                )
    return records


def write(folder: Path, cell: str, config: Any, seed: int, record: Record) -> None:
    """Write the result of a seed, all at once."""
    place = path(folder, cell, seed)
    make_folder(place.parent)
    document = {"format": _FORMAT, "cell": cell, "config": asdict(config), "seeds": {str(seed): asdict(record)}}
    write_whole(place, json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n")


def forget(folder: Path, cell: str) -> None:
    """Remove the results of a cell."""
    for place in paths(folder, cell):
        place.unlink(missing_ok=True)


def _outcome(entry: Mapping[str, Any]) -> Outcome | None:
    return None if entry["outcome"] is None else Outcome(**entry["outcome"])


def _plain(value: Any) -> Any:
    """A value of a Config as a file gives it back."""
    return json.loads(json.dumps(asdict(value) if is_dataclass(value) else value, allow_nan=False))  # type: ignore[arg-type]


def _changes(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """What differs between a stored Config and one of now, each a few words.

    A setting that did not exist when the results were stored is no change as long as it has its default.
    """
    if is_dataclass(new) and isinstance(old, dict):
        old = renames.current(old, renames.RECIPE) if isinstance(new, Recipe) else old
        known = {field.name: field for field in fields(new)}
        for key in [*known, *(key for key in old if key not in known)]:
            inner = f"{name}.{key}" if name else key
            if key not in known:
                yield f"{inner} was {old[key]}, is no longer there"
            elif key in old:
                yield from _changes(old[key], getattr(new, key), inner)
            elif getattr(new, key) != known[key].default:
                yield f"{inner} was not there, is now {_plain(getattr(new, key))}"
    elif old != _plain(new):
        yield f"{name} was {old}, is now {_plain(new)}"


# Where results come from.


def provenance() -> dict[str, str]:
    """What took part in a result: versions, "commit", "processor" and "date", each a few words."""
    return {
        **versions_here(),
        "commit": commit(),
        "processor": processor(),
        "date": datetime.date.today().isoformat(),
    }


def processor() -> str:
    """The model of the processor, as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    entries = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    known = {name.strip(): value.strip() for name, value in entries.items()}
    model = known.get("model name", platform.machine())
    return f"{model} (family {known['cpu family']}, model {known['model']})" if "cpu family" in known else model


def commit(sources: Path = Path(__file__).parents[1]) -> str:
    """The commit of sources that run, "with changes" where files differ from it; "unknown" outside a checkout.

    Args:
        sources: their folder; that of the package.
    """

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=sources, capture_output=True, text=True, check=True, timeout=30)
        return done.stdout.strip()

    try:
        # An installation inside the checkout of another project must not name that project's commit.
        if not git("ls-files", "."):
            return "unknown"
        changed = git("status", "--porcelain", "--", ".")
        return git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
