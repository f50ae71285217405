"""What the report shows, as plain frozen dataclasses: no ledger, no file, no figure computed here.

`tutelage` fills a `ReportData` from the ledger and the results; `page.render` draws it. All of it
is `str`, `int`, `float`, `bool`, `None`, a tuple or a `dict` of these, so `dataclasses.asdict`
gives JSON. Rates and shares run from 0 to 1, money is in USD, sizes in MiB, times in seconds. An
empty tuple or `None` means "this run has no such thing": its section is left out. Text may be
hostile: it is escaped when the page is drawn, never here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Decision = Literal["yes", "no", "not enough data"]
UNSURE = "unsure"  # the task of prompts of no clear task


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95 % interval over `n` items."""

    mean: float
    lo: float
    hi: float
    n: int


@dataclass(frozen=True, slots=True)
class TaskResult:
    """How one task came out on the test items; difference = student - (1 - within) * teacher."""

    task: str
    chosen: str  # the task's teacher
    runner_up: str | None
    reason: str  # why the route is as it is, one sentence
    guarded: bool  # the guard sent the task to the best single teacher
    baseline: Estimate | None = None
    student: Estimate | None = None
    teacher: Estimate | None = None  # what the items got from the teachers that they are routed to
    teachers: dict[str, Estimate] = field(default_factory=dict)  # the compared ones
    prompts: dict[str, int] = field(
        default_factory=dict
    )  # training prompts of each teacher, most first
    verdict: Decision | None = None  # None: not evaluated yet
    verdict_reason: str = ""
    difference: float | None = None
    lower: float | None = None  # one-sided 95 % bounds of the difference
    upper: float | None = None
    recovery: Estimate | None = (
        None  # of the teacher's gain over the baseline; None where undefined
    )
    recovery_reason: str = ""  # why it is undefined
    oracle: Estimate | None = None  # each item's best answer by any teacher
    baseline_p: float | None = None  # student against baseline, paired, adjusted for the tasks
    teacher_p: float | None = None  # and against its teacher


@dataclass(frozen=True, slots=True)
class Likeness:
    """How alike two models answered a task's test items, by measure (evals.similarity)."""

    task: str
    pair: str  # in words
    measures: dict[str, Estimate]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What judges said of the student's and its teacher's answers to a task's test items (evals.judge)."""

    task: str
    wins: int
    ties: int
    losses: int
    rate: Estimate
    rate_even: float | None  # the rate at equal lengths
    flips: Estimate
    first_named: Estimate
    longer: Estimate
    unread: int
    asked: int
    barred: int
    same: Estimate | None  # the share of pairs that mean the same


@dataclass(frozen=True, slots=True)
class Matching:
    """How near a model's distributions over a task's teachers' answers are to the teachers' own, by measure."""

    task: str
    model: str  # in words
    measures: dict[str, Estimate]  # in nats, but for `top1`; over tokens
    calibration_error: float | None
    tokens: int
    covered: int  # of them, with a distribution of the teacher's


@dataclass(frozen=True, slots=True)
class BrowsedItem:
    """A test item in the error browser; `answers` and `scores` are by role, without those that gave none."""

    task: str
    teacher: str  # that it is routed to
    standing: str  # of the student beside its teacher: behind, both fail, ahead, both right
    judged: str  # win, tie or loss of the student; empty where no judge was asked
    group: int | None  # of failures, by its place in Browser.groups
    prompt: str
    reference: str | None
    answers: dict[str, str]
    scores: dict[str, float]


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Failures whose prompts are alike (evals.failures)."""

    task: str
    terms: tuple[str, ...]
    failures: int
    near: int  # samples of the mix that are as near
    example: str


@dataclass(frozen=True, slots=True)
class Browser:
    """The test items, failures first; `total` of them stand in `file`."""

    total: int
    items: tuple[BrowsedItem, ...]
    groups: tuple[FailureGroup, ...]
    file: str


@dataclass(frozen=True, slots=True)
class General:
    """The student on a task of the general set, before and after training."""

    task: str
    baseline: Estimate
    student: Estimate
    p: float  # paired, adjusted for the tasks
    worse: bool  # beyond noise


@dataclass(frozen=True, slots=True)
class Strength:
    """One cell of teachers x tasks: a teacher's score on the probes of a task."""

    teacher: str
    task: str
    estimate: Estimate
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Nearness:
    """How near a teacher's answers to a task's probes are to the student's reach (evals.likelihood)."""

    teacher: str
    task: str
    likelihood: float
    reach: float


@dataclass(frozen=True, slots=True)
class TaskCount:
    """Prompts that the classifier gave to a task; `unsure` is a task here."""

    task: str
    prompts: int


@dataclass(frozen=True, slots=True)
class Point:
    """A prompt on the 2-D map, with its task and the classifier's probability."""

    x: float
    y: float
    task: str
    probability: float


@dataclass(frozen=True, slots=True)
class Flow:
    """Prompts of `task` that `teacher` answered, and how many of those answers are in the mix."""

    task: str
    teacher: str
    answers: int
    mixed: int  # distinct samples; what is missing was dropped by a filter or left over


@dataclass(frozen=True, slots=True)
class MixCell:
    """Members of the mix of one stage, task and teacher; repeats count."""

    stage: str
    task: str
    teacher: str
    samples: int
    tokens: int  # trained completion tokens under the student's tokenizer


@dataclass(frozen=True, slots=True)
class MixStage:
    """A named stage of the curriculum; `until` is its end as a share of the whole training."""

    name: str
    order: str
    until: float


@dataclass(frozen=True, slots=True)
class Drop:
    """Samples that one filter took out."""

    filter: str
    samples: int


@dataclass(frozen=True, slots=True)
class Mix:
    """The mix: its unit and total as asked, what is in it, and what the filters dropped."""

    unit: str  # samples | tokens
    total: int
    stages: tuple[MixStage, ...]
    cells: tuple[MixCell, ...]
    drops: tuple[Drop, ...] = ()


@dataclass(frozen=True, slots=True)
class StageStart:
    """The optimiser step at which a stage of the curriculum begins."""

    stage: str
    step: int


@dataclass(frozen=True, slots=True)
class LossPart:
    """The mean losses by token at the training's end, of one task or one teacher. None: it has none."""

    kind: Literal["task", "teacher"]
    name: str
    share: float | None  # of the trained tokens
    ce: float | None
    kd: float | None
    feature: float | None
    held_out: float | None  # cross-entropy on what is held out


@dataclass(frozen=True, slots=True)
class Training:
    """The training run: base model, steps, and its loss as (step, loss)."""

    base: str
    signal: str
    steps: int
    seconds: float
    loss: tuple[tuple[int, float], ...] = ()
    stage_starts: tuple[StageStart, ...] = ()
    held_out: tuple[tuple[int, float], ...] = ()  # the same on what is held out, where anything is
    kept_step: int | None = None  # after which the weights were as they are, where not the last
    parts: tuple[LossPart, ...] = ()


@dataclass(frozen=True, slots=True)
class SizePoint:
    """A student of some size, or a teacher beside it, on the test items. None: not known."""

    model: str
    role: Literal["student", "teacher"]
    score: Estimate  # the mean over tasks; a teacher's over those that are routed to it
    verdict: Decision | None = None
    parameters: int | None = None
    training_s: float | None = None
    tokens_per_s: float | None = None
    faster: float | None = None  # times the fastest teacher's tokens/s
    peak_rss_mib: float | None = None
    disk_mib: float | None = None
    usd_per_1000: float | None = None  # per 1,000 answers


@dataclass(frozen=True, slots=True)
class PaceAt:
    """A model answering so many prompts side by side; latencies in seconds as (mean, median, 99 %)."""

    concurrency: int
    tokens_per_s: float
    first_token: tuple[float, float, float]
    per_token: tuple[float, float, float] | None


@dataclass(frozen=True, slots=True)
class Speed:
    """One model on the speed prompts, in a process of its own. None: not measured or not known."""

    model: str
    role: Literal["student", "teacher", "baseline"]
    tokens_per_s: float | None = None
    peak_rss_mib: float | None = None
    disk_mib: float | None = None
    usd_per_1000: float | None = None  # per 1,000 answers
    paces: tuple[PaceAt, ...] = ()


@dataclass(frozen=True, slots=True)
class TeacherCost:
    """What one teacher's answers took, probes included."""

    teacher: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None  # None: the price is not known
    price_source: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """Routes by task that a weight of price (`alpha_from` and somewhat more) would choose, by the probes."""

    alpha_from: float
    strength: float
    usd_per_1000: float
    teachers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A labelled example near the story's prompt; `similarity` is the cosine."""

    text: str
    task: str
    similarity: float


@dataclass(frozen=True, slots=True)
class FilterWord:
    """What one filter said about the story's sample."""

    filter: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class MixPosition:
    """A place of the story's sample in the mix's order."""

    stage: str
    position: int
    repeat: int = 0


@dataclass(frozen=True, slots=True)
class Story:
    """One sample's whole way from prompt to student."""

    sample: str  # key
    prompt: str
    source: str
    licence: str
    task: str
    probability: float
    nearest: tuple[Neighbour, ...]
    strengths: tuple[Strength, ...]  # every teacher on this task
    teacher: str
    model: str
    reason: str
    request: str  # key
    state: str
    attempts: int
    seconds: float | None
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    answer: str
    filters: tuple[FilterWord, ...] = ()
    positions: tuple[MixPosition, ...] = ()
    student: str = ""  # key of the student run that learned from it
    times_consumed: int = 0


@dataclass(frozen=True, slots=True)
class Licence:
    """Terms of a teacher, a source of prompts or the base model."""

    kind: str
    subject: str
    licence: str


@dataclass(frozen=True, slots=True)
class StageTime:
    """Seconds that the run which did the work spent in a stage."""

    stage: str
    seconds: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """A command worth typing next, and what it is for."""

    command: str
    purpose: str


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything the page needs. Order in tuples is the order on the page."""

    name: str
    created: str  # as it is to be read, e.g. 2026-11-24 21:19 UTC
    seed: int
    run: str  # the run folder, as the user wrote it
    verdict: Decision | None  # None: the run has not come to `evaluate` yet
    sentence: str  # the answer to "did it work?", one or two sentences
    within: float = 0.05  # the recipe's margin
    cluster_by: str | None = None  # what test items share
    clusters: dict[str, int] = field(default_factory=dict)  # how many of these by task
    recovery: Estimate | None = None  # over all tasks; None where undefined
    teachers: tuple[str, ...] = ()  # in recipe order: fixes their colours
    tasks: tuple[TaskResult, ...] = ()
    likeness: tuple[Likeness, ...] = ()
    matching: tuple[Matching, ...] = ()
    general: tuple[General, ...] = ()
    browser: Browser | None = None
    judges: dict[str, str] = field(default_factory=dict)  # name -> model
    judged: tuple[Judgement, ...] = ()
    agreement: str = ""  # of the judges with labelled pairs, in words
    unmatched: tuple[str, ...] = ()  # why a teacher gives no distributions, a sentence each
    strengths: tuple[Strength, ...] = ()
    nearness: tuple[Nearness, ...] = ()  # under `objective: learnable`
    leaving: str = ""  # what came of letting prompts leave their task's teacher, a sentence
    prompts: tuple[TaskCount, ...] = ()
    points: tuple[Point, ...] = ()  # a sample; beyond 3,000 the page thins it
    flow: tuple[Flow, ...] = ()
    mix: Mix | None = None
    training: Training | None = None
    speeds: tuple[Speed, ...] = ()
    speed_note: str = ""  # what was measured: prompts, max_tokens, batch, machine
    sizes: tuple[SizePoint, ...] = ()
    costs: tuple[TeacherCost, ...] = ()
    front: tuple[Choice, ...] = ()  # strongest first
    alpha: float | None = None  # the recipe's, under `policy: cost`
    story: Story | None = None
    recipe: str = ""  # the YAML as run
    versions: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)  # lock, plan, ledger head, student weights
    stages: tuple[StageTime, ...] = ()
    licences: tuple[Licence, ...] = ()
    consequences: tuple[str, ...] = ()  # what follows from the result, sentences
    commands: tuple[Command, ...] = ()
