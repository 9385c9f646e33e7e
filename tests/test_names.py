import pytest

from hdnn.names import few, printable, unknown

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


def test_what_some_uses_alone_have_is_told_apart_and_still_suggested():
    message = unknown("model", "unicorn", ["h1", "h2"], {"sequences": ["unicornn", "cornn"], "images": ["stages"]})
    assert message.endswith("There are: h1, h2; for sequences also unicornn, cornn; for images also stages.")
    assert "Did you mean 'unicornn'?" in message


class TestFew:
    def test_many_names_are_counted(self):
        assert few(map(str, range(30_000)), 3) == "0, 1, 2 and 29997 more"
        assert few(["a", "b", "c"], 3) == "a, b, c"
        assert few([]) == ""

    def test_a_long_name_is_cut(self):
        assert len(few(["long " * 1000, "b"])) < 100


def test_what_is_printable_stands_and_what_a_terminal_would_obey_is_spelt_out():
    assert printable("größe, 猫, 😀\n") == "größe, 猫, 😀\n"
    assert printable("a\x1b[31m\u202e\r") == r"a\x1b[31m\u202e\r"
