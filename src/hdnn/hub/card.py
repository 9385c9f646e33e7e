"""The model card of a network: a page in Markdown with a head that the hub can read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hdnn.names import count, printable
from hdnn.runs import RunConfig

_TAGS = ["hamiltonian-neural-network", "hdnn", "model_hub_mixin", "pytorch_model_hub_mixin"]
# Name in metrics.json: name on the hub, name for people, how to print it.
_SCORES = {
    "test_accuracy": ("accuracy", "accuracy", "{:.4f}"),
    "test_error": ("rmse", "root mean square error", "{:.4g}"),
    "test_absolute_error": ("mae", "mean absolute error", "{:.4g}"),
    "test_r2": ("r_squared", "R²", "{:.4f}"),
}


def describe(config: RunConfig, metrics: Mapping[str, Any], license: str | None = None) -> str:
    """The text of README.md.

    Args:
        config: of the run.
        metrics: of the run; empty where there was none, and then the card claims nothing.
        license: of the weights.
    """
    data = _data(config)
    scores = {name: metrics[name] for name in _SCORES if name in metrics}
    network = config.network
    parts = [
        f"---\n{_head(config, data, scores, license)}\n---\n",
        f"# {network.model} on {_literal(data)}\n" if data else f"# {network.model}\n",
        f"A Hamiltonian deep neural network (`{network.model}`) with {network.sizes.replace(', ', ' and ')}, "
        f"{_purpose(config)}. Each layer is one time step of a Hamiltonian system whose weights are learned. "
        "Made with the Python library hdnn.\n",
        _results(config, metrics, scores),
        _loading(config),
        _facts(config, metrics),
    ]
    return "\n".join(part for part in parts if part)


_LOADING = """## How to use it

```python
from hdnn.hub import HubNetwork  # pip install 'hdnn[hub]'

network = HubNetwork.from_pretrained("USER/NAME")
outputs = network({call})  # from {inputs} ({shape}) to {outputs}
```
{note}
{raw} The weights are safetensors and the configuration is JSON, so loading runs no code of this repository.
"""
_NOTES = {
    "sequences": "\nThe last number of a step is 1 at the last step of a sequence and 0 elsewhere.\n",
    "signals": "\nSignals may have any length L.\n",
    "graph": "\n`edge_index` (2, edges) has sources above targets, `batch` (nodes,) the graph of each node.\n",
}
_RAW = """This repository is a run folder of hdnn, which encodes raw data as in training:
`hf download USER/NAME --local-dir run`, then `hdnn predict run {file}`."""


def _loading(config: RunConfig) -> str:
    network = config.network
    raw = _RAW.format(file="pictures/" if _of_images(config) else "rows.csv")
    numbers = "standardised numbers" if config.target else "numbers"
    graphs = network.space == "graph"
    shape = {
        "graph": ("nodes", *network.inputs),
        "signals": ("B", network.inputs[0], "L"),
        None: ("B", "T", network.inputs[-1]) if network.of_sequences else ("B", *network.inputs),
    }[network.space]
    return _LOADING.format(
        call="x, edge_index" + (", batch" if network.readout != "nodes" else "") if graphs else "x",
        inputs="nodes" if graphs else "encoded inputs",
        shape=", ".join(map(str, shape)),
        note=_NOTES.get("sequences" if network.of_sequences else network.space or "", ""),
        outputs="logits" if config.network.task == "classification" else numbers,
        raw=raw if config.encoder else "How raw data become inputs is not recorded with these weights.",
    )


def _head(config: RunConfig, data: str, scores: Mapping[str, Any], license: str | None) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type=_pipeline(config),
            dataset_type=data,
            dataset_name=data,
            dataset_split="test",
            metric_type=_SCORES[name][0],
            metric_name=_SCORES[name][1],
            metric_value=value,
        )
        for name, value in scores.items()
        if data
    ]
    head = ModelCardData(
        library_name="hdnn",
        pipeline_tag=_pipeline(config),
        tags=[*_TAGS, config.network.model],
        license=license,
        model_name=f"{config.network.model} on {data}" if results else None,
        metrics=[_SCORES[name][0] for name in scores] or None,
        eval_results=results or None,
    )
    text: str = head.to_yaml()
    return text.strip()


def _pipeline(config: RunConfig) -> str:
    if _of_images(config):
        return "image-classification"
    if config.network.space == "graph":
        return "graph-ml"
    return f"tabular-{config.network.task}"


def _of_images(config: RunConfig) -> bool:
    return len(config.network.inputs) == 3


def _data(config: RunConfig) -> str:
    data = config.data.get("data")
    return _plain(data) if isinstance(data, str) else ""


def _purpose(config: RunConfig) -> str:
    network = config.network
    inputs = _inputs(config)
    if network.space == "graph" and network.readout == "nodes":
        inputs = f"the nodes of {inputs}"
    if network.task == "classification":
        return f"which tells {network.outputs} classes apart by {inputs}"
    return f"which predicts {network.outputs} number{'' if network.outputs == 1 else 's'} from {inputs}"


def _inputs(config: RunConfig) -> str:
    """What goes in, in words."""
    network = config.network
    if network.of_sequences:
        return f"sequences of {count(network.inputs[1] - 1, 'number')} a step"
    if network.space == "signals":
        return f"signals of {count(network.inputs[0], 'channel')}"
    if network.space == "graph":
        return f"graphs with {count(network.inputs[0], 'number')} at a node"
    size = " x ".join(map(str, network.inputs))
    return f"images of {size} values" if _of_images(config) else f"{size} input{'' if size == '1' else 's'}"


def _results(config: RunConfig, metrics: Mapping[str, Any], scores: Mapping[str, Any]) -> str:
    if not scores:
        return "## Results\n\nNone are recorded with these weights.\n"
    lines = [f"| {_SCORES[name][1]} | {_SCORES[name][2].format(value)} |" for name, value in scores.items()]
    noun = "images" if _of_images(config) else "sequences" if config.network.of_sequences else "rows"
    tested = f"{metrics.get('test_rows')} {noun}"
    note = f"These are the scores of one run, not a mean over seeds, on {tested} that took no part in training."
    if metrics.get("interrupted"):
        note += " Training was interrupted before its end."
    return "\n".join(["## Results", "", "| on test data | |", "|---|---|", *lines, "", note, ""])


def _facts(config: RunConfig, metrics: Mapping[str, Any]) -> str:
    facts: dict[str, object] = {"model": config.network.model}
    for name in (
        "layers",
        "features",
        "step",
        "activation",
        "interconnection",
        "integrator",
        "damping",
        "width",
        "kernel_size",
        "shared",
        "units",
        "channels",
        "normalization",
        "space",
        "pool",
        "readout",
        "neighbours",
    ):
        value = getattr(config.network, name)
        if value not in (None, False):
            facts[name.replace("_", " ")] = value if not isinstance(value, tuple) else "-".join(map(str, value))
    if "parameters" in metrics:
        facts["parameters"] = f"{metrics['parameters']:,}"
    if config.recipe:
        facts |= {name.replace("_", " "): value for name, value in config.recipe.items() if value not in (None, [])}
        facts["seed"] = config.seed
    facts |= {f"version of {name}": value for name, value in config.versions.items()}
    lines = [f"| {_literal(name)} | `{_plain(value)}` |" for name, value in facts.items()]
    # Four blanks before each line make it code, in which nothing has to be written otherwise.
    command = printable(config.command).replace("\n", "\n    ")
    again = ["", "The command of the run:", "", f"    {command}", ""] if command else [""]
    return "\n".join(["## How it was made", "", "| | |", "|---|---|", *lines, *again])


def _plain(value: object) -> str:
    """A value in one line, without what ends a cell or a span of code."""
    return printable(" ".join(str(value).split())).replace("`", "'").replace("|", "/")


def _literal(value: object) -> str:
    """A value in one line of Markdown that stands there as it is: no emphasis, link or tag."""
    return re.sub(r"[\\*\[\]<>&~$]|(?<!\w)_|_(?!\w)", r"\\\g<0>", _plain(value))
