"""The page in Firefox: it trains there too, and says the same numbers."""

import pytest

from firefox import PROGRAM, Firefox
from hdnn.playground.page import page as built

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="No Firefox is installed, so the page cannot be tried in it.")
LINK = "#problem=double-moons&noise=0.15&points=2000&layers=16&model=h2&horizon=3.2&damping=0.1&beside=resnet"


@pytest.fixture(scope="module")
def firefox(tmp_path_factory):
    found = Firefox(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(built(), encoding="utf-8")
    return path.as_uri()


READY = "document.documentElement.dataset.ready === 'yes'"
IDLE = "!playground.page.session.running && !playground.page.session.busy"


@pytest.mark.long
def test_it_trains(firefox, address):
    firefox.open(address + LINK).wait(READY)
    assert firefox.value("document.getElementById('trouble').textContent") == ""
    firefox.press("#play")
    firefox.wait("playground.page.last?.step >= 600")
    firefox.press("#play")
    firefox.wait(IDLE)
    losses = firefox.value("playground.page.history.losses.flow")
    assert min(losses[-3:]) < 0.5 * losses[0]
    assert max(firefox.value("playground.page.history.accuracy.flow")) > 97
    assert firefox.value("document.getElementById('trouble').textContent") == ""


@pytest.mark.long
def test_steps_are_those_of_chromium(firefox, address, visit):
    numbers = []
    firefox.open("about:blank").open(address + LINK).wait(READY)
    for _ in range(3):
        firefox.press("#once")
        firefox.wait(IDLE)
    firefox.wait("playground.page.last?.step === 3")
    numbers.append(firefox.value("playground.ask('parameters').then((all) => [...all])"))
    found = visit(LINK).ready()
    for _ in range(3):
        found.page.click("#once")
        found.wait(IDLE)
    found.wait("window.playground.page.last?.step === 3")
    numbers.append(found.page.evaluate("window.playground.ask('parameters').then((all) => [...all])"))
    assert numbers[0] == pytest.approx(numbers[1], abs=1e-6)
