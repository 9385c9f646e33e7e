"""Networks in stages as plain values: built as by hand, saved and loaded, refused where they make no sense."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file, save_file

import hdnn
from hdnn.networks import STAGES, NetworkConfig, build_network
from hdnn.runs import Run, RunConfig, versions
from hdnn.stages import Stages

FIELDS = {
    "task": "classification",
    "inputs": (1, 12, 12),
    "outputs": 3,
    "model": "stages",
    "features": 4,
    "layers": 3,
    "step": 0.5,
    "activation": "relu",
    "kernel_size": 3,
    "units": (1, 2),
    "channels": (4, 8),
    "normalization": "units",
}


def config_of(**changed):
    return NetworkConfig(**{**FIELDS, **changed})


def shapes(network):
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


@pytest.mark.parametrize("normalization", ["units", "batch", "bias", "none"])
def test_a_configuration_builds_what_the_function_builds(normalization):
    torch.manual_seed(0)
    built = build_network(config_of(normalization=normalization))
    torch.manual_seed(0)
    kind = None if normalization == "none" else normalization
    by_hand = hdnn.image_network((1, 2), (4, 8), classes=3, inputs=1, step=0.5, normalization=kind)
    assert isinstance(built.flow, Stages)
    assert (built.flow.features, built.flow.layers) == (4, 3)
    for name, value in by_hand.state_dict().items():
        assert torch.equal(value, built.state_dict()[name])
    x = torch.randn(2, 1, 12, 12)
    assert torch.equal(built.eval()(x), by_hand.eval()(x))
    on_meta = build_network(config_of(normalization=normalization), device="meta")
    assert shapes(on_meta) == shapes(built)
    assert {value.device.type for value in on_meta.state_dict().values()} == {"meta"}


def test_published_names_stand_for_their_sizes():
    for name, made in (("hamiltonian74", hdnn.hamiltonian74), ("hamiltonian218", hdnn.hamiltonian218)):
        sizes = STAGES[name]
        config = config_of(**sizes, inputs=(3, 32, 32), outputs=10, features=32, layers=sum(sizes["units"]), step=1.0)
        with torch.device("meta"):
            assert shapes(build_network(config)) == shapes(made())


def test_very_deep_ones_keep_the_ends_of_their_stages_alone():
    for units, memory in (((50, 49), None), ((50, 50), "reverse")):
        network = build_network(config_of(units=units, layers=sum(units)), device="meta")
        assert {stage.flow.memory for stage in network.flow.flows} == {memory}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"units": None}, "one of them is missing"),
        ({"normalization": "layers"}, "`normalization` must be one of"),
        ({"units": (1, 2, 3)}, "one number for each stage"),
        ({"units": (0, 3)}, "at least one unit"),
        ({"channels": (8, 4), "features": 8}, "never fall"),
        ({"channels": (3, 8), "features": 3}, "are even"),
        ({"features": 8}, "have 3 layers and 4 features at first"),
        ({"layers": 2}, "have 3 layers"),
        ({"inputs": (12,), "kernel_size": None}, "Stages sort images"),
        ({"task": "regression"}, "Stages sort images"),
        ({"lift": "linear"}, "take no `lift`"),
        ({"shared": True}, "take no `shared`"),
        ({"integrator": "forward_euler"}, "take no `integrator`"),
        ({"damping": 0.1}, "take no `damping`"),
        ({"model": "hamiltonian74"}, "calls `hamiltonian74`"),
        ({"model": "h2"}, "`units` is of a network in stages"),
        ({"channels": (4, 2**20)}, "weights; at most"),
        ({"units": (10**6, 1), "layers": 10**6 + 1}, "may be at most"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(changed, words):
    with pytest.raises(ValueError, match=words):
        config_of(**changed)


def run_of(folder, config):
    described = RunConfig(
        data={}, network=config, recipe={}, encoder={}, target={}, seed=0, command="", versions=versions()
    )
    return Run.create(folder, described)


@pytest.mark.parametrize("normalization", ["units", "batch", "bias", "none"])
def test_a_run_gives_it_back_with_all_its_statistics(tmp_path, normalization):
    network = build_network(config_of(normalization=normalization))
    network(torch.randn(5, 1, 12, 12))  # moves the running moments, and counts
    run = run_of(tmp_path / "run", config_of(normalization=normalization))
    run.save_network(network)
    again = Run.open(tmp_path / "run")
    assert again.config.network == run.config.network
    loaded = again.load_network()
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in network.state_dict().items())
    assert not loaded.training
    x = torch.randn(2, 1, 12, 12)
    assert torch.equal(network.eval()(x), loaded(x))


def test_weights_that_are_counts_are_refused(tmp_path):
    run = run_of(tmp_path / "run", config_of())
    run.save_network(build_network(config_of()))
    path = tmp_path / "run" / "model.safetensors"
    tensors = load_file(path)
    tensors["head.bias"] = torch.zeros(3, dtype=torch.int64)
    save_file(tensors, path)
    with pytest.raises(ValueError, match="numbers of one kind"):
        run.load_network()


def test_the_hub_keeps_the_mean_over_positions(tmp_path):
    hub = pytest.importorskip("hdnn.hub", exc_type=ImportError)
    config = config_of()
    network = build_network(config)
    torch.nn.init.normal_(network.head.weight)
    made = hub.HubNetwork(config, network).eval()
    made.save_pretrained(tmp_path / "shared")
    again = hub.HubNetwork.from_pretrained(tmp_path / "shared")
    x = torch.randn(2, 1, 12, 12)
    assert torch.equal(again(x), network.eval()(x))
    card = (tmp_path / "shared" / "README.md").read_text()
    assert "1-2 layers of 4-8 channels" in card
    assert "| units | `1-2` |" in card


def test_plain_values_hold_it(tmp_path):
    run = run_of(tmp_path / "run", config_of())
    text = (tmp_path / "run" / "config.json").read_text()
    for bad, words in (('"units": [\n      1,', "units"), ('"channels": [\n      4,', "channels")):
        (tmp_path / "run" / "config.json").write_text(
            text.replace(bad, bad.replace("1,", '"1",').replace("4,", "4.5,"))
        )
        with pytest.raises(ValueError, match=words):
            Run.open(tmp_path / "run")
    (tmp_path / "run" / "config.json").write_text(text)
    assert dataclasses.asdict(Run.open(tmp_path / "run").config.network) == dataclasses.asdict(run.config.network)
