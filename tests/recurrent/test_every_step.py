"""Networks that say every step: each step of a sequence is one answer, and the padding behind its end is none."""

from functools import partial

import pytest
import torch
from torch import nn

import hdnn
from families import F64, random, tight
from hdnn.training.answers import UNSCORED

LENGTHS = torch.tensor([6, 3, 1, 5, 6, 2, 4, 6, 3, 5, 1, 6])
STEPS = int(LENGTHS.sum())
INSIDE = torch.arange(6) < LENGTHS[:, None]
RECIPE = partial(hdnn.Recipe, batch_size=5, learning_rate=0.02)


def network_of(classes):
    """Of some classes, or a regressor to two numbers for none."""
    torch.manual_seed(0)
    rnn = hdnn.HamiltonianRNN(2, 8, step=0.3, dtype=F64)
    made = (
        hdnn.sequence_classifier(rnn, classes, every=True) if classes else hdnn.sequence_regressor(rnn, 2, every=True)
    )
    nn.init.normal_(made.head.weight)
    return made


def data_of(classes):
    x = random(12, 6, 2)
    total = x.cumsum(1)
    return x, (total[..., 0] > 0).long() + (total[..., 0] > 1).long() * (classes == 3) if classes else total


def spoilt(x, y, classes):
    """With other numbers where the padding is."""
    at = ~INSIDE
    x, y = x.clone(), y.clone()
    x[at] = 1e3
    y[at] = {0: 1e3}.get(classes, 7)
    return x, y


KINDS = pytest.mark.parametrize("classes", [0, 2, 3])


@KINDS
def test_scores_are_of_all_steps(classes):
    network, (x, y) = network_of(classes), data_of(classes)
    found, said = hdnn.evaluate(network, x, y), network.predict(x)
    if classes:
        assert found["accuracy"] == pytest.approx((said == y).double().mean().item())
        assert 0 < found["accuracy"] < 1
    else:
        assert found["error"] == pytest.approx((said - y).square().mean().sqrt().item())


@KINDS
def test_padding_is_not_scored(classes):
    network, (x, y) = network_of(classes), data_of(classes)
    kept = [(x[i : i + 1, :T], y[i : i + 1, :T]) for i, T in enumerate(LENGTHS.tolist())]
    steps = hdnn.evaluate(network, kept)  # a loader of sequences as long as they are
    for given in ((x, y), spoilt(x, y, classes)):
        whole = hdnn.evaluate(network, (given[0], LENGTHS), given[1])
        named = hdnn.evaluate(network, {"x": given[0], "lengths": LENGTHS}, given[1])
        called = hdnn.evaluate(network, given[0], given[1], call={"lengths": LENGTHS})
        parts = (slice(7), slice(7, None))
        cut = hdnn.evaluate(network, [((given[0][part], LENGTHS[part]), given[1][part]) for part in parts])
        for found in (whole, named, called, cut):
            assert found == pytest.approx(steps)
    name = "accuracy" if classes else "error"
    said = network.predict(x)
    right = (said == y)[INSIDE].sum() / STEPS if classes else (said - y)[INSIDE].square().mean().sqrt()
    assert steps[name] == pytest.approx(right.item())


@KINDS
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="plain"),
        pytest.param({"validation_fraction": 0.3}, id="validation"),
        pytest.param({"restarts": 2, "restart_epochs": 2}, id="restarts"),
        pytest.param({"method": "alternating"}, id="alternating"),
        pytest.param({"optimizer": "lbfgs"}, id="lbfgs"),
    ],
)
def test_padding_teaches_nothing(classes, options):
    """Whatever it holds, weights and records are the same to the bit, for each way to train."""
    ends = []
    for x, y in (data_of(classes), spoilt(*data_of(classes), classes)):
        network = network_of(classes)
        history = hdnn.fit(network, (x, LENGTHS), y, RECIPE(epochs=2, **options))
        ends.append((network.state_dict(), [{**record, "seconds": 0} for record in history]))
    (ours, records), (others, told) = ends
    assert records == told
    assert all(torch.equal(ours[name], others[name]) for name in ours)
    for record in records:
        assert all(0 <= value <= 1 for name, value in record.items() if name.endswith("accuracy"))


@KINDS
@pytest.mark.parametrize("weighed", [False, True])
def test_the_gradient_is_that_of_the_steps(classes, weighed):
    network, (x, y) = network_of(classes), data_of(classes)
    weight = torch.arange(1.0, 13.0, dtype=F64) if weighed else None
    loss, _ = hdnn.Objective(network)((x, LENGTHS), y, weight)
    output, each = network(x), LENGTHS.new_ones(12).double() if weight is None else weight
    if classes == 2:
        losses = nn.functional.binary_cross_entropy_with_logits(output.squeeze(-1), y.double(), reduction="none")
    elif classes:
        losses = nn.functional.cross_entropy(output.movedim(-1, 1), y, reduction="none")
    else:
        losses = (output - y).square().mean(-1)
    share = INSIDE * each[:, None]
    expected = (share * losses).sum() / share.sum()
    tight(loss, expected)
    parameters = [*network.parameters()]
    for ours, others in zip(
        torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        tight(ours, others)


@KINDS
def test_many_train_together_as_one_by_one(classes):
    x, y = data_of(classes)
    lengths = torch.stack([LENGTHS, LENGTHS.flip(0)])
    alone, histories = [network_of(classes) for _ in range(2)], []
    for i, network in enumerate(alone):
        histories.append(hdnn.fit(network, (x, lengths[i]), y, RECIPE(epochs=2, seed=i)))
    members = [network_of(classes) for _ in range(2)]
    given = (x.expand(2, *x.shape), lengths)
    together = hdnn.fit_together(members, given, y.expand(2, *y.shape), RECIPE(epochs=2), seeds=[0, 1])
    for network, member, ours, others in zip(alone, members, histories, together, strict=True):
        for name, value in network.state_dict().items():
            tight(member.state_dict()[name], value)
        for record, told in zip(ours, others, strict=True):
            assert {**told, "seconds": 0} == pytest.approx({**record, "seconds": 0})


@KINDS
def test_the_loss_of_an_epoch_is_that_of_its_steps(classes):
    """As `evaluate` finds it, where nothing moves: batches of more steps count for more."""
    x, y = data_of(classes)
    frozen = RECIPE(epochs=1, learning_rate=1e-30)
    expected = hdnn.evaluate(network_of(classes), (x, LENGTHS), y)["loss"]
    (alone,) = hdnn.fit(network_of(classes), (x, LENGTHS), y, frozen)
    ((together,),) = hdnn.fit_together([network_of(classes)], (x[None], LENGTHS[None]), y[None], frozen, seeds=[0])
    assert (alone["loss"], together["loss"]) == pytest.approx((expected, expected), rel=1e-12)


@KINDS
def test_it_goes_on_in_the_midst_of_an_epoch(classes):
    x, y = data_of(classes)
    whole, states = network_of(classes), []

    def keep(progress):
        states.append(progress.state())

    history = hdnn.fit(whole, (x, LENGTHS), y, RECIPE(epochs=2), callbacks=[keep])
    network = network_of(classes)
    again = hdnn.fit(network, (x, LENGTHS), y, RECIPE(epochs=2), resume=states[3])  # the first of three of epoch 2
    assert [{**record, "seconds": 0} for record in again] == [{**record, "seconds": 0} for record in history]
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in network.state_dict().items())


@KINDS
def test_a_loader_of_sequences_as_long_as_they_are(classes):
    x, y = data_of(classes)
    loader = [(x[:5, :4], y[:5, :4]), ((x[5:], LENGTHS[5:]), y[5:])]
    network = network_of(classes)
    [record] = hdnn.fit(network, loader, recipe=RECIPE(epochs=1), validation=loader, callbacks=[lambda p: p.state()])
    found = hdnn.evaluate(network, loader)
    assert record["validation_loss"] == pytest.approx(found["loss"])


def test_what_scores_of_ones_own_are_given():
    network, (x, y) = network_of(3), data_of(3)
    seen = {}

    def count(output, targets):
        seen["y"] = targets
        return float((targets == UNSCORED).sum())

    assert hdnn.evaluate(network, (x, LENGTHS), y, score={"padding": count})["padding"] == 72 - STEPS
    assert torch.equal(seen["y"][INSIDE], y[INSIDE])


@pytest.mark.parametrize("options", [{}, {"restarts": 2, "restart_epochs": 1}], ids=["plain", "restarts"])
@pytest.mark.parametrize("every", [False, True])
def test_padding_may_be_nan(every, options):
    ends = []
    for fill in (0.0, torch.nan):
        torch.manual_seed(0)
        rnn = hdnn.HamiltonianRNN(2, 8, step=0.3, dtype=F64)
        network = hdnn.sequence_classifier(rnn, 2, every=every)
        x, y = data_of(2)
        x[~INSIDE] = fill
        hdnn.fit(network, (x, LENGTHS), y if every else y[:, 0], RECIPE(epochs=1, **options))
        ends.append(network.state_dict())
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


@pytest.mark.parametrize("options", [{}, {"restarts": 2}], ids=["plain", "restarts"])
def test_what_is_refused(options):
    (x, y), numbers = data_of(3), data_of(0)[1]
    fit = partial(hdnn.fit, recipe=RECIPE(epochs=1, **options))
    with pytest.raises(ValueError, match=r"int64 \(s, T\), \(12, 6\); got torch.int64 of shape \(12,\)"):
        fit(network_of(3), x, y[:, 0])
    with pytest.raises(ValueError, match=r"\(12, 6\); got torch.int64 of shape \(12, 5\)"):
        fit(network_of(3), x, y[:, :5])
    with pytest.raises(ValueError, match=r"of shape \(12, 6, 2\), .* got torch.float64 of shape \(12, 2\)"):
        fit(network_of(0), x, numbers[:, 0])
    wrong = y.clone()
    wrong[2, 0] = 3
    with pytest.raises(ValueError, match="from 0 to 2; got 0 to 3"):
        fit(network_of(3), (x, LENGTHS), wrong)
    for classes, target, mark in ((3, y, UNSCORED), (0, numbers, torch.nan)):
        wrong = target.clone()
        wrong[1, 2] = mark
        for door in (fit, hdnn.evaluate):
            with pytest.raises(ValueError, match=f"step 2 of sequence 1 is {mark}"):
                door(network_of(classes), (x, LENGTHS), wrong)
    for lengths in (LENGTHS - 1, LENGTHS + 1, LENGTHS[:-1].repeat(2)[:12].reshape(12, 1)):
        with pytest.raises(ValueError, match="from 1 to 6, one for each"):
            fit(network_of(3), (x, lengths), y)
