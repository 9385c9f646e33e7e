"""What all tests share: the option that says where the MNIST files are."""

import os
from pathlib import Path

import pytest

# Threads share the small tensors of tests badly, the more so where other work goes on beside them.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--mnist",
        metavar="FOLDER",
        default=None,
        help="folder with the four MNIST files; tests that read them are skipped without it",
    )


@pytest.fixture(scope="session")
def mnist_folder(request: pytest.FixtureRequest) -> Path:
    folder = request.config.getoption("--mnist")
    if folder is None:
        pytest.skip("needs the four MNIST files: run pytest with --mnist=FOLDER")
    return Path(folder)
