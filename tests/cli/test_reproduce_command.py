"""`hdnn reproduce`: what it prints, what it writes, what it refuses."""

import json
import re
import signal
import subprocess
import sys
import time

import pytest

from hdnn.cli.reproduce import read_seeds
from hdnn.experiments import TITLES


@pytest.mark.parametrize("line", ["reproduce --list", "reproduce"])
def test_a_list_of_all(hdnn, line):
    code, out, _ = hdnn(line)
    assert code == 0
    assert [row.split()[0] for row in out.splitlines()] == list(TITLES)
    assert json.loads(hdnn(f"{line} --json")[1]) == TITLES


def test_the_list_waits_for_nothing_heavy():
    code = (
        "import sys\nfrom hdnn.cli import main\ntry:\n    main()\nexcept SystemExit:\n"
        "    assert not {'torch', 'numpy', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "reproduce", "--list"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_a_reproduction_and_its_files(hdnn, place):
    code, out, err = hdnn("reproduce counterexample --smoke --publish results")
    assert code == 0
    assert out.startswith(f"# {TITLES['counterexample']}")
    assert "2 of 2: euler/first" in err
    folder = place / "reproductions" / "counterexample-smoke"
    assert {path.name for path in folder.iterdir()} >= {"cells", "verdict.html", "verdict.md", "verdict.json"}
    assert sorted(path.suffix for path in (place / "results").iterdir()) == [".html", ".json", ".md", ".png"]
    code, out, err = hdnn("reproduce counterexample --smoke --json")
    assert "of 2" not in err, "nothing was left to do"
    assert json.loads(out)["cells"]["ode"]["seeds"]["0"]["metrics"]["norm_5"] == pytest.approx(1.91, abs=0.005)


def test_what_a_browser_needs_is_not_printed(hdnn, place):
    code, out, _ = hdnn("reproduce table1 --smoke --seeds 2 --cells double-moons/1/ms3")
    assert code == 0
    assert "±" in out
    assert "\\xa0" not in out
    assert "\u00a0" not in out
    (told,) = (place / "reproductions").glob("*/verdict.md")
    assert "\u00a0" in told.read_text(encoding="utf-8"), "where a browser might break a line"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("reproduce table3", "There is no experiment 'table3'.*counterexample"),
        ("reproduce counterexample --seeds 0", "--seeds takes"),
        ("reproduce counterexample --seeds 4-2", "--seeds takes"),
        ("reproduce counterexample --seeds x", "--seeds takes"),
        ("reproduce counterexample --cells moons", "There is no cell of counterexample 'moons'"),
        ("reproduce counterexample --shard 0/2", "--shard takes one part of several.*SLURM_ARRAY_TASK_ID/4"),
        ("reproduce counterexample --shard 3/2", "--shard takes"),
        ("reproduce counterexample --shard /2", "--shard takes"),
        ("reproduce counterexample --shard 1/2/3", "--shard takes"),
        ("reproduce counterexample --shard -1/2", "--shard takes"),
        ("reproduce counterexample --shard 1", "--shard takes"),
        ("reproduce counterexample --shard 1/99999999999", "--shard takes"),
        ("reproduce counterexample --shard ²/3", "--shard takes"),
        ("reproduce counterexample --shard 1/2 --overwrite", "what other shards have just done"),
        ("reproduce counterexample --shard 1/2 --publish results", "--publish writes the verdict"),
        ("reproduce counterexample --jobs 0", "--jobs counts processes"),
    ],
)
def test_bad_requests_are_explained(hdnn, place, line, said):
    code, out, err = hdnn(line)
    assert (code, out) == (2, "")
    assert re.search(said, err), err
    assert not (place / "reproductions").exists()


def test_shards_in_one_folder_and_their_verdict(hdnn, place):
    line = "reproduce counterexample --smoke --seeds 2 -o shards"
    code, out, err = hdnn(f"{line} --shard 2/2")
    assert (code, out) == (0, "")
    assert "Shard 2/2 is done. shards holds 2 results; the same without --shard writes the verdict." in err
    assert {path.name for path in (place / "shards").iterdir()} == {"cells"}
    code, out, err = hdnn(f"{line} --shard 1/2 --json")
    assert json.loads(out) == {"shard": "1/2", "folder": "shards", "results": 4}
    code, out, err = hdnn(line)
    assert code == 0
    assert " of 4: " not in err, "nothing was left to do"
    assert out.startswith(f"# {TITLES['counterexample']}")


@pytest.mark.long
def test_two_shards_at_once_share_a_folder(place):
    begin = [sys.executable, "-c", "from hdnn.cli import main; main()", "reproduce", "counterexample", "--smoke"]
    lines = [[*begin, "--seeds", "6", "-o", "shards", "--shard", f"{number}/2"] for number in (1, 2)]
    running = [subprocess.Popen(line, cwd=place, stderr=subprocess.PIPE, text=True) for line in lines]
    said = [process.communicate(timeout=240)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    seeds = [re.findall(r"^(\d+) of 6: ", text, re.M) for text in said]
    assert seeds == [[str(i) for i in range(1, 7)]] * 2
    assert len(list((place / "shards").rglob("seed-*.json"))) == 12


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_a_shard_that_was_killed_goes_on_and_the_folder_is_that_of_no_shards(hdnn, place):
    """Killed twice, while files are being written; the other shard works on beside it."""
    line = "reproduce counterexample --smoke --seeds 20"
    begin = [sys.executable, "-c", "from hdnn.cli import main; main()", *line.split(), "-o", "shards", "--shard"]
    other = subprocess.Popen([*begin, "2/2"], cwd=place, stderr=subprocess.DEVNULL)
    own = {seed for seed in range(20) if seed % 2 == 0}
    done = 0
    for _ in range(2):
        process = subprocess.Popen([*begin, "1/2"], cwd=place, stderr=subprocess.DEVNULL)
        before, give_up = done, time.monotonic() + 200
        while done < before + 3:  # files of it alone, and some of its twenty are left
            assert process.poll() is None
            assert time.monotonic() < give_up
            done = len([path for path in (place / "shards").rglob("seed-*.json") if int(path.stem[5:]) in own])
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert done < 20
    assert other.wait(timeout=240) == 0
    assert hdnn(f"{line} -o shards --shard 1/2")[0] == 0
    assert hdnn(f"{line} -o shards")[0] == 0
    assert hdnn(f"{line} -o whole")[0] == 0
    shards, whole = (results(place / name) for name in ("shards", "whole"))
    assert len([name for name in whole if "seed-" in name]) == 40
    assert shards == whole


def results(folder):
    """What each file of a folder holds, but for times and figures."""
    found = {}
    for path in sorted(folder.rglob("*")):
        content = json.loads(path.read_text()) if "seed-" in path.name and path.suffix == ".json" else {}
        for run in content.get("seeds", {}).values():
            for name in ("wall_seconds", "processor_seconds", "made"):
                del run[name]
        found[path.relative_to(folder).as_posix()] = content
    return found


def test_an_interrupt_keeps_what_is_done(hdnn, place, monkeypatch):
    from hdnn.experiments import counterexample

    def stopped(config):
        raise KeyboardInterrupt

    monkeypatch.setattr(counterexample, "stepped", lambda config, first: stopped(config))
    code, out, err = hdnn("reproduce counterexample --smoke")
    assert (code, out) == (130, "")
    assert "What is done is kept in" in err
    assert "Traceback" not in err
    assert (place / "reproductions" / "counterexample-smoke" / "cells" / "ode" / "seed-0.json").exists()


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("10", list(range(10))), ("0-9", list(range(10))), ("3,5,8", [3, 5, 8]), ("7-7", [7]), ("1,4-6", [1, 4, 5, 6])],
)
def test_seeds(text, seeds):
    assert read_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "0", "-1", "3-", "5-2", "a", "1;2", "1 2", "9999999999"])
def test_what_names_no_seeds(text):
    with pytest.raises(ValueError, match="--seeds takes"):
        read_seeds(text)


def test_the_first_table_in_small(hdnn, place):
    code, out, err = hdnn("reproduce table1 --smoke --json")
    assert code == 0, err
    found = json.loads(out)["cells"]
    assert {"swiss-roll/4/ms1", "double-moons/1/h1-j2"} <= found.keys()
    assert all(len(cell["seeds"]) == 10 for cell in found.values())
