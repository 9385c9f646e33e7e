"""A network that saves, loads and shares itself as models on Hugging Face's hub do.

A repository of it is a run folder of hdnn with a model card: config.json, model.safetensors, metrics.json, README.md.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path, PureWindowsPath
from typing import Any

from torch import nn

from hdnn import options
from hdnn.arguments import shown
from hdnn.files import require_own, write_whole
from hdnn.flow import Flow
from hdnn.flow.attributes import described
from hdnn.hub.card import describe
from hdnn.networks import GraphNetwork, Network, NetworkConfig, build_network
from hdnn.networks.sequences import MarkedSequences
from hdnn.options import NetworkChoices, RunChoices, SourceChoices, TrainingChoices
from hdnn.runs import Run, RunConfig, versions

try:
    from huggingface_hub import ModelCard, PyTorchModelHubMixin, snapshot_download
except ImportError as missing:
    raise ImportError(
        "hdnn.hub needs the package huggingface_hub, which is not installed. Install it with pip install 'hdnn[hub]'."
    ) from missing

_FOLDERS = {"--output", "-o", "--data-folder", "--tensorboard", "--resume", "--study", "--storage", "--lost-host"}
_FILES = ["config.json", "model.safetensors", "metrics.json"]
_LARGEST_METRICS = 2**20


class HubNetwork(Network, PyTorchModelHubMixin, library_name="hdnn"):
    """A `Network` with the methods of Hugging Face's mixin.

    `save_pretrained(folder)` and `push_to_hub("user/name")` are the mixin's; they write weights as safetensors, the
    configuration as JSON, and a model card if the folder has none. Nothing is pickled, and nothing unpickled: the mixin
    would read a pickle file where a repository has no safetensors, `from_pretrained` here does not.

    Args:
        config: the network, or the whole configuration of a run.
        network: what `config` describes, trained; None makes one with random weights.
        metrics: results for the model card.

    Raises:
        ImportError: when `hdnn.hub` is imported without huggingface_hub.
        ValueError: if the network is not that of the configuration.

    Example:
        >>> import tempfile
        >>> from hdnn.hub import HubNetwork
        >>> from hdnn.networks import NetworkConfig
        >>> config = NetworkConfig("classification", (2,), 2, model="h2", features=4, layers=8, step=0.1)
        >>> network = HubNetwork(config)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = network.save_pretrained(folder)
        ...     again = HubNetwork.from_pretrained(folder)
        >>> bool((again.flow.weight == network.flow.weight).all())
        True
    """

    def __new__(
        cls,
        config: NetworkConfig | RunConfig | None = None,
        network: Network | None = None,
        metrics: Mapping[str, Any] | None = None,
    ) -> HubNetwork:
        """Of sequences and of graphs a subclass, which is called as networks of these are; copies give no arguments."""
        if not isinstance(config, NetworkConfig | RunConfig | None):
            raise TypeError(
                f"A HubNetwork is made of a NetworkConfig or a RunConfig; got {shown(config)}. A run folder is read by "
                f"HubNetwork.from_run, a repository by HubNetwork.from_pretrained."
            )
        of = config.network if isinstance(config, RunConfig) else config
        if cls is HubNetwork and of is not None and (of.of_sequences or of.space == "graph"):
            cls = HubSequenceNetwork if of.of_sequences else HubGraphNetwork
        made: HubNetwork = super().__new__(cls, config, network, metrics)
        return made

    def __init__(
        self,
        config: NetworkConfig | RunConfig,
        network: Network | None = None,
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        described = _public(config) if isinstance(config, RunConfig) else _bare(config)
        parts = build_network(described.network) if network is None else network
        if network is not None:
            _require_same(network, build_network(described.network, device="meta"))
        nn.Module.__init__(self)
        # All that the network is, whatever its kind: what this class adds is where it comes from and goes to.
        vars(self).update({name: copy.copy(value) for name, value in vars(parts).items()})
        self.config = described
        self.metrics = dict(metrics or {})

    @classmethod
    def from_run(cls, folder: str | Path) -> HubNetwork:
        """The trained network of a run folder, on the CPU.

        What only concerns the machine of the run is left out: of paths in the configuration and the command, only the
        names of the files stay, and options that name folders go. Names of columns and classes stay, for they are
        needed to predict.

        Args:
            folder: that `hdnn train` wrote, or that of a downloaded repository.

        Raises:
            OSError: if there is no run.
            ValueError: if it is damaged.
        """
        run = Run.open(Path(folder))
        network = run.load_network()
        made = cls(run.config, network, _metrics(run.folder / "metrics.json"))
        made.eval()
        return made

    @classmethod
    def from_pretrained(  # type: ignore[override]  # safetensors alone, and no options of other models
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
    ) -> HubNetwork:
        """The network of a repository on the hub, or of a folder, on the CPU and in evaluation mode.

        Args:
            pretrained_model_name_or_path: "user/name", or a folder.
            force_download: also what is in the cache.
            token: for private repositories.
            cache_dir: where downloads are kept.
            local_files_only: use the cache alone.
            revision: branch, tag or commit.

        Raises:
            OSError: if there is no such model.
            ValueError: if it is damaged.
        """
        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir():
            folder = Path(
                snapshot_download(
                    str(pretrained_model_name_or_path),
                    revision=revision,
                    cache_dir=cache_dir,
                    force_download=force_download,
                    token=token,
                    local_files_only=local_files_only,
                    allow_patterns=_FILES,
                )
            )
        return cls.from_run(folder)

    def generate_model_card(self, license: str | None = None) -> ModelCard:
        """The model card: what was trained on what, how good it is, how to load it and how to do it again.

        Args:
            license: of the weights, as the hub names it, such as "apache-2.0"; give it to `push_to_hub` as
                model_card_kwargs={"license": "apache-2.0"}.
        """
        return ModelCard(describe(self.config, self.metrics, license))

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Save weights, configuration and model card in a folder, as every network of the hub does.

        Args:
            save_directory: made if it is not there; nothing but files of earlier saves is replaced in it.
            **options: those of `PyTorchModelHubMixin.save_pretrained`.

        Raises:
            OSError: if something else stands where a file goes, or the folder lies in the package of hdnn.
        """
        # Here, because the mixin makes the folder and removes its configuration before it asks.
        require_own(Path(save_directory), [*_FILES, "README.md"])  # the mixin writes the model card
        return super().save_pretrained(save_directory, **options)

    def _save_pretrained(self, save_directory: Path) -> None:
        with tempfile.TemporaryDirectory() as place:
            # The folder may hold other files, which no run may be created beside.
            run = Run.create(Path(place) / "run", self.config)
            run.save_network(self)
            if self.metrics:
                run.write_metrics(self.metrics)
            for name in _FILES:
                if (run.folder / name).is_file():
                    write_whole(save_directory / name, (run.folder / name).read_bytes())


class HubSequenceNetwork(HubNetwork, MarkedSequences):
    """A `HubNetwork` of sequences (B, T, d + 1), whose ends the last number of each step marks."""


class HubGraphNetwork(HubNetwork, GraphNetwork):
    """A `HubNetwork` whose calls bring a graph, `network(x, edge_index, batch)`."""


def _require_same(network: Network, expected: Network) -> None:
    """See that a network is what its configuration will build when it is loaded."""
    if _shapes(network) != _shapes(expected) or network.task != expected.task:
        raise ValueError("The network is not that of the configuration: their task or their weights differ.")
    for mine, theirs in zip_longest(_said(network), _said(expected), fillvalue="nothing"):
        if mine != theirs:
            raise ValueError(
                f"The network is not that of the configuration: it has `{mine}` where that has `{theirs}`."
            )


def _said(network: Network) -> Iterator[str]:
    """What a network prints, line by line, but for its own class and how its flows run."""
    for name, module in network.named_modules(remove_duplicate=False):
        said = described(module, how=False) if isinstance(module, Flow) else module.extra_repr()
        yield from (f"({name}): {type(module).__name__}({said})" if name else said).splitlines()


def _bare(network: NetworkConfig) -> RunConfig:
    """The configuration of a network of which nothing else is known."""
    return RunConfig(
        data={}, network=network, recipe={}, encoder={}, target={}, seed=0, command="", versions=versions()
    )


def _public(config: RunConfig) -> RunConfig:
    data = dict(config.data)
    if isinstance(data.get("data"), str):
        data["data"] = _file_name(data["data"])
    if data.get("folder") is not None:
        data["folder"] = None
    try:
        command = shlex.join(_without_folders(shlex.split(config.command)))
    except ValueError:  # quotes that do not end: nobody could type it again
        command = ""
    return dataclasses.replace(config, data=data, command=command)


def _without_folders(words: list[str]) -> Iterator[str]:
    """A command without the options that name folders or hosts: a part of those may be the name of a person.

    What other options say, as in `--target price/kg`, is no path.
    """
    lists = (NetworkChoices, TrainingChoices, RunChoices, SourceChoices)
    switches = {entry.name for choices in lists for entry in options.entries(choices) if entry.kind is bool}
    said = {flag for name, flag in options.flags(*lists).items() if name not in switches} - _FOLDERS
    rest, before = iter(words), ""
    for word in rest:
        option = word.partition("=")[0]
        if word in _FOLDERS:
            next(rest, None)
        elif option not in _FOLDERS and not (word.startswith("-o") and len(word) > 2):
            yield word if before in said or option in said else _file_name(word)
        before = word


def _metrics(path: Path) -> dict[str, Any]:
    """The numbers of a file of results, which may come from elsewhere; none where there is no file."""
    if not path.is_file():
        return {}
    if path.stat().st_size > _LARGEST_METRICS:
        raise ValueError(f"{path} has more than {_LARGEST_METRICS} bytes. Is this the folder of a run?")
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}. Remove it, or train again.") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} does not hold results by name. Remove it, or train again.")
    return {name: value for name, value in found.items() if isinstance(value, int | float) and abs(value) < 1e300}


def _file_name(word: str) -> str:
    """A path of any system without its folders; also after "=", as in --output=/home/me/run."""
    option, equals, value = word.rpartition("=")
    return f"{option}{equals}{PureWindowsPath(value).name or value}" if "/" in value or "\\" in value else word


def _shapes(network: Network) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}
