"""Strange configurations of runs: refused in words, or usable, and never costly."""

import contextlib
import dataclasses
import json
import resource
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hdnn import runs
from hdnn.networks import NetworkConfig, build_network
from hdnn.runs import Run
from run_cases import CONFIG, NETWORK, saved

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
DOCUMENT = json.loads(json.dumps({"format": runs.FORMAT, **dataclasses.asdict(CONFIG)}))


def opened(folder, text):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return Run.open(folder)


def refused_or_usable(folder, document):
    with contextlib.suppress(ValueError):
        run = opened(folder, json.dumps(document))
        assert build_network(run.config.network, device="meta").flow.layers <= 100_000


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=JSON)
def test_any_json_is_refused_in_words(tmp_path, document):
    with pytest.raises(ValueError, match=r"config\.json"):
        opened(tmp_path / "run", json.dumps(document))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60))
def test_any_bytes_are_refused_in_words(tmp_path, content):
    with pytest.raises(ValueError, match=r"config\.json"):
        opened(tmp_path / "run", content)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(DOCUMENT)), value=JSON)
def test_any_value_for_a_part_is_refused_or_usable(tmp_path, name, value):
    refused_or_usable(tmp_path / "run", {**DOCUMENT, name: value})


@pytest.mark.filterwarnings("ignore:A step of .* is lost")  # tiny steps are usable, and warned of
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(DOCUMENT["network"])), value=JSON | st.sampled_from([-1, 0, 1, 2, 3, 63, 65]))
def test_any_value_in_the_network_is_refused_or_usable(tmp_path, name, value):
    refused_or_usable(tmp_path / "run", {**DOCUMENT, "network": {**DOCUMENT["network"], name: value}})


@pytest.mark.parametrize("name", sorted(DOCUMENT.keys() - {"start"}))
def test_a_missing_part_is_named(tmp_path, name):
    document = {key: value for key, value in DOCUMENT.items() if key != name}
    word = "does not describe a run" if name == "format" else name
    with pytest.raises(ValueError, match=word):
        opened(tmp_path / "run", json.dumps(document))


@pytest.mark.parametrize("field", dataclasses.fields(NetworkConfig), ids=lambda field: field.name)
def test_a_missing_or_unknown_name_in_the_network_is_named(tmp_path, field):
    fewer = {name: value for name, value in DOCUMENT["network"].items() if name != field.name}
    more = {**DOCUMENT["network"], f"{field.name}s": 1}
    if field.default is not dataclasses.MISSING:
        found = opened(tmp_path / "run", json.dumps({**DOCUMENT, "network": fewer}))
        assert found.config.network == dataclasses.replace(NETWORK, **{field.name: field.default})
    for network in (more, *([fewer] if field.default is dataclasses.MISSING else [])):
        with pytest.raises(ValueError, match=field.name):
            opened(tmp_path / "run", json.dumps({**DOCUMENT, "network": network}))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 50_000 + "1" + "}" * 50_000,
        '{"format": ' + "9" * 10_000 + "}",
        json.dumps({**DOCUMENT, "network": {**DOCUMENT["network"], "step": 10**400}}),
        json.dumps({**DOCUMENT, "network": {**DOCUMENT["network"], "inputs": [3] * 100_000}}),
        json.dumps(DOCUMENT).replace("0.2", "NaN"),
    ],
)
def test_monsters_are_refused(tmp_path, text):
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        build_network(opened(tmp_path / "run", text).config.network, device="meta")


@contextlib.contextmanager
def room(size):
    """In it, what asks for more bytes gets none."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs the limits of Linux")
def test_a_monstrous_file_is_not_read(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with (folder / "config.json").open("wb") as stream:
        stream.truncate(2**33)
    with room(2**30), pytest.raises(ValueError, match="bytes"):
        Run.open(folder)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs the limits of Linux")
@pytest.mark.parametrize(
    "sizes",
    [
        {"layers": 10**9},
        {"layers": 10**9, "shared": True},
        {"layers": 100_000, "shared": True, "features": 2048},
        {"features": 10**8},
        {"features": 2048, "layers": 500},
        {"width": 60_000},
        {"outputs": 2**24},
        {"inputs": [2**24], "lift": "linear"},
        {"inputs": [2**24, 2**24, 2**24], "kernel_size": 1},
        {"kernel_size": 10**7, "inputs": [1, 2, 2]},
    ],
)
def test_small_weights_under_a_huge_configuration_cost_no_memory(tmp_path, sizes):
    run, _ = saved(tmp_path / "run")
    document = {**DOCUMENT, "network": {**DOCUMENT["network"], **sizes}}
    (run.folder / "config.json").write_text(json.dumps(document))
    with room(2**30), pytest.raises(ValueError, match=r"\w+ \w+"):
        Run.open(run.folder).load_network()
