"""mix preview: the mix that would come out of the answers there are; nothing is written."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.errors import InputError
from tutelage.pipeline import find_done
from tutelage.recipe import load_recipe
from tutelage.stages.making import labelled, mix_tasks, preview_candidates
from tutelage.workspace import Workspace, open_run, require_stage

if TYPE_CHECKING:
    from mixer import Blend, Candidate, InfeasibleMix


@dataclass(frozen=True, slots=True)
class Preview:
    """A mix's figures, as lock and report will show them."""

    blend: "Blend"

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return self.blend.as_dict()

    def lines(self) -> list[Any]:
        """For the terminal."""
        from tutelage.terminal import as_table

        blend = self.blend
        rows = [
            [c.stage, c.task, c.teacher, f"{c.samples:,}", f"{c.tokens:,}", f"{c.repeats:,}"]
            for c in blend.cells
        ]
        lines: list[Any] = [
            as_table("", ["stage", "task", "teacher", "samples", "tokens", "repeats"], rows),
            f"{blend.samples:,} samples ({blend.distinct:,} different), {blend.tokens:,} tokens",
        ]
        if blend.dropped:
            drops = ", ".join(f"{count:,} {name}" for name, count in blend.dropped.items())
            lines.append(f"dropped: {drops}")
        if any(blend.unused.values()):
            left = ", ".join(f"{count:,} {task}" for task, count in blend.unused.items() if count)
            lines.append(f"usable but in no stage: {left}")
        return lines


def preview_mix(place: Path) -> Preview:
    """Mixes the answers that the ledger has for a recipe or a run. Raises InputError, InfeasibleMix."""
    from mixer import InfeasibleMix, preview

    if place.is_file():  # as the recipe stands now, over what the ledger has
        workspace = Workspace.of(load_recipe(place))
        find_done(workspace, "generate", settled=False)
        require_stage(workspace, "route")
    else:
        workspace = open_run(place)
        require_stage(workspace, "route")
        workspace.refuse_other_prompts()
    candidates = preview_candidates(workspace)
    try:
        blend = preview(
            workspace.recipe.mix,
            candidates,
            tasks=mix_tasks(workspace),
            seed=workspace.recipe.seed,
        )
    except InfeasibleMix as error:
        raise InputError(f"{error}{_to_be_bought(workspace, candidates, error)}") from error
    return Preview(blend)


def _to_be_bought(
    workspace: Workspace, candidates: "list[Candidate]", error: "InfeasibleMix"
) -> str:
    """What a run would still buy for the tasks that lack answers, and how; empty where nothing."""
    have = Counter(candidate.task for candidate in candidates)
    left = {task: len(items) - have[task] for task, items in labelled(workspace).items()}
    short = dict.fromkeys(shortfall.task for shortfall in error.shortfalls)
    open_ = [f"{left[task]:,} prompts of {task}" for task in short if left.get(task)]
    if not open_:
        return ""
    return (
        f"\n{', '.join(open_)} are not answered yet: "
        f"`{workspace.loaded.command('run', '--until', 'generate')}` buys what the mix needs."
    )
