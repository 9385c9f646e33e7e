import pytest

from hdnn.names import unknown

KNOWN = ["digits", "swiss-roll", "double-moons"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [("digts", "digits"), ("DIGITS", "digits"), ("swiss_roll", "swiss-roll"), ("moons", "double-moons")],
)
def test_the_nearest_name_is_suggested(given, meant):
    message = unknown("data set", given, KNOWN)
    assert f"no data set {given!r}" in message
    assert f"Did you mean {meant!r}?" in message


@pytest.mark.parametrize("given", ["", "zzzz", "123456"])
def test_a_far_name_gets_the_list_and_no_guess(given):
    message = unknown("model", given, KNOWN)
    assert "Did you mean" not in message
    assert message.endswith(f"There are: {', '.join(KNOWN)}.")


def test_names_may_come_from_any_iterable_once():
    assert "There are: a, b." in unknown("thing", "x", iter("ab"))
