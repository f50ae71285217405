"""The page as text: self-contained, escaped, whole for a partial run and for absurd figures."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import json
import math
import random
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from tests.tutelage.report import hostile, sample
from tutelage.report.data import Estimate, ReportData, TaskResult
from tutelage.report.page import render
from tutelage.report.words import cut, duration, measure, points, usd, visible


class Elements(HTMLParser):
    """Every tag and attribute of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def page() -> str:
    return render(sample.report())


def test_sample_goes_through_json() -> None:
    assert json.loads(json.dumps(dataclasses.asdict(sample.report()), allow_nan=False))


def test_page_says_first_whether_it_worked(page: str) -> None:
    head = page[page.index("<main") : page.index("<nav")]
    assert re.search(r"<h1[^>]*>.*?Yes</h1>", head, re.DOTALL)
    assert "On all 3 tasks the student is within" in head
    for task, teacher in sample.TASKS.items():
        assert task in head
        assert teacher in head


def test_page_is_small_with_the_most_that_is_drawn() -> None:
    data = dataclasses.replace(
        sample.report(),
        points=sample.points(20_000),
        training=dataclasses.replace(
            sample.training(), loss=tuple((i, 1 / (i + 1)) for i in range(100_000))
        ),
        story=dataclasses.replace(sample.story(), answer="x" * 8_000_000),
    )
    text = render(data)
    assert len(text.encode()) < 300_000
    assert "more characters" in text


def test_same_data_give_the_same_page(page: str) -> None:
    assert render(sample.report()) == page


def digest_of(page: str, tag: str) -> str:
    text = page[page.index(f"<{tag}>") + len(tag) + 2 : page.index(f"</{tag}>")]
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_policy_allows_our_style_sheet_and_script_and_nothing_else(page: str) -> None:
    css = page[page.index("<style>") + 7 : page.index("</style>")]
    style, script = digest_of(page, "style"), digest_of(page, "script")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy
    assert policy[1].replace("&#39;", "'") == (
        f"default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; base-uri 'none'; "
        "form-action 'none'"
    )
    assert "url(" not in css
    assert "@import" not in css


def test_without_test_items_there_is_no_script() -> None:
    page = render(dataclasses.replace(sample.report(), browser=None))
    assert "script" not in {tag for tag, _ in Elements(page).tags}
    assert "script-src" not in page


def test_a_thousand_long_items_stay_small() -> None:
    dice, browser = random.Random(7), sample.browser()
    letters = [chr(97 + n) for n in range(26)]

    def long() -> str:
        return "".join(dice.choices(letters, k=2_500))

    items = tuple(
        dataclasses.replace(browser.items[n % 30], prompt=long(), answers={"student": long()})
        for n in range(1_000)
    )
    page = render(
        dataclasses.replace(sample.report(), browser=dataclasses.replace(browser, items=items))
    )
    assert len(page.encode()) < 3_000_000
    packed = re.search(r'<data hidden value="([^"]+)"', page)
    assert packed
    shown = json.loads(gzip.decompress(base64.b64decode(packed[1])))
    assert len(shown) == 1_000
    assert "more characters]" in shown[0]["prompt"]


@pytest.mark.parametrize("data", [sample.report(), hostile.report()], ids=["sample", "hostile"])
def test_page_has_one_script_no_handler_and_no_address(data: ReportData) -> None:
    allowed = {"href"}  # in-page anchors
    tags = Elements(render(data)).tags
    assert [attributes for tag, attributes in tags if tag == "script"] == [{}]
    for tag, attributes in tags:
        assert tag not in {"img", "iframe", "object", "embed", "link", "base"}
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert not {"src", "style", "srcdoc", "xlink:href", "action"} & set(attributes)
        for name in allowed & set(attributes):
            assert str(attributes[name]).startswith("#")


def test_hostile_text_adds_no_element() -> None:
    plain = hostile.report(payload=lambda i: f"word{i}")
    attacked = hostile.report()

    def names(data: ReportData) -> list[str]:
        return [tag for tag, _ in Elements(render(data)).tags]

    assert names(attacked) == names(plain)


def test_hidden_characters_are_shown_and_any_text_encodes() -> None:
    data = dataclasses.replace(
        sample.report(),
        story=dataclasses.replace(sample.story(), answer="a\ud800b\u202ec\x00d\x1be"),
    )
    text = render(data)
    assert "a⟨U+D800⟩b⟨U+202E⟩c⟨U+0000⟩d⟨U+001B⟩e" in text
    text.encode("utf-8")
    assert visible("क्ष 👩\u200d🔬 می\u200cخواهم\r\n\t") == "क्ष 👩\u200d🔬 می\u200cخواهم\r\n\t"


def test_run_that_stopped_early_still_has_a_page() -> None:
    data = ReportData("early", "2026-11-24", 7, "runs/early", None, "Stopped after `classify`.")
    text = render(data)
    assert "Not evaluated yet" in text
    assert 'id="strengths"' not in text
    assert 'id="mix"' not in text


def test_figures_that_are_none_or_not_finite_do_not_break_the_page() -> None:
    nan = Estimate(math.nan, math.nan, math.inf, 0)
    task = TaskResult("t", "a", None, "", True, None, nan, nan, {"a": nan}, {}, None, "", math.nan)
    training = dataclasses.replace(sample.training(), loss=((1, math.nan), (2, math.inf)))
    data = dataclasses.replace(sample.report(), tasks=(task,), training=training)
    text = render(data)
    assert not re.search(r'[xyd12]+="[^"]*(nan|inf)', text)
    assert "No loss was logged" in text


def test_every_section_says_how_to_read_it(page: str) -> None:
    for section in ("results", "strengths", "map", "flow", "mix", "training", "cost"):
        body = page[page.index(f'<section id="{section}"') :]
        assert "How to read this." in body[: body.index("</section>")], section


def test_every_table_has_a_caption_and_every_picture_a_name(page: str) -> None:
    assert page.count("<table") == page.count("<caption")
    pictures = [a for tag, a in Elements(page).tags if tag == "svg"]
    assert all(a.get("aria-label") for a in pictures if a.get("role") == "img")
    regions = [a for _, a in Elements(page).tags if a.get("class") == "scroll"]
    assert all(a.get("tabindex") == "0" and a.get("aria-label") for a in regions)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_have_the_contrast_of_wcag_aa(page: str, theme: int) -> None:
    found = re.findall(r"--([\w-]+):light-dark\((#\w{6}),(#\w{6})\)", page)
    colour = {name: pair[theme] for name, *pair in found}
    texts = ["ink", "quiet", "link", "yes", "no", "wait"]
    pairs = [(t, b) for t in texts for b in ("paper", "panel")]
    pairs += [(t, f"{t}-tint") for t in ("yes", "no", "wait")]
    assert all(_contrast(colour[a], colour[b]) >= 4.5 for a, b in pairs), theme
    marks = [*(f"c{i}" for i in range(8)), "unsure"]
    assert all(_contrast(colour[m], colour["paper"]) >= 3 for m in marks), theme


def test_importing_the_report_is_light() -> None:
    code = "import sys, tutelage.report.page; print('jinja2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_words() -> None:
    assert points(-0.237) == "\u221223.7"
    assert [usd(v) for v in (None, 0.0, 1.834, 0.00042)] == [
        "unknown",
        "$0.00",
        "$1.83",
        "$0.00042",
    ]
    assert [measure(v) for v in (None, 2140.4, 12.34, 0.873)] == ["–", "2,140", "12.3", "0.87"]
    assert duration(3725.0) == "1\u202fh 2\u202fmin"
    assert cut("abc", 3) == "abc"
    assert cut("abcd", 3).startswith("abc\n[… 1 more")
