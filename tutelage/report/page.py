"""Draw a `ReportData` as one HTML page: no script, no request, style sheet allowed by its hash.

    from tutelage.report.page import render
    Path("report.html").write_text(render(data), encoding="utf-8")

Jinja escapes every value, in HTML and in SVG alike; nothing but our own style sheet is marked safe.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.report import charts
from tutelage.report.colours import colours, task_names, teacher_names
from tutelage.report.data import ReportData
from tutelage.report.flow import river
from tutelage.report.words import FILTERS, visible

if TYPE_CHECKING:
    from jinja2 import Environment

_FOLDER = Path(__file__).parent


def render(data: ReportData) -> str:
    """The whole page. Encodes as UTF-8 whatever the data hold."""
    from markupsafe import Markup

    css = (_FOLDER / "page.css").read_text(encoding="utf-8")
    policy = f"default-src 'none'; style-src '{_hash(css)}'; base-uri 'none'; form-action 'none'"
    page = _environment().get_template("page.html.j2")
    # Our own file, no data in it: the one text that is not escaped.
    return visible(page.render(d=data, css=Markup(css), policy=policy, **_pictures(data)))


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
