"""Networks that are saved, loaded and shared as models on the hub; without network."""

import copy
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from families import random
from hdnn import hub
from hdnn.hub import HubNetwork
from hdnn.jobs import predict, trained
from hdnn.jobs.export import export
from hdnn.networks import NetworkConfig, build_network
from hdnn.runs import Run, RunConfig, versions

VECTORS = NetworkConfig("classification", (2,), 3, model="h2", features=4, layers=5, step=0.1)
NETWORKS = [
    VECTORS,
    NetworkConfig("regression", (3,), 2, model="ms2", features=5, layers=2, step=0.1, lift="linear", shared=True),
    NetworkConfig("classification", (1, 4, 5), 2, model="h1", features=4, layers=2, step=0.1, kernel_size=3),
]
INPUTS = {"h2": (2,), "ms2": (3,), "h1": (1, 4, 5)}


def trained_run(folder, network=VECTORS, **changes):
    """A run folder as `hdnn train` leaves it, with random weights everywhere."""
    config = RunConfig(
        **{
            "data": {"data": "/home/someone/secret/flowers.csv", "folder": r"C:\Users\someone\mnist", "seed": 1},
            "network": network,
            "recipe": {"epochs": 7, "optimizer": "adam", "clip": None},
            "encoder": {},
            "target": {},
            "seed": 3,
            "command": "hdnn train /home/someone/secret/flowers.csv --target kind --output=/home/someone/run",
            "versions": versions(),
            **changes,
        }
    )
    run = Run.create(folder, config)
    made = build_network(network)
    with torch.no_grad():
        for number, parameter in enumerate(made.parameters()):
            parameter.copy_(random(*parameter.shape, seed=number))
    run.save_network(made)
    run.write_metrics({"test_accuracy": 0.875, "test_rows": 40, "parameters": 117, "interrupted": False})
    return run


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.model)
def test_what_is_saved_is_loaded(tmp_path, network):
    run = trained_run(tmp_path / "run", network)
    HubNetwork.from_run(run.folder).save_pretrained(tmp_path / "saved")
    again = HubNetwork.from_pretrained(tmp_path / "saved")
    x = torch.randn(6, *INPUTS[network.model])
    assert torch.equal(again(x), run.load_network()(x))
    assert again.config.network == network
    assert again.metrics["test_accuracy"] == 0.875
    assert not again.training
    assert torch.equal(copy.deepcopy(again)(x), again(x))


SEQUENCES = NetworkConfig("classification", (7, 3), 3, model="h2", features=4, layers=2, step=0.1)


def test_a_run_on_sequences_is_called_as_one(tmp_path):
    run = trained_run(tmp_path / "run", SEQUENCES)
    hub_network, x = HubNetwork.from_run(run.folder), torch.randn(5, 7, 3)
    hub_network.save_pretrained(tmp_path / "saved")
    for network in (hub_network, HubNetwork.from_pretrained(tmp_path / "saved"), copy.deepcopy(hub_network)):
        assert torch.equal(network(x), run.load_network()(x))
        assert torch.equal(network.trajectory(x), run.load_network().trajectory(x))
        assert network.predict(x).shape == (5,)
    card = (tmp_path / "saved" / "README.md").read_text()
    for said in ("by sequences of 2 numbers a step", "(B, T, 3) to logits", "last number of a step", "40 sequences"):
        assert said in card


def test_commands_say_of_a_network_from_python_where_it_can_be_loaded(tmp_path):
    HubNetwork(VECTORS).save_pretrained(tmp_path / "saved")
    rows = tmp_path / "rows.csv"
    rows.write_text("a,b\n1,2\n")
    for ask in (
        lambda: predict(tmp_path / "saved", rows),
        lambda: trained(tmp_path / "saved"),
        lambda: export(tmp_path / "saved", program=tmp_path / "new.pt2"),
    ):
        with pytest.raises(ValueError, match=r"saved from Python.*Use it there, as its README\.md says"):
            ask()


def test_a_repository_is_a_run_folder(tmp_path):
    run = trained_run(tmp_path / "run")
    HubNetwork.from_run(run.folder).save_pretrained(tmp_path / "saved")
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {
        "README.md",
        "config.json",
        "metrics.json",
        "model.safetensors",
    }
    opened = Run.open(tmp_path / "saved")
    assert opened.config.recipe == run.config.recipe
    assert torch.equal(opened.load_network()(torch.ones(1, 2)), run.load_network()(torch.ones(1, 2)))


def test_paths_of_the_machine_stay_there(tmp_path):
    HubNetwork.from_run(trained_run(tmp_path / "run").folder).save_pretrained(tmp_path / "saved")
    written = b"".join(path.read_bytes() for path in (tmp_path / "saved").iterdir())
    assert b"someone" not in written
    config = Run.open(tmp_path / "saved").config
    assert config.command == "hdnn train flowers.csv --target kind"
    assert config.data["data"] == "flowers.csv"


def test_a_card_says_what_is_known(tmp_path):
    card = HubNetwork.from_run(trained_run(tmp_path / "run").folder).generate_model_card(license="apache-2.0")
    head = yaml.safe_load(card.content.split("---\n")[1])
    assert (head["library_name"], head["license"], head["pipeline_tag"]) == (
        "hdnn",
        "apache-2.0",
        "tabular-classification",
    )
    assert {"hamiltonian-neural-network", "h2"} <= set(head["tags"])
    (result,) = head["model-index"][0]["results"]
    assert result["dataset"]["name"] == "flowers.csv"
    assert result["metrics"][0]["value"] == 0.875
    for said in ("| accuracy | 0.8750 |", "40 rows", "| seed | `3` |", "| epochs | `7` |", "hdnn train flowers.csv"):
        assert said in card.content


def test_a_card_claims_nothing_that_is_not_known():
    card = HubNetwork(VECTORS).generate_model_card()
    head = yaml.safe_load(card.content.split("---\n")[1])
    assert "model-index" not in head
    assert "license" not in head
    assert "None are recorded" in card.content
    assert "seed" not in card.content
    assert "hdnn predict" not in card.content  # without an encoder it would refuse


def test_a_card_of_images_speaks_of_images(tmp_path):
    run = trained_run(tmp_path / "run", network=NETWORKS[2], encoder={"kind": "image"})
    card = HubNetwork.from_run(run.folder).generate_model_card().content
    assert "hdnn predict run pictures/" in card
    assert "(B, 1, 4, 5) to logits" in card
    assert "40 images" in card
    assert "rows" not in card


def test_text_of_users_does_not_break_a_card(tmp_path):
    run = trained_run(tmp_path / "run", data={"data": "a: `b` | c\n---\nd.csv"}, command="hdnn train 'x|`y`'")
    card = HubNetwork.from_run(run.folder).generate_model_card().content
    head = yaml.safe_load(card.split("\n---\n")[0])
    assert head["model-index"][0]["results"][0]["dataset"]["name"] == "a: 'b' / c --- d.csv"
    assert card.split("\n---\n")[1].count("\n# h2 on a: 'b' / c --- d.csv") == 1


class Hub:
    """What stands in for the hub: it keeps what is uploaded."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, token=None):
        return self

    def create_repo(self, repo_id, private, exist_ok):
        return type("Repository", (), {"repo_id": repo_id})

    def upload_folder(self, *, repo_id, folder_path, **_):
        place = self.folder / repo_id
        place.mkdir(parents=True)
        for path in Path(folder_path).iterdir():
            (place / path.name).write_bytes(path.read_bytes())
        return f"https://example.org/{repo_id}"


def test_pushed_and_downloaded(tmp_path, monkeypatch):
    uploaded = tmp_path / "uploaded"
    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Hub(uploaded))
    asked = {}

    def download(repo_id, *, allow_patterns, revision, **_):
        asked.update(files=set(allow_patterns), revision=revision)
        return str(uploaded / repo_id)

    monkeypatch.setattr("hdnn.hub.network.snapshot_download", download)
    made = HubNetwork.from_run(trained_run(tmp_path / "run").folder)
    url = made.push_to_hub("me/flowers", model_card_kwargs={"license": "mit"})
    assert url == "https://example.org/me/flowers"
    assert "license: mit" in (uploaded / "me" / "flowers" / "README.md").read_text(encoding="utf-8")
    again = HubNetwork.from_pretrained("me/flowers", revision="v1")
    assert torch.equal(again.flow.weight, made.flow.weight)
    assert asked == {"files": {"config.json", "model.safetensors", "metrics.json"}, "revision": "v1"}


def test_pickled_weights_are_not_read(tmp_path):
    HubNetwork(VECTORS).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(HubNetwork(VECTORS).state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"no model.safetensors"):
        HubNetwork.from_pretrained(tmp_path)


@pytest.mark.parametrize("content", ["[]", "{}", "{", json.dumps({"format": 1, "network": {}})])
def test_damaged_configurations_are_named(tmp_path, content):
    HubNetwork(VECTORS).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json"):
        HubNetwork.from_pretrained(tmp_path)


@pytest.mark.parametrize("content", ["[]", "{", "[" * 100_000, " " * 2**20 + "{}"])
def test_damaged_results_are_named(tmp_path, content):
    HubNetwork(VECTORS).save_pretrained(tmp_path)
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(ValueError, match=r"metrics\.json"):
        HubNetwork.from_pretrained(tmp_path)


def test_results_that_are_no_numbers_are_left_out(tmp_path):
    HubNetwork(VECTORS).save_pretrained(tmp_path)
    (tmp_path / "metrics.json").write_text('{"test_accuracy": NaN, "test_rows": 5, "parameters": "many"}')
    assert HubNetwork.from_pretrained(tmp_path).metrics == {"test_rows": 5}


def test_a_command_that_cannot_be_read_is_left_out(tmp_path):
    assert HubNetwork.from_run(trained_run(tmp_path, command="hdnn train 'a /home/me").folder).config.command == ""


def test_a_trained_network_is_taken_as_it_is():
    made = build_network(VECTORS)
    assert HubNetwork(VECTORS, made).flow is made.flow
    with pytest.raises(ValueError, match="not that of the configuration"):
        HubNetwork(NETWORKS[1], made)


def test_a_card_of_the_user_stays(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    HubNetwork(VECTORS).save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


@pytest.mark.long
def test_the_missing_package_is_named():
    code = "import sys; sys.modules['huggingface_hub'] = None; import hdnn.hub"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'hdnn[hub]'" in done.stderr
    assert hub.__all__ == ["HubNetwork"]


@pytest.mark.parametrize("by", ["run", "configuration"])
def test_no_folder_leaves_the_machine(tmp_path, by):
    command = (
        "hdnn train /home/alice/flowers.csv --target kind --data-folder /home/alice --output runs/alice -o alice/x "
        r"-oalice --output=/home/alice/run --tensorboard=alice --seed 3 'C:\Users\alice\more.csv'"
    )
    data = {"data": "/home/alice/flowers.csv", "folder": "/home/alice", "seed": 1, "size": None}
    run = trained_run(tmp_path / "run", command=command, data=data)
    made = HubNetwork.from_run(run.folder) if by == "run" else HubNetwork(run.config, run.load_network())
    made.save_pretrained(tmp_path / "saved")
    for path in (tmp_path / "saved").iterdir():
        assert b"alice" not in path.read_bytes(), path
    assert made.config.command == "hdnn train flowers.csv --target kind --seed 3 more.csv"
    assert made.config.data["folder"] is None


WORDS = "--target price/kg --without=a/b --separator '|' --missing n/a --date-format %d/%m/%Y --class-weight 'a/b=2'"


def test_a_command_on_a_card_is_the_one_that_was_typed(tmp_path):
    run = trained_run(tmp_path, command=f"hdnn train /home/me/x.csv {WORDS} --shared /home/me --column 'a  `b`'")
    made = HubNetwork.from_run(run.folder)
    typed = shlex.split(f"hdnn train x.csv {WORDS} --shared me --column 'a  `b`'")
    assert shlex.split(made.config.command) == typed
    (line,) = [line for line in made.generate_model_card().content.splitlines() if line.startswith("    hdnn train")]
    assert shlex.split(line) == typed


def test_the_database_of_a_study_stays_there(tmp_path):
    command = "hdnn tune x.csv --study studies/alice --storage mysql://alice@host/alice --lost-host alice --trials 3"
    made = HubNetwork.from_run(trained_run(tmp_path, command=command).folder)
    assert made.config.command == "hdnn tune x.csv --trials 3"


def test_what_users_name_is_no_markdown_on_a_card(tmp_path):
    run = trained_run(
        tmp_path,
        data={"data": "<img src=x>[a](b)_c_my_d.csv\x1b[31m\u202e"},
        command="hdnn train x.csv --target '\n# head\x1b'",
        versions={"<b>": "1"},
    )
    card = HubNetwork.from_run(run.folder).generate_model_card().content
    title = r"\<img src=x\>\[a\](b)\_c_my_d.csv\\x1b\[31m\\u202e"
    assert f"\n# h2 on {title}\n" in card
    assert r"version of \<b\>" in card
    assert "\n    # head\\x1b'\n" in card
    assert all(letter.isprintable() or letter == "\n" for letter in card)
