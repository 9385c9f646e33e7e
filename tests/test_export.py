"""Exported files answer as the network does, at any batch size, and without hdnn."""

import io
import json
import math
import re
import subprocess
import sys

import pytest
import torch

import hdnn
from families import ACTIVATIONS, F64, PRESETS, fill, preset, random
from hdnn import export
from hdnn.networks import Network

TOLERANCE = 1e-5


def network(name="h2", *, dtype=torch.float32, outputs=3, inputs=2, task="classification", **options):
    """A network of vectors with random weights everywhere."""
    flow = preset(name, **{"layers": 3, "dtype": dtype, **options})
    make = hdnn.vector_classifier if task == "classification" else hdnn.vector_regressor
    made = make(inputs, outputs, flow)
    with torch.no_grad():
        made.head.weight.copy_(random(*made.head.weight.shape, seed=3))
        made.head.bias.copy_(random(*made.head.bias.shape, seed=4))
    return made


def image_network(name="h2", kernel_size=1, size=(5, 6)):
    flow = preset(name, layers=2, kernel_size=kernel_size, dtype=torch.float32)
    made = hdnn.image_classifier(1, size, 4, flow)
    with torch.no_grad():
        made.head.weight.copy_(0.1 * random(*made.head.weight.shape, seed=3))
    return made


def answers_of_onnx(content, x):
    """What onnxruntime makes of a file; only the bytes are given to it."""
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, map(torch.from_numpy, session.run(names, {"x": x.numpy()})), strict=True))


@pytest.fixture(scope="module")
def plain():
    """A network, and what is made of it once: tracing takes a second."""
    return network("h2")


@pytest.fixture(scope="module")
def program(plain):
    return export.to_program(plain, (2,))


@pytest.fixture(scope="module")
def onnx_file(plain):
    return export.to_onnx(plain, (2,), metadata={"classes": ["ä", "b"]})


def check_onnx(made, content):
    for x in shapes(made, (2,)):
        found = answers_of_onnx(content, x)
        torch.testing.assert_close(found["logits"], made(x).detach(), atol=TOLERANCE, rtol=TOLERANCE)
        torch.testing.assert_close(found["probabilities"], made.probabilities(x).detach(), atol=TOLERANCE, rtol=0)


def shapes(made, inputs):
    return [random(size, *inputs, seed=size).to(made.head.weight.dtype) for size in (1, 2, 5, 33)]


def one_fast(cases, fast):
    """All cases, all but one of them among the slow tests: an export takes about a second."""
    cases = list(cases)
    marks = [() if case == fast else pytest.mark.slow for case in cases]
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=mark)
        for case, mark in zip(cases, marks, strict=True)
    ]


def test_onnx_answers_as_the_network_at_any_batch_size(plain, onnx_file):
    check_onnx(plain, onnx_file)


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_becomes_onnx(name):
    made = network(name)
    check_onnx(made, export.to_onnx(made, (2,)))


@pytest.mark.parametrize("name", one_fast(PRESETS, "ms2"))
def test_programs_answer_as_the_network_at_any_batch_size(name):
    made = network(name, dtype=F64)
    program = export.to_program(made, (2,)).module()
    for x in shapes(made, (2,)):
        torch.testing.assert_close(program(x)["logits"], made(x).detach(), atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(program(x)["probabilities"], made.probabilities(x).detach(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("activation", one_fast(ACTIVATIONS, "leaky_relu_0.3"))
def test_every_activation_becomes_a_program(activation):
    made = network("h1", dtype=F64, activation=ACTIVATIONS[activation])
    x = random(4, 2)
    torch.testing.assert_close(export.to_program(made, (2,)).module()(x)["logits"], made(x).detach())


@pytest.mark.slow
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shared", [False, True])
def test_every_activation_becomes_onnx(activation, shared):
    made = network("h1", activation=ACTIVATIONS[activation], shared=shared)
    assert export.onnx_difference(export.to_onnx(made, (2,)), made, (2,)) < TOLERANCE


IMAGES = [("h1", 1), ("h2", 3), ("ms1", 1), ("ms2", 3), ("ms3", 3), ("h2", 1), ("h1", 3)]


@pytest.mark.parametrize(("name", "k"), one_fast(IMAGES, ("h2", 3)))
def test_images(name, k):
    made = image_network(name, k)
    program = export.to_program(made, (1, 5, 6)).module()
    for x in shapes(made, (1, 5, 6)):
        torch.testing.assert_close(program(x)["logits"], made(x).detach(), atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "k"), IMAGES)
def test_images_in_onnx(name, k):
    made = image_network(name, k)
    assert export.onnx_difference(export.to_onnx(made, (1, 5, 6)), made, (1, 5, 6)) < TOLERANCE


OPTIONS = [("h1", {"shared": True}), ("h2", {"shared": True}), ("h2", {"layers": 0}), ("h1", {"width": 6})]


@pytest.mark.parametrize(("name", "options"), one_fast(OPTIONS, OPTIONS[1]))
def test_shared_weights_and_no_layers(name, options):
    made = network(name, dtype=F64, **options)
    x = random(4, 2)
    torch.testing.assert_close(export.to_program(made, (2,)).module()(x)["logits"], made(x).detach())


INTEGRATORS = [hdnn.SymplecticEuler("q"), hdnn.Yoshida4("p"), hdnn.RungeKutta4(), hdnn.ForwardEuler()]


@pytest.mark.parametrize("integrator", one_fast(INTEGRATORS, INTEGRATORS[1]), ids=repr)
def test_every_explicit_integrator(integrator):
    flow = fill(
        hdnn.Flow(
            4,
            3,
            step=0.3,
            structure=hdnn.BlockDiagonal(),
            interconnection=hdnn.Learned(hdnn.canonical(4), hdnn.block(torch.ones(2, 2)) != 0),
            integrator=integrator,
            dtype=F64,
        )
    )
    made = hdnn.vector_regressor(3, 2, flow)
    torch.nn.init.normal_(made.head.weight)
    x = random(4, 3)
    torch.testing.assert_close(export.to_program(made, (3,)).module()(x)["outputs"], made(x).detach())


def test_a_thousand_layers_make_no_longer_a_program(program):
    deep = export.to_program(network("h2", layers=1000), (2,))
    assert len(deep.graph.nodes) == len(program.graph.nodes)


@pytest.mark.slow
def test_shared_weights_are_stored_once():
    shared, own = (
        len(export.program_bytes(export.to_program(network(layers=500, shared=each), (2,)), {}))
        for each in (True, False)
    )
    assert own - shared > 480 * 12 * 4  # 12 numbers a layer


def test_two_classes_have_one_logit_and_two_probabilities():
    made = network(outputs=2)
    found = export.to_program(made, (2,)).module()(torch.ones(3, 2))
    assert found["logits"].shape == (3, 1)
    assert found["probabilities"].shape == (3, 2)
    torch.testing.assert_close(found["probabilities"][:, 1], torch.sigmoid(found["logits"][:, 0]))


def test_regression_gives_predictions_in_the_units_of_the_targets():
    made = network(outputs=2, task="regression")
    x = torch.randn(4, 2)
    found = export.to_program(made, (2,), units=([1.0, -50.0], [2.0, 300.0])).module()(x)
    torch.testing.assert_close(found["predictions"][:, 1], 300.0 * made(x).detach()[:, 1] - 50.0)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_units_must_fit(task):
    with pytest.raises(ValueError, match="mean and scale of the targets of a regression, 3 numbers each; got 1 and 1"):
        export.to_program(network(task=task), (2,), units=([0.0], [1.0]))


def test_a_solve_in_every_layer_is_refused():
    flow = hdnn.Flow(
        4,
        2,
        step=0.1,
        structure=hdnn.Dense(),
        interconnection=hdnn.Fixed(hdnn.canonical(4)),
        integrator=hdnn.ImplicitMidpoint(),
    )
    with pytest.raises(ValueError, match="Only explicit integrators"):
        export.to_program(hdnn.vector_classifier(2, 2, flow), (2,))


@pytest.mark.parametrize("memory", ["reverse"])
def test_a_network_is_left_as_it_was(memory):
    made = network(memory=memory).train()
    export.to_program(made, (2,))
    assert made.training
    assert isinstance(made.flow, hdnn.Flow)
    assert made.flow.memory == memory
    assert all(parameter.requires_grad for parameter in made.parameters())


ALONE = """
import sys, io, json
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "hdnn":
            raise ImportError("hdnn must not be needed")
sys.meta_path.insert(0, Refuse())
import torch
extra = {"hdnn.json": ""}
program = torch.export.load(sys.argv[1], extra_files=extra).module()
x = torch.load(sys.argv[2], weights_only=True)
torch.save(program(x), sys.argv[3])
print(json.loads(extra["hdnn.json"])["colour"])
assert "hdnn" not in sys.modules
"""


@pytest.mark.long
def test_a_program_loads_where_there_is_no_hdnn(tmp_path, plain, program):
    (tmp_path / "n.pt2").write_bytes(export.program_bytes(program, {"colour": "grün"}))
    x = torch.randn(7, 2)
    torch.save(x, tmp_path / "x.pt")
    names = [str(tmp_path / name) for name in ("n.pt2", "x.pt", "out.pt")]
    done = subprocess.run([sys.executable, "-c", ALONE, *names], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "grün\n"
    found = torch.load(tmp_path / "out.pt", weights_only=True)
    torch.testing.assert_close(found["logits"], plain(x).detach(), atol=1e-6, rtol=1e-6)


def test_onnx_holds_metadata_names_and_nothing_of_this_machine(onnx_file):
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(onnx_file)
    onnx.checker.check_model(model, full_check=True)
    assert {each.key: json.loads(each.value) for each in model.metadata_props} == {"hdnn": {"classes": ["ä", "b"]}}
    assert [each.name for each in (*model.graph.input, *model.graph.output)] == ["x", "logits", "probabilities"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert b"site-packages" not in onnx_file
    assert b".py" not in onnx_file


def test_programs_hold_nothing_of_this_machine(program):
    content = export.program_bytes(program, {})
    assert b"site-packages" not in content
    assert b"stack_trace" not in content
    assert re.search(rb"/\w+\.py", content) is None


def test_differences_are_seen(plain, program):
    other = network("h2")
    with torch.no_grad():
        other.head.bias += 0.5
    content = export.program_bytes(program, {})
    assert export.program_difference(content, plain, (2,)) < TOLERANCE
    assert export.program_difference(content, other, (2,)) > 0.05
    with torch.no_grad():
        other.head.bias.fill_(math.nan)
    assert math.isnan(export.program_difference(content, other, (2,)))


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_what_is_missing_is_named(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"package {package}, which is not installed.*pip install 'hdnn\[onnx\]'"):
        export.to_onnx(network(), (2,))


def test_too_much_for_one_file(monkeypatch, program):
    monkeypatch.setattr(export, "_LARGEST_ONNX", 100)
    monkeypatch.setattr(export, "to_program", lambda *_, **__: program)
    with pytest.raises(ValueError, match="an ONNX file holds 2 GiB"):
        export.to_onnx(network(), (2,))


def test_other_layers_than_a_flow_are_exported_as_they_are():
    made = Network(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3), "classification")
    x = torch.randn(5, 2)
    stream = io.BytesIO(export.program_bytes(export.to_program(made, (2,)), {}))
    torch.testing.assert_close(torch.export.load(stream).module()(x)["logits"], made(x).detach())


@pytest.mark.parametrize("write", [export.to_program, export.to_onnx])
@pytest.mark.parametrize("given", [torch.nn.Sequential(torch.nn.Linear(2, 2)), hdnn.h2(4, 2, step=0.1), None])
def test_what_is_no_network_is_refused(write, given):
    with pytest.raises(TypeError, match=r"Expected a `Network` of hdnn.*torch.export.export\(module, \(x,\)\)"):
        write(given, (2,))
