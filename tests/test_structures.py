"""Free numbers → K: counts, the index, membership, norms, masks."""

import pytest
import torch

from families import F64, SPACES, STRUCTURES, random, ring, state_on
from hdnn import entries
from hdnn.spaces import Images
from hdnn.structures import BlockDiagonal, BlockSkew, Dense, Masked, OffDiagonal, Skew

each = pytest.mark.parametrize("name", STRUCTURES)
spaced = pytest.mark.parametrize("space", ["Vectors", "Images_1", "Images_3", "Signals_5", "Graph_given"])
N, LAYERS = 6, 3


def members(name: str, space: str, features: int = N) -> tuple[torch.Tensor, torch.Tensor]:
    structure = STRUCTURES[name](features)
    on = SPACES[space]()
    free = random(LAYERS, *structure.free_shape(features, on))
    return free, structure.build(free, structure.index(features, on))


@pytest.mark.parametrize("n", [2, 4, 10])
def test_counts_of_the_papers(n: int) -> None:
    counts = {
        BlockSkew(): n**2 // 4,
        Skew(): (n**2 - n) // 2,
        OffDiagonal(): n**2 // 2,
        Dense(): n**2,
        BlockDiagonal(): n**2 // 2,
        Dense(n + 3): n * (n + 3),
        BlockDiagonal(n + 2): (n + 2) * n // 2,
    }
    for structure, count in counts.items():
        assert torch.empty(structure.free_shape(n)).numel() == count


@each
@spaced
def test_build_agrees_with_the_index(name: str, space: str) -> None:
    structure = STRUCTURES[name](N)
    free, K = members(name, space)
    index = structure.index(N, SPACES[space]())
    assert K.dtype is F64
    assert K.shape == (LAYERS, *index.shape)
    assert torch.equal(K, entries.place(free.flatten(1), index))
    assert sorted(set(index.abs().flatten().tolist()) - {0}) == list(range(1, free[0].numel() + 1))


@each
@spaced
def test_norm_and_pattern(name: str, space: str) -> None:
    structure = STRUCTURES[name](N)
    free, K = members(name, space)
    index = structure.index(N, SPACES[space]())
    torch.testing.assert_close(structure.squares(free, index), K.diff(dim=0).square().sum())
    nonzero = (K != 0).any(0)
    assert torch.equal(
        structure.pattern(N, SPACES[space]()), nonzero if nonzero.dim() == 2 else nonzero.flatten(2).any(-1)
    )


@each
@spaced
def test_contains_members_only(name: str, space: str) -> None:
    structure = STRUCTURES[name](N)
    _, K = members(name, space)
    on = SPACES[space]()
    assert structure.contains(K, on)
    assert structure.contains(K[0], on)
    assert structure.contains(torch.zeros_like(K), on)
    if type(structure) is Dense:
        return
    for entry in range(0, K[0].numel(), 5):
        wrong = K.clone()
        wrong[0].view(-1)[entry] += 1e-9
        wrong_index = structure.index(N, SPACES[space]()).flatten()[entry]
        assert not structure.contains(wrong, on) or (structure._copies == 1 and wrong_index != 0)


@each
def test_contains_refuses_other_sizes_without_raising(name: str) -> None:
    structure = STRUCTURES[name](N)
    assert not structure.contains(random(N + 1, N))
    if not isinstance(structure, Dense | Skew):
        assert not structure.contains(torch.zeros(5, 5, dtype=F64))


@spaced
@pytest.mark.parametrize("name", [name for name in STRUCTURES if STRUCTURES[name](N).skew])
def test_skew_is_skew_as_an_operator(name: str, space: str) -> None:
    _, K = members(name, space)
    on = SPACES[space]()
    y, z = state_on(space, N, 2, seed=1), state_on(space, N, 2, seed=2)
    for K_j in K:
        left = (on.map(K_j, y) * z).sum()
        torch.testing.assert_close(left, -(y * on.map(K_j, z)).sum(), rtol=1e-11, atol=1e-11)
        assert abs((on.map(K_j, y) * y).sum()) < 1e-10


@each
def test_build_is_linear(name: str) -> None:
    structure = STRUCTURES[name](N)
    index = structure.index(N)
    a, b = (random(2, *structure.free_shape(N), seed=seed) for seed in (1, 2))
    torch.testing.assert_close(
        structure.build(a + 3 * b, index), structure.build(a, index) + 3 * structure.build(b, index)
    )


@pytest.mark.parametrize("structure", [BlockSkew(), OffDiagonal(), BlockDiagonal()])
def test_odd_features_are_refused_by_halved_structures(structure: BlockSkew) -> None:
    with pytest.raises(ValueError, match=r"`features` must be even to split the state into \(p, q\); got 5. Lift"):
        structure.free_shape(5)


def test_widths_are_checked() -> None:
    with pytest.raises(ValueError, match="`width` must be even"):
        BlockDiagonal(5)
    for make, width in ((Dense, -1), (BlockDiagonal, 0)):
        with pytest.raises(ValueError, match=f"at least 1; got {width}"):
            make(width)


def test_value_objects_compare_and_hash() -> None:
    assert Dense(3) == Dense(3)
    assert Dense(3) != Dense()
    assert len({Skew(), Skew(), BlockSkew()}) == 2


# Masks ------------------------------------------------------------------------------------------------------------


def test_mask_keeps_what_it_says() -> None:
    inner = Masked(Dense(), ring(8))
    free, K = random(2, *inner.free_shape(8)), None
    K = inner.build(free, inner.index(8))
    assert free.shape == (2, int(ring(8).sum()))
    assert (K[:, ~ring(8)] == 0).all()
    assert (K[:, ring(8)] != 0).all()


def test_mask_of_a_skew_inner_counts_pairs() -> None:
    inner = Masked(Skew(), ring(8))
    assert inner.skew
    assert inner.free_shape(8) == (int(ring(8).triu(1).sum()),)


def test_mask_that_does_not_fit_the_symmetry() -> None:
    with pytest.raises(ValueError, match="The mask must fit the symmetry of the structure"):
        Masked(Skew(), torch.ones(4, 4).triu()).free_shape(4)


def test_mask_of_the_wrong_shape() -> None:
    with pytest.raises(ValueError, match=r"must have the shape of K, \(6, 6\); got \(4, 4\)"):
        Masked(Dense(), torch.ones(4, 4)).free_shape(6)


def test_mask_that_leaves_nothing() -> None:
    with pytest.raises(ValueError, match="leaves nothing to train"):
        Masked(BlockDiagonal(), torch.eye(4).flip(0)).free_shape(4)


@pytest.mark.parametrize("mask", [[[1, 0], [0, 1]], None])
def test_mask_must_be_a_tensor(mask: object) -> None:
    with pytest.raises(TypeError, match="`mask` must be a tensor of zeros and ones"):
        Masked(Dense(), mask)  # type: ignore[arg-type]


def test_mask_never_scales() -> None:
    with pytest.raises(ValueError, match="only 0 and 1"):
        Masked(Dense(), torch.full((2, 2), 0.5))


def test_mask_is_copied() -> None:
    mask = torch.ones(2, 2)
    structure = Masked(Dense(), mask)
    mask.zero_()
    assert structure.free_shape(2) == (4,)


def test_image_masks_by_channel_and_by_tap() -> None:
    assert Masked(Dense(), torch.eye(3)).free_shape(3, Images(3)) == (27,)
    cross = torch.zeros(3, 3, 3, 3)
    cross[:, :, 1, :] = cross[:, :, :, 1] = 1
    by_tap = Masked(Dense(), cross)
    assert by_tap.free_shape(3, Images(3)) == (45,)
    skew_cross = Masked(Skew(), cross)
    K = skew_cross.build(random(1, *skew_cross.free_shape(3, Images(3))), skew_cross.index(3, Images(3)))
    assert Skew().contains(K)
    assert (K[0][cross == 0] == 0).all()


def test_masks_nest() -> None:
    twice = Masked(Masked(Dense(), torch.ones(4, 4).tril()), torch.ones(4, 4).triu())
    assert twice.free_shape(4) == (4,)
    assert repr(twice) == "Masked(Masked(Dense(width=None), 4x4 mask keeping 10), 4x4 mask keeping 10)"
