"""The report on a flow: what it finds, what it leaves out and why, and what it does to folders."""

import html
import json
import math
import re

import pytest
import torch

from hdnn.analysis import norms, sensitivities
from hdnn.chains import Chains, passage
from hdnn.jobs import Choices, Source, analyze, train, trained, untrained
from hdnn.jobs.evidence import Finding, LeftOut
from hdnn.jobs.findings import find
from hdnn.jobs.meanings import MEANINGS
from hdnn.jobs.peers import PEERS, beside, named
from hdnn.networks import PRESETS

# The smallest file that a report takes for a picture.
PNG = b"\x89PNG\r\n\x1a\n" + bytes(8) + (2).to_bytes(4, "big") * 2
FIGURES = {"norms.png", "singular_values.png", "spectrum.png", "layer_spectrum.png"}


def found_in(subject):
    return {finding.key: finding for finding in find(subject)}


def read(folder):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads((folder / "numbers.json").read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """An analysis of a time-invariant h2: all that needs no loss applies."""
    folder = tmp_path_factory.mktemp("fresh") / "new" / "h2"
    subject = untrained("h2", layers=16, shared=True, samples=6)
    return subject, analyze(subject, folder, command="hdnn analyze --model h2")


def test_the_folder_is_complete_and_the_page_needs_nothing_else(fresh):
    _, analysis = fresh
    assert {path.name for path in analysis.folder.iterdir()} == {"report.html", "numbers.json", "figures"}
    assert {path.name for path in (analysis.folder / "figures").iterdir()} == FIGURES | {"energy.png"}
    page = analysis.report.read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 5
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "hdnn analyze --model h2" in page


def test_numbers_are_those_of_the_library(fresh):
    subject, analysis = fresh
    numbers = read(analysis.folder)
    M = sensitivities(subject.flow, subject.y0)
    expected = norms(M)
    assert numbers["norms"]["depths"] == list(range(17))
    assert numbers["norms"]["mean"] == pytest.approx(expected.mean(1).tolist())
    assert numbers["norms"]["lower_bound"] == 1.0
    assert analysis.summary["largest_norm"] == pytest.approx(float(expected[0].max()))
    assert analysis.summary["smallest_norm_at_any_depth"] == pytest.approx(float(expected[:-1].min()))
    assert math.log(analysis.summary["largest_norm"]) <= analysis.summary["log_upper_bound"]
    s = torch.linalg.svdvals(M[0])
    assert analysis.summary["smallest_singular_value"] == pytest.approx(float(s.min()))
    assert analysis.summary["shrinking_share"] == 0.5  # pairs s, 1/s
    assert analysis.summary["symplecticity_residual"] < 1e-12
    assert numbers["summary"] == analysis.summary
    assert numbers["left_out"] == {"gradients": "An untrained flow has no loss."}


@pytest.mark.parametrize("model", PRESETS)
def test_what_applies_follows_from_the_factors(model):
    found = found_in(untrained(model, layers=4, samples=3))
    left_out = {key for key, finding in found.items() if isinstance(finding, LeftOut)}
    assert left_out == {"energy", "gradients"}  # weights of their own; no loss
    names = list(found["structure"].numbers)
    promised = model in ("ms3", "h2")
    assert any("M J Mᵀ" in name for name in names) == promised
    assert any("0 promised" in name for name in names) == (model in ("ms1", "ms3", "h2"))
    assert any("inverse" in name for name in names) == (model in ("ms1", "ms3", "h2"))
    assert (found["structure"].summary["symplecticity_residual"] is not None) == promised
    if not promised:
        assert "keeps no" in found["structure"].text
    assert found["spectra"].numbers["answers"] == {"yes": 12}
    assert found["norms"].summary["lower_bound"] == 1.0


def test_energy_is_found_where_weights_are_shared():
    energy = found_in(untrained("h1", layers=30, shared=True, samples=3))["energy"]
    assert isinstance(energy, Finding)
    assert energy.numbers["mean"][0] == 0.0
    assert energy.numbers["minimum"][-1] > 0  # forward Euler gains it
    assert energy.summary["largest_energy_drift"] == pytest.approx(energy.numbers["maximum"][-1])


def test_states_that_are_not_marginally_stable_are_listed_with_the_reason():
    spectra = found_in(untrained("h2", layers=8, activation="relu", samples=10))["spectra"]
    assert spectra.numbers["answers"]["no"] > 0
    (table,) = spectra.tables
    assert any("Jordan block" in reason for _, reason in table.rows)


@pytest.mark.long
def test_norms_beyond_all_measure_are_told():
    subject = untrained("h2", layers=300, step=1.0, init_std=1.0, activation="identity", samples=3)
    found = found_in(subject)
    assert f"Before layer {subject.first} they exceed 1e+70" in found["norms"].text
    assert found["norms"].summary["from_layer"] == subject.first
    assert found["singular_values"].summary["smallest_singular_value"] is None
    assert "not known" in found["singular_values"].text
    json.dumps([finding.numbers for finding in found.values() if isinstance(finding, Finding)], allow_nan=False)


@pytest.mark.long
def test_large_states_are_looked_at_without_matrices(monkeypatch):
    monkeypatch.setattr("hdnn.jobs.subjects._affordable", lambda flow: 0)
    subject = untrained("h2", layers=4, features=6)
    found = found_in(subject)
    left_out = {key for key, finding in found.items() if isinstance(finding, LeftOut)}
    assert left_out == {"singular_values", "energy", "spectra", "lyapunov", "gradients"}
    assert found["norms"].numbers["depths"] == [0, 1, 2, 3, 4]
    expected = norms(sensitivities(subject.flow, subject.y0[:2]))
    assert found["norms"].numbers["maximum"] == pytest.approx(expected.amax(1).tolist(), rel=1e-9)
    assert "too large" in found["spectra"].reason


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "moons"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hdnn.jobs.task.write_summary", lambda run, *results: None)
        train(Source("double-moons", size=200), Choices(layers=3, epochs=2), folder)
    return folder


@pytest.mark.long
def test_a_run_shows_the_gradients_of_its_loss(run, tmp_path):
    analysis = analyze(trained(run, samples=8), tmp_path / "a")
    numbers = read(tmp_path / "a")
    assert len(numbers["gradients"]["states"]["mean"]) == 4
    assert set(numbers["gradients"]["parameters"]) == {"weight", "bias"}
    assert 0 <= analysis.summary["contracting_share"] <= 1
    assert (tmp_path / "a" / "figures" / "gradients.png").is_file()
    assert "h1 trained on" in analysis.report.read_text(encoding="utf-8")
    assert analysis.left_out.keys() == {"Energy along depth"}


def test_the_run_itself_is_left_as_it_was(run):
    before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    analyze(trained(run, samples=3), run / "analysis")
    after = {path.name: path.stat().st_mtime_ns for path in run.iterdir() if path.name != "analysis"}
    assert after == before


class TestFolders:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch):
        def save(figure, path):
            path.write_bytes(PNG)
            return path

        monkeypatch.setattr("hdnn.plots.save", save)

    @pytest.fixture
    def subject(self):
        return untrained("h2", layers=2, samples=2)

    def test_an_analysis_is_replaced_only_where_asked(self, subject, tmp_path):
        first = untrained("h2", layers=2, shared=True, samples=2)
        analyze(first, tmp_path / "a")
        (tmp_path / "a" / "notes.txt").write_text("mine")
        with pytest.raises(FileExistsError, match=r"nothing in it was changed.*--overwrite to replace the analysis"):
            analyze(subject, tmp_path / "a")
        analyze(subject, tmp_path / "a", overwrite=True)
        assert "energy" in read(tmp_path / "a")["left_out"]
        assert {path.name for path in (tmp_path / "a" / "figures").iterdir()} == FIGURES
        assert (tmp_path / "a" / "notes.txt").read_text() == "mine"

    @pytest.mark.parametrize("content", ["{}", "[]", "no json", '{"kind": "another"}'])
    def test_other_folders_are_left_alone(self, subject, tmp_path, content):
        (tmp_path / "numbers.json").write_text(content)
        with pytest.raises(FileExistsError, match="holds no analysis"):
            analyze(subject, tmp_path, overwrite=True)
        assert [path.name for path in tmp_path.iterdir()] == ["numbers.json"]
        (tmp_path / "file").write_text("mine")
        with pytest.raises(FileExistsError, match="is a file"):
            analyze(subject, tmp_path / "file", overwrite=True)

    def test_states_that_diverge_leave_nothing_behind(self, tmp_path):
        subject = untrained("h1", layers=600, step=1.0, init_std=3.0, activation="identity", samples=2)
        with pytest.raises(FloatingPointError):
            analyze(subject, tmp_path / "a")
        assert not (tmp_path / "a").exists()


def test_every_number_of_a_summary_says_what_it_means(fresh):
    """Also those of other flows; and nothing is explained that is never found."""
    _, analysis = fresh
    page = html.unescape(analysis.report.read_text(encoding="utf-8"))
    numbers = read(analysis.folder)
    for name in analysis.summary:
        assert numbers["meanings"][name] == MEANINGS[name]
        assert MEANINGS[name] in page or analysis.summary[name] is None
    found = [*find(untrained("h2", layers=4, samples=3)), beside(untrained("h2", layers=2, samples=3), tuple(PEERS))]
    names = {name for each in found if isinstance(each, Finding) for name in each.summary} | set(analysis.summary)
    assert set(MEANINGS) - names == {"from_layer", "contracting_share"}  # of wild flows and of runs
    assert names <= set(MEANINGS)


def test_tables_of_numbers_say_how_to_read_them():
    for finding in find(untrained("h2", layers=4, shared=True, samples=3)):
        for table in getattr(finding, "tables", []):
            assert table.note or not any(isinstance(cell, float) for row in table.rows for cell in row)


@pytest.mark.long
@pytest.mark.parametrize("model", ["h2", "ms2"])
def test_plain_networks_stand_beside_a_flow(model):
    """Same layers, features, step and states; those with orthogonal weights pass gradients as careful users know."""
    subject = untrained(model, layers=40, step=0.05, samples=30)
    found = beside(subject, ("resnet", "perceptron"))
    assert isinstance(found, Finding)
    rows = {row[0]: row[1:] for row in found.tables[0].rows}
    assert len(rows) == 6
    assert found.summary["gradient_passage"] == pytest.approx(passage(subject.flow, subject.y0[:20])[0])
    step = Chains(range(5), 4, 40, steps=[0.05] * 5, weights="orthogonal")
    shares = [passage(step.layers(e), subject.y0[:20])[0] for e in range(5)]
    assert rows["ResNet, step h, orthogonal weights"][0] == pytest.approx(sum(shares) / 5)
    assert abs(found.summary["gradient_passage_of_resnet"]) < 0.5
    assert found.summary["gradient_passage_of_perceptron"] < -8
    assert found.summary["gradient_passage_of_perceptron_orthogonal"] > -4
    assert abs(found.summary["gradient_passage_of_fresh_flows"]) < 1
    assert "They have not been trained" in found.text
    (drawing,) = found.drawings
    assert drawing.file == "peers.png"
    json.dumps(found.numbers, allow_nan=False)
    alone = beside(subject, ["resnet"])
    assert set(alone.summary) == {name for name in found.summary if "perceptron" not in name}


def test_peers_are_named():
    assert named("resnet, perceptron,resnet") == ("resnet", "perceptron")
    with pytest.raises(ValueError, match=r"no network to compare with 'resnets'\. Did you mean 'resnet'"):
        named("resnets")
    with pytest.raises(ValueError, match="one or more of resnet, perceptron"):
        named(" , ")


@pytest.mark.long
def test_the_peers_are_in_the_folder_and_replaced_with_it(tmp_path):
    subject = untrained("h2", layers=3, samples=3)
    folder = tmp_path / "found"
    analyze(subject, folder, compare=["perceptron"])
    assert (folder / "figures" / "peers.png").is_file()
    assert "Beside plain networks" in (folder / "report.html").read_text(encoding="utf-8")
    analyze(subject, folder, overwrite=True)
    assert not (folder / "figures" / "peers.png").exists()


@pytest.mark.long
def test_the_kreiss_constant_is_left_out_where_it_takes_long():
    few, many = (found_in(untrained("h2", layers=2, features=n, samples=4))["spectra"] for n in (8, 34))
    assert few.summary["largest_kreiss_constant"] > 1
    assert "Kreiss constant" in few.text
    assert many.summary["largest_kreiss_constant"] is None
    assert "Kreiss" not in many.text
    assert many.summary["largest_numerical_abscissa"] > 0
