"""What suits the table of a user: sizes of a network, and how it is trained; for the command and the estimators.

Chosen on held-out parts of the training rows of many tables; test rows took no part. `docs/accuracy.md` says how it
fared on others.

Legend: s rows of the training part, d inputs of the network after encoding, n features of its state.
"""

from __future__ import annotations

from hdnn.training.recipe import Recipe

BINS = 8
"""Of each number, whose pieces stand beside it."""

EPOCHS, LEARNING_RATE, WEIGHT_DECAY, LABEL_SMOOTHING = 40, 0.01, 0.1, 0.1
LAYERS = 8
HORIZON = 0.8
FEATURES = 128
SEARCHED = 1000
"""Rows from which on the number of epochs is found on a part held back; fewer would decide by chance."""

VALIDATION_FRACTION, PATIENCE = 0.15, 8


def features_for(inputs: int) -> int:
    """Of the state, for d inputs: p takes them and q begins at zero, up to a size that is still fast."""
    return min(max(16, 2 * inputs), FEATURES)


def batch_for(rows: int) -> int:
    """Rows of a batch: about as many steps an epoch for small tables as for middling ones."""
    return max(32, min(128, rows // 16))


def is_searched(rows: int) -> bool:
    """Whether the number of epochs is found on rows held back."""
    return rows >= SEARCHED


def recipe_for(rows: int) -> Recipe:
    """How a network is trained on a table of s rows."""
    searched = is_searched(rows)
    return Recipe(
        epochs=EPOCHS,
        batch_size=batch_for(rows),
        optimizer="adamw",
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        label_smoothing=LABEL_SMOOTHING,
        validation_fraction=VALIDATION_FRACTION if searched else 0.0,
        patience=PATIENCE if searched else None,
        refit=searched,
    )
