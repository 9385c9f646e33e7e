"""Two processes that share the rows of a batch end where one process does, on every kind of space."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parent.parent / "ranks.py"


pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")


def started(folder: Path, *words: str) -> None:
    """Two ranks, to their end."""
    ranks = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), "2", str(folder), *words], stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    try:
        said = [rank.communicate(timeout=900)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(said)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks wrote, started once for all tests."""
    place = tmp_path_factory.mktemp("ranks")
    started(place)
    return place


@pytest.mark.long
def test_data_parallel_and_sharded_training_equal_one_process(folder: Path) -> None:
    apart = json.loads((folder / "apart.json").read_text())
    assert len(apart) == 26
    assert {name: value for name, value in apart.items() if not value < 1e-12} == {}


@pytest.mark.long
def test_shards_have_a_policy_a_start_on_meta_and_checkpoints_of_one_file(folder: Path) -> None:
    for rank in range(2):
        apart = json.loads((folder / f"sharded-{rank}.json").read_text())
        assert 1e-6 < apart.pop("bfloat16") < 0.02, "eight bits of the weights are used, and no fewer"
        assert apart.pop("weights of a flow made on meta") < 0.4  # of 48 weights
        assert len(apart) == 2 + rank
        assert {name: value for name, value in apart.items() if not value < 1e-12} == {}


@pytest.mark.slow
def test_compiled_data_parallel_and_fit_equal_one_process(tmp_path: Path) -> None:
    started(tmp_path, "compiled")
    for rank in range(2):
        apart = json.loads((tmp_path / f"compiled-{rank}.json").read_text())
        assert len(apart) == 6
        assert max(apart.values()) < 1e-12
