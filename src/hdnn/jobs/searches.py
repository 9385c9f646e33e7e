"""What `hdnn tune` tries: for each choice that the user leaves open, between which values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

from hdnn.data import Dataset
from hdnn.jobs.choices import Choices, chosen_recipe, network_config
from hdnn.jobs.setups import Setup
from hdnn.networks import PRESETS
from hdnn.training import Recipe

Space = Mapping[str, BaseDistribution]

_DEEPEST = 32
_HIGHEST = 3  # of recurrent networks one above the other
_WIDEST = 256


def space(dataset: Dataset, setup: Setup, choices: Choices, bins: Sequence[int] = ()) -> dict[str, BaseDistribution]:
    """The values to choose among, by the names of choices: around those of the set-up, and none that is given.

    Args:
        dataset: whose inputs bound the size of the state.
        setup: for the data.
        choices: of the user; what is given is not searched.
        bins: pieces of each number to try, of a table; none leaves them as they are.

    Raises:
        ValueError: if what is given makes no sense.
    """
    network_config(dataset, setup, choices)
    recipe = chosen_recipe(setup, choices, 0)
    setup = setup.of(choices)
    if setup.units is not None:  # how many stages and how wide decides what a training costs: that is the user's to say
        return _of_recipe(recipe, choices)
    found: dict[str, BaseDistribution] = {"model": CategoricalDistribution(_models(dataset, setup, choices))}
    of_sequences = len(dataset.inputs) == 2
    found["layers"] = IntDistribution(1, _HIGHEST if of_sequences else _DEEPEST, log=True)
    if "step" not in choices and choices.get("layers") != 0:
        found["horizon"] = FloatDistribution(setup.horizon / 8, setup.horizon * 8, log=True)
    least = dataset.inputs[0] if not of_sequences and choices.get("lift") == "zeros" else 4
    low = _even(max(least, setup.features // 4))
    high = min(_WIDEST, _even(2 * setup.features))
    if low < high:
        found["features"] = IntDistribution(low, high, step=2)
    found |= _of_recipe(recipe, choices)
    if bins:
        found["bins"] = CategoricalDistribution(list(bins))
    return {name: kind for name, kind in found.items() if name not in choices}


def _of_recipe(recipe: Recipe, choices: Choices) -> dict[str, BaseDistribution]:
    """What is tried of a recipe."""
    if recipe.optimizer == "lbfgs":
        return {}
    most = 1.0 if recipe.optimizer == "adamw" else 1e-2
    found: dict[str, BaseDistribution] = {
        "learning_rate": FloatDistribution(recipe.learning_rate / 10, recipe.learning_rate * 10, log=True),
        "weight_decay": FloatDistribution(1e-4 * most, most, log=True),
    }
    return {name: kind for name, kind in found.items() if name not in choices}


def _models(dataset: Dataset, setup: Setup, choices: Choices) -> list[str]:
    """Those of the literature that can be built with what else is chosen."""
    found = []
    for model in sorted(PRESETS):
        try:
            network_config(dataset, setup, Choices(**{**choices, "model": model}))
        except ValueError:
            continue
        found.append(model)
    return found


def _even(number: int) -> int:
    return number + number % 2


def taken(dataset: Dataset, choices: Choices, values: Mapping[str, Any]) -> Choices:
    """The choices of a trial: those given, the values tried, and the lift that the size of the state asks for.

    Args:
        dataset: whose inputs are lifted.
        choices: of the user.
        values: of a space.
    """
    found: dict[str, Any] = {**choices, **{name: value for name, value in values.items() if name != "bins"}}
    if "features" in values and len(dataset.inputs) == 1:
        found.setdefault("lift", "zeros" if values["features"] >= dataset.inputs[0] else "linear")
    return cast(Choices, found)


def beginning(space: Space, setup: Setup, bins: int | None = None) -> dict[str, Any]:
    """What the set-up would take of a space: what is tried first, so that nothing found is worse."""
    known = {name: getattr(setup, name) for name in ("model", "layers", "horizon", "features")} | {"bins": bins}
    known |= {name: getattr(setup.recipe, name) for name in ("learning_rate", "weight_decay")}
    return {name: _nearest(kind, known[name]) for name, kind in space.items()}


def _nearest(kind: BaseDistribution, value: Any) -> Any:
    if isinstance(kind, IntDistribution | FloatDistribution):
        inside = min(max(value, kind.low), kind.high)
        return inside if isinstance(kind, FloatDistribution) else inside - (inside - kind.low) % kind.step
    choices: tuple[Any, ...] = getattr(kind, "choices", ())
    return value if value in choices else choices[0]


def described(space: Space) -> dict[str, str]:
    """A space in plain values."""
    return {name: distribution_to_json(kind) for name, kind in space.items()}
