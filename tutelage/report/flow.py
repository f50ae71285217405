"""The flow prompts -> tasks -> teachers -> mix, laid out as bars and bands (a Sankey picture)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tutelage.report.colours import Colours
from tutelage.report.data import ReportData


@dataclass(frozen=True, slots=True)
class Node:
    """A bar of the flow; `x` is per cent, `y` and `height` are pixels."""

    label: str
    colour: str
    count: int
    column: int
    x: float
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Ribbon:
    """A band between two bars: a closed path, x in per cent and y in pixels."""

    path: str
    colour: str
    title: str


@dataclass(frozen=True, slots=True)
class River:
    """The flow prompts -> tasks -> teachers -> mix, laid out."""

    nodes: list[Node]
    ribbons: list[Ribbon]
    height: int


_COLUMNS = (0.0, 29.0, 63.0, 98.4)
_GAP, _TOP = 26, 34


def river(data: ReportData, colour: Colours) -> River | None:
    """Lay the flow out: bars as high as what passes through, stacked with a gap."""
    if not data.flow:
        return None
    links = _links(data)
    columns = [
        list(dict.fromkeys(n for s, t, _ in links for n in (s, t) if n[0] == c)) for c in range(4)
    ]
    through = {n: _through(n, links) for column in columns for n in column}
    if data.prompts:
        through |= {(1, c.task): max(c.prompts, through.get((1, c.task), 0)) for c in data.prompts}
    tallest = max(sum(through[n] for n in column) for column in columns if column)
    rows = max(len(column) for column in columns)
    height = max(300, 56 * rows)
    scale = (height - _GAP * (rows - 1)) / max(tallest, 1)
    nodes = _stack(columns, through, scale, colour)
    return River(list(nodes.values()), _ribbons(links, nodes, scale, colour), height + _TOP + 8)


_Key = tuple[int, str]
_Link = tuple[_Key, _Key, int]


def _links(data: ReportData) -> list[_Link]:
    tasks: dict[str, int] = {c.task: c.prompts for c in data.prompts}
    if not tasks:
        for f in data.flow:
            tasks[f.task] = tasks.get(f.task, 0) + f.answers
    mixed: dict[str, int] = {}
    for f in data.flow:
        mixed[f.teacher] = mixed.get(f.teacher, 0) + f.mixed
    return [
        *(((0, "prompts"), (1, task), count) for task, count in tasks.items() if count),
        *(((1, f.task), (2, f.teacher), f.answers) for f in data.flow if f.answers),
        *(((2, teacher), (3, "mix"), count) for teacher, count in mixed.items() if count),
    ]


def _through(node: _Key, links: Sequence[_Link]) -> int:
    into = sum(n for _, target, n in links if target == node)
    return max(into, sum(n for source, _, n in links if source == node))


def _stack(
    columns: Sequence[Sequence[_Key]], through: Mapping[_Key, int], scale: float, colour: Colours
) -> dict[_Key, Node]:
    nodes: dict[_Key, Node] = {}
    for column in columns:
        y = float(_TOP)
        for key in column:
            height = max(round(through[key] * scale, 1), 2.0)
            css = (colour.task, colour.teacher)[key[0] - 1](key[1]) if key[0] in (1, 2) else "k-all"
            nodes[key] = Node(key[1], css, through[key], key[0], _COLUMNS[key[0]], y, height)
            y = round(y + height + _GAP, 1)
    return nodes


def _ribbons(
    links: Sequence[_Link], nodes: Mapping[_Key, Node], scale: float, colour: Colours
) -> list[Ribbon]:
    leaving = {key: node.y for key, node in nodes.items()}
    arriving = dict(leaving)
    ribbons = []
    for source, target, count in links:
        thick = max(count * scale, 1.0)
        x0, x1 = nodes[source].x, nodes[target].x
        path = _band(x0, leaving[source], x1, arriving[target], thick)
        css = nodes[target if source[0] == 0 else source].colour
        ribbons.append(Ribbon(path, css, f"{source[1]} to {target[1]}: {count:,}"))
        leaving[source] += thick
        arriving[target] += thick
    return ribbons


def _band(x0: float, y0: float, x1: float, y1: float, thick: float) -> str:
    middle = (x0 + x1) / 2
    a, b, c, d = (f"{y:.1f}" for y in (y0, y1, y1 + thick, y0 + thick))
    there, back = f"C{middle} {a} {middle} {b} {x1} {b}", f"C{middle} {c} {middle} {d} {x0} {d}"
    return f"M{x0} {a}{there}V{c}{back}Z"
