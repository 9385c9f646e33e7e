"""What the help pages say, as they are rendered: every default, and brackets that stay."""

import re

import pytest
import typer

import hdnn as library
from hdnn.cli import application

COMMANDS = typer.main.get_command(application.app).commands


def rendered(hdnn, command):
    """A help page in one line, without its frames."""
    code, out, _ = hdnn(f"{command} --help")
    assert code == 0
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", out).split())


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("columns", ["80", "200"])
def test_every_option_shows_its_default(hdnn, monkeypatch, command, columns):
    monkeypatch.setenv("COLUMNS", columns)
    page = rendered(hdnn, command)
    options = [each for each in COMMANDS[command].params if each.opts[0].startswith("--")]
    assert options
    places = [re.search(rf" {each.opts[0]}( -\w)? <", page).start() for each in options]
    for each, start in zip(options, places, strict=True):
        own = page[start : min((place for place in places if place > start), default=len(page))]
        assert own.count("[default: ") == 1, own
        if not each.show_default or not isinstance(each.show_default, str):
            assert f"[default: {each.default}]" in own, own


@pytest.mark.parametrize(("command", "extra"), [("export", "onnx"), ("train", "tensorboard"), ("tune", "tune")])
def test_brackets_stay_in_the_rendered_help(hdnn, monkeypatch, command, extra):
    monkeypatch.setenv("COLUMNS", "200")
    assert f"pip install 'hdnn[{extra}]'" in rendered(hdnn, command)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_no_page_shows_marks_of_its_own_making(hdnn, command):
    page = rendered(hdnn, command)
    assert "\\" not in page
    assert not re.search(r"\[/?(bold|red|link)", page)


def test_the_version_is_told(hdnn):
    assert hdnn("--version") == (0, f"hdnn {library.__version__}\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_option_points_to_the_help_of_its_command(hdnn, command):
    code, out, err = hdnn(f"{command} --nonsense-option")
    assert (code, out) == (2, "")
    assert err.endswith(f"See hdnn {command} --help.\n"), err
