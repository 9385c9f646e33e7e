"""Training any module of PyTorch: its loss, its inputs, its flows, and what it needs to begin anew."""

import copy
import dataclasses
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

import hdnn
from hdnn.training import Objective, Recipe, TrainingState, evaluate, fit, fit_together, outputs

F64 = torch.float64
X = torch.randn(60, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
Y = (X[:, 0] * X[:, 1] > 0).long()
RECIPE = Recipe(epochs=3, batch_size=16, learning_rate=0.02, seed=5)
ENTROPY = functional.cross_entropy
EACH = partial(ENTROPY, reduction="none")


def door(seed=0, *more):
    """The first network of the README, in small."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        flow = hdnn.h2(features=4, layers=6, step=0.1)
        return nn.Sequential(nn.Linear(2, 4), *more, flow, nn.Linear(4, 2)).double()


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def without_times(history):
    return [{name: value for name, value in record.items() if name != "seconds"} for record in history]


def correct(output, y):
    return (output.argmax(-1) == y).double().mean()


# The loss


def test_the_first_door_of_the_readme_trains():
    model = door()
    history = fit(model, X, Y, Recipe(epochs=60, batch_size=16, learning_rate=0.05), ENTROPY)
    assert history[-1]["loss"] < 0.3 * history[0]["loss"]
    assert correct(outputs(model, X), Y) > 0.9
    assert set(history[0]) == {"epoch", "loss", "learning_rate", "seconds"}
    assert evaluate(model, X, Y, ENTROPY) == {"loss": pytest.approx(float(ENTROPY(outputs(model, X), Y)))}


def test_a_network_with_the_loss_that_it_has_anyway_ends_at_the_same_weights():
    def network():
        torch.manual_seed(1)
        return hdnn.vector_classifier(2, 3, hdnn.h2(4, 3, step=0.1, dtype=F64), lift="linear")

    own, given, recipe = network(), network(), dataclasses.replace(RECIPE, smoothness=0.1, head_decay=0.01)
    told = fit(own, X, Y, recipe, backend="torch")
    assert set(told[0]) - set(fit(given, X, Y, recipe, ENTROPY)[0]) == {"train_accuracy"}
    torch.testing.assert_close(weights(own), weights(given), rtol=1e-9, atol=1e-12)  # one by autograd, one natively


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"head_decay": 0.1}, "`head_decay` weighs the output layer.*this Sequential has none.*weight_decay"),
        ({"label_smoothing": 0.1}, "`label_smoothing` is part of.*partial"),
        ({"method": "alternating"}, r"this Sequential has not both.*joint"),
    ],
)
def test_what_a_module_has_not_got_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        fit(door(), X, Y, dataclasses.replace(RECIPE, **options), ENTROPY)


def test_smoothness_without_a_flow_is_refused():
    with pytest.raises(ValueError, match=r"`smoothness` weighs.*there is none in this Linear"):
        fit(nn.Linear(2, 2).double(), X, Y, dataclasses.replace(RECIPE, smoothness=0.1), ENTROPY)


def test_things_that_are_no_modules_or_losses_are_called_so():
    with pytest.raises(TypeError, match="Expected a module of PyTorch; got function"):
        fit(correct, X, Y, RECIPE, ENTROPY)
    with pytest.raises(TypeError, match=r"`loss` must be a function.*got str"):
        fit(door(), X, Y, RECIPE, "mse")
    with pytest.raises(TypeError, match="must return a tensor; got float"):
        fit(door(), X, Y, RECIPE, lambda output, y: 1.0)
    with pytest.raises(TypeError, match="said by a recipe"):
        fit(door(), X, Y, loss=ENTROPY)


def test_scores_are_those_that_are_asked_for():
    model, score = door(), {"accuracy": correct, "sum": lambda output, y: output.sum()}
    history = fit(model, X, Y, RECIPE, ENTROPY, score=score, validation=(X[:20], Y[:20]))
    found = evaluate(model, X[:20], Y[:20], ENTROPY, score=score)
    last = history[-1]
    assert {name: last[f"validation_{name}"] for name in ("loss", "accuracy", "sum")} == pytest.approx(found)
    assert found["accuracy"] == float(correct(model(X[:20]), Y[:20]))
    seen = []
    model = door()
    told = fit(model, X, Y, RECIPE, lambda o, y: (seen.append((o.detach(), y)), ENTROPY(o, y))[1], score=score)
    output, y = (torch.cat(column) for column in zip(*seen[:4], strict=True))
    assert told[0]["train_accuracy"] == float(correct(output, y))
    assert told[0]["train_sum"] == pytest.approx(float(output.sum()))


def test_a_weight_is_a_number_of_repetitions():
    W = torch.arange(60) % 3
    weighed, repeated = door(), door()
    full = dataclasses.replace(RECIPE, batch_size=1000)
    fit(weighed, X, Y, full, EACH, sample_weight=W)
    fit(repeated, X.repeat_interleave(W, 0), Y.repeat_interleave(W), full, ENTROPY)
    for a, b in zip(weighed.parameters(), repeated.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_weights_need_the_losses_of_samples():
    with pytest.raises(ValueError, match=r"one for each, shape \(16,\); got shape \(\).*reduction=\"none\""):
        fit(door(), X, Y, RECIPE, ENTROPY, sample_weight=torch.ones(60))


def test_losses_of_samples_without_weights_are_meaned():
    first, second = door(), door()
    fit(first, X, Y, RECIPE, EACH)
    fit(second, X, Y, RECIPE, ENTROPY)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


# Flows


def test_the_smoothness_of_all_flows_is_added_and_each_counts_once():
    torch.manual_seed(0)
    first, second = hdnn.h2(4, 5, step=0.1, dtype=F64), hdnn.h1(4, 3, step=0.2, dtype=F64)
    model = nn.Sequential(nn.Linear(2, 4, dtype=F64), first, nn.Sequential(nn.ReLU(), second), first)
    y = torch.randn(60, 4, dtype=F64)
    plain, smooth = (Objective(model, functional.mse_loss, smoothness=alpha)(X, y)[0] for alpha in (0.0, 0.7))
    expected = 0.7 * sum(float(part.detach()) for flow in (first, second) for part in flow.smoothness())
    assert float((smooth - plain).detach()) == pytest.approx(expected, rel=1e-12)
    assert expected > 0


# Inputs


class Two(nn.Module):
    """A model of two inputs, and of something that all samples share."""

    def __init__(self):
        super().__init__()
        self.body = door(0, nn.Identity())

    def forward(self, left, right, *, scale=1.0):
        return self.body(torch.stack((left, right), -1) * scale)


@pytest.mark.parametrize("as_inputs", [lambda x: (x[:, 0], x[:, 1]), lambda x: {"right": x[:, 1], "left": x[:, 0]}])
@pytest.mark.parametrize("recipe", [RECIPE, dataclasses.replace(RECIPE, restarts=2, restart_epochs=2)])
def test_several_inputs_are_those_of_one_tensor(as_inputs, recipe):
    one, two = door(0, nn.Identity()), Two()  # no chain that native steps know
    scale = torch.tensor(0.5, dtype=F64)
    told = fit(one, X / 2, Y, recipe, ENTROPY, validation=(X[:9] / 2, Y[:9]))
    also = fit(two, as_inputs(X), Y, recipe, ENTROPY, call={"scale": scale}, validation=(as_inputs(X[:9]), Y[:9]))
    assert without_times(told) == without_times(also)
    assert same(weights(one), weights(two.body))
    assert torch.equal(outputs(two, as_inputs(X), call={"scale": scale}), outputs(one, X / 2))


def test_inputs_of_unlike_lengths_are_refused():
    with pytest.raises(ValueError, match="equal, positive length; got 60, 59 and 60"):
        fit(Two(), (X[:, 0], X[1:, 1]), Y, RECIPE, ENTROPY)
    with pytest.raises(TypeError, match="Inputs must be a tensor; got list"):
        fit(Two(), (X[:, 0], X[:, 1].tolist()), Y, RECIPE, ENTROPY)


def test_outputs_may_be_anything_that_the_loss_takes():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = door(0, nn.Identity())

        def forward(self, x):
            return self.body(x), x

    def loss(output, y):
        return ENTROPY(output[0], y)

    both, one = Both(), door(0, nn.Identity())
    fit(both, X, Y, RECIPE, loss)
    fit(one, X, Y, RECIPE, ENTROPY)
    assert same(weights(both.body), weights(one))
    assert evaluate(both, X, Y, loss) == pytest.approx(evaluate(one, X, Y, ENTROPY))


@pytest.mark.long
@pytest.mark.parametrize("restarts", [1, 2])
def test_a_graph_that_all_samples_share_comes_with_every_call(restarts):
    nodes, edges = X.reshape(-1, 3, 2), torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    recipe = dataclasses.replace(RECIPE, batch_size=5, smoothness=1e-3, restarts=restarts, restart_epochs=1)
    torch.manual_seed(0)
    flow = hdnn.h2(2, 5, step=0.2, space=hdnn.Graph(), dtype=F64)
    wanted = outputs(hdnn.h2(2, 5, step=0.2, space=hdnn.Graph(), dtype=F64), nodes, call={"edge_index": edges})
    data = {"x": nodes, "y": wanted, "loss": functional.mse_loss, "call": {"edge_index": edges}}
    before = evaluate(flow, **data)["loss"]
    fit(flow, recipe=dataclasses.replace(recipe, epochs=40), validation=(nodes, wanted), **data)
    assert evaluate(flow, **data)["loss"] < 0.3 * before


def test_recorders_watch_a_flow_wherever_it_is():
    model = door()
    gradients = hdnn.GradientRecorder(model[1])
    sensitivities = hdnn.SensitivityRecorder(model[1], model[0](X), every=4, layers=[0, 6])
    fit(model, X, Y, RECIPE, ENTROPY, callbacks=[gradients, sensitivities])
    assert gradients.norms.shape == (12, 6)
    assert sensitivities.iterations.tolist() == [0, 4, 8, 12]
    assert (sensitivities.minimum >= 1 - 1e-9).all()


# Modules with a mode


def test_statistics_and_dropout_are_those_of_training_and_are_left_alone_by_validation():
    model = door(0, nn.BatchNorm1d(4), nn.Dropout(0.2))
    torch.manual_seed(3)
    fit(model.eval(), X, Y, RECIPE, ENTROPY)
    assert int(model[1].num_batches_tracked) == 12
    before = weights(model)
    assert evaluate(model, X, Y, ENTROPY) == evaluate(model, X, Y, ENTROPY)
    assert same(weights(model), before)
    assert not model.training
    watched = door(0, nn.BatchNorm1d(4), nn.Dropout(0.2))
    torch.manual_seed(3)
    history = fit(watched, X, Y, RECIPE, ENTROPY, validation=(X, Y))
    assert same(weights(watched), before)
    assert history[-1]["validation_loss"] == evaluate(model, X, Y, ENTROPY)["loss"]


# Standing still


def states(model, *args, **options):
    found = []
    history = fit(model, *args, **options, callbacks=[lambda progress: found.append(progress.state())])
    return history, found


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("score", [None, {"accuracy": correct}])
def test_from_every_step_on_the_bits_are_those_without_the_pause(optimizer, score):
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer)
    model = door(0, nn.BatchNorm1d(4))
    history, found = states(model, X, Y, recipe, ENTROPY, score=score)
    for state in found:
        other = door(7, nn.BatchNorm1d(4))
        again = fit(other, X, Y, recipe, ENTROPY, score=score, resume=TrainingState.from_tensors(state.to_tensors()))
        assert same(weights(other), weights(model))
        assert without_times(again) == without_times(history)


# Beginning anew


def test_starts_of_a_module_begin_from_fresh_weights_everywhere():
    seen = []
    recipe = dataclasses.replace(RECIPE, restarts=3, restart_epochs=2)
    model = door()
    history = fit(model, X, Y, recipe, ENTROPY, start_callbacks=[lambda told: seen.append(told.state().starts)])
    assert len(history) == 3
    for stacked in seen[0].weights.values():
        assert not torch.equal(stacked[0], stacked[1])
        assert not torch.equal(stacked[1], stacked[2])
    assert {*seen[0].history[0]} == set()
    assert set(seen[-1].history[0][0]) == {"epoch", "loss", "learning_rate", "seconds"}


def test_starts_need_reset_parameters_of_every_module_that_learns():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = nn.Parameter(torch.ones(4, dtype=F64))

        def forward(self, y):
            return y * self.factor

    recipe = dataclasses.replace(RECIPE, restarts=2, restart_epochs=1)
    before = weights(model := door(0, Scale()))
    with pytest.raises(ValueError, match=r"`reset_parameters` does not reach 1\.factor, so.*Give Scale such a method"):
        fit(model, X, Y, recipe, ENTROPY)
    assert same(weights(model), before)
    model[1].factor.requires_grad_(False)  # what does not learn need not begin anew
    assert len(fit(model, X, Y, recipe, ENTROPY)) == 3


# Together


def test_modules_train_together_as_each_alone():
    models = [door(seed) for seed in range(3)]
    alone = copy.deepcopy(models)
    recipe = dataclasses.replace(RECIPE, clip=0.5, smoothness=0.1)
    histories = fit_together(models, X.expand(3, 60, 2), Y.expand(3, 60), recipe, ENTROPY, seeds=[4, 5, 6])
    for model, own, seed, told in zip(models, alone, (4, 5, 6), histories, strict=True):
        expected = fit(own, X, Y, dataclasses.replace(recipe, seed=seed), ENTROPY)
        for a, b in zip(model.parameters(), own.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)
        for record, own_record in zip(told, expected, strict=True):
            assert record.keys() == own_record.keys()
            assert record["loss"] == pytest.approx(own_record["loss"], rel=1e-8)


# The alternating method


def test_a_module_with_features_and_a_linear_head_can_alternate():
    class Headed(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.flow, self.head = hdnn.h2(2, 4, step=0.3, dtype=F64), nn.Linear(2, 2, dtype=F64)

        def features(self, x):
            return self.flow(x)

        def forward(self, x):
            return self.head(self.features(x))

    recipe = Recipe(epochs=10, batch_size=16, learning_rate=0.1, method="alternating", head_epochs=5, head_decay=1e-4)
    model, other = Headed(), Headed()
    history = fit(model, X, X[:, :1].expand(-1, 2) + 0.1, recipe, functional.mse_loss)
    assert history[-1]["loss"] < 0.1 < history[0]["loss"]
    fit_together([other], X[None], X[:, :1].expand(1, 60, 2) + 0.1, recipe, functional.mse_loss, seeds=[0])
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


# Numbers that go bad


def test_the_module_in_which_numbers_overflow_is_named():
    model = door()
    with torch.no_grad():
        model[2].weight.fill_(1e308)
    with pytest.raises(FloatingPointError, match=r"epoch 1, step 1 of 4.*`2` \(Linear\) overflows: what it gets"):
        fit(model, X * 1e3, Y, RECIPE, ENTROPY)
    model = door()
    model[1].activation = hdnn.relu
    with torch.no_grad():
        model[1].bias[3] = 1e307
        model[1].weight[3] = 1e307
    with pytest.raises(FloatingPointError, match=r"The state overflows in layer 3 of 0 … 5"):
        fit(model, X, Y, RECIPE, ENTROPY)
    graph = hdnn.h2(2, 5, step=0.1, space=hdnn.Graph(), activation=hdnn.relu, dtype=F64)
    with torch.no_grad():
        graph.bias[2] = 1e200
        graph.weight[2] = 1e200
    edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    nodes = X.reshape(-1, 3, 2)
    with pytest.raises(FloatingPointError, match=r"The state overflows in layer 2 of 0 … 4"):
        fit(graph, nodes, nodes, RECIPE, functional.mse_loss, call={"edge_index": edges})
    model = door()
    with torch.no_grad():
        model[1].weight[2] = torch.nan
    with pytest.raises(FloatingPointError, match=r"not finite in `1\.weight`, layer 2 of 0 … 5"):
        fit(model, X, Y, RECIPE, ENTROPY)


def test_a_score_takes_no_name_of_the_record_and_never_decides() -> None:
    x = torch.randn(40, 2)
    model = torch.nn.Linear(2, 1)
    recipe = Recipe(epochs=4, validation_fraction=0.25, patience=1, learning_rate=1e-3)
    with pytest.raises(ValueError, match="'loss' of its own"):
        fit(model, x, x[:, :1], recipe, torch.nn.functional.mse_loss, score={"loss": lambda output, y: 7.0})
    falling = iter([0.9, 0.9, 0.5, 0.5, 0.4, 0.4, 0.3, 0.3])
    history = fit(
        model, x, x[:, :1], recipe, torch.nn.functional.mse_loss, score={"accuracy": lambda output, y: next(falling)}
    )
    assert len(history) == 4
