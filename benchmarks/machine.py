"""Where a benchmark ran, child processes on chosen cores, and the files that keep the results."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hdnn.experiments.store import commit, processor
from hdnn.files import write_whole
from hdnn.kernels import native

HERE = Path(__file__).parent
PACKAGES = ("hdnn", "torch", "numpy", "jax", "jaxlib", "diffrax", "equinox", "torchdiffeq")


def child(script: str, arguments: Iterable[object], cores: int) -> Any:
    """Run a script of this folder in a fresh process on the first cores of the machine.

    The process is pinned before it starts, so that every library in it sees that many cores and no more.

    Returns:
        The JSON that the script printed.

    Raises:
        SystemExit: with the script's own words, if it failed.
    """
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    pins = hasattr(os, "sched_setaffinity")
    own = os.sched_getaffinity(0) if pins else set()
    try:
        if pins:
            os.sched_setaffinity(0, sorted(own)[:cores])
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        if pins:
            os.sched_setaffinity(0, own)
    if finished.returncode:
        raise SystemExit(f"{shlex.join(command)} failed:\n{finished.stderr}")
    return json.loads(finished.stdout)


def cores_here() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def require_cores(cores: int) -> None:
    """Refuse to measure on cores that are not there."""
    if not 1 <= cores <= cores_here():
        raise SystemExit(
            f"{cores} cores were asked for; this process may use 1 to {cores_here()}. Choose with --cores."
        )


def require_folder(output: Path | None) -> None:
    """Refuse to measure for long what could not be written at the end."""
    if output is not None and not output.absolute().parent.is_dir():
        raise SystemExit(f"There is no folder {str(output.parent)!r} to write {output.name} to. Create it.")


def facts() -> dict[str, Any]:
    """Processor, system, versions, commit and command, for the head of a report."""
    return {
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "pinned": hasattr(os, "sched_setaffinity"),
        "system": platform.platform(),
        "python": platform.python_version(),
        "native backend": native.Native().describe(),
        "versions": {name: _version(name) for name in PACKAGES},
        "commit": commit(HERE.parent),
        "command": shlex.join(["python", *sys.argv]),
    }


def head(title: str, known: dict[str, Any]) -> list[str]:
    """The first lines of a report."""
    versions = ", ".join(f"{name} {found}" for name, found in known["versions"].items())
    return [
        f"# {title}, {known['date']}",
        "",
        f"`{known['command']}`",
        "",
        f"- {known['processor']}; {known['cores']} cores, each process "
        f"{'pinned to those it may use' if known['pinned'] else 'not pinned (this system has no way to)'}",
        f"- {known['system']}, Python {known['python']}",
        f"- {versions}",
        f"- native backend {known['native backend']}; commit {known['commit']}",
    ]


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A Markdown table."""
    return [f"| {' | '.join(map(str, row))} |" for row in (columns, ["---"] * len(columns), *rows)]


def publish(output: Path | None, lines: Iterable[str], raw: dict[str, Any]) -> None:
    """Print a report and, if there is a path for it, write it there, with the raw numbers beside it as JSON."""
    text = "\n".join(lines) + "\n"
    print(text)
    if output is not None:
        write_whole(output.with_suffix(".json"), json.dumps(raw, indent=1) + "\n")
        write_whole(output, text)


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
