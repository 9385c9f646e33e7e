"""Stages: against a plain float64 transcription, what they keep, their statistics, and their memory."""

import copy

import pytest
import torch
from torch.autograd import forward_ad
from torch.nn import functional

import hdnn

KINDS = ["units", "batch", "bias", None]
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def stage_of(kind, *, channels=4, layers=3, seed=0, integrator=None, preset=hdnn.h2, **options):
    """A stage with random numbers everywhere, those of running moments too."""
    torch.manual_seed(seed)
    chosen = {"activation": "tanh", "kernel_size": 3, "step": 0.3, "dtype": torch.float64} | options
    flow = preset(channels, layers, **chosen, **({} if integrator is None else {"integrator": integrator}))
    stage = hdnn.Stage(flow, kind)
    with torch.no_grad():
        for p in stage.parameters():
            p.normal_(0.2, 0.4)
        for name, buffer in stage.named_buffers():
            if "variance" in name:
                buffer.uniform_(0.5, 2.0)
            elif "mean" in name:
                buffer.normal_()
    return stage


def normed(x, gain, shift, mean, variance):
    """By the formula; moments of the batch where none are given."""
    if mean is None:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    of = [t[:, None, None] for t in (gain, shift, mean, variance)]
    return (x - of[2]) / (of[3] + 1e-5).sqrt() * of[0] + of[1]


def transcribed(stage, y):
    """The published block and its relatives, written down plainly: p += h F(q), q -= h F(p)."""
    flow, kind, running = stage.flow, stage.normalization, not stage.training
    h, c = flow.step, flow.features // 2
    sigma = torch.tanh if flow.activation == hdnn.tanh else torch.relu
    p, q = y[:, :c], y[:, c:]
    for j in range(flow.layers):
        for half in (1, 0):  # K_q drives p, then K_p drives q
            x, K = (q, flow.weight[j, 1]) if half else (p, flow.weight[j, 0])
            own = slice(c, None) if half else slice(0, c)

            def of(name, j=j, own=own):
                numbers = getattr(stage, name)
                return None if numbers is None else numbers[j, own]

            def moments(prefix, of=of):
                return (of(f"{prefix}mean"), of(f"{prefix}variance")) if running else (None, None)

            b, W = flow.bias[j, own], K
            if kind == "batch":
                z = functional.conv2d(normed(x, of("input_gain"), of("input_shift"), *moments("input_")), K, padding=1)
                u = normed(z, of("gain"), b, *moments(""))
            elif kind == "units":
                z = functional.conv2d(x, K, padding=1)
                mean, variance = moments("")
                u = normed(z, of("gain"), b, mean, variance)
                variance = z.var((0, 2, 3), correction=0) if variance is None else variance
                W = K * (of("gain") / (variance + 1e-5).sqrt())[:, None, None, None]
            else:
                shift = of("input_shift")
                u = functional.conv2d(x if shift is None else x + shift[:, None, None], K, b, padding=1)
            f = h * functional.conv_transpose2d(sigma(u), W, padding=1)
            p, q = (p + f, q) if half else (p, q - f)
    return torch.cat((p, q), 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_stage_is_its_formula(kind, training, activation):
    stage = stage_of(kind, activation=activation).train(training)
    y = torch.randn(5, 4, 6, 5, dtype=torch.float64)
    torch.testing.assert_close(stage(y), transcribed(stage, y), **EXACT)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("memory", ["store", "recompute", "reverse"])
def test_gradients_are_those_of_the_formula(kind, training, memory):
    stage = stage_of(kind, memory=memory).train(training)
    y = torch.randn(3, 4, 5, 5, dtype=torch.float64, requires_grad=True)
    weights = [y, *stage.parameters()]
    wanted = transcribed(stage, y)
    g = torch.randn_like(wanted)
    expected = torch.autograd.grad(wanted, weights, g)
    for found, want in zip(torch.autograd.grad(stage(y), weights, g), expected, strict=True):
        torch.testing.assert_close(found, want, rtol=1e-8, atol=1e-8)


def jacobian(stage, y):
    M = torch.func.jacrev(lambda x: stage(x[None])[0].flatten())(y)
    return M.flatten(1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("integrator", [hdnn.SymplecticEuler(), hdnn.StormerVerlet(), hdnn.SymplecticEuler(first="q")])
def test_in_evaluation_all_but_batch_keep_the_structure(kind, integrator):
    stage = stage_of(kind, integrator=integrator).eval()
    M = jacobian(stage, torch.randn(4, 3, 3, dtype=torch.float64))
    J = torch.kron(hdnn.canonical(4, dtype=torch.float64), torch.eye(9, dtype=torch.float64))
    miss = float((M @ J @ M.mT - J).abs().max().detach())
    assert (miss < 1e-11) == (kind != "batch")
    assert miss < 1e-11 or miss > 1e-3
    torch.testing.assert_close(torch.linalg.det(M).abs(), torch.ones((), dtype=torch.float64))  # reversible, all


@pytest.mark.parametrize("preset", [hdnn.h2, hdnn.h1, hdnn.ms3])
def test_the_folded_flow_is_the_stage_in_evaluation(preset):
    stage = stage_of("units", preset=preset).eval()
    y = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    folded = stage.folded()
    torch.testing.assert_close(folded(y), stage(y), **EXACT)
    assert folded.preserves_structure == (preset is not hdnn.h1)
    assert folded.weight.data_ptr() != stage.flow.weight.data_ptr()


@pytest.mark.parametrize("kind", ["batch", "bias"])
def test_what_is_no_plain_flow_is_not_folded(kind):
    with pytest.raises(ValueError, match="no plain flow"):
        stage_of(kind).folded()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [True, False])
def test_a_stage_is_undone(kind, training):
    stage = stage_of(kind).train(training)
    y = torch.randn(3, 4, 5, 5, dtype=torch.float64)
    before = copy.deepcopy(stage.state_dict())
    after = copy.deepcopy(stage)(y)
    torch.testing.assert_close(stage.inverse(after), y, **EXACT)
    for name, value in stage.state_dict().items():
        assert torch.equal(value, before[name]), name  # looking back counts nothing


@pytest.mark.parametrize("kind", ["units", "batch"])
@pytest.mark.parametrize("integrator", [hdnn.SymplecticEuler(), hdnn.StormerVerlet(first="q")])
def test_running_moments_are_those_of_torch_and_count_once(kind, integrator):
    y = torch.randn(6, 4, 5, 5, dtype=torch.float64)
    states = []
    for memory in ("store", "recompute", "reverse"):
        stage = stage_of(kind, memory=memory, integrator=integrator)
        stage(y.clone().requires_grad_()).sum().backward()  # recomputes, and undoes, every layer
        states.append({name: value.clone() for name, value in stage.named_buffers()})
    for other in states[1:]:
        for name, value in other.items():
            torch.testing.assert_close(value, states[0][name], **EXACT)
    stage = stage_of(kind, integrator=integrator)
    norm = torch.nn.BatchNorm2d(4, dtype=torch.float64)
    first = stage.fields()[0].drives
    x = y[:, 2:] if integrator.first == "p" else y[:, :2]  # what drives the first move of the first layer
    half = 0 if integrator.first == "p" else 1
    of = first[half].layer
    if kind == "batch":
        x = normed(x, of.input_gain, of.input_shift, None, None)
    z = functional.conv2d(x, of.K, padding=1)
    norm = torch.nn.BatchNorm2d(2, dtype=torch.float64)
    norm.running_mean.copy_(stage.mean[0, 2:] if half == 0 else stage.mean[0, :2])
    norm.running_var.copy_(stage.variance[0, 2:] if half == 0 else stage.variance[0, :2])
    if integrator.first == "p":  # a splitting that calls a drive twice counts its last call
        norm(z)
        stage(y)
        torch.testing.assert_close(stage.mean[0, 2:], norm.running_mean, **EXACT)
        torch.testing.assert_close(stage.variance[0, 2:], norm.running_var, **EXACT)


@pytest.mark.parametrize("kind", KINDS)
def test_right_after_a_widening_numbers_stay_in_range(kind):
    torch.manual_seed(0)
    flow = hdnn.h2(16, layers=4, step=1.0, kernel_size=3, activation="relu", dtype=torch.float64)
    network = torch.nn.Sequential(hdnn.Widen(16), hdnn.Stage(flow, kind))
    y = torch.randn(8, 4, 6, 6, dtype=torch.float64)
    out = network(y)
    gradients = torch.autograd.grad(out.square().mean(), list(network.parameters()))
    assert out.isfinite().all()
    assert all(g.isfinite().all() for g in gradients)
    if kind == "units":  # the zero channels are moved no more than a few times as much as the others
        new, old = out[:, [0, 1, 2, 5, 6, 7]], out[:, [3, 4]]
        assert new.std() < 10 * (old - y[:, :2]).std()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shared", [True, False])
def test_state_dicts_load_and_copies_agree(kind, shared):
    stage = stage_of(kind, shared=shared)
    other = stage_of(kind, shared=shared, seed=1)
    y = torch.randn(2, 4, 4, 4, dtype=torch.float64)
    stage(y)
    other.load_state_dict(stage.state_dict())
    assert torch.equal(other.eval()(y), stage.eval()(y))
    assert torch.equal(copy.deepcopy(stage)(y), stage(y))


@pytest.mark.parametrize("preset", [hdnn.ms1, hdnn.ms2, hdnn.ms3, hdnn.h1, hdnn.h2])
@pytest.mark.parametrize("memory", [None, "recompute"])
def test_without_normalisation_a_stage_is_its_flow(preset, memory):
    stage = stage_of(None, preset=preset, memory=memory)
    y = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(stage(y), stage.flow(y), **EXACT)


def test_signals_have_stages_too():
    stage = stage_of("units", kernel_size=None, space=hdnn.Signals(5))
    y = torch.randn(3, 4, 20, dtype=torch.float64)
    stage(y)
    torch.testing.assert_close(stage.eval().folded()(y), stage(y), **EXACT)


@pytest.mark.parametrize("kind", KINDS)
def test_under_autocast_states_stay_as_they_are(kind):
    stage = stage_of(kind, dtype=torch.float32)
    y = torch.randn(3, 4, 5, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = stage(y)
    assert half.dtype is torch.float32
    torch.testing.assert_close(half, copy.deepcopy(stage)(y), rtol=0.1, atol=0.1)
    assert not torch.equal(half, stage(y))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: hdnn.Stage(torch.nn.Linear(2, 2)), TypeError, "made of a flow"),
        (lambda: hdnn.Stage(hdnn.h2(4, 2, step=0.1)), ValueError, "has positions"),
        (lambda: hdnn.Stage(hdnn.h2(4, 2, step=0.1, kernel_size=3), "layer"), ValueError, '"units", "batch"'),
        (lambda: hdnn.Stage(hdnn.ms1(4, 2, step=0.1, kernel_size=3)), ValueError, "Inverse"),
        (lambda: hdnn.Stage(hdnn.h2(4, 2, step=0.1, kernel_size=3), momentum=0), ValueError, "momentum"),
        (
            lambda: hdnn.Stage(hdnn.h2(4, 2, step=0.1, kernel_size=1, integrator="implicit_midpoint")),
            ValueError,
            "solves for its step",
        ),
        (
            lambda: hdnn.Stage(
                hdnn.h2(4, 2, step=0.1, kernel_size=1, integrator=hdnn.SymplecticEuler(learn_damping=True, damping=0.1))
            ),
            ValueError,
            "damping",
        ),
    ],
)
def test_what_is_no_stage_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize("kind", ["units", "batch"])
def test_second_derivatives_of_training_are_right(kind):
    stage = stage_of(kind, layers=1, channels=2)
    y = torch.randn(2, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in stage.named_parameters()]

    def run(y, *values):
        return torch.func.functional_call(stage, dict(zip(names, values, strict=True)), (y,))

    values = [p.detach().clone().requires_grad_() for p in stage.parameters()]
    assert torch.autograd.gradcheck(run, (y, *values))
    assert torch.autograd.gradgradcheck(run, (y, *values))


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
def test_forward_mode_agrees_with_backward():
    stage = stage_of("units")
    y, v = (torch.randn(2, 4, 3, 3, dtype=torch.float64) for _ in range(2))
    with forward_ad.dual_level():
        forward = forward_ad.unpack_dual(stage(forward_ad.make_dual(y, v))).tangent
    g = torch.randn_like(forward)
    (backward,) = torch.autograd.grad(stage(y.requires_grad_()), y, g)
    torch.testing.assert_close((forward * g).sum(), (backward * v).sum())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("memory", [None, "reverse"])
def test_a_batch_of_nothing_counts_in_no_moment(kind, memory):
    stage = stage_of(kind, memory=memory)
    before = {name: buffer.clone() for name, buffer in stage.named_buffers()}
    y = torch.empty(0, 4, 5, 5, dtype=torch.float64, requires_grad=True)
    out = stage(y)
    assert out.shape == stage.inverse(out).shape == (0, 4, 5, 5)
    out.sum().backward()
    assert all(not p.grad.any() for p in stage.parameters())
    assert all(torch.equal(buffer, before[name]) for name, buffer in stage.named_buffers())


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("memory", ["recompute", "reverse"])
def test_compiled_while_training(memory):
    torch._dynamo.reset()
    stage, plain = (stage_of("units", layers=2, memory=m) for m in (memory, "store"))
    y = torch.randn(3, 4, 5, 5, dtype=torch.float64)
    expected = plain(y)
    expected.sum().backward()
    found = torch.compile(stage, fullgraph=True, backend="aot_eager")(y)
    found.sum().backward()
    torch.testing.assert_close(found, expected, **EXACT)
    for (name, mine), other in zip(stage.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, **EXACT, msg=name)
    for mine, other in zip(stage.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(mine, other, **EXACT)
