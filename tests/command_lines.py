"""What the tests of the command line share."""

SMALL = "--layers 2 --epochs 2"
CODE = "from hdnn.cli import main; main()"
# Without pictures, which take most of the time of a small run.
QUICK = f"import importlib; importlib.import_module('hdnn.jobs.task').write_summary = lambda *_: None; {CODE}"
