"""Devices that are there or not, and threads that come back."""

import contextlib

import pytest
import torch

from hdnn.training.devices import require_device, using_threads, worthwhile_threads


def test_the_processor_is_there():
    assert require_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("device", "words"),
    [("abacus", "There is no device 'abacus'"), (3.5, "There is no device 3.5"), ("meta", "does not work")],
)
def test_other_devices_are_refused(device, words):
    with pytest.raises(ValueError, match=words):
        require_device(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_missing_card_is_said_to_be_missing():
    with pytest.raises(ValueError, match="finds no CUDA device"):
        require_device("cuda")


def test_small_steps_take_one_thread():
    assert worthwhile_threads(1000) == 1
    assert worthwhile_threads(10**9) == torch.get_num_threads()


def test_threads_are_as_many_as_before():
    before = torch.get_num_threads()
    with using_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with contextlib.suppress(KeyError), using_threads(before + 1):
        raise KeyError
    assert torch.get_num_threads() == before
