"""Tables larger than memory: every row once over ranks and workers, one order for a seed."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import hdnn
from hdnn.data import ArrowBatches

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
csv = pytest.importorskip("pyarrow.csv")
ROWS = 103


def table(start, stop):
    number = np.arange(start, stop)
    return pa.table({"number": number.astype(np.float64), "double": 2.0 * number, "y": number % 3})


@pytest.fixture
def folder(tmp_path):
    """Two files of row groups of 17."""
    parquet.write_table(table(0, 60), tmp_path / "a.parquet", row_group_size=17)
    parquet.write_table(table(60, ROWS), tmp_path / "b.parquet", row_group_size=17)
    return tmp_path


def made(folder, **options):
    return ArrowBatches(folder, ["number", "double"], "y", **{"batch_size": 8, "block": 3, **options})


def seen(batches):
    return [int(row) for x, y in batches for row in x[:, 0]]


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("size", [1, 7, 8, 200])
def test_every_row_comes_once_and_all_ranks_have_as_many_batches(folder, ranks, shuffle, size):
    if size == 1 and ranks > 1:
        with pytest.raises(ValueError, match="too few for batches of 1"):
            made(folder, rank=0, ranks=ranks, batch_size=size)
        return
    shares = [made(folder, rank=rank, ranks=ranks, shuffle=shuffle, batch_size=size) for rank in range(ranks)]
    every = [list(share) for share in shares]
    assert len({len(batches) for batches in every} | {len(share) for share in shares}) == 1
    sizes = {len(y) for batches in every for _, y in batches}
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1
    rows = [row for batches in every for row in seen(batches)]
    assert sorted(rows) == list(range(ROWS))
    assert (rows == list(range(ROWS))) is not shuffle


def test_columns_belong_together(folder):
    for x, y in made(folder):
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
        torch.testing.assert_close(x[:, 1], 2 * x[:, 0])
        assert torch.equal(y, x[:, 0].long() % 3)


def test_one_seed_is_one_order_and_every_epoch_another(folder):
    first, again, other = made(folder), made(folder), made(folder, seed=1)
    epochs = [seen(first), seen(first)]
    assert [seen(again), seen(again)] == epochs
    assert epochs[0] != epochs[1]
    assert seen(other) != epochs[0]
    again.set_epoch(1)
    assert seen(again) == epochs[1]


# A machine of one core, or a session that may use one.
few_cores = pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")


@few_cores
def test_workers_share_the_batches_of_their_rank(folder):
    """The same batches as without workers, over epochs whose workers begin anew; warnings are errors here."""
    alone, shared = made(folder), DataLoader(made(folder), batch_size=None, num_workers=2)
    for _ in range(2):
        expected, found = ([tuple(int(row) for row in x[:, 0]) for x, y in batches] for batches in (alone, shared))
        assert len(found) == len(shared) == len(alone)
        assert sorted(found) == sorted(expected)


@few_cores
def test_more_workers_than_blocks_leave_some_without(folder):
    loader = DataLoader(made(folder, block=100), batch_size=None, num_workers=2)
    assert sorted(seen(loader)) == list(range(ROWS))


def test_files_of_other_kinds_are_read_whole(tmp_path):
    from pyarrow import dataset

    for number, (start, stop) in enumerate([(0, 40), (40, ROWS)]):
        csv.write_csv(table(start, stop), tmp_path / f"{number}.csv")
    batches = made(dataset.dataset(tmp_path, format="csv"))
    assert (batches.rows, len(batches)) == (ROWS, 13)
    assert sorted(seen(batches)) == list(range(ROWS))


def test_columns_of_folders_are_columns(tmp_path):
    for kind in (0, 1):
        (tmp_path / f"kind={kind}").mkdir()
        parquet.write_table(table(10 * kind, 10 * kind + 10), tmp_path / f"kind={kind}" / "x.parquet")
    for x, y in ArrowBatches(tmp_path, ["number"], "kind", batch_size=5):
        assert torch.equal(y, (x[:, 0] >= 10).long())


def test_rows_may_be_converted_by_an_encoder(folder):
    encoder = hdnn.data.TableEncoder.fit(parquet.read_table(folder / "a.parquet").to_pandas()[["number"]])

    def convert(rows):
        return torch.as_tensor(encoder.encode(rows.to_pandas()[["number"]])), torch.tensor(rows["y"].to_pylist())

    batches = made(folder, convert=convert)
    assert sum(len(y) for _, y in batches) == ROWS


def test_a_fit_takes_it(folder):
    network = hdnn.vector_classifier(2, 3, hdnn.h2(4, layers=2, step=0.1))
    history = hdnn.fit(network, made(folder), recipe=hdnn.Recipe(epochs=2))
    assert len(history) == 2


def test_it_travels_to_other_processes(folder):
    batches = made(folder)
    assert seen(pickle.loads(pickle.dumps(batches))) == seen(batches)


def test_ranks_are_those_of_torch_distributed(folder):
    dist = torch.distributed
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        assert (made(folder).rank, made(folder).ranks) == (0, 1)
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"batch_size": 0}, ValueError, "`batch_size` counts at least 1"),
        ({"block": 0}, ValueError, "`block` counts"),
        ({"seed": -1}, ValueError, "`seed`"),
        ({"rank": 1}, ValueError, "both, or neither"),
        ({"rank": 2, "ranks": 2}, ValueError, "one of 0 to ranks - 1"),
        ({"rank": 0, "ranks": 200}, ValueError, "too few"),
    ],
)
def test_what_makes_no_sense_is_refused(folder, options, error, words):
    with pytest.raises(error, match=words):
        made(folder, **options)


def test_columns_must_be_there_and_hold_numbers(tmp_path):
    mixed = pa.table({"word": ["a", "b"], "gap": [1.0, None], "y": [0, 1]})
    parquet.write_table(mixed, tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"no column nothing. It has word, gap, y"):
        ArrowBatches(tmp_path, ["nothing"], "y")
    with pytest.raises(TypeError, match=r"Column word holds string.*Give `convert`"):
        ArrowBatches(tmp_path, ["word"], "y")
    with pytest.raises(TypeError, match="list of names"):
        ArrowBatches(tmp_path, "gap", "y")
    with pytest.raises(ValueError, match="Column gap has missing values"):
        list(ArrowBatches(tmp_path, ["gap"], "y"))
    with pytest.raises(ValueError, match="is no Arrow dataset"):
        ArrowBatches(tmp_path / "nowhere", ["gap"], "y")
    with pytest.raises(ValueError, match="Epochs are counted from 0"):
        ArrowBatches(tmp_path, ["gap"], "y").set_epoch(-1)
