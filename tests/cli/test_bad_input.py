"""Bad input: exit code 2, one line that says what to do, nothing written."""

import re

import numpy as np
import pytest
import torch

from command_lines import SMALL
from samples import flowers, mnist_like
from wording import python_words


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("train digts", "Did you mean 'digits'"),
        ("train swiss_roll", "Did you mean 'swiss-roll'"),
        ("train absent.csv --target y", "There is no file absent.csv"),
        ("train flowers.csv", "give --target"),
        ("train digits --model h2 --interconnection upper_ones", "--model h2 with --interconnection canonical"),
        ("train digits --features 127", "Use 128, or --model h1 with --interconnection upper_ones"),
        ("train mnist --data-folder empty", "or give --download to hdnn train"),
        (
            "evaluate pretrained:mnist --data-folder empty",
            "by --data-folder, or give --download to hdnn train",
        ),
        ("train mnist --data-folder images --lift linear", "Leave out --lift linear"),
        ("train digits --batch-size 9223372036854775808", "--batch-size may be at most"),
        ("train digits --threads 1024", "--threads may be at most"),
        ("train digits --epochs 1000000000000000000000", "--epochs may be at most"),
        (f"train digits -o {'n' * 300}", "Error: n{59}…: File name too long"),
        (f"predict absent {'n' * 5000}", "too long|is not there"),
        ("train empty.csv --target y", "is empty"),
        ("train header.csv --target kind", "no data rows"),
        ("train one.csv --target kind", "at least 2 rows|single row|only one class"),
        ("train flowers.csv --target knd", "no target column 'knd'. Did you mean 'kind'"),
        ("train flowers.csv --target kind --column lenght", "no column 'lenght'. Did you mean 'length'"),
        ("train same.csv --target kind", "nothing to tell apart"),
        ("train flowers.csv --target kind --without lenght", "no column 'lenght'. Did you mean 'length'"),
        ("train flowers.csv --target kind --separator ab", "--separator must be one sign"),
        ("train flowers.csv --target kind --decimal x", "'--decimal'.*'x'"),
        ("train flowers.csv --target kind --encoding utf-9", "no --encoding 'utf-9'"),
        ("train flowers.csv --target kind --skip-lines -1", "--skip-lines must be a whole number, 0 or more"),
        ("train titled.csv --target kind", "looks like a title, not a header.* --skip-lines 1"),
        ("train bare.csv --target kind", "looks like data, not like a header.* give --no-header"),
        ("train infinite.csv --target kind", "'length', data row 8: the value is infinite"),
        ("train words.csv --target kind", "'length' holds numbers, except for 'oops' in data row 8"),
        ("train flowers.csv --target kind --task regression", "'kind' must hold numbers"),
        ("train ids.csv --target id", "single row"),
        ("train binary.csv --target y", "UTF-8|cannot be read"),
        ("train text.parquet --target y", "cannot be read as Parquet"),
        ("train notes.txt --target y", "no data rows"),
        ("train . --target y", "no table that can be read"),
        ("train digits --target y", "for tables"),
        ("train digits --size 100", "--size is for"),
        ("train double-moons --size 3", "at least 4 points"),
        ("train double-moons --size 99999999999", "at most 10,000,000"),
        ("train digits --features 65", "even"),
        ("train digits --features 32", "64 inputs do not fit into 32 features"),
        ("train digits --features 0", "features"),
        ("train digits --features 1000000", "--features may be at most"),
        ("train digits --model h3", "no model 'h3'. Did you mean 'h"),
        ("train digits --activation tahn", "no activation 'tahn'. Did you mean 'tanh'"),
        ("train digits --interconnection cannonical", "Did you mean 'canonical'"),
        ("train digits --model ms1 --width 8", "ms1 fixes its width"),
        ("train digits --step 0.1 --horizon 1", "--step .* or --horizon .*, not both"),
        ("train digits --step nan", "--step must be"),
        ("train digits --step 1e308", "--step may be at most"),
        ("train digits --step 0", "--step must be"),
        ("train digits --horizon 0", "--(step|horizon) must be"),
        ("train digits --horizon inf", "--(step|horizon) must be"),
        ("train digits --layers -1", "--layers must be 0 .*got -1"),
        ("train digits --layers 1000000000", "--layers may be at most"),
        ("train digits --epochs 0", "--epochs must be .*got 0"),
        ("train digits --epochs -3", "--epochs must be .*got -3"),
        ("train digits --epochs many", "'--epochs'.*integer. See hdnn train --help"),
        ("train digits --batch-size 0", "--batch-size"),
        ("train digits --learning-rate 0", "--learning-rate must be positive.*got 0"),
        ("train digits --learning-rate nan", "--learning-rate"),
        ("train digits --init-std -1", "--init-std"),
        ("train digits --label-smoothing 1", "--label-smoothing"),
        ("train digits --clip 0", "--clip"),
        ("train digits --validation-fraction 20", "--validation-fraction is a share"),
        ("train digits --patience 0", "--patience must be a whole number, at least 1"),
        ("train digits --seed -1", "--seed"),
        ("train digits --seed 99999999999999999999999", "--seed"),
        ("train digits --optimizer lbfgs --method alternating", "alternating"),
        ("train digits --optimizer rmsprop", "'--optimizer'.*'rmsprop'"),
        ("train digits --lift cubic", "'--lift'.*'cubic'"),
        ("train digits --threads 0", "threads"),
        ("train digits --device gpu", "no device 'gpu'"),
        ("train digits --device meta", "'meta' does not work"),
        ("train digits --epoch 3", "--epoch"),
        ("train digits mnist", "(?i)unexpected extra argument"),
        ("train digits --data-folder x", "are for mnist"),
        ("train mnist --data-folder empty", "lacks 4 of the 4 MNIST files"),
        ("train mnist --data-folder cut", "announces .* but holds"),
        ("train mnist --data-folder magic", "no IDX file"),
        ("train mnist --data-folder images --lift linear", "a convolution lifts images"),
        ("train digits -o taken", "taken exists and is not empty; nothing in it was changed"),
        ("train digits -o taken --overwrite", "holds no run"),
        ("train digits -o flowers.csv", "is a file"),
        ("train double-moons --size 40 -o flowers.csv/run", "flowers.csv/run cannot be written"),
        ("train double-moons --size 40 -o /proc/none/run", "/proc/none/run cannot be written"),
        ("predict absent flowers.csv", "absent is not there"),
        ("predict taken flowers.csv", "holds no run"),
        ("predict flowers.csv flowers.csv", "is a file, not a run folder"),
        ("predict absent", "(?i)missing argument"),
        ("evaluate absent", "absent is not there"),
        ("evaluate empty", "has no config.json"),
        ("bench --threads 0", "--threads must be at least 1; got 0"),
        ("bench --seconds 0", "--seconds must be positive"),
        ("bench --seconds nan", "--seconds must be positive"),
        ("tarin digits", r"No such command 'tarin'. Did you mean 'train'\? See hdnn --help"),
        ("--verbose", "--verbose"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(hdnn, place, line, word):
    frame = flowers()
    (place / "empty.csv").write_text("")
    frame.head(0).to_csv("header.csv", index=False)
    frame.head(1).to_csv("one.csv", index=False)
    frame.assign(kind="rose").to_csv("same.csv", index=False)
    (place / "titled.csv").write_text("Flowers of 2026\n" + frame.to_csv(index=False))
    frame[["length", "width", "width"]].dropna().to_csv("bare.csv", index=False, header=False)
    frame.assign(length=frame["length"].where(frame.index != 7, np.inf)).to_csv("infinite.csv", index=False)
    frame.astype({"length": object}).assign(
        length=frame["length"].astype(object).where(frame.index != 7, "oops")
    ).to_csv("words.csv", index=False)
    frame.assign(id=[f"plant {i}" for i in range(120)]).to_csv("ids.csv", index=False)
    (place / "binary.csv").write_bytes(bytes(range(256)))
    (place / "text.parquet").write_text("no parquet")
    (place / "notes.txt").write_text("dear diary")
    (place / "empty").mkdir()
    (place / "taken").mkdir()
    (place / "taken" / "mine.txt").write_text("x")
    for folder in ("images", "cut", "magic"):
        mnist_like(place / folder, train=10, test=10)
    path = place / "cut" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-5])
    (place / "magic" / "train-images-idx3-ubyte").write_bytes(b"GIF89a" + bytes(50))
    before = sorted(map(str, place.rglob("*")))
    if line.startswith("train") and " -o " not in line:
        line += " -o run"
    code, out, err = hdnn(line)
    assert (code, out) == (2, ""), err
    error = err.splitlines()[-1]
    assert re.match("Error: ", error)
    assert re.search(word, error), error
    assert not python_words(error), error
    # Before it there is at most what was decided about data, network and steps.
    assert len(err.splitlines()) <= 4
    assert "Traceback" not in err
    assert sorted(map(str, place.rglob("*"))) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
def test_cuda_that_is_absent(hdnn, place):
    code, _, err = hdnn("train digits --device cuda -o run")
    assert code == 2
    assert "finds no CUDA device. Use cpu" in err
    assert not (place / "run").exists()


def test_a_folder_that_may_not_be_written(hdnn, place, monkeypatch):
    # Root may write anywhere, so the system's refusal is played.
    def refuse(*args, **choices):
        raise PermissionError(13, "Permission denied", "locked")

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    code, out, err = hdnn("train double-moons --size 40 -o locked")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == (
        "Error: The run folder locked cannot be written: Permission denied. Choose another with --output."
    )


@pytest.mark.usefixtures("quick")
def test_an_existing_run_is_refused_untouched(hdnn, place):
    assert hdnn(f"train double-moons --size 40 {SMALL} -o run")[0] == 0
    before = {path: path.read_bytes() for path in (place / "run").rglob("*") if path.is_file()}
    code, _, err = hdnn("train double-moons -o run")
    assert code == 2
    assert "give --overwrite" in err
    assert {path: path.read_bytes() for path in (place / "run").rglob("*") if path.is_file()} == before
    assert hdnn(f"train double-moons --size 40 {SMALL} -o run --overwrite --seed 1")[0] == 0


def test_a_download_with_another_hash_is_discarded(hdnn, place, monkeypatch):
    def download(self, url, held, pooch):
        held.write(b"not what was asked for")

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", download)
    code, out, err = hdnn("train mnist --download --data-folder fetched -o run")
    assert (code, out) == (2, "")
    assert "SHA-256" in err.splitlines()[-1]
    assert len(err.splitlines()) == 1
    assert list((place / "fetched").iterdir()) == []
    assert not (place / "run").exists()


@pytest.mark.usefixtures("quick")
def test_bad_files_for_a_good_run(hdnn, place):
    hdnn(f"train flowers.csv --target kind {SMALL} -o run")
    flowers().drop(columns="length").to_csv("lacking.csv", index=False)
    mnist_like(place / "images")
    for line, word in [
        ("predict run lacking.csv", "'length' is missing"),
        ("predict run absent.csv", "no file absent.csv"),
        ("predict run images/t10k-images-idx3-ubyte", "no table"),
        ("predict run flowers.csv -o run", "run is a folder.* Name a file in it"),
        ("predict run flowers.csv -o run --overwrite", "run is a folder"),
        ("predict run flowers.csv -o absent/said.csv", "no folder 'absent'"),
        ("evaluate run lacking.csv", "'length' is missing"),
        ("evaluate run --data-folder images", "are for mnist"),
    ]:
        code, out, err = hdnn(line)
        assert (code, out) == (2, ""), line
        assert len(err.splitlines()) == 1, err
        assert re.search(word, err), err


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.usefixtures("quick")
def test_a_damaged_run_is_one_line(hdnn, place, name):
    hdnn(f"train flowers.csv --target kind {SMALL} -o run")
    path = place / "run" / name
    path.write_bytes(path.read_bytes()[:50])
    for line in ("predict run flowers.csv", "evaluate run", "evaluate run flowers.csv"):
        code, out, err = hdnn(line)
        assert (code, out) == (2, "")
        assert err.startswith("Error: ")
        assert len(err.splitlines()) == 1
