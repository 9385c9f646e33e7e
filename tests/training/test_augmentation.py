"""Images changed by chance: what each change may do, and that seed, epoch and number alone decide it."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional

import hdnn
from hdnn.data import ImageEncoder
from hdnn.data.pixels import Held
from hdnn.training.augmentation import CHANGES, Augmentation
from hdnn.training.batches import Batch, Rows

X = torch.randn(40, 3, 16, 16, generator=torch.Generator().manual_seed(0))
ROWS = torch.arange(40)


def test_crops_are_the_image_moved():
    moved = Augmentation(("crop",), seed=1)(X, 1, ROWS)
    wide = functional.pad(X, (2, 2, 2, 2))
    places = [
        next((i, j) for i in range(5) for j in range(5) if torch.equal(wide[k, :, i : i + 16, j : j + 16], moved[k]))
        for k in range(40)
    ]
    assert len(set(places)) > 12
    assert {i for i, _ in places} == {j for _, j in places} == set(range(5))


def test_flips_mirror_about_every_other_image():
    seen = Augmentation(("flip",), seed=1)(X, 1, ROWS)
    same = [torch.equal(a, b) for a, b in zip(seen, X, strict=True)]
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(seen, X, strict=True)]
    assert all(a != b for a, b in zip(same, mirrored, strict=True))
    assert 10 < sum(same) < 30


def test_cutouts_cover_a_square():
    seen = Augmentation(("cutout",), seed=1)(X, 1, ROWS)
    covered = (seen == 0).all(1)
    assert torch.equal(seen[~covered[:, None].expand_as(seen)], X[~covered[:, None].expand_as(seen)])
    sides = {(int(image.any(1).sum()), int(image.any(0).sum())) for image in covered}
    assert max(sides) == (4, 4)
    assert all(2 <= side <= 4 for pair in sides for side in pair)  # less where it lies over the edge
    assert covered.any(0).float().mean() > 0.8


@pytest.mark.parametrize("changes", [(name,) for name in CHANGES] + [tuple(CHANGES)], ids=str)
def test_seed_epoch_and_number_decide_and_nothing_else(changes):
    change = Augmentation(changes, seed=5)
    seen = change(X, 3, ROWS)
    assert seen.shape == X.shape
    assert torch.equal(seen, Augmentation(changes, seed=5)(X, 3, ROWS))
    order = torch.randperm(40)
    assert torch.equal(change(X[order], 3, ROWS[order]), seen[order])
    assert torch.equal(change(X[7:8], 3, ROWS[7:8]), seen[7:8])
    for other in (Augmentation(changes, seed=6)(X, 3, ROWS), change(X, 4, ROWS), change(X, 3, ROWS + 1)):
        assert not torch.equal(seen, other)


def test_other_changes_do_not_move_what_one_draws():
    """The crop is the same with and without a flip: what is drawn for one is drawn for it alone."""
    alone, both = (Augmentation(names, seed=2)(X, 1, ROWS) for names in (("crop",), ("crop", "flip")))
    assert all(torch.equal(a, b) or torch.equal(a.flip(-1), b) for a, b in zip(alone, both, strict=True))


def test_what_is_drawn_is_spread_evenly():
    rows = torch.arange(20_000)
    seen = Augmentation(("crop",), seed=0)(torch.ones(20_000, 1, 8, 8), 1, rows)  # moved by -1, 0 or 1
    dark = seen[:, 0] == 0
    up, down = dark[:, -1].all(1).float().mean(), dark[:, 0].all(1).float().mean()
    assert abs(up - 1 / 3) < 0.015
    assert abs(down - 1 / 3) < 0.015


def test_the_global_generator_is_left_alone():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    Augmentation(tuple(CHANGES), seed=0)(X, 1, ROWS)
    assert torch.equal(before, torch.random.get_rng_state())


def test_what_cannot_be():
    with pytest.raises(ValueError, match=r"no change of images, `augment`, 'flipp'. Did you mean 'flip'"):
        hdnn.Recipe(augment=("flipp",))
    with pytest.raises(ValueError, match="`augment` changes images"):
        Augmentation(("flip",), seed=0)(torch.ones(3, 4), 1, ROWS[:3])
    network = classifier()
    with pytest.raises(ValueError, match=r"takes images as the loader gives them.*leave `augment` out"):
        hdnn.fit(network, [(X[:, :1, :8, :8], torch.arange(40) % 3)], recipe=hdnn.Recipe(augment=("flip",)))
    with pytest.raises(ValueError, match="`augment` changes them"):
        hdnn.fit_together([network], X[None], torch.arange(40)[None] % 3, hdnn.Recipe(augment=("crop",)), seeds=[0])


# In training


def classifier(kernel_size=3, model=hdnn.h2):
    torch.manual_seed(0)
    return hdnn.image_classifier(1, (8, 8), 3, model(4, layers=2, step=0.2, kernel_size=kernel_size))


def images(count=40):
    generator = np.random.default_rng(0)
    values = generator.integers(0, 256, (count, 1, 8, 8), dtype=np.uint8)
    return Held(values, ImageEncoder(0.4, 0.3, 1, 8, 8)), torch.from_numpy(generator.integers(0, 3, count))


def trained(x, y, recipe, network=None, **options):
    network = network or classifier()
    history = hdnn.fit(network, x, y, recipe, **options)
    return dict(network.state_dict()), [{k: v for k, v in each.items() if k != "seconds"} for each in history]


RECIPE = hdnn.Recipe(epochs=3, batch_size=16, optimizer="adamw", learning_rate=0.01, validation_fraction=0.25, seed=4)


@pytest.mark.parametrize("augment", [(), ("crop", "flip")], ids=str)
@pytest.mark.parametrize("kernel_size", [1, 3], ids=["native", "by PyTorch"])
def test_bytes_train_to_the_bits_of_the_numbers_they_become(kernel_size, augment):
    x, y = images()
    recipe = dataclasses.replace(RECIPE, augment=augment)
    one, told = trained(x, y, recipe, classifier(kernel_size, hdnn.h1))
    other, told_too = trained(torch.from_numpy(x[:]), y, recipe, classifier(kernel_size, hdnn.h1))
    assert told == told_too
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert hdnn.training_backend(classifier(kernel_size, hdnn.h1), x, y, recipe).backend == (
        "native" if kernel_size == 1 else "torch"
    )


class Stop(Exception):
    pass


@pytest.mark.parametrize("place", ["numbers", "bytes"])
@pytest.mark.parametrize("step", [1, 3, 4, 5])
@pytest.mark.parametrize("kernel_size", [1, 3], ids=["native", "by PyTorch"])
def test_a_training_that_goes_on_sees_the_same_images(kernel_size, step, place):
    x, y = images()
    x = torch.from_numpy(x[:]) if place == "numbers" else x
    recipe = dataclasses.replace(RECIPE, augment=("crop", "flip", "cutout"))
    whole, told = trained(x, y, recipe, classifier(kernel_size, hdnn.h1))
    kept = []

    def stop(progress):
        if (progress.epoch - 1) * progress.batches + progress.batch == step:
            kept.append(progress.state())
            raise Stop

    with pytest.raises(Stop):
        hdnn.fit(classifier(kernel_size, hdnn.h1), x, y, recipe, callbacks=[stop])
    resumed, told_too = trained(x, y, recipe, classifier(kernel_size, hdnn.h1), resume=kept[0])
    assert told == told_too
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_each_epoch_shows_other_images_and_parts_shows_them_as_they_are():
    x, y = images()
    rows = Rows(
        Batch(x, y), 16, [torch.Generator().manual_seed(0)], augmentation=Augmentation(("crop", "flip"), seed=0)
    )
    state = rows.generators[0].get_state()
    first = torch.cat([batch.x for batch in rows.epoch(1)])
    rows.generators[0].set_state(state)
    assert torch.equal(first, torch.cat([batch.x for batch in rows.epoch(1)]))
    rows.generators[0].set_state(state)
    assert not torch.equal(first, torch.cat([batch.x for batch in rows.epoch(2)]))
    assert torch.equal(torch.cat([batch.x for batch in rows.parts(7)]), torch.from_numpy(x[:]))


def test_starts_and_line_searches_take_bytes_too():
    x, y = images()
    for changes in ({"restarts": 2, "restart_epochs": 1}, {"optimizer": "lbfgs", "learning_rate": 1.0}):
        recipe = dataclasses.replace(RECIPE, validation_fraction=0.0, epochs=1, **changes)
        one, _ = trained(x, y, recipe)
        other, _ = trained(torch.from_numpy(x[:]), y, recipe)
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_scores_of_bytes_are_those_of_the_numbers():
    x, y = images()
    network = classifier()
    assert hdnn.evaluate(network, x, y) == hdnn.evaluate(network, torch.from_numpy(x[:]), y)
    assert torch.equal(hdnn.training.outputs(network, x), hdnn.training.outputs(network, torch.from_numpy(x[:])))


def test_bytes_need_targets_and_a_network_of_their_numbers():
    x, y = images()
    with pytest.raises(TypeError, match="Images do not say what they show"):
        hdnn.fit(classifier(), x, recipe=RECIPE)
    with pytest.raises(ValueError, match=r"Images as bytes become torch.float32.*Use network.float\(\)"):
        hdnn.fit(classifier().double(), x, y, RECIPE)
    with pytest.raises(ValueError, match="equal, positive length; got 40 and 39"):
        hdnn.fit(classifier(), x, y[1:], RECIPE)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_device_makes_the_same_numbers_of_bytes():
    from hdnn.training.batches import made

    x, _ = images()
    here, there = (next(made(x, [slice(None)], device)) for device in ("cpu", "cuda"))
    assert torch.equal(here, there.cpu())
    change = Augmentation(tuple(CHANGES), seed=0)
    assert torch.equal(change(here, 1, ROWS), change(there, 1, ROWS.cuda()).cpu())
