"""Training from loaders: what tensors in the same order give, and what an order that is not ours does not allow."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import hdnn
from hdnn.training import Recipe, evaluate, fit

X = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] * X[:, 1] > 0).long()
W = torch.linspace(0.1, 2, 60)
RECIPE = Recipe(epochs=3, batch_size=16, learning_rate=0.02, seed=5)
EACH = nn.CrossEntropyLoss(reduction="none")


def door(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(2, 4), hdnn.h2(4, 4, step=0.1), nn.Linear(4, 2))


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return hdnn.vector_classifier(2, 2, hdnn.h2(4, 4, step=0.1), lift="linear")


class AsDrawn:
    """The batches that `fit` draws of tensors."""

    def __init__(self, size=16, seed=5):
        self.size, self.generator = size, torch.Generator().manual_seed(seed)

    def __len__(self):
        return -(-60 // self.size)

    def __iter__(self):
        return iter(torch.randperm(60, generator=self.generator).split(self.size))


def loader(*tensors, **options):
    return DataLoader(TensorDataset(*tensors), batch_sampler=AsDrawn(**options))


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def without_times(history):
    return [{name: value for name, value in record.items() if name != "seconds"} for record in history]


@pytest.mark.parametrize("method", ["joint", "alternating"])
def test_a_loader_in_our_order_gives_the_bits_of_tensors(method):
    recipe = dataclasses.replace(RECIPE, method=method, head_epochs=1)
    ours, theirs = network(), network()
    told = fit(ours, X, Y, recipe, validation=(X[:20], Y[:20]))
    plain = DataLoader(TensorDataset(X[:20], Y[:20]), batch_size=20)
    also = fit(theirs, loader(X, Y), recipe=recipe, validation=plain)
    assert without_times(told) == without_times(also)
    if method == "joint":  # else the last output layer sees the samples in another order
        assert same(weights(ours), weights(theirs))
    for name in ("lift.weight", "flow.weight"):
        assert torch.equal(weights(ours)[name], weights(theirs)[name])


def test_weights_come_with_the_batches():
    ours, theirs, others = door(), door(), door()
    fit(ours, X, Y, RECIPE, EACH, sample_weight=W)
    fit(theirs, loader(X, Y, 3 * W), recipe=RECIPE, loss=EACH)
    fit(others, loader(X, Y), recipe=RECIPE, loss=EACH)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert not torch.allclose(ours[0].weight, others[0].weight, rtol=1e-3)


def test_a_list_of_batches_with_inputs_by_name_serves_as_well():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = door()

        def forward(self, *, left, right):
            return self.body(torch.stack((left, right), -1))

    batches = [(X[i : i + 16], Y[i : i + 16]) for i in range(0, 60, 16)]
    named = [({"left": x[:, 0], "right": x[:, 1]}, y) for x, y in batches]
    one, two = door(), Named()
    told = fit(one, batches, recipe=RECIPE, loss=EACH)
    for mine, theirs in zip(fit(two, named, recipe=RECIPE, loss=EACH), told, strict=True):  # by other kernels
        assert without_times([mine])[0] == pytest.approx(without_times([theirs])[0], rel=1e-5)
    assert evaluate(one, batches, loss=EACH)["loss"] == pytest.approx(evaluate(one, X, Y, EACH)["loss"])
    assert evaluate(two, named, loss=EACH) == pytest.approx(evaluate(one, batches, loss=EACH), rel=1e-5)


def test_the_score_of_a_loader_is_that_of_all_its_samples():
    model = network()
    found = evaluate(model, loader(X, Y, size=7))
    assert found == pytest.approx(evaluate(model, X, Y))


def test_where_an_epoch_ends_training_from_a_loader_goes_on_to_the_bit():
    found = []
    whole, again = door(), door(7)
    fit(whole, loader(X, Y), recipe=RECIPE, loss=EACH, callbacks=[lambda told: found.append((told, told.state()))])
    state = next(state for told, state in found if told.record)
    rest = loader(X, Y)
    list(rest)  # the batches of the first epoch
    fit(again, rest, recipe=RECIPE, loss=EACH, resume=state)
    assert same(weights(again), weights(whole))
    with pytest.raises(ValueError, match="after 1 batches of an epoch, and a loader has an order of its own"):
        fit(door(), loader(X, Y), recipe=RECIPE, loss=EACH, resume=found[0][1])
    with pytest.warns(UserWarning, match=r"order of the batches the loader's \(now drawn from the seed\)"):
        fit(door(), X, Y, RECIPE, EACH, resume=state)


def test_a_loader_of_another_length_than_it_says_is_told_so():
    class Short(list):
        def __len__(self):
            return 3

    with pytest.raises(ValueError, match=r"3 batches by its len\(\), but gave 1"):
        fit(door(), Short([(X, Y)]), recipe=RECIPE, loss=EACH)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (iter([(X, Y)]), TypeError, r"must be a loader.*len\(\).*got list_iterator"),
        ([], ValueError, "no batches"),
        ([X], TypeError, "must give batches.*got Tensor"),
        ([(X,)], TypeError, "must give batches.*got tuple of 1"),
        ([(X, Y[0])], ValueError, r"first axis.*got shape \(\).*y\[None\]"),
        ([(X, Y[:0])], ValueError, r"one at least; got shape \(0,\)"),
        ([(X, Y, W[:3])], ValueError, r"Weights of samples must be of shape \(60,\)"),
        ([(X, Y, -W)], ValueError, "not negative"),
        ([(X.numpy(), Y)], TypeError, "Inputs must be a tensor; got ndarray"),
    ],
)
def test_what_is_no_loader_of_batches_is_refused(given, error, words):
    with pytest.raises(error, match=words):
        fit(door(), given, recipe=RECIPE, loss=EACH)


def test_batches_that_do_not_fit_a_network_are_refused():
    with pytest.raises(ValueError, match="Class indices run from 0 to 1; got 2 to 2"):
        fit(network(), [(X, Y), (X, Y * 0 + 2)], recipe=RECIPE)
    with pytest.raises(ValueError, match="equal, positive length; got 60 and 3"):
        fit(network(), [(X, Y[:3])], recipe=RECIPE)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"restarts": 2}, "has one start.*give tensors"),
        ({"optimizer": "lbfgs"}, "cannot use L-BFGS"),
        ({"validation_fraction": 0.2}, "holds nothing back"),
    ],
)
def test_recipes_that_need_tensors_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        fit(door(), loader(X, Y), recipe=dataclasses.replace(RECIPE, **options), loss=EACH)
    with pytest.raises(ValueError, match="weights of samples from the loader"):
        fit(door(), loader(X, Y), recipe=RECIPE, loss=EACH, sample_weight=W)


def test_a_loader_of_one_batch_serves_the_line_search():
    ours, theirs = door().double(), door().double()
    recipe = dataclasses.replace(RECIPE, epochs=1, optimizer="lbfgs", learning_rate=1.0)
    fit(ours, [(X.double(), Y)], recipe=recipe, loss=EACH)
    fit(theirs, X.double(), Y, recipe, EACH)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_patience_watches_validation_from_a_loader():
    watched = DataLoader(TensorDataset(X, Y), batch_size=30)
    recipe = dataclasses.replace(RECIPE, epochs=60, learning_rate=1.0, schedule="constant", patience=2)
    model = door()
    history = fit(model, loader(X, Y), recipe=recipe, loss=EACH, validation=watched)
    losses = [record["validation_loss"] for record in history]
    assert len(losses) < 60
    assert evaluate(model, watched, loss=EACH)["loss"] == min(losses)


@pytest.mark.parametrize("wrong", [iter([(X, Y)]), TensorDataset(X, Y), []], ids=["iterator", "dataset", "empty"])
def test_what_is_no_loader_to_watch_is_refused_before_training(wrong):
    seen = []
    with pytest.raises((TypeError, ValueError), match=r"loader|batches"):
        fit(network(), X, Y, RECIPE, validation=wrong, callbacks=[seen.append])
    assert seen == []
