"""What the page on several processes shows runs: its scripts on ranks, and other trainers where they are installed."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "beyond-one-machine.md").read_text(encoding="utf-8")
SCRIPTS = {
    re.match(r"# ([\w.]+)\n", code)[1]: code
    for code in re.findall(r"^```python\n(.*?)^```", PAGE, re.S | re.M)
    if code.startswith("# ")
}
on_ranks = pytest.mark.skipif(
    not torch.distributed.is_available() or sys.platform == "win32", reason="no torch.distributed, or nothing to fork"
)


def ran(folder, *words):
    """What a command prints, which must end well."""
    done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def written(folder, *names):
    for name in names:
        (folder / name).write_text(SCRIPTS[name], encoding="utf-8")


def forked(folder, *runs):
    """What scripts print on ranks, by both, as "ring.py on 4"."""
    written(folder, *(run.split(":")[1] for run in runs))
    text = ran(folder, str(ROOT / "tests" / "forked.py"), *runs)
    return dict(re.findall(r"^(\w+\.py on \d):\n(.*\n)?", text, re.M))


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What scripts of the page print, by name and ranks."""
    folder = tmp_path_factory.mktemp("page")
    return forked(folder, "2:together.py", "4:ring.py")


def test_all_that_is_named_is_tried_here():
    assert {*SCRIPTS} == {"together.py", "sharded.py", "one_file.py", "ring.py", *OTHERS}


@pytest.mark.long
@on_ranks
def test_two_ranks_train_one_network(said):
    assert re.fullmatch(r"loss 0\.\d{3}\n", said["together.py on 2"])


@pytest.mark.long
@on_ranks
def test_four_ranks_on_a_ring_send_as_many_bytes_as_the_page_says(said):
    found = re.fullmatch(r"loss (0\.\d+); rounds a layer 4, bytes (\d+)\n", said["ring.py on 4"])
    assert float(found[1]) < 0.7
    assert int(found[2]) == 4 * 2 * 400 * 4, "rounds, neighbours, samples, bytes of a number"


@pytest.mark.slow
@on_ranks
def test_shards_become_one_file(tmp_path):
    forked(tmp_path, "2:sharded.py", "1:one_file.py")
    assert (tmp_path / "model.safetensors").stat().st_size > 1000


@pytest.mark.slow
@on_ranks
@pytest.mark.parametrize(("name", "ranks"), [("together.py", 2), ("ring.py", 4)])
def test_torchrun_runs_them(tmp_path, name, ranks):
    written(tmp_path, name)
    line = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), name]
    assert "loss 0." in ran(tmp_path, *line)


OTHERS = ("skorch", "accelerate", "lightning", "ray")


@pytest.mark.long
@pytest.mark.parametrize("name", OTHERS)
def test_other_trainers_take_a_flow_as_it_is(tmp_path, name):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed; hdnn does not depend on it")
    (tmp_path / "script.py").write_text(SCRIPTS[name], encoding="utf-8")
    ran(tmp_path, "script.py")
