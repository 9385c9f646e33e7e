"""`hdnn analyze`: of a run and of an untrained flow; bad input."""

import json

import pytest

FLOW = "--layers 3 --samples 4"


@pytest.fixture
def sketched(monkeypatch):
    """Without drawing, which takes most of the time."""
    png = b"\x89PNG\r\n\x1a\n" + bytes(8) + (2).to_bytes(4, "big") * 2

    def save(figure, path):
        path.write_bytes(png)
        return path

    monkeypatch.setattr("hdnn.plots.save", save)


@pytest.mark.long
@pytest.mark.usefixtures("quick")
def test_a_run(hdnn, place):
    assert hdnn("train double-moons --size 100 --layers 3 --epochs 1 -o run")[0] == 0
    code, out, err = hdnn("analyze run --samples 5")
    assert code == 0
    assert "largest norm: " in out
    assert out.endswith("Report: run/analysis/report.html\n")
    assert "at 5 test samples" in err
    assert "Left out: Energy along depth. Each of the 3 layers" in err
    assert (place / "run" / "analysis" / "report.html").is_file()
    assert hdnn("evaluate run")[0] == 0
    code, out, _ = hdnn("analyze run --samples 5 --compare resnet --overwrite")
    assert code == 0
    assert "gradient passage of fresh flows: " in out
    assert "h1 trained on" in (place / "run" / "analysis" / "report.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("sketched")
def test_an_untrained_flow_as_json(hdnn, place):
    code, out, _ = hdnn(f"analyze --model h2 {FLOW} --shared --json -o found")
    result = json.loads(out)
    assert code == 0
    assert result["lower_bound"] == 1.0
    assert result["smallest_norm"] >= 1
    assert result["report"] == "found/report.html"
    assert result["left_out"] == {"Gradients of the loss by layer": "An untrained flow has no loss."}
    page = (place / "found" / "report.html").read_text(encoding="utf-8")
    assert "hdnn analyze --model h2 --layers 3 --samples 4 --shared --json -o found" in page


@pytest.mark.usefixtures("sketched", "place")
def test_peers_stand_beside_it_and_numbers_say_what_they_mean(hdnn):
    code, out, _ = hdnn(f"analyze --model h2 {FLOW} --compare resnet,perceptron -o found")
    assert code == 0
    lines = {line.split(":")[0]: line for line in out.splitlines()}
    assert "grows by at most this factor" in lines["largest norm"]
    assert "orthogonal weights" in lines["gradient passage of perceptron orthogonal"]
    assert all("(" in line for name, line in lines.items() if name != "Report")


@pytest.mark.usefixtures("sketched")
def test_without_an_output_folder_one_is_named_after_the_model(hdnn, place):
    assert hdnn(f"analyze --model ms2 {FLOW} --features 5")[0] == 0
    (folder,) = (place / "analyses").iterdir()
    assert folder.name.startswith("ms2-")


@pytest.mark.usefixtures("sketched")
def test_an_analysis_is_replaced_only_where_asked(hdnn, place):
    line = f"analyze --model h2 {FLOW} -o found"
    assert hdnn(line)[0] == 0
    code, out, err = hdnn(line)
    assert (code, out) == (2, "")
    assert "--overwrite" in err
    assert hdnn(f"{line} --overwrite")[0] == 0


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("analyze", "Give the folder of a run, or the model"),
        ("analyze absent", "absent is not there"),
        ("analyze . --model h2", "leave out --model"),
        ("analyze --model h3", "Did you mean"),
        ("analyze --model h2 --features 5", "even"),
        ("analyze --model h2 --layers 0", "identity"),
        ("analyze --model h2 --samples 0", "--samples"),
        (f"analyze --model h2 {FLOW} --compare resnets", "Did you mean 'resnet'"),
        ("analyze --model h2 --step 0.1 --horizon 2", "not both"),
        ("analyze --model h2 --data-folder .", "for runs on MNIST"),
        (f"analyze --model h2 {FLOW} -o flowers.csv", "is a file"),
        (f"analyze --model h2 {FLOW} -o .", "not empty"),
        (f"analyze --model h2 {FLOW} -o . --overwrite", "holds no analysis"),
    ],
)
def test_bad_input(hdnn, place, line, word):
    before = sorted(path.name for path in place.iterdir())
    code, out, err = hdnn(line)
    assert (code, out) == (2, "")
    assert word in err
    assert err.count("Error: ") == 1
    assert sorted(path.name for path in place.iterdir()) == before


def test_states_that_diverge(hdnn, place):
    flow = "--model h1 --layers 600 --step 1 --init-std 3 --activation identity"
    code, out, err = hdnn(f"analyze {flow} -o found")
    assert (code, out) == (1, "")
    assert "not finite" in err
    assert not (place / "found").exists()
