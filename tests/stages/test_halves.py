"""Networks in stages carry the halves of a state apart: the same numbers, and no joining between the parts."""

import io
import pickle

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing
from torch.utils._python_dispatch import TorchDispatchMode

import hdnn
from hdnn.stages.halves import Halves


def stages(normalization="batch", **options):
    torch.manual_seed(0)
    flows = [hdnn.h2(c, layers=2, step=0.5, kernel_size=3, activation="relu", **options) for c in (4, 8)]
    first, second = (hdnn.Stage(flow, normalization) for flow in flows)
    return hdnn.stages.Stages(first, hdnn.Pool(2, scaled=True), hdnn.Widen(8), second)


def images():
    torch.manual_seed(1)
    return torch.randn(3, 4, 6, 6).contiguous(memory_format=torch.channels_last)


class Joins(TorchDispatchMode):
    """How often channels of states are joined."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        if function is torch.ops.aten.cat.default and arguments[0][0].dim() == 4:
            self.count += 1
        return function(*arguments, **(options or {}))


def joins(network, y):
    with Joins() as found, torch.no_grad():
        network(y)
    return found.count


@pytest.mark.parametrize("normalization", ["units", "batch", "bias", None])
@pytest.mark.parametrize("training", [True, False])
def test_apart_is_part_after_part(normalization, training):
    """Values and running moments to the bit, gradients but for rounding."""
    apart, one = stages(normalization).train(training), stages(normalization).train(training)
    y = images()
    found, y_of_one = apart(y), y
    for part in one:
        y_of_one = part(y_of_one)
    assert torch.equal(found, y_of_one)
    g = torch.randn_like(found)
    found.backward(g)
    y_of_one.backward(g)
    for (name, p), (_, other) in zip(apart.named_parameters(), one.named_parameters(), strict=True):
        assert p.grad is None if other.grad is None else torch.allclose(p.grad, other.grad, rtol=1e-5), name
    for (name, buffer), (_, other) in zip(apart.named_buffers(), one.named_buffers(), strict=True):
        assert torch.equal(buffer, other), name


def test_halves_are_joined_once():
    network, y = stages(), images()
    assert joins(network, y) == 1
    assert joins(nn.Sequential(*network), y) == 3  # after each stage, and in the widening


@pytest.mark.parametrize("memory", ["recompute", "reverse"])
def test_what_undoes_or_repeats_layers_takes_whole_states(memory):
    network, other = stages(memory=memory), stages()
    y = images()
    torch.testing.assert_close(network(y), other(y), rtol=1e-5, atol=1e-5)
    network(y).sum().backward()
    other(y).sum().backward()
    for p, of_other in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p.grad, of_other.grad, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_hooks_of_parts_see_states(place):
    network, seen = stages(), []
    plain = network(images())
    network[place].register_forward_hook(lambda part, given, found: seen.append((given[0], found)))
    assert torch.equal(network(images()), plain)
    assert [type(x) for pair in seen for x in pair] == [torch.Tensor] * 2


def test_hooks_of_all_modules_see_states():
    network, seen = stages(), []
    hook = nn.modules.module.register_module_forward_hook(lambda part, given, found: seen.append(type(found)))
    try:
        network(images())
    finally:
        hook.remove()
    assert set(seen) == {torch.Tensor}


@pytest.mark.long
def test_compiled_they_are_one_graph():
    network, other = stages(), stages()
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    y = images()
    for found in (compiled(y), other(y)):
        found.square().mean().backward()
    for (name, p), (_, of_other) in zip(network.named_parameters(), other.named_parameters(), strict=True):
        torch.testing.assert_close(p.grad, of_other.grad, rtol=1e-4, atol=1e-6, msg=name)
    for (name, x), (_, of_other) in zip(network.named_buffers(), other.named_buffers(), strict=True):
        torch.testing.assert_close(x, of_other, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("whole", [False, True])
def test_wrapped_parts_take_whole_states(whole):
    """Where all stages are wrapped, no part is a stage any more."""
    network, y = stages(), images()
    found = network(y)
    other = stages()
    kinds = nn.Module if whole else hdnn.Stage
    apply_activation_checkpointing(other, check_fn=lambda part: part is not other and isinstance(part, kinds))
    assert not isinstance(other[0], hdnn.Stage)
    assert torch.equal(other(y), found)
    found.sum().backward()
    other(y).sum().backward()
    for p, of_other in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p.grad, of_other.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("places", [(0, 3), (0,), (3,)])
def test_compiled_parts_take_whole_states(places):
    network, other, y = stages(), stages(), images()
    for i in places:
        other[i] = torch.compile(other[i], backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(other(y), network(y))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_forward_set_on_a_part_alone_sees_states(place):
    network, seen = stages(), []
    plain, part = network(images()), network[place]
    inner = part.forward
    part.forward = lambda y: (seen.append(type(y)), inner(y))[1]
    assert torch.equal(network(images()), plain)
    assert seen == [torch.Tensor]


def pickled_before(network):
    """As pickles of earlier versions come back, which do not say whether J is canonical."""
    for stage in network.flows:
        vars(stage.flow.hamiltonian).pop("canonical")
    return pickle.loads(pickle.dumps(network))


def test_what_was_pickled_before_reads_no_J_again(monkeypatch):
    network, other = pickled_before(stages()), stages()
    monkeypatch.setattr(hdnn.Fixed, "is_canonical", property(lambda J: pytest.fail("it would be read while tracing")))
    assert torch.equal(network(images()), other(images()))


def test_what_was_pickled_before_is_loaded_without_numbers():
    network, file = stages(), io.BytesIO()
    vars(network[0].flow.hamiltonian).pop("canonical")
    torch.save(network[0].flow, file)
    file.seek(0)
    flow = torch.load(file, map_location="meta", weights_only=False)
    assert flow(images().to("meta")).shape == (3, 4, 6, 6)


@pytest.mark.long
def test_what_was_pickled_before_is_traced():
    network, y = pickled_before(stages().eval()), images()
    expected = stages().eval()(y)
    torch.testing.assert_close(torch.export.export(network, (y,)).module()(y), expected)
    network = pickled_before(stages().eval())
    torch.testing.assert_close(torch.compile(network, fullgraph=True, backend="aot_eager")(y), expected)


class OwnPool(hdnn.Pool):
    """Parts of one's own know nothing of halves."""

    def forward(self, y):
        assert type(y) is torch.Tensor
        return super().forward(y)


@pytest.mark.parametrize("own", [nn.Identity(), OwnPool(1)])
def test_parts_of_ones_own_take_whole_states(own):
    network = stages()
    y = images()
    longer = hdnn.stages.Stages(network[0], own, *list(network)[1:])
    assert torch.equal(longer.eval()(y), network.eval()(y))


def test_steps_of_the_whole_state_take_it_whole():
    flow = hdnn.h1(4, layers=2, step=0.5, kernel_size=3)
    network = hdnn.stages.Stages(hdnn.Stage(flow), hdnn.Pool(2))
    assert network(images()).shape == (3, 4, 3, 3)


def test_other_ways_to_move_halves_are_given_the_whole():
    """What has steps of its own is asked for those, though it said nothing of halves apart."""

    class Twice(hdnn.SymplecticEuler):
        def step(self, field, y, h):
            return field.join(*(2 * half for half in field.split(y)))

    p, q = torch.randn(2, 3, 2, 5, 5)
    fields = hdnn.Stage(hdnn.h2(4, layers=2, step=0.5, kernel_size=3)).fields()
    found = Twice().steps_apart(fields, p, q, 0.5)
    assert all(torch.equal(x, 4 * half) for x, half in zip(found, (p, q), strict=True))
    assert Twice().steps_apart([], p, q, 0.5) == (p, q)


@pytest.mark.parametrize(
    ("part", "words"),
    [(hdnn.Stage(hdnn.h2(6, layers=1, step=0.5, kernel_size=3)), r"\(B, 6, H, W\)"), (hdnn.Widen(2), "at most 2")],
)
def test_halves_that_do_not_fit_are_refused_as_the_state_they_are(part, words):
    network = hdnn.stages.Stages(stages()[0], part)
    with pytest.raises(ValueError, match=rf"{words}.*got \(3, 4, 6, 6\)"):
        network(images())


def test_the_shape_of_halves_is_that_of_the_state():
    pair = Halves(torch.zeros(2, 3, 4), torch.ones(2, 3, 4))
    assert pair.shape == pair.joined().shape == (2, 6, 4)


@pytest.mark.parametrize("space", [hdnn.Images(3), hdnn.Signals(3)])
@pytest.mark.parametrize("first", ["p", "q"])
def test_weights_read_from_the_free_numbers_are_those_that_are_built(space, first):
    """K and K Jᵀ of a stage with a canonical J are not built; with the same J in other words they are."""
    torch.manual_seed(0)
    integrator = hdnn.SymplecticEuler(first=first)
    flow = hdnn.Flow(
        4,
        2,
        step=0.5,
        space=space,
        structure=hdnn.BlockDiagonal(6),
        interconnection=hdnn.Fixed(hdnn.canonical(4)),
        integrator=integrator,
    )
    stage = hdnn.Stage(flow)
    K, W = flow.K, flow.interconnection.drive(flow._J(), flow.K, space)
    for (found, of_W), (units, inputs), moved in zip(
        stage._weights(flow.weight, flow._J()), stage._places(), flow.hamiltonian._halves, strict=True
    ):
        assert torch.equal(found, K[:, units, inputs])
        assert torch.equal(of_W, W[:, units, moved])


def test_weights_of_a_structure_with_a_build_of_its_own_are_built():
    class Doubled(hdnn.BlockDiagonal):
        def build(self, free, index):
            return 2 * super().build(free, index)

        def pattern(self, features, space):
            return hdnn.BlockDiagonal().pattern(features, space)

    flow = hdnn.h2(4, layers=2, step=0.5, kernel_size=3)
    own = hdnn.Flow(
        4,
        2,
        step=0.5,
        kernel_size=3,
        structure=Doubled(),
        interconnection=flow.interconnection,
        integrator=flow.integrator,
    )
    (K, W), (of_p, _) = hdnn.Stage(own)._weights(own.weight, own._J())
    assert torch.equal(K, 2 * own.weight[:, 1])
    assert torch.equal(W, 2 * own.weight[:, 1])
    assert torch.equal(of_p, 2 * own.weight[:, 0])
