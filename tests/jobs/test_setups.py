import pytest

from hdnn.jobs import NAMED, SETUPS, Choices, Source, image_setup, load, table_setup
from hdnn.jobs.sources import PUBLISHED
from hdnn.jobs.train import chosen_recipe, network_config
from hdnn.networks import NetworkConfig, build_network
from samples import mnist_like


@pytest.mark.parametrize("name", NAMED)
def test_every_named_data_set_has_a_setup_that_builds(name, tmp_path, cifar10_batches):
    for file, content in cifar10_batches.items():
        (tmp_path / file).write_bytes(content)
    folder = str(mnist_like(tmp_path)) if name in PUBLISHED else None
    data = load(Source(name, folder=folder))
    setup = SETUPS[name]
    network = build_network(network_config(data, setup, Choices()), init_std=setup.init_std, device="meta")
    assert (network.flow.features, network.flow.layers) == (setup.features, setup.layers)
    assert setup.units is not None or network.flow.horizon == pytest.approx(setup.horizon)
    assert chosen_recipe(setup, Choices(), seed=3).seed == 3


def test_there_are_no_setups_without_data():
    assert set(SETUPS) == set(NAMED)


@pytest.mark.parametrize("inputs", [(1, 28, 28), (3, 32, 32), (2, 5, 7), (3, 1, 1)])
@pytest.mark.parametrize("rows", [2, 100, 100_000])
def test_images_of_any_size_have_a_setup_that_builds(inputs, rows):
    setup = image_setup(inputs, rows)
    assert "flip" not in setup.recipe.augment
    assert 1 <= setup.recipe.batch_size <= 128
    assert setup.recipe.epochs == (40 if rows < 5000 else 20)
    for each in (setup, setup.other):
        names = ("model", "features", "layers", "kernel_size", "units", "channels", "normalization")
        sizes = {name: getattr(each, name) for name in names}
        config = NetworkConfig("classification", inputs, 3, step=0.1, **sizes)
        assert build_network(config, device="meta").task == "classification"


@pytest.mark.parametrize("inputs", [1, 2, 3, 7, 64, 65, 500])
@pytest.mark.parametrize("rows", [2, 100, 10_000])
def test_tables_of_any_size_have_a_setup_that_builds(inputs, rows):
    setup = table_setup(inputs, rows)
    assert setup.features % 2 == 0
    assert setup.lift == "linear" or setup.features >= inputs
    assert 1 <= setup.recipe.batch_size <= 128
