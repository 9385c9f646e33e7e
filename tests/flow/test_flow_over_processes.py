"""A flow cut over processes is the whole flow: values, gradients, weights, and so many rounds and bytes a layer."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import hdnn
from cut_ranks import GONE, LAYERS, SAMPLES, ring
from hdnn.distributed.checks import check_cut, check_flow, index_of, line_of, owners_of

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
RANKS = 4
SCRIPT = Path(__file__).parent.parent / "cut_ranks.py"
NUMBER = torch.float64.itemsize


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What four processes found, started once for all tests."""
    folder = tmp_path_factory.mktemp("ranks")
    run = subprocess.run(
        [sys.executable, str(SCRIPT), str(RANKS), str(folder)], capture_output=True, text=True, timeout=900
    )
    assert run.returncode == 0, run.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(RANKS)]


@pytest.mark.long
def test_every_case_equals_the_whole_flow(found):
    apart = {name: max(rank["cases"][name]["difference"] for rank in found) for name in found[0]["cases"]}
    assert len(apart) == 33
    assert {name: value for name, value in apart.items() if not value < 1e-12} == {}


@pytest.mark.long
def test_a_layer_takes_the_rounds_that_are_promised_forward_and_backward(found):
    for rank in found:
        for name, case in rank["cases"].items():
            assert case["rounds"] == case["rounds backward"] == case["expected rounds"], name


@pytest.mark.long
def test_what_goes_out_comes_back_and_no_more(found):
    for name in found[0]["cases"]:
        forward, backward = (sum(rank["cases"][name][key] for rank in found) for key in ("bytes", "bytes backward"))
        assert forward == backward, name


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "moves"), [("SymplecticEuler", 2), ("StormerVerlet", 3), ("Yoshida4", 7), ("ms3, 2", 2)]
)
def test_on_a_ring_a_round_carries_one_feature_of_a_node_to_either_side(found, name, moves):
    for rank in found:
        case = rank["cases"].get(f"{name}, 2 rounds") or rank["cases"][name]
        assert case["messages"] == LAYERS * moves * 2 * 2
        assert case["bytes"] == case["messages"] * SAMPLES * NUMBER


@pytest.mark.long
def test_one_round_carries_the_states_of_two_nodes_and_the_weights_of_one_once(found):
    row = 2 * (3 + 1)  # three entries of K and one of b, of the units of p and of q
    for rank in found:
        case = rank["cases"]["SymplecticEuler, 1 rounds"]
        assert case["bytes"] == 2 * NUMBER * LAYERS * (2 * 2 * SAMPLES + row)
        assert case["longest"] == LAYERS * row * NUMBER


@pytest.mark.long
def test_a_dense_flow_tells_all_to_all(found):
    for rank in found:
        case = rank["cases"]["dense, 2"]
        assert case["messages"] == LAYERS * 4 * (RANKS - 1)
        assert case["bytes"] == LAYERS * 4 * (RANKS - 1) * 2 * SAMPLES * NUMBER


@pytest.mark.long
def test_ranks_train_their_own_weights_as_one_process_trains_all(found):
    assert max(rank["trained"] for rank in found) < 1e-12


@pytest.mark.long
def test_ranks_that_cut_other_flows_are_refused_on_all(found):
    assert all("cut another flow, or otherwise, than rank" in rank["failures"]["another flow"][0] for rank in found)


@pytest.mark.long
def test_a_silent_neighbour_is_an_error_after_the_timeout(found):
    for rank in found[::2]:
        words, seconds = rank["failures"]["silent"]
        assert "said nothing for 0.5 seconds. Every rank must run the same calls" in words
        assert seconds > 0.4


@pytest.mark.long
def test_a_neighbour_that_is_gone_is_an_error_at_once(found):
    for rank in found[:-1]:
        words, seconds = rank["failures"]["gone"]
        assert "one of them has ended" in words
        assert seconds < GONE / 2


# What no topology cuts, in one process.


def flow(structure=None, **changed):
    options = {"step": 0.1, "interconnection": "canonical", "integrator": hdnn.SymplecticEuler()}
    return hdnn.Flow(8, 2, structure=structure or hdnn.BlockDiagonal(), **{**options, **changed})


@pytest.mark.parametrize(
    ("whole", "words"),
    [
        (lambda: flow(space=hdnn.Graph()), "Nodes are cut of vectors"),
        (lambda: flow(inputs=2), "A flow with `inputs`"),
        (lambda: flow(energy=hdnn.Quadratic(torch.ones(8))), "A flow with an energy of its own"),
        (lambda: flow(unit_weights=2.0), "unit weights or ports"),
        (lambda: flow(integrator=hdnn.SymplecticEuler(damping=0.1, learn_damping=True)), "a learned damping"),
        (
            lambda: flow(hdnn.Dense(), interconnection=hdnn.Learned(hdnn.canonical(8)), integrator="forward_euler"),
            "is one matrix that all nodes would train together",
        ),
        (lambda: flow(integrator="implicit_midpoint"), "solves equations for the whole state"),
        (lambda: flow(memory="reverse"), "keeps every layer"),
    ],
)
def test_what_belongs_to_no_node_is_refused(whole, words):
    with pytest.raises(ValueError, match=words):
        check_flow(whole(), 2, True)


def test_units_that_belong_to_no_node_are_refused():
    with pytest.raises(ValueError, match="K is 12 x 8, so that its units belong to no node"):
        index_of(flow(hdnn.BlockDiagonal(width=12)))
    with pytest.raises(ValueError, match="have no places in K"):
        index_of(flow(hdnn.Skew(shift=0.1), interconnection=hdnn.Inverse(skew=False), integrator="forward_euler"))


def test_halves_and_rounds_are_what_they_can_be():
    with pytest.raises(ValueError, match="Leave `halves=True`"):
        check_flow(flow(), 2, False)
    with pytest.raises(ValueError, match="`rounds` of messages a half field are 2"):
        check_flow(flow(), 3, True)


def test_a_J_between_ranks_and_a_K_beyond_the_graph_are_refused():
    node, owner = torch.arange(4).repeat(2), torch.arange(4)
    across = flow(interconnection=hdnn.Fixed(hdnn.block(torch.ones(4, 4))))
    with pytest.raises(ValueError, match="J joins feature 0 of rank 0 with feature 5 of rank 1"):
        check_cut(across, index_of(across), node, owner, None)
    dense = flow()
    with pytest.raises(ValueError, match=r"K joins node 0 with node 2.*Masked.from_graph\(adjacency, node_size=2\)"):
        check_cut(dense, index_of(dense), node, owner, ring(4))
    with pytest.raises(ValueError, match="`adjacency` is of 5 nodes, and `owner` of 4"):
        check_cut(dense, index_of(dense), node, owner, ring(5))


@pytest.mark.parametrize(
    ("owner", "error", "words"),
    [
        ([0, 1, 1], ValueError, "every node has as many of the 8 features"),
        ([[0, 1]], ValueError, "one rank for each node"),
        ([0, 1, 1, 2], ValueError, "they reach from 0 to 2"),
        ([-1, 0, 1, 1], ValueError, "they reach from -1 to 1"),
        ([1, 1, 1, 1], ValueError, "none is of rank 0"),
        (torch.rand(4), TypeError, "whole numbers"),
        ("first", TypeError, "a list of ranks"),
        (None, TypeError, "a list of ranks"),
    ],
)
def test_owners_are_ranks_that_there_are(owner, error, words):
    with pytest.raises(error, match=words):
        owners_of(owner, flow(), 2)


def test_processes_that_nobody_started_are_refused_in_words():
    with pytest.raises(RuntimeError, match="torchrun --nproc-per-node 4"):
        hdnn.DistributedFlow(flow(), [0] * 4)
    with pytest.raises(RuntimeError, match="torchrun"):
        line_of(None, 1.0)


@pytest.fixture
def alone():
    """A group of one process."""
    dist = torch.distributed
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_one_process_cuts_nothing_and_asks_for_its_own_features(alone):
    whole = flow()
    cut = hdnn.DistributedFlow(whole, [0] * 4)
    assert [name for name, _ in cut.named_parameters()] == ["weight", "bias"]
    assert {*cut.state_dict()} == {"weight", "bias", "interconnection_matrix"}
    y = torch.randn(3, 8, dtype=whole.weight.dtype)
    torch.testing.assert_close(cut(y), whole(y))
    assert (cut.peers, cut.traffic.rounds) == ([], 0)
    assert "rank 0 owns 8 of 8 features; its neighbours: none" in repr(cut)
    with pytest.raises(ValueError, match=r"Expected the features of the nodes of rank 0, \(..., 8\); got \(3, 7\)"):
        cut(y[:, 1:])
    with pytest.raises(ValueError, match="more than 0"):
        hdnn.DistributedFlow(whole, [0] * 4, timeout=0.0)


def test_it_moves_between_kinds_of_number(alone):
    cut = hdnn.DistributedFlow(flow(), [0] * 4).to(torch.float64)
    out = cut(torch.randn(2, 8, dtype=torch.float64))
    out.sum().backward()
    assert out.dtype == cut.weight.grad.dtype == torch.float64
    cut.traffic.clear()
    assert cut.whole().weight.dtype == torch.float64
