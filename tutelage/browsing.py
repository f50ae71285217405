"""The test items as the report's error browser shows them: failures first, and in groups."""

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from tutelage.report.data import BrowsedItem, Browser, FailureGroup
from tutelage.testitems import ExaminedItem, read_items
from tutelage.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

MOST_ITEMS = 1_000
ORDER = ("behind", "both fail", "ahead", "both right")
EXAMPLE_CHARS = 160


def browse(workspace: Workspace) -> Browser:
    """At most 1,000 items; all of them stand in the file that is named."""
    items = sorted(read_items(workspace), key=_rank)
    groups, group_of = _groups(workspace, [item for item in items if _fails(item)])
    judged: dict[str, str] = workspace.outputs["evaluate"]["judged"].get("of", {})
    return Browser(
        total=len(items),
        items=tuple(
            BrowsedItem(
                task=item.task,
                teacher=item.routed,
                standing=standing(item),
                judged=judged.get(item.key) or "",
                group=group_of.get(item.key),
                prompt=item.prompt,
                reference=item.reference,
                answers={role: given.answer for role, given in _given(item).items()},
                scores={role: given.score for role, given in _given(item).items()},
            )
            for item in items[:MOST_ITEMS]
        ),
        groups=groups,
        file=str(workspace.folder / workspace.outputs["evaluate"]["items"]),
    )


def standing(item: ExaminedItem) -> str:
    """How the student did beside its teacher: one of ORDER."""
    ours, theirs = (given.score if given else 0.0 for given in (item.student, item.teacher))
    if ours != theirs:
        return "behind" if ours < theirs else "ahead"
    return "both right" if ours == 1 else "both fail"


def _fails(item: ExaminedItem) -> bool:
    return item.student is None or item.student.score < 1


def _rank(item: ExaminedItem) -> tuple[int, float, str]:
    return ORDER.index(standing(item)), item.student.score if item.student else 0.0, item.key


def _given(item: ExaminedItem) -> dict[str, Any]:
    roles = {"student": item.student, "teacher": item.teacher, "baseline": item.baseline}
    return {role: given for role, given in roles.items() if given is not None}


def _groups(
    workspace: Workspace, failed: list[ExaminedItem]
) -> tuple[tuple[FailureGroup, ...], dict[str, int]]:
    """Each task's failures in groups, and the number of every item's group by its prompt's key."""
    import numpy as np

    from evals.failures import groups, near
    from router.deciding import terms_of
    from router.embedding import cached_vectors

    prompts = {item.prompt.key: item.prompt for item in workspace.pools.test}
    wanted = [prompts[item.key] for item in failed]
    vectors = cached_vectors(workspace.ledger, wanted, workspace.embedder)
    by_task: dict[str, list[ExaminedItem]] = defaultdict(list)
    for item in failed:
        if item.key in vectors:
            by_task[item.task].append(item)
    mixed = _mixed_vectors(workspace)
    found: list[tuple[str, list[ExaminedItem], int]] = []
    for task, own in by_task.items():
        stacked = np.stack([vectors[item.key] for item in own])
        for rows in groups(stacked):
            found.append((task, [own[row] for row in rows], near(stacked[rows], mixed)))
    terms = terms_of([[item.prompt for item in own] for _, own, _ in found]) if found else []
    group_of = {item.key: number for number, (_, own, _) in enumerate(found) for item in own}
    told = tuple(
        FailureGroup(task, tuple(own_terms), len(own), close, own[0].prompt[:EXAMPLE_CHARS])
        for (task, own, close), own_terms in zip(found, terms, strict=True)
    )
    return told, group_of


def _mixed_vectors(workspace: Workspace) -> "np.ndarray":
    """The prompts' vectors (M, D) of the mix's samples."""
    import numpy as np

    from router.embedding import cached_vectors

    members = workspace.ledger.rows(
        "SELECT DISTINCT p.key, s.key FROM mix_member b JOIN mix m ON b.mix = m.id "
        "JOIN sample s ON b.sample = s.id JOIN prompt p ON s.prompt = p.id WHERE m.key = ?",
        [workspace.keys["mix"]],
    )
    by_key = {item.prompt.key: item.prompt for item in workspace.pools.train}
    keys = [key for key, _ in members if key in by_key]
    known = cached_vectors(
        workspace.ledger, [by_key[key] for key in dict.fromkeys(keys)], workspace.embedder
    )
    rows = [known[key] for key in keys if key in known]
    return np.stack(rows) if rows else np.zeros((0, 1))
