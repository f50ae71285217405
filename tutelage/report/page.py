"""Draw a `ReportData` as one HTML page: no request; our style sheet and our script are allowed by their hashes.

    from tutelage.report.page import render
    Path("report.html").write_text(render(data), encoding="utf-8")

Jinja escapes every value, in HTML and in SVG alike; nothing but our own style sheet and script is marked safe.
The test items are packed (JSON, gzip, base64) into an attribute, and the script makes text of them.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.report import charts
from tutelage.report.colours import colours, task_names, teacher_names
from tutelage.report.data import BrowsedItem, ReportData
from tutelage.report.flow import river
from tutelage.report.words import FILTERS, visible

if TYPE_CHECKING:
    from jinja2 import Environment

    from tutelage.comparing import Comparison

_FOLDER = Path(__file__).parent
MOST_BYTES = 2_400_000  # of packed test items
CUTS = (2_000, 1_000, 500, 250, 100)  # characters of a text, the most that keep within


def render(data: ReportData) -> str:
    """The whole page. Encodes as UTF-8 whatever the data hold."""
    from markupsafe import Markup

    css = (_FOLDER / "page.css").read_text(encoding="utf-8")
    script = (_FOLDER / "page.js").read_text(encoding="utf-8") if data.browser else ""
    allowed = f"script-src '{_hash(script)}'; " if script else ""
    policy = f"default-src 'none'; {allowed}style-src '{_hash(css)}'; base-uri 'none'; form-action 'none'"
    page = _environment().get_template("page.html.j2")
    packed = pack(data.browser.items) if data.browser else ""
    # Our own files, no data in them: the texts that are not escaped.
    own = {"css": Markup(css), "script": Markup(script)}
    return visible(page.render(d=data, **own, policy=policy, packed=packed, **_pictures(data)))


def render_comparison(comparison: Comparison, sentence: str) -> str:
    """A page of runs held against one another, without a script."""
    from markupsafe import Markup

    css = (_FOLDER / "page.css").read_text(encoding="utf-8")
    policy = f"default-src 'none'; style-src '{_hash(css)}'; base-uri 'none'; form-action 'none'"
    last = [task.differences[-1] for task in comparison.tasks]
    page = _environment().get_template("compare.html.j2")
    return visible(
        page.render(
            c=comparison,
            sentence=sentence,
            worse=any(test.is_worse for test in last),
            better=any(test.differs and not test.is_worse for test in last),
            css=Markup(css),
            policy=policy,
        )
    )


def pack(items: tuple[BrowsedItem, ...]) -> str:
    """The items as base64 of gzipped JSON, their texts cut so that it stays within MOST_BYTES."""
    packed = ""
    for most in CUTS:
        rows = [_shortened(asdict(item), most) for item in items]
        data = json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()
        packed = base64.b64encode(gzip.compress(data, mtime=0)).decode()
        if len(packed) <= MOST_BYTES:
            break
    return packed


def _shortened(value: Any, most: int) -> Any:
    if isinstance(value, dict):
        return {name: _shortened(each, most) for name, each in value.items()}
    if not isinstance(value, str):
        return value
    left = len(value) - most
    return visible(value if left <= 0 else f"{value[:most]}\n[… {left:,} more characters]")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    env = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(FILTERS)
    env.globals["unit"] = charts.share
    return env


def _pictures(data: ReportData) -> dict[str, Any]:
    colour = colours(data)
    return {
        "colour": colour,
        "teachers": teacher_names(data),
        "task_names": task_names(data),
        "contests": charts.contests(data, colour),
        "clouds": charts.clouds(data, colour),
        "river": river(data, colour),
        "bars": charts.mix_bars(data.mix, colour) if data.mix else [],
        "curve": charts.curve(data.training) if data.training else None,
        "widths": charts.widths,
        "front": charts.front(data),
        "sizes": charts.sizes(data, colour),
        "totals": _totals(data),
        "browsed": _browsed(data),
    }


def _browsed(data: ReportData) -> dict[str, list[tuple[str, str]]]:
    """What the error browser's filters offer: values with their words."""
    items = data.browser.items if data.browser else ()
    groups = data.browser.groups if data.browser else ()
    return {
        "tasks": [(name, name) for name in dict.fromkeys(item.task for item in items)],
        "teachers": [(name, name) for name in dict.fromkeys(item.teacher for item in items)],
        "groups": [
            (str(number), f"{group.task}: {', '.join(group.terms[:3])}")
            for number, group in enumerate(groups)
        ],
    }


def _totals(data: ReportData) -> dict[str, Any]:
    """The few sums of the first screen."""
    cells = data.mix.cells if data.mix else ()
    return {
        "seconds": sum(s.seconds for s in data.stages),
        "usd": sum(c.usd or 0.0 for c in data.costs),
        "unpriced": [c.teacher for c in data.costs if c.usd is None],
        "requests": sum(c.requests for c in data.costs),
        "mixed": sum(c.samples for c in cells),
        "mixed_tokens": sum(c.tokens for c in cells),
        "student": next((s for s in data.speeds if s.role == "student"), None),
        "routed": len({name for t in data.tasks for name in t.prompts or [t.chosen]}),
        "strengths": {(s.teacher, s.task): s for s in data.strengths},
    }
