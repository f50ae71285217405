"""The stages of a run, in their order. Each reads the ledger, does its room's work and records it."""

from tutelage.stages.capturing import CAPTURE
from tutelage.stages.classifying import CLASSIFY
from tutelage.stages.learning import BASELINE, EVALUATE, TRAIN
from tutelage.stages.making import GENERATE, MIX
from tutelage.stages.probing import PROBE
from tutelage.stages.reporting import REPORT
from tutelage.stages.routing import ROUTE
from tutelage.stages.scoring import SCORE
from tutelage.stages.sizing import SIZES
from tutelage.stages.stage import Stage

STAGES: tuple[Stage, ...] = (
    CLASSIFY, PROBE, ROUTE, GENERATE, SCORE, MIX, CAPTURE, BASELINE, TRAIN, EVALUATE, SIZES,
    REPORT,
)  # fmt: skip

__all__ = ["STAGES", "Stage"]
