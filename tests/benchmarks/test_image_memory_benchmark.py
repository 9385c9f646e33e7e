"""The benchmark of memory of networks of images: what it concludes from numbers."""

import pytest

import image_memory


@pytest.mark.parametrize(("deep", "word"), [(124, "met"), (126, "MISSED")])
def test_the_verdict_is_that_of_the_numbers(deep, word):
    found = {("74", "reverse"): {"extra": 100}, ("1202", "reverse"): {"extra": deep}}
    assert f"**{word}**" in image_memory.verdict(found)


def test_nothing_is_said_of_what_was_not_measured():
    assert "not measured" in image_memory.verdict({("74", "reverse"): {"extra": 100}})
