"""What is trained on what when the user does not say: one set-up for each data set.

The set-ups were chosen on held-out parts of the training data; test data took no part. Those of Fashion-MNIST, CIFAR-10
and images of the user's own are first guesses: nothing has chosen them yet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hdnn.networks import Lift
from hdnn.training import Recipe, tabular
from hdnn.training.recipes import DOUBLE_MOONS, SWISS_ROLL


@dataclass(frozen=True)
class Setup:
    """A network and a recipe that suit a data set.

    Args:
        model: preset.
        features: n.
        layers: N.
        horizon: T = N h, kept when another depth is asked for.
        recipe: how to train.
        interconnection: J of h1 and h2; None means canonical.
        lift: from vectors to states.
        kernel_size: for images.
        init_std: of the initial weights; None means that of `Flow`.
        damping: of the momenta, of sequences.
    """

    model: str
    features: int
    layers: int
    horizon: float
    recipe: Recipe
    interconnection: str | None = None
    lift: Lift = "zeros"
    kernel_size: int | None = None
    init_std: float | None = None
    damping: float | None = None


SETUPS: dict[str, Setup] = {
    "swiss-roll": Setup("h1", 4, 64, 2.5, SWISS_ROLL),
    "double-moons": Setup("h1", 4, 4, 2.0, DOUBLE_MOONS),
    "double-circles": Setup("h2", 4, 32, 6.4, SWISS_ROLL),
    "digits": Setup(
        "h2",
        128,
        8,
        0.8,
        Recipe(
            epochs=50,
            batch_size=64,
            optimizer="adamw",
            learning_rate=0.01,
            weight_decay=0.1,
            label_smoothing=0.1,
        ),
    ),
    "mnist": Setup(
        "h1",
        8,
        4,
        4.0,
        Recipe(epochs=8, batch_size=100, optimizer="adamw", learning_rate=0.003, weight_decay=0.1, smoothness=1e-3),
        interconnection="upper_ones",
        kernel_size=1,
    ),
    "fashion-mnist": Setup(
        "h1",
        8,
        4,
        4.0,
        Recipe(epochs=8, batch_size=100, optimizer="adamw", learning_rate=0.003, weight_decay=0.1, smoothness=1e-3),
        interconnection="upper_ones",
        kernel_size=1,
    ),
    "cifar10": Setup(
        "h2",
        16,
        6,
        1.2,
        Recipe(
            epochs=10,
            batch_size=128,
            optimizer="adamw",
            learning_rate=0.01,
            weight_decay=0.1,
            label_smoothing=0.1,
            augment=("crop", "flip"),
        ),
        kernel_size=3,
    ),
}


def image_setup(inputs: tuple[int, ...], rows: int) -> Setup:
    """The set-up for images of the user's own.

    Nothing is known of what they show, so they are moved but not mirrored: a d is no b.

    Args:
        inputs: (C, H, W).
        rows: of the training part.
    """
    setup = SETUPS["cifar10"]
    batch_size = min(128, max(8, rows // 20))
    return replace(setup, recipe=replace(setup.recipe, augment=("crop",), epochs=20, batch_size=batch_size))


def sequence_setup(inputs: tuple[int, ...], rows: int) -> Setup:
    """The set-up for sequences of the user's own.

    Rate, horizon and damping were chosen on a fourth, held back, of the training parts of GunPoint, BasicMotions,
    JapaneseVowels and ItalyPowerDemand.

    Args:
        inputs: (T, d) of the longest.
        rows: sequences of the training part.
    """
    batch_size = min(32, max(8, rows // 8))
    recipe = Recipe(
        epochs=100, batch_size=batch_size, optimizer="adamw", learning_rate=0.004, weight_decay=0.01, clip=1.0
    )
    return Setup("h2", 64, 1, 20.0, recipe, damping=0.2)


def table_setup(inputs: int, rows: int) -> Setup:
    """The set-up for a table of the user's own, as the estimators have it.

    The inputs become p and as many zeros q, as in the papers' planar examples: a state with room to move.

    Args:
        inputs: d, encoded columns.
        rows: of the training part.
    """
    features = tabular.features_for(inputs)
    lift: Lift = "zeros" if features >= inputs else "linear"
    return Setup("h2", features, tabular.LAYERS, tabular.HORIZON, tabular.recipe_for(rows), lift=lift)
