"""What all tests share: the option that says where the MNIST files are."""

from pathlib import Path

import pytest


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
        pytest.skip("needs the four MNIST files: run pytest with --mnist FOLDER")
    return Path(folder)
