"""The page in a real browser: quiet, deaf to attacks, offline, and no wider than a phone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.tutelage.report import hostile, sample
from tests.tutelage.report.browser import launched
from tutelage.report.data import ReportData
from tutelage.report.page import render

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with launched() as browser:
        yield browser


@dataclasses.dataclass
class Visit:
    """An open page, with all that it said and asked for."""

    page: Any
    said: list[str]
    asked: list[str]


def visit(browser: Any, folder: Path, data: ReportData, width: int, theme: str = "light") -> Visit:
    file = folder / "report.html"
    file.write_text(render(data), encoding="utf-8")
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=theme, reduced_motion="reduce"
    )
    seen = Visit(context.new_page(), [], [])
    seen.page.on("console", lambda message: seen.said.append(message.text))
    seen.page.on("pageerror", lambda error: seen.said.append(str(error)))
    seen.page.on("dialog", lambda dialog: seen.said.append(dialog.message))
    seen.page.on("request", lambda request: seen.asked.append(request.url))
    seen.page.goto(file.as_uri())
    return seen


@pytest.mark.parametrize(
    ("data", "width", "theme"),
    [
        (sample.report(), 1280, "dark"),
        (sample.report(), 360, "light"),
        (hostile.report(), 1280, "light"),
        (hostile.report(), 360, "dark"),
    ],
    ids=["sample-desktop", "sample-phone", "hostile-desktop", "hostile-phone"],
)
def test_page_is_quiet_offline_and_fits(
    chromium: Any, tmp_path: Path, data: ReportData, width: int, theme: str
) -> None:
    seen = visit(chromium, tmp_path, data, width, theme)
    seen.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert seen.said == []
    assert seen.asked == [(tmp_path / "report.html").as_uri()]
    wide, frame = seen.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= frame
    seen.page.context.close()


def test_no_payload_runs_whatever_is_hovered_or_clicked(chromium: Any, tmp_path: Path) -> None:
    seen = visit(chromium, tmp_path, hostile.report(), 1280)
    assert seen.page.evaluate("typeof window.hit") == "undefined"
    fire = """document.querySelectorAll('body *').forEach(e =>
        ['mouseover', 'focus', 'click', 'load', 'error'].forEach(
            n => e.dispatchEvent(new Event(n, {bubbles: true}))))"""
    seen.page.evaluate(fire)
    seen.page.wait_for_timeout(100)
    assert seen.page.evaluate("typeof window.hit") == "undefined"
    assert seen.page.evaluate("document.scripts.length") == 1
    expect(seen.page.locator("#browser [role=status]")).to_have_text("30 of 30 items")
    assert "<script>window.hit=1</script>" in seen.page.inner_text("body")
    assert len(seen.asked) == 1
    seen.page.context.close()


def test_items_are_filtered_opened_and_marked(chromium: Any, tmp_path: Path) -> None:
    seen = visit(chromium, tmp_path, sample.report(), 1280)
    status, items = seen.page.locator("#browser [role=status]"), seen.page.locator("#browser .item")
    expect(status).to_have_text("30 of 30 items")
    expect(items).to_have_count(25)
    seen.page.get_by_role("button", name="Show more").press("Enter")
    expect(items).to_have_count(30)
    expect(items.nth(25).locator("summary")).to_be_focused()
    seen.page.locator("select[name=standing]").select_option("behind")
    seen.page.locator("select[name=task]").select_option("chain_sum")
    expect(status).to_have_text("2 of 30 items")
    items.first.locator("summary").press("Enter")
    cells = items.first.locator(".cell")
    titles = ["Prompt", "Reference", "Student", "adder", "Before"]
    expect(cells.locator("b")).to_have_text(titles)
    marked = cells.nth(2).locator("mark").all_inner_texts()
    assert "".join(marked) in ("d", "o", "r")  # 10dorw for 10drow
    seen.page.locator("input[name=text]").fill("nothing holds this")
    expect(status).to_have_text("0 of 30 items")
    assert seen.said == []
    seen.page.context.close()


def test_without_its_script_the_page_shows_the_worst(chromium: Any, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(render(sample.report()), encoding="utf-8")
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.locator("#browser .item").count() == 12
    assert not page.locator("#browser form").is_visible()
    context.close()


def test_theme_follows_the_system_and_the_switch(chromium: Any, tmp_path: Path) -> None:
    seen = visit(chromium, tmp_path, sample.report(), 1280, "dark")
    background = "getComputedStyle(document.body).backgroundColor"
    assert seen.page.evaluate(background) == "rgb(20, 23, 28)"
    seen.page.get_by_text("Light", exact=True).click()
    assert seen.page.evaluate(background) == "rgb(255, 255, 255)"
    seen.page.get_by_text("Dark", exact=True).click()
    seen.page.emulate_media(media="print", color_scheme="dark")
    assert seen.page.evaluate(background) == "rgb(255, 255, 255)"
    seen.page.context.close()


def test_keyboard_reaches_results_and_scrolled_tables(chromium: Any, tmp_path: Path) -> None:
    seen = visit(chromium, tmp_path, sample.report(), 360)
    seen.page.keyboard.press("Tab")
    assert seen.page.evaluate("document.activeElement.className") == "skip"
    seen.page.focus("[aria-label='Results by task']")
    seen.page.keyboard.press("ArrowRight")
    # The page's policy forbids what `wait_for_function` polls with.
    for _ in range(100):
        if moved := seen.page.evaluate("document.activeElement.scrollLeft > 0"):
            break
        seen.page.wait_for_timeout(50)
    assert moved
    seen.page.context.close()


def test_print_shows_what_is_folded_away(chromium: Any, tmp_path: Path) -> None:
    seen = visit(chromium, tmp_path, sample.report(), 800)
    recipe = seen.page.locator("pre.code")
    assert not recipe.is_visible()
    seen.page.emulate_media(media="print")
    assert recipe.is_visible()
    assert len(seen.page.pdf(format="A4")) > 20_000
    seen.page.context.close()
