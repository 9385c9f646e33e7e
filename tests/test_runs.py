"""Run folders: whole or not at all, the same bits back, and nothing but a ValueError from a strange file."""

import dataclasses
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from hdnn import jobs, runs
from hdnn.runs import Run, require_free, versions
from run_cases import CONFIG, NETWORK, saved


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


# There and back


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"model": "ms1"},
        {"model": "ms2", "features": 5},
        {"model": "h1", "interconnection": "upper_ones", "activation": "softplus"},
        {"lift": "linear", "shared": True},
        {"task": "regression", "outputs": 2},
        {"layers": 0},
        {"inputs": (1, 5, 6), "kernel_size": 3, "model": "h1", "outputs": 2},
    ],
)
def test_a_loaded_network_predicts_the_same_bits(tmp_path, choices, dtype):
    _, network = saved(tmp_path / "run", dataclasses.replace(NETWORK, **choices), dtype)
    run = Run.open(tmp_path / "run")
    before = torch.get_rng_state()
    loaded = run.load_network()
    assert torch.equal(torch.get_rng_state(), before)
    x = torch.randn(20, *run.config.network.inputs, dtype=dtype)
    assert torch.equal(loaded(x), network(x))
    assert not loaded.training
    assert {p.dtype for p in loaded.parameters()} == {dtype}


def test_the_configuration_comes_back(tmp_path):
    Run.create(tmp_path / "a" / "b", CONFIG)
    assert Run.open(tmp_path / "a" / "b").config == CONFIG


def test_history_and_metrics_come_back(tmp_path):
    run = Run.create(tmp_path / "run", CONFIG)
    history = [{"epoch": 1.0, "loss": 0.1 + 0.2, "seconds": 1e-9}, {"epoch": 2.0, "loss": 1e300, "seconds": 0.5}]
    run.write_history(history)
    run.write_metrics({"test_accuracy": 0.98, "label": "Grüße", "interrupted": False})
    assert run.read_history() == history
    assert run.read_metrics() == {"test_accuracy": 0.98, "label": "Grüße", "interrupted": False}
    run.write_history([])
    assert run.read_history() == []


def test_json_in_a_run_is_json_that_everybody_reads(tmp_path):
    run = Run.create(tmp_path / "run", CONFIG)
    with pytest.raises(ValueError, match="JSON"):
        run.write_metrics({"loss": float("nan")})
    assert not (run.folder / "metrics.json").exists()


def test_versions_name_what_took_part():
    assert set(versions()) == {"hdnn", "torch", "numpy", "python"}


def test_nothing_is_pickled(tmp_path):
    run, _ = saved(tmp_path / "run")
    assert all(b"pickle" not in content and not content.startswith(b"PK") for content in contents(run.folder).values())


# Where a run may go


def test_a_folder_that_holds_something_is_refused_untouched(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for overwrite in (False, True):
        before = contents(tmp_path)
        with pytest.raises(FileExistsError, match=str(tmp_path)):
            Run.create(tmp_path, CONFIG, overwrite=overwrite)
        assert contents(tmp_path) == before


def test_an_empty_folder_is_taken(tmp_path):
    assert Run.create(tmp_path, CONFIG).folder == tmp_path


def test_a_file_is_no_place_for_a_run(tmp_path):
    path = tmp_path / "file"
    path.write_text("x")
    with pytest.raises(FileExistsError, match="is a file"):
        Run.create(path, CONFIG, overwrite=True)
    # Root may write anywhere, so lack of permission is played by a path that nobody can write: one below a file.
    with pytest.raises(OSError, match=r"run cannot be written: .*file is a file, and no folder"):
        Run.create(path / "run", CONFIG)
    assert path.read_text() == "x"


def test_a_run_is_replaced_only_when_asked(tmp_path):
    run, _ = saved(tmp_path / "run")
    run.figure("training.png").write_bytes(b"old")
    run.write_report("old")
    before = contents(run.folder)
    with pytest.raises(FileExistsError, match="--overwrite"):
        Run.create(run.folder, CONFIG)
    assert contents(run.folder) == before
    Run.create(run.folder, CONFIG, overwrite=True)
    assert os.listdir(run.folder) == ["config.json"]


def test_what_others_put_beside_a_run_stays(tmp_path):
    run, _ = saved(tmp_path / "run")
    (run.folder / "notes.txt").write_text("mine")
    run.figure("training.png").write_bytes(b"old")
    run.figure("predicted_0.png").write_bytes(b"old")
    run.figure("holiday.png").write_bytes(b"mine")
    Run.create(run.folder, CONFIG, overwrite=True)
    assert set(contents(run.folder)) == {"config.json", "notes.txt", "figures", "figures/holiday.png"}


def test_every_figure_of_a_run_goes_with_it(tmp_path):
    source = "".join(path.read_text() for path in Path(jobs.__file__).parent.glob("*.py"))
    drawn = re.findall(r'run\.figure\(f?"([^"]+)"\)|_(?:picture|training)\(run, .*"([^"]+\.(?:png|gif))"', source)
    names = {(a or b) for a, b in drawn} | set(re.findall(r'= f"(predicted_.*\.png)"', source))
    assert {"reliability.png", "search.png", "mistakes.png", "features.gif", "predicted_{i}.png"} <= names
    run, _ = saved(tmp_path / "run")
    for name in names:
        run.figure(name).write_bytes(b"old")
    assert {path.name for path in runs.files_of(run.folder)} >= names
    Run.create(run.folder, CONFIG, overwrite=True)
    assert os.listdir(run.folder) == ["config.json"]


@pytest.mark.parametrize("config", ['{"architectures": ["Bert"]}', "[]", "no json", '{"format": 99}'])
def test_the_model_of_another_program_is_never_overwritten(tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "model.safetensors").write_bytes(b"years of work")
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match="leaves it alone"):
        Run.create(tmp_path, CONFIG, overwrite=True)
    assert contents(tmp_path) == before


def test_the_place_can_be_checked_before_the_work(tmp_path):
    require_free(tmp_path / "new")
    run, _ = saved(tmp_path / "run")
    require_free(run.folder, overwrite=True)
    with pytest.raises(FileExistsError):
        require_free(run.folder)


def test_a_configuration_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(runs, "write_whole", full)
    with pytest.raises(OSError, match="cannot be written: No space left"):
        Run.create(tmp_path / "run", CONFIG)
    assert os.listdir(tmp_path) == []


# No run, half a run


def test_a_folder_without_configuration_is_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not there"):
        Run.open(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=r"has no config\.json"):
        Run.open(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileNotFoundError, match="is a file"):
        Run.open(tmp_path / "file")


def test_a_run_without_weights_says_so(tmp_path):
    run = Run.create(tmp_path / "run", CONFIG)
    with pytest.raises(FileNotFoundError, match="stopped before it had any weights"):
        run.load_network()


# Strange weights


def test_weights_of_another_network_are_refused(tmp_path):
    run, _ = saved(tmp_path / "run")
    for i, choices in enumerate([{"layers": 4}, {"features": 6}, {"model": "h1"}, {"outputs": 3}, {"lift": "linear"}]):
        other, _ = saved(tmp_path / f"other{i}", dataclasses.replace(NETWORK, **choices))
        shutil.copy(other.folder / "model.safetensors", run.folder)
        with pytest.raises(ValueError, match=r"does not hold the network of config\.json"):
            run.load_network()


def test_a_missing_and_a_superfluous_tensor_are_refused(tmp_path):
    run, _ = saved(tmp_path / "run")
    path = run.folder / "model.safetensors"
    state = load_file(path)
    for changed in ({k: v for k, v in state.items() if k != "head.bias"}, {**state, "extra": torch.zeros(1)}):
        save_file(changed, path)
        with pytest.raises(ValueError, match=r"head\.bias|extra"):
            run.load_network()


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t * float("nan"),
        lambda t: t / 0,
        lambda t: t.to(torch.bfloat16),
        lambda t: t.to(torch.int64),
        lambda t: t.to(torch.complex64),
    ],
)
def test_weights_that_are_no_usable_numbers_are_refused(tmp_path, change):
    run, _ = saved(tmp_path / "run")
    path = run.folder / "model.safetensors"
    state = load_file(path)
    save_file({**state, "head.weight": change(state["head.weight"])}, path)
    with pytest.raises(ValueError, match=r"not a number|one kind"):
        run.load_network()


def test_another_J_than_that_of_the_configuration_is_refused(tmp_path):
    run, _ = saved(tmp_path / "run", dataclasses.replace(NETWORK, model="h1", interconnection="upper_ones"))
    path = run.folder / "model.safetensors"
    state = load_file(path)
    save_file({**state, "flow.interconnection_matrix": 2 * state["flow.interconnection_matrix"]}, path)
    with pytest.raises(ValueError, match="J"):
        run.load_network()


def test_truncated_weights_are_refused_at_every_length(tmp_path):
    run, _ = saved(tmp_path / "run")
    path = run.folder / "model.safetensors"
    whole = path.read_bytes()
    for length in [0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="safetensors"):
            run.load_network()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7), head=st.booleans())
def test_a_flipped_bit_gives_a_network_or_a_value_error(tmp_path, place, bit, head):
    folder = tmp_path / "run"
    if not folder.exists():
        saved(folder)
        (tmp_path / "whole").write_bytes((folder / "model.safetensors").read_bytes())
    content = bytearray((tmp_path / "whole").read_bytes())
    content[place % (600 if head else len(content))] ^= 1 << bit
    (folder / "model.safetensors").write_bytes(content)
    try:
        network = Run.open(folder).load_network()
    except ValueError:
        return
    assert network(torch.zeros(1, 3)).shape == (1, 4)
