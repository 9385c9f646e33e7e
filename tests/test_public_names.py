"""Public names are a promise: each that went or changed is seen here, and named in the changelog."""

import pytest

pytest.importorskip("griffe")

from public_names import STORED, found


def gone(before: list[str], now: list[str]) -> list[str]:
    return sorted({*before} - {*now})


def test_no_public_name_went_or_changed():
    now = found()
    stored = STORED.read_text(encoding="utf-8").splitlines()
    assert gone(stored, now) == [], "a promise of docs/stability.md: warn for one minor release first"
    assert gone(now, stored) == [], "new names: python tests/public_names.py"


@pytest.mark.parametrize("name", ["hdnn.Flow.inverse", "hdnn.fit(", "hdnn.pretrained", "hdnn.analysis.norms"])
def test_a_name_that_goes_is_seen(name):
    now = found()
    without = [line for line in now if not line.startswith(name)]
    assert without != now
    assert gone(now, without)
