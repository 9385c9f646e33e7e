"""The command line as a user meets it: results on stdout, all else on stderr, one line for every mistake."""

import importlib
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import typer

from hdnn import cli
from samples import flowers, houses, mnist_like, write_idx

ROOT = Path(__file__).parent.parent
SMALL = "--layers 2 --epochs 2"
CODE = "from hdnn.cli import main; main()"
# Without pictures, which take most of the time of a small run.
QUICK = f"import importlib; importlib.import_module('hdnn.jobs.train').write_summary = lambda *_: None; {CODE}"
COMMANDS = typer.main.get_command(cli.app).commands


@pytest.fixture
def hdnn(monkeypatch, capsys):
    """Runs a command line in this process; returns exit code, stdout and stderr."""

    def run(line, *more):
        monkeypatch.setattr(sys, "argv", ["hdnn", *shlex.split(line), *map(str, more)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as done:
            cli.main()
        out, err = capsys.readouterr()
        return done.value.code or 0, out, err

    return run


@pytest.fixture
def quick(monkeypatch):
    """Without pictures, which take most of the time of a small run."""
    module = importlib.import_module("hdnn.jobs.train")  # as an attribute of hdnn.jobs the function hides it
    monkeypatch.setattr(module, "write_summary", lambda run, *results: run.write_report("a page"))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An own working folder with a table of each kind."""
    monkeypatch.chdir(tmp_path)
    flowers().to_csv("flowers.csv", index=False)
    houses().to_parquet("houses.parquet")
    return tmp_path


# The three jobs


def test_digits(hdnn, place):
    code, out, err = hdnn(f"train digits {SMALL} --output run --features 64")
    assert code == 0
    first, second = out.splitlines()
    assert re.fullmatch(r"Test accuracy: \d+\.\d\d % on 360 test rows", first)
    assert second == "Report: run/report.html"
    assert "1797 rows" in err
    assert "2 layers, 64 features" in err
    assert (place / "run" / "report.html").is_file()
    code, out, _ = hdnn("evaluate run --json")
    metrics = json.loads((place / "run" / "metrics.json").read_text())
    assert json.loads(out) == {"loss": metrics["test_loss"], "accuracy": metrics["test_accuracy"], "rows": 360}
    assert code == 0
    assert f"{100 * metrics['test_accuracy']:.2f} %" in first


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("data", ["swiss-roll", "double-moons", "double-circles"])
def test_planar_sets(hdnn, place, data):
    code, out, _ = hdnn(f"train {data} --size 100 {SMALL} -o run --json")
    result = json.loads(out)
    assert code == 0
    assert result["test_rows"] == 50
    assert result["run"] == "run"
    assert result["report"] == "run/report.html"
    assert 0 <= result["test_accuracy"] <= 1


@pytest.mark.usefixtures("quick")
def test_a_table_of_classes(hdnn, place):
    code, out, err = hdnn(f"train flowers.csv --target kind {SMALL} -o run --json")
    assert code == 0
    accuracy = json.loads(out)["test_accuracy"]
    assert "classification (2 classes)" in err
    assert "2 missing values" in err
    code, out, err = hdnn("evaluate run")
    assert code == 0
    assert f"accuracy: {100 * accuracy:.2f} %" in out
    code, out, err = hdnn("predict run flowers.csv")
    assert code == 0
    assert "columns not used: kind" in err
    frame = pd.read_csv(StringIO(out))
    assert list(frame.columns) == ["kind", "probability_daisy", "probability_rose"]
    assert len(frame) == 120
    code, out, _ = hdnn("predict run flowers.csv --json")
    assert [row["kind"] for row in json.loads(out)] == frame["kind"].tolist()
    code, out, err = hdnn("predict run flowers.csv --output said.csv")
    assert (code, out) == (0, "")
    assert "120 predictions: said.csv" in err
    pd.testing.assert_frame_equal(pd.read_csv("said.csv"), frame)
    code, _, err = hdnn("predict run flowers.csv --output said.csv")
    assert code == 2
    assert "--overwrite" in err
    assert hdnn("predict run flowers.csv --output said.csv --overwrite")[0] == 0


@pytest.mark.usefixtures("quick")
def test_a_table_of_numbers(hdnn, place):
    code, out, err = hdnn(f"train houses.parquet --target price {SMALL} -o run")
    assert code == 0
    assert re.search(r"^Test error: \S+ on 24 test rows$", out, re.M)
    assert re.search(r"^Test r2: ", out, re.M)
    assert "regression" in err
    metrics = json.loads((place / "run" / "metrics.json").read_text())
    code, out, _ = hdnn("evaluate run --json")
    assert json.loads(out)["error"] == metrics["test_error"]
    houses(30, seed=5).to_csv("fresh.csv", index=False)
    code, out, _ = hdnn("evaluate run fresh.csv --json")
    assert (code, json.loads(out)["rows"]) == (0, 30)
    code, out, _ = hdnn("predict run fresh.csv")
    assert np.isfinite(pd.read_csv(StringIO(out))["price"]).all()


@pytest.mark.usefixtures("quick")
def test_images_in_four_files(hdnn, place):
    mnist_like(place / "images")
    code, out, _ = hdnn("train mnist --data-folder images --epochs 1 -o run --json")
    assert code == 0
    result = json.loads(out)
    assert (result["train_rows"], result["test_rows"]) == (60, 20)
    code, out, _ = hdnn("evaluate run --json")
    assert json.loads(out)["accuracy"] == result["test_accuracy"]
    (place / "images").rename(place / "moved")
    code, _, err = hdnn("evaluate run")
    assert code == 2
    code, out, _ = hdnn("evaluate run --data-folder moved --json")
    assert json.loads(out)["accuracy"] == result["test_accuracy"]
    code, out, _ = hdnn("predict run moved/t10k-images-idx3-ubyte")
    assert len(pd.read_csv(StringIO(out))) == 20
    write_idx(place / "other", np.zeros((2, 4, 4)))
    code, out, err = hdnn("predict run other")
    assert (code, out) == (2, "")
    assert "(samples, 1, 8, 8)" in err


@pytest.mark.usefixtures("quick")
def test_without_output_the_run_gets_a_folder_of_its_own(hdnn, place):
    code, out, _ = hdnn(f"train double-moons --size 40 {SMALL}")
    assert code == 0
    (run,) = (place / "runs").iterdir()
    assert re.fullmatch(r"double-moons-\d{8}-\d{6}", run.name)
    assert f"Report: runs/{run.name}/report.html" in out


@pytest.mark.usefixtures("quick")
def test_the_command_is_kept_and_repeats_the_run(hdnn, place):
    hdnn(f"train 'double-moons' --size 40 {SMALL} -o 'a run'")
    command = json.loads((place / "a run" / "config.json").read_text())["command"]
    assert command == f"hdnn train double-moons --size 40 {SMALL} -o 'a run'"
    weights = (place / "a run" / "model.safetensors").read_bytes()
    code, _, _ = hdnn(command.removeprefix("hdnn "), "--overwrite")
    assert code == 0
    assert (place / "a run" / "model.safetensors").read_bytes() == weights


@pytest.mark.usefixtures("quick")
def test_columns_can_be_chosen(hdnn, place):
    code, _, err = hdnn(f"train flowers.csv --target kind --column width --column colour {SMALL} -o run")
    assert code == 0
    assert "columns: width, colour" in err


def test_info(hdnn):
    code, out, err = hdnn("info")
    assert (code, err) == (0, "")
    assert torch.__version__ in out
    code, out, _ = hdnn("info --json")
    assert json.loads(out)["backends"]["eager"] == "available"


# Interrupts and divergence


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.usefixtures("quick")
def test_an_interrupt_leaves_a_run_and_says_so(hdnn, place, monkeypatch, batch):
    told = []

    def interrupt(display, progress):
        told.append(progress)
        if len(told) == batch:
            raise KeyboardInterrupt

    monkeypatch.setattr(cli._Display, "step", interrupt)
    code, out, err = hdnn("train double-moons --size 1000 --layers 2 -o run --json")
    assert code == 130
    assert json.loads(out)["interrupted"] is True
    done = "1 epoch" if batch == 5 else "0 epochs"
    assert f"Interrupted after {done}. The weights of that moment are in run; it can be loaded.\n" in err
    assert err.count("Interrupted") == 1
    assert hdnn("evaluate run")[0] == 0


def test_an_interrupt_before_training_writes_nothing(hdnn, place, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("hdnn.data.digits", interrupt)
    code, out, err = hdnn("train digits -o run")
    assert (code, out, err) == (130, "", "Interrupted.\n")
    assert not (place / "run").exists()


def test_a_real_interrupt(place):
    line = ["train", "double-moons", "--layers", "1", "--size", "100", "--epochs", "1000000", "-o", "run"]
    # Where the tests run in the background the shell has switched interrupts off, and Python leaves it so.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    with subprocess.Popen(
        [sys.executable, "-c", code + CODE, *line], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            give_up = time.monotonic() + 60
            while not (place / "run" / "config.json").exists() and process.poll() is None:
                assert time.monotonic() < give_up
                time.sleep(0.05)
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "it can be loaded" in err
    assert "Test accuracy" in out
    assert json.loads((place / "run" / "metrics.json").read_text())["interrupted"] is True


def test_divergence_is_told_with_a_remedy(hdnn, place):
    line = f"train double-moons --size 40 {SMALL} --epochs 9 --optimizer sgd --activation identity"
    code, out, err = hdnn(f"{line} --learning-rate 1e30 -o run")
    assert (code, out) == (1, "")
    assert re.search(r"^Error: The (objective|weights) became infinite.*smaller learning rate", err, re.M)


# Bad input: exit code 2, one line, nothing written


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("train digts", "Did you mean 'digits'"),
        ("train swiss_roll", "Did you mean 'swiss-roll'"),
        ("train absent.csv --target y", "There is no file absent.csv"),
        ("train flowers.csv", "give --target NAME"),
        ("train empty.csv --target y", "is empty"),
        ("train header.csv --target kind", "no data rows"),
        ("train one.csv --target kind", "at least 2 rows|single row|only one class"),
        ("train flowers.csv --target knd", "no target column 'knd'. Did you mean 'kind'"),
        ("train flowers.csv --target kind --column lenght", "no column 'lenght'. Did you mean 'length'"),
        ("train same.csv --target kind", "nothing to tell apart"),
        ("train gaps.csv --target kind", "Target column 'kind' is missing in 1 of 120"),
        ("train infinite.csv --target kind", "'length', data row 8: the value is infinite"),
        ("train words.csv --target kind", "'length' holds numbers, except for 'oops' in data row 8"),
        ("train flowers.csv --target kind --task regression", "'kind' must hold numbers"),
        ("train ids.csv --target id", "single row"),
        ("train binary.csv --target y", "UTF-8|cannot be read"),
        ("train text.parquet --target y", "cannot be read as Parquet"),
        ("train notes.txt --target y", "no table that can be read"),
        ("train . --target y", "no table that can be read"),
        ("train digits --target y", "for tables"),
        ("train digits --size 100", "`size` is for"),
        ("train double-moons --size 3", "at least 4 points"),
        ("train double-moons --size 99999999999", "at most 10,000,000"),
        ("train digits --features 65", "even"),
        ("train digits --features 32", "64 inputs do not fit into 32 features"),
        ("train digits --features 0", "features"),
        ("train digits --features 1000000", "`features` may be at most"),
        ("train digits --model h3", "no model 'h3'. Did you mean 'h"),
        ("train digits --activation tahn", "no activation 'tahn'. Did you mean 'tanh'"),
        ("train digits --interconnection cannonical", "Did you mean 'canonical'"),
        ("train digits --model ms1 --width 8", "`ms1` fixes its width"),
        ("train digits --step 0.1 --horizon 1", "`step` .* or `horizon` .*, not both"),
        ("train digits --step nan", "`step` must be"),
        ("train digits --step 0", "`step` must be"),
        ("train digits --horizon 0", "(step|horizon)` must be"),
        ("train digits --horizon inf", "(step|horizon)` must be"),
        ("train digits --layers -1", "`layers` must be 0 .*got -1"),
        ("train digits --layers 1000000000", "`layers` may be at most"),
        ("train digits --epochs 0", "`epochs` must be .*got 0"),
        ("train digits --epochs -3", "`epochs` must be .*got -3"),
        ("train digits --epochs many", "'--epochs'.*integer. See hdnn --help"),
        ("train digits --batch-size 0", "`batch_size`"),
        ("train digits --learning-rate 0", "`learning_rate` must be positive.*got 0"),
        ("train digits --learning-rate nan", "`learning_rate`"),
        ("train digits --init-std -1", "`init_std`"),
        ("train digits --label-smoothing 1", "`label_smoothing`"),
        ("train digits --clip 0", "`clip`"),
        ("train digits --validation 20", "`validation` is a share"),
        ("train digits --patience 3", "needs `validation`"),
        ("train digits --seed -1", "`seed`"),
        ("train digits --seed 99999999999999999999999", "`seed`"),
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
        ("train mnist --data-folder images --lift linear", "lifted by a convolution"),
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
    frame.assign(kind=frame["kind"].where(frame.index != 7)).to_csv("gaps.csv", index=False)
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
    # Before it there is at most what was decided about data and network.
    assert len(err.splitlines()) <= 3
    assert "Traceback" not in err
    assert sorted(map(str, place.rglob("*"))) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
def test_cuda_that_is_absent(hdnn, place):
    code, _, err = hdnn("train digits --device cuda -o run")
    assert code == 2
    assert "finds no CUDA device. Use --device cpu" in err
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
    def download(self, url, path, pooch):
        Path(path).write_bytes(b"not what was asked for")

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
        ("predict run flowers.csv -o run", "run is a folder. Name the file"),
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


# A whole process: what is imported, pipes and terminals


@pytest.mark.parametrize(
    "line", [["--help"], ["train", "--help"], ["predict", "-h"], ["evaluate", "-h"], ["info", "-h"]]
)
def test_help_waits_for_nothing_heavy(line):
    code = (
        "import sys\nfrom hdnn.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'numpy', 'pandas', 'matplotlib', 'sklearn', 'pyarrow', 'scipy', 'PIL', 'pooch'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, *line], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Usage: hdnn" in done.stdout


def test_without_a_command_there_is_help(hdnn):
    code, out, _ = hdnn("")
    assert code == 0
    assert "Usage: hdnn" in out


def test_a_pipe_gets_results_alone(place):
    line = "train double-moons --size 40 --layers 1 --epochs 1 -o run --json"
    done = subprocess.run([sys.executable, "-c", QUICK, *line.split()], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "test_accuracy" in json.loads(done.stdout)
    assert "\x1b" not in done.stdout + done.stderr
    assert "epoch 1/1" not in done.stderr
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.usefixtures("quick")
def test_a_reader_that_leaves_early_is_no_error(hdnn, place):
    hdnn(f"train double-moons --size 40 {SMALL} -o run")
    pd.DataFrame({"x1": np.zeros(9000), "x2": np.zeros(9000)}).to_csv("points.csv", index=False)
    installed = Path(sys.executable).with_name("hdnn")
    line = f"{shlex.quote(str(installed))} predict run points.csv | head -n 2"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=120)
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr == ""


def test_a_terminal_sees_progress(place):
    leader, follower = pty.openpty()
    line = ["train", "double-moons", "--size", "400", "--layers", "1", "--epochs", "3", "-o", "run"]
    with subprocess.Popen(
        [sys.executable, "-c", QUICK, *line],
        stdout=subprocess.PIPE,
        stderr=follower,
        text=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    ) as process:
        os.close(follower)
        text = read_terminal(leader)
        assert process.stdout.read().startswith("Test accuracy")
    assert process.returncode == 0
    assert "epoch 3/3" in text
    assert re.search(r"loss \d\.\d{4}, train accuracy \d+\.\d\d %", text)
    assert "figures and the report" in text


def read_terminal(leader):
    shown = b""
    try:
        while piece := os.read(leader, 4096):
            shown += piece
    except OSError:  # Linux ends a terminal so
        pass
    finally:
        os.close(leader)
    return shown.decode()


# Documentation


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_option_is_explained(name):
    command = COMMANDS[name]
    assert command.help.strip()
    for parameter in command.params:
        assert parameter.help, f"{name} {parameter.name}"
    assert f"hdnn {name}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_commands_are_those_that_are_promised():
    assert set(COMMANDS) == {"train", "predict", "evaluate", "info"}
