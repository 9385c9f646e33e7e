"""Where results come from: processor, versions, commit of the sources, date."""

from __future__ import annotations

import datetime
import platform
import subprocess
from pathlib import Path

from hdnn.runs import versions


def provenance() -> dict[str, str]:
    """What took part in a result: versions, "commit", "processor" and "date", each a few words."""
    return {
        **versions(),
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


def commit() -> str:
    """The commit of the sources that run, "with changes" where files differ from it; "unknown" outside a checkout."""
    package = Path(__file__).parents[1]

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=package, capture_output=True, text=True, check=True, timeout=30)
        return done.stdout.strip()

    try:
        # An installation inside the checkout of another project must not name that project's commit.
        if not git("ls-files", "__init__.py"):
            return "unknown"
        changed = git("status", "--porcelain", "--", ".")
        return git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
