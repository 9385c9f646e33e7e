import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from hdnn.report import Picture, Report, Section, Table, render

EVIL = "<script>alert('1')</script> & \"quotes\""


def image(form="PNG", size=(30, 20)):
    buffer = io.BytesIO()
    Image.new("P", size).save(buffer, form)
    return buffer.getvalue()


class Page(HTMLParser):
    """The elements of a page, with their attributes and texts, in order; every element must be closed."""

    void = ("meta", "img", "br", "hr", "link", "input")

    def __init__(self, page):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and self.open[-1] != "style":
            self.texts.append(data.strip())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def report():
    return Report(
        title="Digits",
        lead="h2 with 8 layers on 1257 digits.",
        headline=[("test accuracy", "98.5 %"), ("parameters", 2730)],
        sections=[
            Section(
                "Results",
                [
                    Table(
                        "Per class", ["class", "precision", "samples"], [["3", 0.9, 54], ["8", 0.875, None]], "A note."
                    ),
                    Picture("Curves", image(size=(1500, 600)), "A falling curve.", "Lower is better."),
                    Picture("Film", image("GIF"), "Moving points."),
                ],
                "What came out.",
            ),
            Section("Configuration", [Table("Network", ["", ""], [["layers", 8], ["shared", False], ["decay", 1e-5]])]),
        ],
        notes=["The run stopped early."],
        command="hdnn train digits --seed 0",
        versions={"torch": "2.9.0"},
    )


def test_the_page_says_everything(report):
    page = Page(render(report))
    said = [
        "Digits", "h2 with 8 layers on 1257 digits.", "98.5 %", "test accuracy", "2730", "Results", "What came out.",
        "Per class", "precision", "0.900", "0.875", "54", "–", "A note.", "Curves", "Lower is better.", "shared", "no",
        "1e-05", "The run stopped early.", "hdnn train digits --seed 0", "torch", "2.9.0",
    ]  # fmt: skip
    assert [text for text in said if text not in page.texts] == []
    assert page.texts.index("Results") < page.texts.index("Configuration")


def test_pictures_are_inside_with_their_words(report):
    png, gif = Page(render(report)).all("img")
    assert (png["alt"], gif["alt"]) == ("A falling curve.", "Moving points.")
    assert (png["width"], png["height"]) == ("1000", "400")
    assert (gif["width"], gif["height"]) == ("30", "20")
    for kind, source in (("png", png["src"]), ("gif", gif["src"])):
        head, _, data = source.partition(",")
        assert head == f"data:image/{kind};base64"
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as inside:
            assert inside.format.lower() == kind


def test_the_page_asks_for_nothing_and_runs_nothing(report):
    text = render(report)
    page = Page(text)
    assert not re.search(r"https?:|//\w|url\(|@import", re.sub(r'src="data:[^"]*"', "", text))
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.elements}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    policy = next(meta for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy["content"]


def test_it_reads_on_a_phone_and_in_the_dark(report):
    text = render(report)
    assert any(meta.get("name") == "viewport" for meta in Page(text).all("meta"))
    assert "prefers-color-scheme: dark" in text


def test_every_text_is_escaped():
    table = Table(EVIL, [EVIL, EVIL], [[EVIL, EVIL]], EVIL)
    picture = Picture(EVIL, image(size=(1500, 20)), EVIL, EVIL)
    text = render(
        Report(EVIL, EVIL, [(EVIL, EVIL)], [Section(EVIL, [table, picture], EVIL)], [EVIL], EVIL, {EVIL: EVIL})
    )
    page = Page(text)
    assert "<script" not in text
    assert page.all("script") == []
    assert page.texts.count(EVIL) == 19
    assert page.all("img")[0]["alt"] == EVIL


def test_an_empty_report_is_a_page():
    page = Page(render(Report("Nothing", "Nothing was trained.")))
    assert page.texts == ["Nothing", "Nothing", "Nothing was trained."]


def test_the_same_report_gives_the_same_page(report):
    assert render(report) == render(report)


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        ([0.9, 0.123456, 1], ["0.9000", "0.1235", "1"]),
        ([np.float32(0.5), np.int64(3), np.nan], ["0.5", "3", "nan"]),
        ([123456.7, 2.5], ["123456.7", "2.5"]),
        ([1e-5, 0.25], ["1e-05", "0.25"]),
        ([True, None, "0.10"], ["yes", "–", "0.10"]),
    ],
)
def test_numbers_of_a_column_can_be_compared(column, texts):
    assert [row[0][0] for row in Table("t", ["head"], [[value] for value in column]).cells] == texts


def test_values_in_a_list_stand_for_themselves():
    assert Table("t", ["", ""], [["a", 0.5], ["b", 1e-5]]).cells[0] == [("a", False), ("0.5", False)]


def test_errors_teach():
    with pytest.raises(ValueError, match="'Per class' has 2 columns; got a row of 3 cells"):
        Table("Per class", ["a", "b"], [[1, 2, 3]])
    with pytest.raises(ValueError, match=r"neither PNG nor GIF; it starts with b'<svg>'"):
        Picture("Curves", b"<svg>", "A curve.")
    with pytest.raises(ValueError, match="needs an `alt` text"):
        Picture("Curves", image(), " ")


def test_what_a_browser_would_obey_is_spelt_out():
    table = Table("names \x07", ("class \u202e", "rows"), [("a\u202eb", 1), ("tab\x1b[0m", 2), ("größe 猫", 3)])
    page = render(Report("title \u2066", "lead \x00", [("\x9b", "1")], [Section("s", [table])], notes=["n\u200f"]))
    assert not set("\x00\x07\x1b\x9b\u202e\u2066\u200f") & set(page)
    assert r"<th scope=\"row\">a\u202eb</th>".replace('\\"', '"') in page
    assert "größe 猫" in page


def test_very_small_numbers_keep_their_digits():
    page = render(Report("t", "l", [("loss", 1.23456e-12)], [Section("s", [Table("t", ("a", "b"), [("x", 3.21e-9)])])]))
    assert "1.235e-12" in page
    assert "3.21e-09" in page
