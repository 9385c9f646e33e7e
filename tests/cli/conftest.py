"""The command line in this process, and a folder to use it in."""

import importlib
import shlex
import sys

import pytest

from hdnn import cli
from samples import flowers, houses


@pytest.fixture
def hdnn(monkeypatch, capsys):
    """Runs a command line in this process; returns exit code, stdout and stderr."""

    def run(line, *more):
        monkeypatch.setattr(sys, "argv", ["hdnn", *shlex.split(line), *map(str, more)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as done:
            cli.main()
        out, err = capsys.readouterr()
        return done.value.code or 0, out, err

    return run


@pytest.fixture
def quick(monkeypatch):
    """Without pictures, which take most of the time of a small run."""
    module = importlib.import_module("hdnn.jobs.train")  # as an attribute of hdnn.jobs the function hides it
    monkeypatch.setattr(module, "write_summary", lambda run, *results: run.write_report("a page"))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An own working folder with a table of each kind."""
    monkeypatch.chdir(tmp_path)
    flowers().to_csv("flowers.csv", index=False)
    houses().to_parquet("houses.parquet")
    return tmp_path
