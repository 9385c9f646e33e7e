"""Files from elsewhere: each defect is one of the errors that the command line shows, and nothing is ever executed."""

import contextlib
import gzip
import json
import random
import struct
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fuzzing.fuzz import changed
from fuzzing.readers import ALLOWED, READERS, copied, make
from hdnn.data import parquet, read_table
from hdnn.jobs import evaluate

SEEDS = sorted(path for path in (Path(__file__).parent / "seeds").glob("*") if path.is_file())


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    """A folder with a run, and valid files for each reader."""
    folder = tmp_path_factory.mktemp("valid")
    return folder, make(folder)


def refused(valid, reader, content, message=None):
    folder, _ = valid
    with pytest.raises(ALLOWED, match=message):
        READERS[reader](folder, content)


def head_of(content):
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_head(head, rest):
    written = json.dumps(head).encode()
    return struct.pack("<Q", len(written)) + written + rest


@pytest.mark.parametrize("reader", READERS)
def test_changed_files_are_read_or_refused(valid, reader):
    folder, kept = valid
    choose = random.Random(0)
    for _ in range(12 if reader in ("csv", "parquet", "checkpoint") else 30):
        content = changed(choose.choice(kept[reader]), kept[reader], choose, reader)
        try:
            READERS[reader](folder, content)
        except ALLOWED as error:
            said = str(error)
            assert said  # what is raised is only one of the two good ends


@pytest.mark.parametrize("path", SEEDS, ids=lambda path: path.name)
def test_what_once_failed_has_a_good_end(valid, path):
    reader = path.name.partition("-")[0]
    if reader == "csv":  # "1_000" beside a number of 400 digits: names, as no number is written so
        READERS[reader](valid[0], path.read_bytes())
    else:
        refused(valid, reader, path.read_bytes())


@pytest.mark.parametrize("reader", READERS)
def test_nothing_is_executed(valid, reader):
    folder, kept = valid
    pickled = b"cposix\nsystem\n(S'exit 1'\ntR."
    watched = ("pickle.find_class", "exec", "compile", "subprocess.Popen", "os.system", "os.exec", "marshal.loads")
    heard, listening = [], False

    def listen(event, arguments):  # for ever: a hook cannot be removed
        if listening and event in watched:
            heard.append((event, arguments))

    sys.addaudithook(listen)

    def read(content):
        with contextlib.suppress(ALLOWED):
            READERS[reader](folder, content)

    for content in kept[reader]:
        read(content)  # what is imported on the way is compiled now
    listening = True
    for content in kept[reader]:
        for bad in (content, content[: len(content) // 2], pickled, pickled + content, content + b"x"):
            read(bad)
    listening = False
    assert heard == []


BOMB = b"\0\0\x08\x03" + struct.pack(">3I", 2, 4, 4) + bytes(2**24)


@pytest.mark.parametrize(
    ("reader", "content", "message"),
    [
        ("idx", gzip.compress(BOMB), "goes on after"),
        ("idx", b"\0\0\x08\x03" + b"\xff" * 12, "announces"),
        ("idx", b"\0\0\x08\x03" + struct.pack(">3I", 2**32 - 1, 4, 4) + b"1234", "announces .* but holds 4"),
        ("csv", b"length,width,colour,kind\n1,2,red\0,rose\n", "NUL bytes"),
        ("csv", b"length,width,colour,kind\n1,2,\xff,rose\n", "not UTF-8 text .* at position 29"),
        ("csv", b"length,width,colour,length\n1,2,red,rose\n", "more than one column named 'length'"),
        ("csv", b'length,width,colour,kind\n1,2,"red,rose\n', "cannot be read as a table"),
        ("csv", b'length,width,colour,kind\n1,2,"' + b"x\n" * 2**23 + b"\n", "quote that is never closed"),
        ("csv", b"a" + b",a" * 2**17 + b"\n1\n", "131073 columns; up to 65536"),
        ("csv", b"length" + b"h" * 2**20 + b"\n1\n", "field larger than"),
        ("parquet", b"PAR1" + b"\xff" * 100 + b"PAR1", "cannot be read as Parquet"),
        ("config", b"[" * 100_000, "nested too deeply"),
        ("config", b'{"format": 1, "format": 2}', "'format' stands twice"),
        ("config", b'{"format": NaN}', "NaN is no number of JSON"),
        ("config", b'{"format": 1e999}', "1e999 is beyond numbers of 64 bits"),
        ("config", b'{"format": 1' + b"0" * 5000 + b"}", "0 is beyond numbers of 64 bits"),
        ("metrics", b'{"interrupted": false, "test_accuracy": 1' + b"0" * 400 + b"}", "beyond numbers of 64 bits"),
        ("config", b"\xff\xfe{}", "not JSON"),
        ("metrics", b"[1]", "does not hold the results"),
        ("metrics", b'{"interrupted": "no"}', "does not hold the results"),
        ("weights", struct.pack("<Q", 2**62) + b"{}", "not a readable safetensors file"),
        ("weights", b"", "not a readable safetensors file"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value[:20],
)
def test_known_tricks_are_refused(valid, reader, content, message):
    refused(valid, reader, content, message)


@pytest.mark.parametrize("change", ["shape", "dtype", "overlap", "extra", "huge"])
@pytest.mark.parametrize("reader", ["weights", "checkpoint"])
def test_a_head_that_lies_is_refused(valid, reader, change):
    head, rest = head_of(valid[1][reader][0])
    name = next(name for name in head if name != "__metadata__" and len(head[name]["shape"]) > 1)
    entry = head[name]
    if change == "shape":
        entry["shape"] = entry["shape"][::-1] if entry["shape"] != entry["shape"][::-1] else [1, *entry["shape"]]
    elif change == "dtype":
        entry["dtype"] = "I32"
    elif change == "overlap":
        entry["data_offsets"] = [0, entry["data_offsets"][1] - entry["data_offsets"][0]]
        head["zzz"] = dict(entry)
    elif change == "extra":
        rest += bytes(2**20)
    else:
        entry["shape"] = [2**40, 2**40]
    refused(valid, reader, with_head(head, rest))


@pytest.mark.parametrize("name", ["../outside.csv", "/etc/passwd", "\x1b[31mred.csv", "a\0b.csv", "..", "nowhere"])
def test_names_in_a_configuration_lead_nowhere(valid, name):
    folder, kept = valid
    document = json.loads(kept["config"][0])
    document["data"]["data"] = name
    with pytest.raises(ALLOWED):
        evaluate(copied(folder, "config.json", json.dumps(document).encode()))


def test_a_parquet_file_that_promises_too_much_is_refused(tmp_path, monkeypatch):
    # Runs of equal values take a few bytes a million.
    pq.write_table(pa.table({"a": np.zeros(300_000), "b": np.zeros(300_000)}), tmp_path / "bomb.parquet")
    assert len(read_table(tmp_path / "bomb.parquet")) == 300_000
    monkeypatch.setattr(parquet, "_LEAST_BOUND", 2**20)
    with pytest.raises(ValueError, match="announce 300000 rows of 2 columns, which would take 4800000 bytes"):
        read_table(tmp_path / "bomb.parquet")


def test_formulas_are_data(valid, tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n\"=cmd|' /C calc'!A0\",1\n@SUM(1+1),2\n")
    assert read_table(tmp_path / "t.csv")["a"].tolist() == ["=cmd|' /C calc'!A0", "@SUM(1+1)"]


def test_terminals_are_not_commanded(hdnn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"\x1b[2Jred": [1, 2], "kind": ["x", "y"]}).to_csv("t.csv", index=False)
    code, _, err = hdnn("train t.csv --target kind2 -o run")
    assert code == 2
    assert "\x1b" not in err
