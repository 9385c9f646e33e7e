"""One model on many processes: any number of ranks gives what one process gives, up to rounding."""

import itertools
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

import hdnn
from hdnn.ranks import Ranks
from hdnn.training.batches import Batch, Rows

SCRIPT = Path(__file__).parent / "fit_ranks.py"
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
WATCHED = ("rows", "few rows", "moments of what is there")
NUMBERS = (2, 4, 1)  # 4 ranks go on from where 2 stood, 1 from where 4 stood

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or sys.platform == "win32", reason="no torch.distributed, or nothing to fork"
)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What every rank of every number has left, by (ranks, rank)."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, str(SCRIPT), str(folder), *map(str, NUMBERS)]
    path = os.pathsep.join(filter(None, (str(BENCHMARKS), os.environ.get("PYTHONPATH"))))
    ended = subprocess.run(command, capture_output=True, text=True, timeout=500, env={**os.environ, "PYTHONPATH": path})
    assert ended.returncode == 0, ended.stderr[-3000:]
    left = {("alone", rank): torch.load(folder / f"alone-2-{rank}.pt") for rank in (0, 1)}
    left["alone", "one"] = torch.load(folder / "alone-1-0.pt")
    return left | {
        (ranks, rank): torch.load(folder / f"{ranks}-{rank}.pt", weights_only=False)
        for ranks in NUMBERS
        for rank in range(ranks)
    }


def apart(ours, others):
    """The largest difference of two sets of weights."""
    return max(float((ours[key] - others[key]).abs().max()) for key in ours if ours[key].numel())


def trainings(found, ranks):
    return [name for name, left in found[ranks, 0].items() if not isinstance(left, str)]


@pytest.mark.long
@pytest.mark.parametrize("ranks", [2, 4])
def test_weights_and_records_are_those_of_one_process(found, ranks):
    names = trainings(found, ranks)
    assert len(names) == {2: 30, 4: 18}[ranks]
    for name in names:
        one, many = found[1, 0][name], found[ranks, 0][name]
        assert apart(one["weights"], many["weights"]) < (3e-6 if "float32" in name else 1e-10), name
        assert len(one["history"]) == len(many["history"]), name
        for ours, theirs in zip(one["history"], many["history"], strict=True):
            assert ours == pytest.approx({**theirs, "seconds": ours["seconds"]}, abs=1e-6 if "32" in name else 1e-11)


@pytest.mark.long
def test_all_ranks_end_with_the_same_bits(found):
    for ranks, name in [(count, name) for count in (2, 4) for name in trainings(found, count)]:
        first = found[ranks, 0][name]["weights"]
        for rank in range(1, ranks):
            other = found[ranks, rank][name]["weights"]
            assert all(torch.equal(first[key], other[key]) for key in first), (name, rank)


@pytest.mark.long
def test_a_pause_costs_no_bit_and_another_number_of_ranks_may_go_on(found):
    for ranks in NUMBERS:
        straight, resumed = (found[ranks, 0][name]["weights"] for name in ("without a pause", "stopped and resumed"))
        assert all(torch.equal(straight[key], resumed[key]) for key in straight)
    for ranks in (4, 1):
        assert (
            apart(found[ranks, 0]["resumed from others"]["weights"], found[1, 0]["without a pause"]["weights"]) < 1e-10
        )


@pytest.mark.long
def test_pieces_together_are_the_batch_and_no_row_comes_twice(found):
    """Also where a batch has fewer rows than there are ranks."""
    for ranks in (2, 4):
        one = found[1, 0]["without a pause"]["rows"]
        pieces = [found[ranks, rank]["without a pause"]["rows"] for rank in range(ranks)]
        assert [sum(batch, []) for batch in zip(*pieces, strict=True)] == one  # noqa: RUF017
        assert min(map(len, itertools.chain(*pieces))) == 0
        assert {*Counter(itertools.chain(*one)).values()} == {2}, "epochs"


@pytest.mark.long
def test_each_rank_computes_its_own_of_the_rows_to_watch(found):
    """All of them where there are fewer than ranks, or where a norm takes the moments of what it is given."""
    for ranks in (2, 4):
        seen = [{name: found[ranks, rank][f"watched: {name}"]["watched"] for name in WATCHED} for rank in range(ranks)]
        pieces = [Ranks(rank, ranks).piece(50) for rank in range(ranks)]
        for rank, piece in enumerate(pieces):
            own = piece.stop - piece.start
            few = [3, 3] if ranks == 4 else [1 + rank] * 2
            assert seen[rank] == {"rows": [own] * 2, "few rows": few, "moments of what is there": [50, 50]}
    assert found[1, 0]["watched: rows"]["watched"] == [50, 50]


@pytest.mark.long
def test_each_rank_trains_whole_starts_of_its_own(found):
    """Dealt out one by one; where there are more ranks than starts, the last train one once more."""
    every = found[1, 0]["starts told to nobody"]["started"][0]
    assert len(every) == 3
    dealt = {2: [every[::2], every[1::2]], 4: [[seed] for seed in (*every, every[0])]}
    for ranks, name in itertools.product((2, 4), ("nobody", "all", "the last")):
        where = "to nobody" if name == "nobody" else f"on {name}"
        assert [found[ranks, rank][f"starts told {where}"]["started"][0] for rank in range(ranks)] == dealt[ranks]


@pytest.mark.long
def test_callbacks_are_told_of_all_starts_the_bits_of_one_process(found):
    one = found[1, 0]["starts told on all"]["told"]
    assert [told[:2] for told in one] == [(1, 3), (2, 2), (3, 1), (3, 4)]
    for ranks, name in itertools.product((2, 4), ("starts told on all", "starts told on the last")):
        for rank in range(ranks) if name.endswith("all") else [ranks - 1]:
            require_same(found[ranks, rank][name]["told"], one)
        assert name.endswith("all") or not found[ranks, 0][name]["told"]
    for ranks in (4, 1):  # goes on after the second time that somebody was told
        require_same(found[ranks, 0]["starts resumed from others"]["told"], one[2:])


def require_same(told, expected):
    """The same times, objectives and states; through PyTorch how many train at once changes their rounding."""
    assert [each[:2] for each in told] == [each[:2] for each in expected]
    for ours, theirs in zip(told, expected, strict=True):
        state, other = (each[3].starts.to_tensors() for each in (ours, theirs))
        assert state.keys() == other.keys()
        few = {"rtol": 0, "atol": 0} if ours[3].starts.backend == "native" else {}
        torch.testing.assert_close(ours[2], theirs[2], **few)
        for name, value in state.items():
            if "seconds" not in name:
                torch.testing.assert_close(value, other[name], **few)


@pytest.mark.long
def test_errors_are_the_same_on_all_ranks(found):
    names = [name for name, left in found[2, 0].items() if isinstance(left, str)]
    assert len(names) == 10
    for ranks, name in itertools.product((2, 4), names):
        said = {found[ranks, rank][name] for rank in range(ranks)}
        assert len(said) == 1, said
        assert said != {""}, name
    assert found[2, 0]["diverges"] == found[1, 0]["diverges"]
    assert "infinite or not a number in epoch 1" in found[4, 2]["infinite input"]
    assert "The inputs of sample" in found[4, 2]["infinite input"]
    assert "has another data than process 0" in found[4, 0]["other data"]
    assert "has another recipe than process 0" in found[4, 0]["another recipe"]
    assert "has another number of batches than process 0" in found[2, 1]["other batches"]
    assert "All 3 starts diverged" in found[4, 3]["all starts diverge"]
    assert "Enough after step 1 of 2 starts" in found[4, 3]["callback of the starts"]
    assert "only while a callback is told" in found[4, 3]["state of the starts too late"]
    assert "2 processes share every step" in found[2, 0]["native"]
    assert "are sharded over processes" in found[4, 3]["sharded"]


@pytest.mark.parametrize(
    ("name", "said", "is_own"),
    [
        ("few", "the loader of process 1 has 2 batches by its len(), but gave 1. Correct its len().", False),
        ("many", "the loader of process 1 has 2 batches by its len(), but gave more. Correct its len().", False),
        ("broken", "OSError: The disk is gone.", True),
        ("label", "Class indices run from 0 to 2", True),
        ("kind", "Targets must be class indices", True),
        ("weight", "gave targets of torch.int64 [] and weights of torch.float64 [] where that of process 0", False),
        ("same", "The loaders of processes 0 and 1 gave the same first batch", False),
        ("shape", "Process 1 of 2 has another data than process 0", False),
        ("targets", "Targets must be class indices", True),
        ("validation", "Process 1 of 2 has another validation than process 0", False),
        ("score", "Process 1 of 2 has another list of scores than process 0", False),
    ],
)
def test_what_one_rank_alone_has_is_refused_by_all(found, name, said, is_own):
    """In the same words; where a rank has met an error of its own, the others say whose it is."""
    first, last = (found["alone", rank][name] for rank in (0, 1))
    assert said in last
    assert first == last + (" (Process 1 of 2 has met this.)" if is_own else "")


def test_folds_and_seeds_are_shared_out_to_the_bits_of_one_process(found):
    one, first, last = (found["alone", rank] for rank in ("one", 0, 1))
    assert one["repeats"]["folds"]["count"] == 3
    assert one["repeats"]["seeds"]["count"] == 4
    assert first["repeats"] == last["repeats"] == one["repeats"]
    assert (one["made"], first["made"], last["made"]) == ([5, 5, 5, 6, 7, 8], [5, 5, 6, 8], [5, 7])


def test_what_is_fetched_one_rank_fetches_and_its_error_is_that_of_all(found):
    assert [found["alone", rank]["fetched"] for rank in (0, 1)] == ["fetched", "read"]
    first, last = (found["alone", rank]["not there"] for rank in (0, 1))
    assert first == "OSError: Rank 0 did not find it."
    assert last == f"{first} (Process 0 of 2 has met this.)"


def test_pieces_follow_each_other_and_differ_by_one_row():
    for rows, count in itertools.product(range(12), range(1, 6)):
        pieces = [Ranks(rank, count).piece(rows) for rank in range(count)]
        assert [row for piece in pieces for row in range(rows)[piece]] == [*range(rows)]
        sizes = [piece.stop - piece.start for piece in pieces]
        assert max(sizes) - min(sizes) <= 1


def test_parts_that_are_shared_are_all_rows_once_and_about_as_long_as_each_other():
    x, y = torch.arange(13.0)[:, None], torch.arange(13)
    parts = [[*Rows(Batch(x, y), 13, ()).shared_parts(6, Ranks(rank, 3))] for rank in range(3)]
    for whole in zip(*parts, strict=True):
        assert torch.equal(torch.cat([part.x for part in whole])[:, 0].long(), whole[0].y)
    assert [len(part.y) for part in parts[0]] == [5, 5, 3], "not 6, 6 and a single one"
    assert torch.equal(torch.cat([part.y for part in parts[2]]), y)


def test_inputs_that_are_made_as_they_are_drawn_are_made_once():
    """Of images as bytes, a rank makes its own alone."""
    generators = [torch.Generator().manual_seed(0)]
    x, y = torch.arange(10.0)[:, None], torch.arange(10)
    batches = [[*Rows(Batch(x, y), 4, generators, ranks=Ranks(rank, 3)).epoch()] for rank in range(3)]
    assert [len(batch.x) for batch in batches[1]] == [1, 1, 1]
    assert all(len(batch.y) == 4 for batch in batches[1][:2])


def test_alone_nothing_changes():
    assert hdnn.ranks.present() is None
