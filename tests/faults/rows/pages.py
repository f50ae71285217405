"""Rows 18 and 19: what models wrote, opened in a browser and in a spreadsheet."""

import csv
from pathlib import Path

import duckdb

from ledger.keys import write_atomically
from tests.faults.suite import Found, counted, row
from tests.tutelage.report import hostile
from tests.tutelage.report.browser import launched
from tutelage.auditing import as_csv
from tutelage.report.page import render

FIRE = """document.querySelectorAll('body *').forEach(e => {
    if (e.tagName === 'DETAILS') e.open = true;
    ['mouseover', 'focus', 'click', 'load', 'error'].forEach(
        n => e.dispatchEvent(new Event(n, {bubbles: true})))})"""
RUN_AS_FORMULA = ("=", "+", "-", "@", "\t", "\r")
CELLS = ('=HYPERLINK("http://192.0.2.1/")', "+1", "-1+cmd|' /C calc'!A0", "@SUM(1)", "\t=1", "\r=1")


@row(18, "HTML, SVG and script in a report", browser=True)
def scripts(folder: Path) -> Found:
    """Every text of a report is a payload; everything on the page is opened, hovered and clicked."""
    file = folder / "report.html"
    file.write_text(render(hostile.report()), encoding="utf-8")
    with launched() as browser:
        page, asked = browser.new_page(), []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        page.get_by_text("30 of 30 items").wait_for()
        page.evaluate(FIRE)
        page.wait_for_timeout(200)
        hit = page.evaluate("typeof window.hit") != "undefined"
    found = counted(hit + len(asked) - 1, "scripts run or files fetched")
    return Found(f"{found.report} by {len(hostile.PAYLOADS)} payloads", found.bar, found.ok)


@row(19, "formulas in a CSV export")
def formulas(folder: Path) -> Found:
    """Every way to begin a formula as a cell and as a column's name, beside a number below zero."""
    with duckdb.connect() as db:
        query = 'SELECT *, -0.5 AS "=1" FROM (VALUES (?), (?), (?), (?), (?), (?)) AS t(text)'
        table = db.execute(query, CELLS)
        columns, rows = [about[0] for about in table.description or ()], table.fetchall()
    write_atomically(folder / "out.csv", as_csv(columns, rows).encode())
    with (folder / "out.csv").open(newline="", encoding="utf-8") as file:
        read = list(csv.reader(file))
    raw = sum(line[0].startswith(RUN_AS_FORMULA) for line in read) + (read[0][1] == "=1")
    kept = [line[0] for line in read[1:]] == [f"'{cell}" for cell in CELLS]
    numbers = all(line[1] == "-0.5" for line in read[1:])
    return Found(f"{raw} raw cells of {len(CELLS) + 1}", "0", raw == 0 and kept and numbers)
