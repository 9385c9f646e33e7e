"""What goes between Python and the page: runs into it, weights and ten lines out of it."""

import json
import re
import urllib.error
import urllib.request

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import hdnn
from hdnn.jobs import Source, train
from hdnn.playground.page import page as built
from hdnn.playground.page import write_page
from hdnn.playground.planar import brought
from hdnn.playground.server import Server
from hdnn.playground.weights import read_network

CHOICES = {"epochs": 1, "layers": 6}


@pytest.fixture
def run(tmp_path, quick):
    """A short run on the Swiss roll."""
    train(Source("swiss-roll", size=400), CHOICES, tmp_path / "roll", seed=3)
    return tmp_path / "roll"


def logits_of(network, points):
    with torch.no_grad():
        return network(torch.tensor(points, dtype=torch.float32)).flatten().numpy()


GRID = (np.stack(np.meshgrid(np.arange(64), np.arange(64)), -1).reshape(-1, 2) * 2 + 1) / 64 - 1


def regions(found):
    """Logits of the page on its grid, and the points of that."""
    (left, low), half = found.page.evaluate("(({ middle, half }) => [middle, half])(window.playground.page.frame)")
    found.wait("window.playground.page.last?.regions")
    logits = found.page.evaluate("[...window.playground.page.last.regions]")
    return np.array(logits), np.stack([left + half * GRID[:, 0], low - half * GRID[:, 1]], -1)


def test_a_run_opens_in_the_page(visit, run):
    first = brought(run)
    found = visit(text=built(first)).ready()
    settings = found.page.evaluate("window.playground.page.settings")
    assert (settings["model"], settings["layers"], settings["problem"]) == ("h1", 6, "swiss-roll")
    assert settings["horizon"] == pytest.approx(2.5)
    logits, points = regions(found)
    network = hdnn.runs.Run.open(run).load_network()
    assert logits == pytest.approx(logits_of(network, points), abs=2e-4)
    right = found.page.evaluate("window.playground.page.last.accuracy.flow")
    data = first["data"]["test"]
    with torch.no_grad():
        expected = network.predict(torch.tensor(data["x"]).view(-1, 2)).numpy() == np.array(data["y"])
    assert right[1] == pytest.approx(100 * expected.mean(), abs=0.1)
    assert found.errors == []


def test_a_damped_run_opens_damped(visit, tmp_path, quick):
    train(Source("swiss-roll", size=400), CHOICES | {"model": "h2", "damping": 0.5}, tmp_path / "run", seed=3)
    found = visit(text=built(brought(tmp_path / "run"))).ready()
    logits, points = regions(found)
    network = hdnn.runs.Run.open(tmp_path / "run").load_network()
    assert network.flow.damping == found.page.evaluate("window.playground.page.settings.damping") == 0.5
    assert logits == pytest.approx(logits_of(network, points), abs=2e-4)


def test_what_a_run_brings_cannot_end_its_place():
    text = built({"title": "</script><script>alert(1)</script>"})
    assert "<script>alert" not in text
    (found,) = re.findall(r'<script type="application/json" id="run">(.*?)</script>', text)
    assert json.loads(found)["title"].startswith("</script>")


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"features": 32}, "32 features"),
        ({"integrator": "yoshida4", "model": "h2"}, "integrator"),
        ({"lift": "linear"}, "lift"),
        ({"width": 8}, "width"),
        ({"step": 20.0}, "its horizon is 120"),
        ({"model": "h2", "damping": 3.0}, "its damping is 3"),
    ],
)
def test_runs_that_the_page_cannot_show_are_refused_in_words(tmp_path, quick, choices, words):
    train(Source("swiss-roll", size=200), CHOICES | choices, tmp_path / "run")
    with pytest.raises(ValueError, match=rf"cannot show the run .*{words}.* `hdnn train swiss-roll` makes"):
        brought(tmp_path / "run")


def test_a_run_on_no_plane_is_refused(tmp_path, quick):
    table = tmp_path / "table.csv"
    r = np.random.default_rng(0)
    rows = r.normal(size=(60, 3))
    table.write_text("a,b,c,y\n" + "".join(f"{a},{b},{c},{int(a > 0)}\n" for a, b, c in rows))
    train(Source(str(table), target="y"), {"epochs": 1}, tmp_path / "run")
    with pytest.raises(ValueError, match=r"its inputs are \(\d+,\)"):
        brought(tmp_path / "run")


MODELS = [
    "model=h1&J=own&ownJ=0.5,1,-0.3,0.2,1.5,0.7",
    "model=h2&shared=1&activation=softplus&features=6&damping=0.5",
    *(
        pytest.param(f"model={model}", marks=pytest.mark.slow)
        for model in ("h1", "h1&J=J2", "h2", "ms1&damping=1", "ms2", "ms3")
    ),
]


@pytest.mark.parametrize("model", MODELS)
def test_saved_weights_are_the_network_and_load_again(visit, tmp_path, model):
    found = visit(f"#points=500&layers=5&horizon=1.3&beside=&{model}").ready()
    found.page.click("#play")
    found.until(40)
    found.page.click("#play")
    found.wait("!window.playground.page.session.running && !window.playground.page.session.busy")
    logits, points = regions(found)
    with found.page.expect_download() as download:
        found.page.click("text=Save weights")
    path = tmp_path / "playground.safetensors"
    download.value.save_as(path)
    expected = logits_of(read_network(path), points)
    # Sums of float32 in two orders: what rounding leaves grows with the largest logits.
    assert logits == pytest.approx(expected, abs=2e-4 + 2e-5 * float(abs(expected).max()))
    again = visit("#layers=3&beside=").ready()
    again.page.set_input_files("input[type=file]", path)
    again.wait("window.playground.page.settings.layers === 5 && window.playground.page.last?.step === 0")
    again.wait("!window.playground.page.session.busy")
    kept = again.page.evaluate("async () => [...await window.playground.ask('parameters')]")
    assert kept == found.page.evaluate("async () => [...await window.playground.ask('parameters')]")
    assert again.errors == []


@pytest.mark.parametrize("content", [b"", b"{}" * 50, b"\xff" * 64, b"\x10" + b"\0" * 7 + b'{"a": "nonsense"}'])
def test_damaged_weights_are_refused_by_both(visit, tmp_path, content):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="no network of the playground"):
        read_network(path)
    found = visit("#points=200&layers=2").ready()
    found.page.set_input_files("input[type=file]", path)
    found.wait("document.getElementById('trouble').textContent.includes('cannot be used')")
    assert found.errors == []


SAVED = {"features": 4, "layers": 2, "horizon": 1.0, "model": "h1", "activation": "tanh", "shared": False, "J": "J1"}


def test_weights_that_lack_some_are_refused(tmp_path):
    """What a file lacks would be drawn anew, and every reading would be another network."""
    path, head = tmp_path / "saved.safetensors", {"playground": json.dumps(SAVED)}
    whole = dict(hdnn.vector_classifier(2, 2, hdnn.h1(4, 2, horizon=1.0, dtype=torch.float32)).named_parameters())
    save_file(whole, path, head)
    assert all(torch.equal(p, whole[name]) for name, p in read_network(path).named_parameters())
    for name, p in whole.items():
        save_file({other: value for other, value in whole.items() if other != name}, path, head)
        with pytest.raises(ValueError, match=f"{name} is missing. Save it there again"):
            read_network(path)
        save_file({**whole, name: p.to(torch.int16)}, path, head)
        with pytest.raises(ValueError, match=f"{name} is int16 .*, and the network has float32"):
            read_network(path)


@pytest.mark.parametrize("name", ["features", "layers", "horizon", "damping"])
@pytest.mark.parametrize("number", ["1e999", "1" + "0" * 400])
def test_weights_with_numbers_beyond_all_are_refused(tmp_path, name, number):
    path = tmp_path / "saved.safetensors"
    save_file({"a": torch.zeros(1)}, path, {"playground": f'{json.dumps(SAVED)[:-1]}, "{name}": {number}}}'})
    with pytest.raises(ValueError, match="no network of the playground"):
        read_network(path)


@pytest.mark.parametrize(
    "link",
    [
        "#points=200&layers=3&beside=",
        "#problem=double-moons&noise=0.15&points=200&layers=3&model=h2&shared=1&smoothness=0",
        "#problem=double-circles&noise=0.2&points=200&layers=3&model=ms1&std=0.5&activation=sigmoid&damping=0.2",
        "#problem=spirals&noise=0.05&points=200&layers=3&model=h1&J=own&smoothness=0.001",
        "#problem=checkerboard&points=200&layers=3&model=h1&J=J2&headDecay=0.001",
        "#problem=swiss-roll&noise=0.05&points=200&layers=3&model=ms2",
    ],
)
def test_ten_lines_of_python_run_and_make_the_same_network(visit, link, capsys):
    found = visit(link).ready()
    found.page.click("text=Open in Python")
    found.wait("document.querySelector('#sharing pre').textContent !== ''")
    lines = found.page.inner_text("#sharing pre")
    assert len(lines.splitlines()) <= 18
    made = {}
    exec(lines, made)
    settings = found.page.evaluate("window.playground.page.settings")
    flow = made["flow"]
    assert (flow.layers, flow.features, flow.shared) == (settings["layers"], settings["features"], settings["shared"])
    assert flow.damping == settings["damping"]
    assert flow.step * flow.layers == pytest.approx(settings["horizon"])
    assert made["M"].shape[0] == settings["layers"] + 1
    parameters = found.page.evaluate("async () => (await window.playground.ask('parameters')).length")
    assert parameters == sum(p.numel() for p in made["network"].parameters())
    assert "test accuracy" in capsys.readouterr().out


def test_own_points_can_be_pasted_and_saved(visit, tmp_path):
    found = visit("#points=200&layers=2&beside=").ready()
    r = np.random.default_rng(0)
    rows = [f"{10 * a:.3f}; {5 + b:.3f}; {'yes' if a > b else 'no'}" for a, b in r.normal(size=(50, 2))]
    found.page.click("text=Paste points")
    found.page.fill("textarea", "x;y;class\n" + "\n".join(rows))
    found.page.click("text=Use these")
    found.wait("window.playground.page.settings.own.length === 50")
    with found.page.expect_download() as download:
        found.page.click("text=Save the points")
    download.value.save_as(tmp_path / "points.csv")
    points = np.loadtxt(tmp_path / "points.csv", delimiter=",")
    assert points.shape == (50, 3)
    assert set(points[:, 2]) == {0, 1}
    assert np.abs(points[:, :2]).max() == pytest.approx(1, abs=0.01)
    found.page.fill("textarea", "1, 2, a\n3, oops, b")
    found.page.click("text=Use these")
    found.wait("document.getElementById('trouble').textContent.includes('Line 2 is not two numbers')")
    assert found.errors == []


@pytest.mark.parametrize("width", [390, 1400])
def test_what_is_wrong_is_said_where_the_visitor_looks(visit, width):
    """Not at the head of the page alone, which is above what a visitor sees who pastes points or loads weights."""
    found = visit("#points=200&layers=2&beside=", viewport={"width": width, "height": 700}).ready()
    found.page.click("text=Paste points")
    found.page.fill("textarea", "1, 2, a\n3, oops, b")
    found.page.evaluate("scrollTo(0, document.body.scrollHeight)")
    found.page.click("text=Use these")
    found.wait("!document.getElementById('trouble').hidden")
    box = found.page.locator("#trouble").bounding_box()
    assert box["y"] >= 0
    assert box["y"] + box["height"] <= 700


def test_pasted_lines_are_cut_by_one_sign(visit):
    """So that a class may have blanks in it, and a number a decimal comma."""
    found = visit("#points=200&layers=2&beside=").ready()
    found.page.click("text=Paste points")

    def paste(*lines):
        found.page.fill("textarea", "\n".join(lines))
        found.page.click("text=Use these")

    for count, line in enumerate(
        ("{i}, {i}, class {c}", "1,{i};2,{i}5;{c}", "{i}.5 {i} {c}", "{i}\t{i}\ta {c}"), start=4
    ):
        paste("x,y,c" if count == 4 else "", *(line.format(i=i % 10, c="ab"[i % 2]) for i in range(count)))
        found.wait(f"window.playground.page.settings.own.length === {count}")
        own = found.page.evaluate("window.playground.page.settings.own")
        assert [label for _, _, label in own] == [i % 2 for i in range(count)]
        assert len({tuple(point[:2]) for point in own}) == count
    for said, *lines in (
        ("All points have the class “class a”", *["0, 1, class a"] * 4),
        ("Line 2 has 4 columns", "id,x,y,c", *(f"{i},{i},{i},{i % 2}" for i in range(4))),
        ("Line 3 has 2 columns", "1,2,a", "", "3,4", "5,6,b", "7,8,b"),
    ):
        paste(*lines)
        found.wait(f"document.getElementById('trouble').textContent.includes('{said}')")
    assert len(found.page.evaluate("window.playground.page.settings.own")) == count
    assert found.errors == []


def test_points_are_drawn_by_the_mouse(visit):
    found = visit("#problem=own&layers=2&beside=").ready()
    box = found.page.locator("#plane canvas").bounding_box()
    found.page.mouse.click(box["x"] + box["width"] / 4, box["y"] + box["height"] / 4)
    found.wait("window.playground.page.settings.own.length === 1")
    x, y, label = found.page.evaluate("window.playground.page.settings.own[0]")
    assert (x, y, label) == (pytest.approx(-0.6, abs=0.05), pytest.approx(0.6, abs=0.05), 0)


def test_the_server_gives_the_page_to_this_machine_alone():
    with Server(built()) as server:
        server.start()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", server.address)
        assert urllib.request.urlopen(server.address).read().decode() == built()
        for request in (
            urllib.request.Request(server.address + "other"),
            urllib.request.Request(server.address, headers={"Host": "elsewhere.example:80"}),
        ):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(request)


def test_ports_that_cannot_be_are_named():
    with pytest.raises(ValueError, match="between 0 and 65535; got -1"):
        Server("", -1)
    with Server("") as server:
        server.start()
        with pytest.raises(OSError, match="cannot be had"):
            Server("", int(server.address.split(":")[-1].strip("/")))


def test_the_page_is_written_to_a_file_once(tmp_path):
    path = tmp_path / "page.html"
    write_page(path, built())
    assert path.read_text(encoding="utf-8") == built()
    with pytest.raises(FileExistsError, match="nothing was changed"):
        write_page(path, "")
    write_page(path, "new", overwrite=True)
    assert path.read_text(encoding="utf-8") == "new"
    for overwrite in (False, True):
        with pytest.raises(IsADirectoryError, match=r"is a folder, .* Name it, as .*playground\.html"):
            write_page(tmp_path, "", overwrite=overwrite)


def test_a_run_that_is_here_has_a_name(run, monkeypatch):
    monkeypatch.chdir(run)
    assert brought(".")["title"] == "h1 of roll"


def test_the_command_writes_the_page_with_a_run(hdnn, visit, run, tmp_path):
    path = tmp_path / "page.html"
    assert hdnn("playground", run, "--output", path) == (0, f"Page: {path}\n", "")
    assert path.read_text(encoding="utf-8") == built(brought(run))
    code, out, err = hdnn("playground --output", path)
    assert (code, out) == (2, "")
    assert "nothing was changed" in err


def test_the_command_names_what_is_wrong_with_a_run(hdnn, tmp_path):
    code, out, err = hdnn("playground", tmp_path / "none", "--output", tmp_path / "page.html")
    assert (code, out) == (2, "")
    assert "is not there" in err
    assert not (tmp_path / "page.html").exists()
