"""Small studies for tests of searches and of their workers."""

from hdnn.jobs import Choices, Source
from hdnn.jobs.journals import journal_storage

MOONS = Source("double-moons", size=60)
QUICK = Choices(epochs=4, batch_size=8, restarts=1)


def told(folder):
    """The trials of a study that count: what was tried, and how it ended."""
    import optuna

    study = optuna.load_study(study_name="hdnn", storage=journal_storage(folder / "journal.log"))
    kept = [each for each in study.trials if not each.user_attrs.get("dropped")]
    return [(each.params, each.value, each.state, each.intermediate_values) for each in kept]
