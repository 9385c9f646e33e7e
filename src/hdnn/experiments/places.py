"""Where a verdict goes: what it replaces must be a verdict on the same result."""

from __future__ import annotations

import html
import json
from pathlib import Path

from hdnn.experiments.experiment import Experiment
from hdnn.files import kind, require_makeable


def require_place(folder: Path, stem: str, experiment: Experiment, *, smoke: bool) -> None:
    """See before any work that a verdict replaces nothing but an older one of its kind.

    Args:
        folder: where it goes, made or not.
        stem: of the names of its files.
        experiment: that is judged.
        smoke: whether by small runs.

    Raises:
        FileExistsError: in words that name what is there instead.
        OSError: if the folder cannot be made.
    """
    require_makeable(folder)
    for path in (folder / f"{stem}{ending}" for ending in (".json", ".md", ".html")):
        if kind(path) and not (kind(path) == "a file" and _is_verdict(path, experiment, smoke=smoke)):
            runs = "its small runs" if smoke else "all of its runs"
            raise FileExistsError(
                f"{path} is there, and is no verdict on {experiment.name} by {runs}; nothing was changed. Move it "
                f"away, or choose another folder."
            )


def _is_verdict(path: Path, experiment: Experiment, *, smoke: bool) -> bool:
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".md":
        return text.startswith(f"# {experiment.title}\n")
    if path.suffix == ".html":
        return html.escape(experiment.title, quote=False) in text
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("experiment") == experiment.name and found.get("smoke", False) == smoke
