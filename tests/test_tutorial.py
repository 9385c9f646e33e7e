"""Every command of the tutorial runs, one after the other, and answers what the page says.

Numbers may differ: other machines have other last bits, and one of 36 wines is 2.8 points.
"""

import re
import shlex
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hdnn.cli.application import app

TUTORIAL = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e[+-]\d+)?")
BLOCKS = re.findall(r"^```(python|console)\n(.*?)^```", TUTORIAL, re.S | re.M)


def said(expected, lines):
    """The first line that is not there in its place; three dots alone are any lines, within a line any text."""
    rest = iter(NUMBER.sub("0", line) for line in lines)
    for wanted in expected:
        if wanted == "...":
            continue
        parts = (NUMBER.sub("0", part) for part in wanted.split("..."))
        pattern = "*".join(re.sub(r"([\[\]?*])", r"[\1]", part) for part in parts)
        if not any(fnmatchcase(line, pattern) for line in rest):
            return wanted
    return None


@pytest.mark.long
def test_what_the_tutorial_shows_is_what_happens(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commands = 0
    for kind, text in BLOCKS:
        if kind == "python":
            exec(text, {})
            continue
        for command, *expected in (part.splitlines() for part in re.split(r"^\$ ", text, flags=re.M)[1:]):
            name, *arguments = shlex.split(command)
            assert name == "hdnn"
            result = CliRunner().invoke(app, arguments)
            assert result.exit_code == 0, result.output
            assert said(expected, result.output.splitlines()) is None, (command, result.output)
            commands += 1
    assert commands == 6
    assert (tmp_path / "answers.csv").read_text(encoding="utf-8").startswith("cultivar,")


def test_a_wrong_line_is_seen():
    assert said(["a ... c", "...", "d"], ["a b c", "x", "d"]) is None
    assert said(["a", "b"], ["b", "a"]) == "b"
