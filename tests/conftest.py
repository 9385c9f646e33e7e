"""What tests share: the options that say where files of images are, and the command line in this process."""

import hashlib
import importlib
import os
import shlex
import shutil
import signal
import sys
from pathlib import Path

import pytest

# Threads share the small tensors of tests badly, the more so where other work goes on beside them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Whoever starts the tests in the background may have signals ignored, and children inherit that: tests that send one
# would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--mnist",
        metavar="FOLDER",
        default=None,
        help="folder with the four MNIST files; tests that read them are skipped without it",
    )

    parser.addoption(
        "--cifar10",
        metavar="FOLDER",
        default=None,
        help="folder with the binary batches of CIFAR-10; tests that read them are skipped without it",
    )

    parser.addoption(
        "--device",
        default="cpu",
        help="where flows and states of the tests of the Triton backend are: cuda, on a machine that has such a device",
    )


def pytest_configure(config: pytest.Config) -> None:
    if (device := config.getoption("--device")) != "cpu":
        importlib.import_module("families").DEVICE = device


@pytest.hookimpl(tryfirst=True)  # before pytest takes away what `-m` leaves out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `long` the cases of a test that bring no new value of a parameter."""
    from tiers import repeated  # not above: the folder is on the path when tests are collected

    tests: dict[str, list[pytest.Item]] = {}
    for item in items:
        if hasattr(item, "callspec") and not {"slow", "long"} & {mark.name for mark in item.iter_markers()}:
            tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for cases in tests.values():
        for number in repeated([case.callspec.params for case in cases]):  # type: ignore[attr-defined]
            cases[number].add_marker("long")


_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Nothing but the page: no updates, no look-ups of names.
_FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="session")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (pip install playwright).")
    program = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if program is None:
        pytest.skip("No Chromium is installed, so pages cannot be tried in a browser.")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=_FLAGS.split())
        yield found
        found.close()


@pytest.fixture(scope="session")
def cifar10_folder(request: pytest.FixtureRequest) -> Path:
    folder = request.config.getoption("--cifar10")
    if folder is None:
        pytest.skip("needs the binary batches of CIFAR-10: run pytest with --cifar10=FOLDER")
    return Path(folder)


@pytest.fixture
def cifar10_batches(monkeypatch):
    """Batches of 20 records, by name, which pass for those of CIFAR-10."""
    import numpy as np  # not above: see `place`

    from hdnn.data import cifar

    monkeypatch.setattr(cifar, "_RECORDS", 20)
    monkeypatch.setattr(cifar, "_SIZE", 20 * 3073)
    generator = np.random.default_rng(0)
    made = {}
    for name in cifar.MD5:
        records = generator.integers(0, 256, (20, 3073), dtype=np.uint8)
        records[:, 0] = np.arange(20) % 10
        made[name] = records.tobytes()
    monkeypatch.setattr(cifar, "MD5", {name: hashlib.md5(content).hexdigest() for name, content in made.items()})
    return made


@pytest.fixture(scope="session")
def mnist_folder(request: pytest.FixtureRequest) -> Path:
    folder = request.config.getoption("--mnist")
    if folder is None:
        pytest.skip("needs the four MNIST files: run pytest with --mnist=FOLDER")
    return Path(folder)


@pytest.fixture
def hdnn(monkeypatch, capsys):
    """Runs a command line in this process; returns exit code, stdout and stderr."""

    def run(line, *more):
        monkeypatch.setattr(sys, "argv", ["hdnn", *shlex.split(line), *map(str, more)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as done:
            importlib.import_module("hdnn.cli.application").main()
        out, err = capsys.readouterr()
        return done.value.code or 0, out, err

    return run


@pytest.fixture
def quick(monkeypatch):
    """Without pictures, which take most of the time of a small run."""
    module = importlib.import_module("hdnn.jobs.task")  # not above: PyTorch reads a variable when it is imported
    monkeypatch.setattr(module, "write_summary", lambda run, *results: run.write_report("a page"))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An own working folder with a table of each kind."""
    from samples import flowers, houses  # not above: PyTorch reads the variable when it is imported

    monkeypatch.chdir(tmp_path)
    flowers().to_csv("flowers.csv", index=False)
    houses().to_parquet("houses.parquet")
    return tmp_path
