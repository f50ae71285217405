"""A run whose every text is an attack on the page that shows it (and one that is only long)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from tests.tutelage.report import sample
from tutelage.report.data import ReportData

PAYLOADS = (
    "<script>window.hit=1</script>",
    "</title></style></textarea><script>window.hit=2</script>",
    '"><img src=http://192.0.2.1/x onerror="window.hit=3">',
    "<svg onload=window.hit=4><animate onbegin=window.hit=5 attributeName=x dur=1s></svg>",
    "' onmouseover='window.hit=6' style='background:url(http://192.0.2.1/y)",
    "</text></svg><foreignObject><iframe srcdoc='<script>parent.hit=7</script>'></iframe>",
    "]]><!--<style>@import 'http://192.0.2.1/z';</style>-->",
    "{{ cycler.__init__.__globals__ }}{% for x in 1 %}",
    "javascript:window.hit=8",
    "</pre></details><base href=http://192.0.2.1/><link rel=stylesheet href=w.css>",
    "a" * 300,
)
_KEPT = {
    "verdict",
    "role",
    "unit",
    "created",
    "standing",
    "judged",
}  # words that the page branches on, or ours


def payload_at(index: int) -> str:
    return f"{PAYLOADS[index % len(PAYLOADS)]}{index}"


def report(payload: Callable[[int], str] = payload_at) -> ReportData:
    """The sample with each string replaced by a payload of its own, the same text by the same."""
    seen: dict[str, str] = {"unsure": "unsure"}

    def attack(value: Any, name: str = "") -> Any:
        if isinstance(value, str) and name not in _KEPT:
            return seen.setdefault(value, payload(len(seen)))
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = dataclasses.fields(value)
            new = {f.name: attack(getattr(value, f.name), f.name) for f in fields}
            return dataclasses.replace(value, **new)
        if isinstance(value, tuple):
            return tuple(attack(v) for v in value)
        if isinstance(value, dict):
            return {attack(k): attack(v) for k, v in value.items()}
        return value

    data: ReportData = attack(sample.report())
    return data
