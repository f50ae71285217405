"""mix preview: the mix that would come out of the answers there are; nothing is written."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.stages.making import mix_tasks, preview_candidates
from tutelage.status import require_stages
from tutelage.workspace import open_run

if TYPE_CHECKING:
    from mixer import Blend


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
    from mixer import preview

    workspace = open_run(place)
    require_stages(workspace, "route")
    blend = preview(
        workspace.recipe.mix,
        preview_candidates(workspace),
        tasks=mix_tasks(workspace),
        seed=workspace.recipe.seed,
    )
    return Preview(blend)
