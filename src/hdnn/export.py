"""Networks for other programs: ONNX files and PyTorch programs that need no hdnn to be loaded.

Legend: x (B, ...) encoded inputs, B free; K, W = K Jᵀ and b the weights of a layer, stacked over the N layers; output
o = W y_N + μ, probabilities its logistic function or softmax, predictions mean + scale · o.
"""

from __future__ import annotations

import copy
import importlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from hdnn.flow import Flow
from hdnn.hamiltonian import Drive, Field, Layer
from hdnn.kernels.transforms import scan
from hdnn.networks import Network, asked, class_probabilities

Units = tuple[Sequence[float], Sequence[float]]
METADATA = "hdnn"  # the property of an ONNX model; in a .pt2 archive the extra file hdnn.json
_BATCHES = (1, 2, 7, 64)
_LARGEST_ONNX = 2**31 - 2**20  # a file is one message of protobuf


def to_program(network: Network, inputs: tuple[int, ...], *, units: Units | None = None) -> ExportedProgram:
    r"""A network as a program of PyTorch's own operators, for any batch size.

    The layers are those of the eager path, one step of the integrator each, written down once and run in a loop (the
    operator `scan`). So a program has the same length at any depth, and loads where there is no hdnn. Its weights
    are frozen: it predicts, but is not trained any further.

    Args:
        network: as it is now, on any device; it is left as it was.
        inputs: the shape of one input, (d,) or (C, H, W).
        units: (mean, scale) of the targets of a regression, one number an output each, to give predictions in them.

    Returns:
        A program from x (B, \*inputs) to a dictionary: for classification "logits" (B, 1) or (B, classes) and
        "probabilities" (B, classes), for regression "outputs" (B, outputs) and with `units` "predictions" as well.

    Raises:
        ImportError: if this PyTorch has no `scan`.
        TypeError: if it is no `Network`.
        ValueError: if `units` do not fit, or a layer is no fixed sequence of operators.

    Example:
        >>> import torch, hdnn
        >>> from hdnn.export import to_program
        >>> network = hdnn.vector_classifier(2, 3, hdnn.h2(4, layers=100, horizon=1.0))
        >>> program = to_program(network, (2,)).module()
        >>> x = torch.randn(10, 2)
        >>> torch.allclose(program(x)["logits"], network(x), atol=1e-6)
        True
    """
    if not isinstance(network, Network):
        raise TypeError(
            f"Expected a `Network` of hdnn, a lift, a flow and a head; got a {type(network).__name__}. Export other "
            f"modules by `torch.export.export(module, (x,))`, or put the flow into a `Network`, as "
            f"`vector_classifier(inputs, classes, flow)` does."
        )
    if isinstance(network.flow, Flow) and (names := asked(network.flow)):
        known = "" if "inputs" in names else ", or make the flow with `space=Graph(edge_index)`"
        raise ValueError(
            f"A call of this flow brings {names}, for which the program of a "
            f"network has no place. Export the module that calls the flow by `torch.export.export`{known}."
        )
    if isinstance(network.flow, Flow) and not network.flow.integrator.traceable:
        name = type(network.flow.integrator).__name__
        raise ValueError(
            f"{name} solves an equation in every layer, in as many steps as it takes, "
            f"so the network is no fixed sequence of operators. Only explicit integrators can be exported."
        )
    if isinstance(network.flow, Flow) and network.flow.hamiltonian.beyond_units:
        raise ValueError(
            "Flows with an energy of their own or a J(y) are modules of yours, which the loop over the layers does not "
            "know. Export the module that calls the flow by `torch.export.export`."
        )
    weight = network.head.weight
    x = torch.zeros(2, *inputs, dtype=weight.dtype, device=weight.device)
    with _quiet():
        program = torch.export.export(_Answers(network, units), (x,), dynamic_shapes=_FREE_BATCH)
    # Where lines of source stood on this machine concerns nobody else; the layers of a loop are a graph of their own.
    for part in program.graph_module.modules():
        for node in part.graph.nodes if isinstance(part, GraphModule) else ():
            node.meta.pop("stack_trace", None)
    return program


def program_bytes(program: ExportedProgram, metadata: Mapping[str, Any]) -> bytes:
    """The content of a .pt2 file, for `torch.export.load`.

    Args:
        program: made by `to_program`.
        metadata: plain values, kept as JSON in the extra file "hdnn.json" of the archive.
    """
    stream = io.BytesIO()
    with _quiet():
        torch.export.save(program, stream, extra_files={f"{METADATA}.json": _json(metadata)})
    return stream.getvalue()


def to_onnx(
    network: Network,
    inputs: tuple[int, ...],
    *,
    units: Units | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> bytes:
    """The content of an ONNX file: the network of `to_program`, its input "x" and its outputs under their names.

    Args:
        network: see `to_program`.
        inputs: see `to_program`.
        units: see `to_program`.
        metadata: plain values, kept as JSON in the property "hdnn" of the model.

    Raises:
        ImportError: if onnx or onnxscript is not installed.
        ValueError: as `to_program`, or if the weights exceed the 2 GiB that an ONNX file holds.
    """
    for package in ("onnx", "onnxscript"):
        _require(package)
    program = to_program(network, inputs, units=units)
    size = sum(value.numel() * value.element_size() for value in program.state_dict.values())
    if size > _LARGEST_ONNX:
        raise ValueError(
            f"The weights take {size:,} bytes, and an ONNX file holds 2 GiB. Write a PyTorch program instead (--torch)."
        )
    names = _names(network, units)
    with _quiet():
        made = torch.onnx.export(
            program, input_names=["x"], output_names=names, dynamic_shapes=_FREE_BATCH, dynamo=True, verbose=False
        )
    model = made.model_proto  # type: ignore[union-attr]  # dynamo=True without a file gives a program
    _strip(model.graph)
    model.producer_name = "hdnn"
    model.metadata_props.add(key=METADATA, value=_json(metadata or {}))
    content: bytes = model.SerializeToString()
    return content


def program_difference(
    content: bytes, network: Network, inputs: tuple[int, ...], *, units: Units | None = None
) -> float:
    """The largest difference between the answers of a .pt2 file and those of the network.

    Args:
        content: of the file.
        network: that the file was made of, and as it was given.
        inputs: see `to_program`.
        units: see `to_program`.

    Returns:
        max |a − b| / max(1, |b|) over all outputs, at random inputs in several batch sizes.
    """
    with _quiet():
        program = torch.export.load(io.BytesIO(content)).module()
    return _largest_difference(lambda x: dict(program(x)), network, inputs, units)


def onnx_difference(content: bytes, network: Network, inputs: tuple[int, ...], *, units: Units | None = None) -> float:
    """The same for an ONNX file, as onnxruntime runs it on the CPU.

    Raises:
        ImportError: if onnxruntime is not installed.
    """
    session = _require("onnxruntime").InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def answer(x: Tensor) -> dict[str, Tensor]:
        found = session.run(names, {"x": x.cpu().numpy()})
        return {name: torch.from_numpy(value) for name, value in zip(names, found, strict=True)}

    return _largest_difference(answer, network, inputs, units)


_FREE_BATCH = {"x": {0: Dim("batch")}}


class _Answers(nn.Module):
    """A network that names its answers, with its layers in a loop."""

    mean: Tensor
    scale: Tensor

    def __init__(self, network: Network, units: Units | None) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        if isinstance(network.flow, Flow) and network.flow.layers:
            self.network.flow = _Layers(network.flow)  # type: ignore[assignment]
        self.has_units = units is not None
        for name, numbers in zip(("mean", "scale"), _as_tensors(network, units) or (), strict=False):
            self.register_buffer(name, numbers)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return _answers(self.network, x, (self.mean, self.scale) if self.has_units else None)


def _answers(network: Network, x: Tensor, units: tuple[Tensor, Tensor] | None) -> dict[str, Tensor]:
    """What a network computes, and what its user wants to know."""
    output: Tensor = network(x)
    if network.task == "classification":
        return {"logits": output, "probabilities": class_probabilities(output)}
    if units is None:
        return {"outputs": output}
    mean, scale = units
    return {"outputs": output, "predictions": mean + scale * output}


def _names(network: Network, units: Units | None) -> list[str]:
    if network.task == "classification":
        return ["logits", "probabilities"]
    return ["outputs"] if units is None else ["outputs", "predictions"]


def _as_tensors(network: Network, units: Units | None) -> tuple[Tensor, Tensor] | None:
    if units is None:
        return None
    outputs = network.head.out_features
    if network.task == "classification" or not len(units[0]) == len(units[1]) == outputs:
        raise ValueError(
            f"`units` are mean and scale of the targets of a regression, {outputs} numbers each; got {len(units[0])} "
            f"and {len(units[1])} for a {network.task} network."
        )
    mean, scale = (network.head.weight.new_tensor(list(numbers)) for numbers in units)
    return mean, scale


class _Layers(nn.Module):
    """The steps of a flow as a loop: weights that differ by layer are stacked, those that all share are stored once."""

    nothing: Tensor

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.integrator, self.activation, self.step = flow.integrator, flow.activation, flow.step
        with torch.no_grad():
            fields = flow.fields()
        self.axis, self.space, self.drives = fields[0].axis, fields[0].drives[0].space, len(fields[0].drives)
        self.of_space = [f"space_{i}" for i in range(len(self.space.numbers))]
        for name, numbers in zip(self.of_space, self.space.numbers, strict=True):
            like = flow.weight if numbers.is_floating_point() else flow.weight.device
            self.register_buffer(name, numbers.to(like))
        self.stacked: list[str] = []
        self.shared: list[str] = []
        for i, drives in enumerate(zip(*[field.drives for field in fields], strict=True)):
            for of in Layer._fields:
                values = [getattr(drive.layer, of) for drive in drives]
                if values[0] is None:
                    continue
                alike = all(value is values[0] for value in values)
                (self.shared if alike else self.stacked).append(f"{of}_{i}")
                self.register_buffer(f"{of}_{i}", values[0].detach().clone() if alike else torch.stack(values).detach())
        if not self.stacked:
            self.stacked.append("count")  # a loop runs over something
            self.register_buffer("count", flow.weight.new_zeros(flow.layers))
        self.register_buffer("nothing", flow.weight.new_zeros(()))

    def forward(self, y: Tensor) -> Tensor:
        state: Tensor = scan()(self._layer, y, [getattr(self, name) for name in self.stacked])[0]
        return state

    def _layer(self, y: Tensor, weights: list[Tensor]) -> tuple[Tensor, Tensor]:
        named = dict(zip(self.stacked, weights, strict=True)) | {name: getattr(self, name) for name in self.shared}
        layers = [Layer(*[named.get(f"{of}_{i}") for of in Layer._fields]) for i in range(self.drives)]  # type: ignore[arg-type]
        space = self.space.rebound(tuple(getattr(self, name) for name in self.of_space))
        field = Field(tuple(Drive(layer, space, self.activation) for layer in layers), self.axis)
        # A loop also collects something of every layer; there is nothing to collect.
        return self.integrator.step(field, y, self.step), self.nothing.clone()


@torch.no_grad()
def _largest_difference(
    answer: Callable[[Tensor], Mapping[str, Tensor]], network: Network, inputs: tuple[int, ...], units: Units | None
) -> float:
    generator = torch.Generator().manual_seed(0)
    weight, network = network.head.weight, copy.deepcopy(network).eval()
    differences: list[Tensor] = []
    for size in _BATCHES:
        x = torch.randn(size, *inputs, generator=generator, dtype=weight.dtype).to(weight.device)
        found = answer(x)
        for name, expected in _answers(network, x, _as_tensors(network, units)).items():
            difference = (found[name].to(expected) - expected).abs() / expected.abs().clamp(min=1)
            differences.append(difference.max())
    return float(torch.stack(differences).max())  # Python's max would pass over nan


def _require(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"ONNX needs the package {package}, which is not installed. Install it with pip install 'hdnn[onnx]', or "
            f"write a PyTorch program instead (--torch)."
        ) from error


def _strip(graph: Any) -> None:
    """Leave out what the exporter notes of the machine: the source files and lines of every operator."""
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _strip(attribute.g)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the remarks of the exporters, which concern their own parts."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, allow_nan=False)
