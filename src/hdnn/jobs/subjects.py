"""What an analysis looks at: a flow and states to start it from, of a run and its data, or fresh and random."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor

from hdnn.analysis import Gradients, gradients, log_norms, sensitivities
from hdnn.data import Dataset
from hdnn.flow import Flow
from hdnn.flow.settings import step_size
from hdnn.jobs import staged
from hdnn.jobs.beginnings import deviation, started
from hdnn.jobs.choices import given, seeded_network
from hdnn.jobs.prediction import alike, opened
from hdnn.jobs.sources import DataSource, reloaded, source_of
from hdnn.jobs.staged import StagedSubject
from hdnn.names import count
from hdnn.networks import Network, NetworkConfig
from hdnn.options import FlowChoices
from hdnn.stages import Stages
from hdnn.training import Objective

# Bytes of all sensitivities together, and their number times n³, which takes some ten seconds: samples are left out
# until both are kept.
_BYTES, _WORK = 2**30, 5e9
# Fewer samples say too little: then no matrices are built.
_FEWEST = 4
# Depths at which matrices are taken apart: more are not seen in a figure.
_DEPTHS = 65
# Matrices of larger norms are not taken apart: the fourth power in ‖M J Mᵀ‖² would exceed what 64 bits can hold.
TAME = 1e70


@dataclass(frozen=True, eq=False)
class Subject:
    """A flow in float64 and the states it starts from. Made by `trained` and `untrained`.

    Attributes:
        title: which network.
        lead: a sentence on flow and states.
        model: preset.
        flow: on vectors; on images only where its layers couple pixels.
        y0: (S, n) or (B, n, H, W).
        notes: what a reader must know of the choice of states.
        gradients: computes the gradients of the loss; None for an untrained flow.
        fresh: an untrained flow like this one, by seed; None where none is made.
    """

    title: str
    lead: str
    model: str
    flow: Flow
    y0: Tensor
    notes: list[str] = field(default_factory=list)
    gradients: Callable[[], Gradients] | None = None
    fresh: Callable[[int], Flow] | None = None

    @cached_property
    def states(self) -> Tensor:
        """y_j for j = 0 … N.

        Raises:
            FloatingPointError: if one is not finite.
        """
        with torch.no_grad():
            states = self.flow.trajectory(self.y0)
        broken = (~states.isfinite()).flatten(1).any(1).nonzero()
        if len(broken):
            raise FloatingPointError(
                f"The state after layer {int(broken[0]) - 1} is not finite, so there is nothing to analyse. Use a "
                f"smaller step, or fewer layers."
            )
        return states

    @property
    def has_matrices(self) -> bool:
        """Whether Jacobians of one sample are small enough to be built."""
        return self.flow.space.rank == 1 and _affordable(self.flow) >= _FEWEST

    @cached_property
    def first(self) -> int:
        """The first depth j from which no ‖∂y_N/∂y_j‖ exceeds `TAME`.

        Raises:
            FloatingPointError: if the last layer alone exceeds it.
        """
        wild = (log_norms(self.flow, self.y0, "fro") > math.log(TAME)).any(1).nonzero()
        found = int(wild[-1]) + 1 if len(wild) else 0
        if found == self.flow.layers:
            raise FloatingPointError(f"The Jacobian of the last layer exceeds {TAME:g}. Use smaller weights.")
        return found

    @cached_property
    def depths(self) -> list[int]:
        """At most 65 depths j, evenly from the first tame one to N."""
        last = self.flow.layers
        shown = min(_DEPTHS, last - self.first + 1)
        return sorted({self.first + round((last - self.first) * i / max(1, shown - 1)) for i in range(shown)})

    @cached_property
    def sensitivities(self) -> Tensor:
        """∂y_N/∂y_j at `depths`, (len(depths), S, n, n)."""
        M: Tensor = sensitivities(self.flow[self.first :], self.states[self.first], limit=2 * _BYTES)
        return M[[j - self.first for j in self.depths]]


def choose_subject(
    run: Path | None, network: Mapping[str, Any], samples: int, seed: int, mnist_folder: str | None = None
) -> Subject | StagedSubject:
    """The flow of a run, or else an untrained one.

    Args:
        run: a folder, or None.
        network: the arguments of `untrained` by name, for an untrained flow; None stands for the default.
        samples: how many states.
        seed: see `trained` and `untrained`.
        mnist_folder: see `trained`.

    Raises:
        ValueError: if both or neither are given.
    """
    chosen = {name: value for name, value in network.items() if value is not None}
    if run is not None and chosen:
        raise ValueError(f"The network of a run is that of the run; leave out {', '.join(map('`{}`'.format, chosen))}.")
    if run is not None:
        return trained(run, samples=samples, seed=seed, mnist_folder=mnist_folder)
    if "model" not in chosen:
        raise ValueError("Give the folder of a run, or the model of an untrained flow, as in --model h2.")
    if mnist_folder is not None:
        raise ValueError("`data_folder` is for runs on MNIST; an untrained flow needs none. Leave it out.")
    return untrained(**chosen, samples=samples, seed=seed)


def trained(
    folder: Path,
    *,
    samples: int = 100,
    seed: int = 0,
    mnist_folder: str | None = None,
    source: DataSource | None = None,
) -> Subject | StagedSubject:
    """The flow of a run, at samples of its test part.

    Args:
        folder: of the run.
        samples: how many, at random.
        seed: of the choice.
        mnist_folder: where the MNIST files are now, if they have moved.
        source: the data of the run, where they are none of the built-in ones.

    Raises:
        OSError: if a file is not there.
        ValueError: if the run or its data is damaged, or the flow has no layers.
    """
    _check_samples(samples)
    run, encoder, target, network = opened(folder)
    if run.config.network.of_sequences:
        raise ValueError(
            f"The run {folder} is one of sequences, which drive its flow at every step; analyses are of flows that "
            f"nothing drives. Analyse an untrained one of such weights with --model."
        )
    dataset = reloaded(run, source_of(run, mnist_folder, source))
    if not alike(dataset.encoder.to_dict(), encoder.to_dict()) or not alike(dataset.target.to_dict(), target.to_dict()):
        raise ValueError(f"The data of this run, {run.config.data.get('data')}, has changed since it was trained.")
    network = network.double()
    chosen = torch.randperm(len(dataset.x_test), generator=torch.Generator().manual_seed(seed))[:samples]
    with torch.no_grad():
        y0 = network.lift(torch.from_numpy(dataset.x_test[chosen.numpy()]).double())
    found = _loss_gradients(network, dataset, chosen, y0)
    flow, states, notes = network.flow, y0, []
    if isinstance(flow, Flow) and flow.space.rank > 1 and flow.space.pointwise:
        flow = of_vectors(flow)
        pixels = y0.movedim(1, -1).reshape(-1, flow.features)
        states = pixels[torch.randperm(len(pixels), generator=torch.Generator().manual_seed(seed))[:samples]]
        notes.append(
            f"The layers of this flow couple no pixels, so everything but the gradients of the loss is that of "
            f"{count(len(states), 'single pixel')}. The norm of an image's matrix is the largest of its pixels'."
        )
    where = f"{count(len(chosen), 'test sample')} of {dataset.name}"
    if isinstance(flow, Stages):
        title, lead = f"stages trained on {dataset.name}", f"Stages of {run.config.network.sizes}, at {where}."
        return StagedSubject(title, lead, "stages", flow.eval(), y0, [], found)
    model = run.config.network.model
    init_std = deviation(run, started(run))

    def fresh(number: int) -> Flow:
        other = seeded_network(run.config.network, init_std, number).flow.double()
        return of_vectors(other) if flow is not network.flow else other

    return _subject(model, f"{model} trained on {dataset.name}", where, flow, states, notes, found, fresh)


def untrained(model: str = "h2", *, samples: int = 100, seed: int = 0, **choices: Unpack[FlowChoices]) -> Subject:
    """A flow with random weights, at random states N(0, 1).

    Args:
        model: "ms1", "ms2", "ms3", "h1" or "h2".
        samples: how many states.
        seed: of weights and states.
        choices: of the flow by name; left out are 64 layers, 4 features, and a step of 0.1 where there is no horizon.

    Raises:
        ValueError: for choices that make no flow, or one without layers.
    """
    _check_samples(samples)
    chosen: dict[str, Any] = {"layers": 64, "features": 4, **given(choices)}
    features, init_std = chosen["features"], chosen.pop("init_std", None)
    step, horizon = chosen.pop("step", None), chosen.pop("horizon", None)
    step = step_size(chosen["layers"], 0.1 if step is None and horizon is None else step, horizon)
    config = NetworkConfig("classification", (features,), 2, model=model, step=step, **chosen)

    def fresh(number: int) -> Flow:
        return seeded_network(config, init_std, number).flow.double()

    flow = fresh(seed)
    # Other numbers than the weights were drawn from, whatever the seed.
    y0 = torch.randn(samples, features, generator=torch.Generator().manual_seed(seed + 2**32), dtype=torch.float64)
    return _subject(
        model, f"{model}, untrained", f"{count(samples, 'random state')} N(0, 1)", flow, y0, [], None, fresh
    )


def of_vectors(flow: Flow) -> Flow:
    """A flow of images with kernel_size=1 as the flow of the vectors that stand at its pixels."""
    vectors = Flow(
        flow.features,
        flow.layers,
        step=flow.step,
        structure=flow.structure,
        interconnection=flow.interconnection,
        activation=flow.activation,
        integrator=flow.integrator,
        shared=flow.shared,
        device=flow.weight.device,
        dtype=flow.weight.dtype,
    )
    shapes = {name: value.shape for name, value in vectors.state_dict().items()}
    vectors.load_state_dict({name: value.reshape(shapes[name]) for name, value in flow.state_dict().items()})
    return vectors


def _subject(
    model: str,
    title: str,
    where: str,
    flow: Flow,
    y0: Tensor,
    notes: list[str],
    found: Callable[[], Gradients] | None,
    fresh: Callable[[int], Flow],
) -> Subject:
    if flow.layers == 0:
        raise ValueError("A flow without layers is the identity, so there is nothing to analyse. Give it layers.")
    if flow.space.rank == 1:
        kept = max(_FEWEST, _affordable(flow))
        if kept < len(y0):
            notes.append(f"For {count(len(y0), 'sample')} this would take too long, or too much memory: {kept} used.")
            y0 = y0[:kept]
    shape = f"{count(flow.layers, 'layer')}, {flow.features} features, step {flow.step:.4g}"
    return Subject(title, f"{model} with {shape}, at {where}.", model, flow.eval(), y0, notes, found, fresh)


def _affordable(flow: Flow) -> int:
    """How many samples' sensitivities memory and patience allow."""
    n, matrices = flow.features, flow.layers + 1
    return int(min(_BYTES / (8 * matrices * n**2), _WORK / (min(matrices, _DEPTHS) * n**3)))


def _loss_gradients(network: Network, dataset: Dataset, chosen: Tensor, y0: Tensor) -> Callable[[], Gradients]:
    labels = torch.from_numpy(dataset.y_test)[chosen]
    labels = labels if network.task == "classification" else labels.double()
    objective, readout = Objective(network), network.read

    def loss(y: Tensor) -> Tensor:
        return objective.data_loss(network.head(readout(y)), labels)

    if isinstance(network.flow, Stages):
        stages = network.flow
        return lambda: staged.gradients_of(stages, y0, loss)
    return lambda: gradients(network.flow, y0, loss)


def _check_samples(samples: int) -> None:
    if samples < 1:
        raise ValueError(f"`samples` must be at least 1; got {samples}.")
