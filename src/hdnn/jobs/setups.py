"""What is trained on what when the user does not say: one set-up for each data set.

The set-ups were chosen on held-out parts of the training data; test data took no part. That of Fashion-MNIST is a first
guess: nothing has chosen it yet. That of images of the user's own was chosen on 500 of CIFAR-10.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hdnn.networks import STAGES, Lift
from hdnn.options import UnitsInRange
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
        step: h of a network in stages, which has no horizon.
        activation: σ; None means that of `Flow`.
        units: layers of every stage, of a network in stages; there `features` and `layers` follow from these.
        channels: of every stage.
        normalization: of the stages.
        other: for models of the other kind: of one flow where this has stages, and the other way round.
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
    step: float | None = None
    activation: str | None = None
    units: tuple[int, ...] | None = None
    channels: tuple[int, ...] | None = None
    normalization: UnitsInRange | None = None
    other: Setup | None = None

    def of(self, choices: Mapping[str, Any]) -> Setup:
        """The set-up that choices lie over: this one, or the other where a model, or else an option, is of its kind.

        Args:
            choices: by name.

        Raises:
            ValueError: if the data have none of that kind.
        """
        model = choices.get("model")
        of_stages = [name for name in ("units", "channels", "normalization") if choices.get(name) is not None]
        of_flow = [name for name in _OF_ONE_FLOW if choices.get(name) is not None]
        wants_stages = model in STAGES if model is not None else bool(of_stages) if of_stages or of_flow else None
        if wants_stages is None or wants_stages == (self.model in STAGES):
            return self
        if self.other is None:
            named = model or (of_stages or of_flow)[0]
            kinds = ("one flow", "a network in stages")
            raise ValueError(
                f"`{named}` is of {kinds[wants_stages]}, and the set-up for these data is {self.model}, "
                f"{kinds[not wants_stages]}. Leave it out."
            )
        return self.other


_OF_ONE_FLOW = ("layers", "features", "horizon", "width", "interconnection", "integrator", "damping", "init_std")


def stages_setup(
    recipe: Recipe,
    channels: tuple[int, ...],
    other: Setup | None = None,
    units: tuple[int, ...] = (2, 2, 2),
    normalization: UnitsInRange = "units",
) -> Setup:
    """One for images in stages: a unit is a layer that moves one half of the state, then the other.

    Args:
        recipe: how to train.
        channels: of every stage.
        other: for one flow.
        units: of every stage.
        normalization: what keeps hidden units in range.
    """
    return Setup(
        "stages",
        channels[0],
        sum(units),
        float(sum(units)),
        recipe,
        kernel_size=3,
        step=1.0,
        activation="relu",
        units=units,
        channels=channels,
        normalization=normalization,
        other=other,
    )


_FEW = 5000  # images of the user's own, which more epochs serve: 41 % after 40, 37 % after 20 on 500 of CIFAR-10

_IN_STAGES = Recipe(
    epochs=8,
    batch_size=128,
    optimizer="sgd",
    learning_rate=0.1,
    schedule="one_cycle",
    weight_decay=5e-4,
    label_smoothing=0.1,
    average=0.995,
    precision="bfloat16",
)
"""What networks in stages are trained by; `benchmarks/images.py` says what came out of it."""

_PAPERS = Setup(
    "h1",
    8,
    4,
    4.0,
    Recipe(epochs=8, batch_size=100, optimizer="adamw", learning_rate=0.003, weight_decay=0.1, smoothness=1e-3),
    interconnection="upper_ones",
    kernel_size=1,
)
"""The network of the L4DC paper for MNIST."""

_OWN_IMAGES = Setup(
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
)
"""One flow of 3 x 3 convolutions at full size."""

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
    "mnist": replace(_PAPERS, other=stages_setup(replace(_IN_STAGES, augment=("crop",)), (16, 32, 56))),
    "fashion-mnist": stages_setup(replace(_IN_STAGES, augment=("crop", "flip")), (16, 32, 56), _PAPERS),
    "cifar10": stages_setup(
        replace(_IN_STAGES, epochs=34, average=0.998, augment=("crop", "flip")),
        (32, 96, 192, 256),
        _OWN_IMAGES,
        units=(1, 1, 2, 2),
        normalization="batch",
    ),
}


def image_setup(inputs: tuple[int, ...], rows: int) -> Setup:
    """The set-up for images of the user's own.

    Nothing is known of what they show, so they are moved but not mirrored: a d is no b.

    Args:
        inputs: (C, H, W).
        rows: of the training part.
    """
    batch_size = min(128, max(8, rows // 20))
    changed: dict[str, Any] = {"augment": ("crop",), "epochs": 20, "batch_size": batch_size}
    other = replace(_OWN_IMAGES, recipe=replace(_OWN_IMAGES.recipe, **changed))
    return stages_setup(replace(_IN_STAGES, **changed | {"epochs": 40 if rows < _FEW else 20}), (16, 32, 56), other)


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
