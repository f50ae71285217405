"""The mixer: answers become an ordered training set, exactly as the recipe's `mix:` section says.

`needs` says what to buy, `preview` what would come out, `build` writes it. Preview and build stand
on one plan, so preview, lock and report show the same numbers. Same recipe, answers and seed: same
bytes.
"""

from mixer.blend import Blend, Cell, StageBlend, TaskBlend, read_blend
from mixer.build import build, preview, still_needed
from mixer.config import MixConfig, Select, Share, Stage
from mixer.errors import InfeasibleMix, Shortfall, UnknownTask, UnlicensedSamples
from mixer.filters import Candidate, Filtered, Flag, apply_filters
from mixer.quota import Need, Quota, apportion, needs, quotas

__all__ = [
    "Blend",
    "Candidate",
    "Cell",
    "Filtered",
    "Flag",
    "InfeasibleMix",
    "MixConfig",
    "Need",
    "Quota",
    "Select",
    "Share",
    "Shortfall",
    "Stage",
    "StageBlend",
    "TaskBlend",
    "UnknownTask",
    "UnlicensedSamples",
    "apply_filters",
    "apportion",
    "build",
    "needs",
    "preview",
    "quotas",
    "read_blend",
    "still_needed",
]
