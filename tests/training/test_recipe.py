import dataclasses
import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from hdnn.training import Recipe
from hdnn.training.optimizers import SGD, Adam, AdamW
from hdnn.training.recipe import make_optimizer, rate_factor


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("epochs", [0, -1, 2.5]),
        ("batch_size", [0, -8, 1.5]),
        ("head_steps", [0]),
        ("head_epochs", [-2]),
        ("learning_rate", [0.0, -0.1, math.nan, math.inf]),
        ("head_learning_rate", [0.0, math.nan]),
        ("decay", [0.0, -1.0, math.inf]),
        ("smoothness", [-1e-9, math.nan, math.inf]),
        ("head_decay", [-1.0, math.nan]),
        ("weight_decay", [-1.0, math.inf]),
        ("warmup", [-0.1, 1.0, math.nan]),
        ("label_smoothing", [-0.1, 1.0, math.nan]),
        ("validation_fraction", [-0.1, 1.0, 20, math.nan]),
        ("clip", [0.0, -1.0, math.nan]),
        ("patience", [0, -1]),
        ("seed", [-1, 2**32, 0.5]),
        ("optimizer", ["Adam", "rmsprop"]),
        ("schedule", ["linear"]),
        ("average", [-0.1, 1.0, math.nan]),
        ("precision", ["float16"]),
        ("method", ["both"]),
    ],
)
def test_a_value_that_makes_no_sense_is_named_with_what_was_given(name, values):
    for value in values:
        with pytest.raises(ValueError, match=f"`{name}`") as caught:
            Recipe(**{name: value})
        assert str(value) in str(caught.value)


@pytest.mark.parametrize(
    ("choices", "word"),
    [
        ({"optimizer": "lbfgs", "method": "alternating"}, "alternating"),
        ({"optimizer": "lbfgs", "weight_decay": 0.1}, "weight_decay"),
        ({"optimizer": "lbfgs", "clip": 1.0}, "clip"),
    ],
)
def test_values_that_do_not_go_together_are_refused(choices, word):
    with pytest.raises(ValueError, match=word):
        Recipe(**choices)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("adam", Adam),
        ("adamw", AdamW),
        ("sgd", SGD),
        ("lbfgs", torch.optim.LBFGS),
    ],
)
def test_the_optimizer_is_the_one_that_is_named(name, expected):
    decay = 0.0 if name == "lbfgs" else 0.3
    optimizer = make_optimizer(
        Recipe(optimizer=name, learning_rate=0.07, weight_decay=decay), [torch.nn.Parameter(torch.ones(3))]
    )
    assert type(optimizer) is expected
    assert optimizer.param_groups[0]["lr"] == 0.07
    assert optimizer.param_groups[0].get("weight_decay", 0.0) == decay


@pytest.mark.parametrize(("epochs", "batches", "warmup"), [(10, 7, 0.2), (1, 1, 0.2), (3, 5, 0.0), (20, 32, 0.9)])
def test_the_cosine_warms_up_to_the_full_rate_and_falls_towards_zero(epochs, batches, warmup):
    factor = rate_factor(Recipe(epochs=epochs, warmup=warmup), batches)
    steps = epochs * batches
    factors = [factor(step) for step in range(steps + 1)]
    top = math.ceil(warmup * steps)
    assert all(0 < share <= 1 for share in factors[:-1])
    assert all(a < b for a, b in pairwise(factors[:top]))
    assert all(a > b for a, b in pairwise(factors[top:]))
    if steps > 10:
        assert factors[-1] == pytest.approx(0.0, abs=1e-12)
        assert max(factors) > 0.97


def test_the_exponential_schedule_decays_once_an_epoch():
    factor = rate_factor(Recipe(schedule="exponential", decay=0.8), batches=5)
    assert [factor(step) for step in range(15)] == pytest.approx([0.8 ** (step // 5) for step in range(15)])


@pytest.mark.parametrize("choices", [{"schedule": "constant"}, {"optimizer": "lbfgs"}])
def test_constant_rates_stay(choices):
    factor = rate_factor(Recipe(**choices), batches=5)
    assert {factor(step) for step in range(300)} == {1.0}


def test_one_cycle_rises_from_a_twenty_fifth_and_falls_to_nothing():
    share = rate_factor(Recipe(epochs=10, schedule="one_cycle", warmup=0.3), 20)
    values = [share(step) for step in range(200)]
    assert values[0] == pytest.approx(0.04)
    assert values[60] == 1
    assert values[30] == pytest.approx(0.52)
    assert all(a < b for a, b in pairwise(values[:61]))
    assert all(a > b for a, b in pairwise(values[60:]))
    assert values[130] == pytest.approx(0.5)
    assert 0 < values[-1] < 1e-3
    assert rate_factor(Recipe(epochs=1, schedule="one_cycle", warmup=0.0), 5)(0) == 1


def test_numbers_of_numpy_become_those_of_python():
    recipe = Recipe(epochs=np.int64(3), learning_rate=np.float32(0.5), refit=np.bool_(False), seed=np.uint8(2))
    assert recipe == Recipe(epochs=3, learning_rate=0.5, seed=2)
    assert json.loads(json.dumps(dataclasses.asdict(recipe)))["epochs"] == 3


def test_texts_are_no_truths():
    with pytest.raises(ValueError, match="`refit` must be true or false; got 'no'"):
        Recipe(refit="no", validation_fraction=0.2)
