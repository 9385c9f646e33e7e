"""Pool and Widen: what they do to J, and what they refuse."""

import pytest
import torch

import hdnn


def matrix(map, *shape):
    """The matrix of a linear map of states, channels slowest."""
    basis = torch.eye(torch.Size(shape).numel(), dtype=torch.float64).reshape(-1, *shape)
    return map(basis).flatten(1).mT


def of_positions(channels, positions):
    """The canonical J of a state of channels, at every position."""
    return torch.kron(hdnn.canonical(channels, dtype=torch.float64), torch.eye(positions, dtype=torch.float64))


@pytest.mark.parametrize(("shape", "kept"), [((4, 4, 6), 4), ((6, 8), 2)])
def test_pools_scale_the_interconnection(shape, kept):
    before, after = (of_positions(shape[0], torch.Size(shape[1:]).numel() // part) for part in (1, kept))
    P = matrix(hdnn.Pool(2), *shape)
    torch.testing.assert_close(P @ before @ P.mT, after / kept)
    S = matrix(hdnn.Pool(2, scaled=True), *shape)
    torch.testing.assert_close(S @ before @ S.mT, after)


@pytest.mark.parametrize("shape", [(4, 3, 2), (4, 5)])
@pytest.mark.parametrize("channels", [4, 6, 10])
def test_widening_keeps_the_interconnection_on_what_it_fills(shape, channels):
    positions = torch.Size(shape[1:]).numel()
    W = matrix(hdnn.Widen(channels), *shape)
    torch.testing.assert_close(W.mT @ of_positions(channels, positions) @ W, of_positions(4, positions))
    whole = W @ of_positions(4, positions) @ W.mT
    assert torch.linalg.matrix_rank(whole) == 4 * positions  # less than it has rows, unless nothing was added


def test_cells_at_the_edge_hold_what_is_left():
    y = torch.randn(2, 4, 5, 7)
    pooled = hdnn.Pool(2)(y)
    assert pooled.shape == (2, 4, 3, 4)
    torch.testing.assert_close(pooled[:, :, -1, -1], y[:, :, -1, -1])
    torch.testing.assert_close(pooled[:, :, 0, -1], y[:, :, :2, -1].mean(-1))


def test_widening_puts_zeros_around_each_half():
    y = hdnn.Widen(12)(torch.ones(1, 4, 1))
    assert y.flatten().tolist() == [0, 0, 1, 1, 0, 0] * 2


@pytest.mark.parametrize(
    ("map", "shape", "words"),
    [
        (hdnn.Pool(2), (3, 4), "images of shape"),
        (hdnn.Pool(3, scaled=True), (1, 4, 3, 8), "come out even"),
        (hdnn.Widen(4), (1, 6, 2, 2), "at most 4"),
        (hdnn.Widen(4), (1, 3, 2, 2), "an even number"),
    ],
)
def test_states_that_do_not_fit_are_refused(map, shape, words):
    with pytest.raises(ValueError, match=words):
        map(torch.ones(shape))


@pytest.mark.parametrize(("make", "size"), [(hdnn.Pool, 0), (hdnn.Widen, 5), (hdnn.Widen, 0)])
def test_sizes_that_cannot_be_are_refused(make, size):
    with pytest.raises(ValueError, match=r"at least 1|even"):
        make(size)


def test_one_state_where_the_axes_are_told():
    image, signal = torch.randn(4, 4, 4), torch.randn(4, 6)
    for make in (lambda axes: hdnn.Pool(2, axes=axes), lambda axes: hdnn.Widen(8, axes=axes)):
        torch.testing.assert_close(make(2)(image), make(None)(image[None])[0])
        torch.testing.assert_close(make(1)(signal), make(None)(signal[None])[0])
        torch.testing.assert_close(make(2)(image[None]), make(None)(image[None]))
        with pytest.raises(ValueError, match=r"images of shape \(B, c, H, W\), or one of them; got \(4, 6\)"):
            make(2)(signal)
        with pytest.raises(ValueError, match=r"signals of shape \(B, c, L\), or one of them"):
            make(1)(image[None])
        with pytest.raises(ValueError, match="2 for images and 1 for signals; got 3"):
            make(3)
    assert (repr(hdnn.Pool(2, axes=2)), repr(hdnn.Widen(8, axes=1))) == ("Pool(2, axes=2)", "Widen(8, axes=1)")


def test_pickles_that_know_no_axes_take_batches():
    for map in (hdnn.Pool(2), hdnn.Widen(8)):
        y = torch.randn(2, 4, 4, 4)
        expected, text = map(y), repr(map)
        del map.__dict__["axes"]  # as a pickle of an earlier version has it
        torch.testing.assert_close(map(y), expected)
        assert repr(map) == text
