"""Which answers may enter: selection, the licence gate, and filters that say why they drop."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise

from mixer.config import MixConfig
from mixer.errors import UnlicensedSamples
from mixer.quota import UNSURE


@dataclass(frozen=True, slots=True)
class Candidate:
    """One answer that could enter a mix. `sample` is unique among the candidates.

    `licence` is the teacher's, `source_licence` that of the prompts' source. `tools` is the
    prompt's tools as JSON. `tokens` are trained completion tokens under the student's tokenizer.
    `state` is the one the request ended in. `score` is that against the prompt's reference, 0 to 1, None where
    it has none; `strength` the teacher's at the task.
    """

    sample: str
    prompt_key: str
    task: str
    teacher: str
    licence: str
    source: str
    source_licence: str
    messages: Sequence[Mapping[str, str]]
    answer: str
    tokens: int
    state: str = "done"
    tools: str | None = None
    score: float | None = None
    strength: float = 0.0
    weight: float = 1.0  # of its loss in training


@dataclass(frozen=True, slots=True)
class Flag:
    """A filter's word on a sample it dropped, in a sentence a person understands."""

    sample: str
    filter: str
    detail: str


@dataclass(frozen=True, slots=True)
class Filtered:
    """What the filters left, and what they dropped; both in the order of their sample keys."""

    kept: list[Candidate]
    flags: list[Flag]
    found: dict[str, int]  # per task, before the filters
    drops: dict[str, dict[str, int]] = field(default_factory=dict)  # per task and filter
    not_selected: int = 0


def apply_filters(config: MixConfig, candidates: Iterable[Candidate]) -> Filtered:
    """Selects, checks licences and filters. The order of the candidates has no influence.

    Answers of tasks that no stage names are not selected. Raises UnlicensedSamples.
    """
    ordered = sorted(candidates, key=lambda c: c.sample)
    assert all(a.sample != b.sample for a, b in pairwise(ordered)), "a sample was handed over twice"
    selected = list(filter(_selector(config), ordered))
    _check_licences(selected)
    flags = {flag.sample: flag for flag in _single_flags(config, selected)}
    if "duplicate" in config.drop:
        rest = [c for c in selected if c.sample not in flags]
        flags.update((flag.sample, flag) for flag in _duplicates(rest))
    if "not_best" in config.drop:
        rest = [c for c in selected if c.sample not in flags]
        flags.update((flag.sample, flag) for flag in _not_best(rest))
    drops: dict[str, Counter[str]] = {}
    for candidate in selected:
        if flag := flags.get(candidate.sample):
            drops.setdefault(candidate.task, Counter())[flag.filter] += 1
    return Filtered(
        kept=[c for c in selected if c.sample not in flags],
        flags=[flags[c.sample] for c in selected if c.sample in flags],
        found=dict(sorted(Counter(c.task for c in selected).items())),
        drops={task: dict(sorted(counts.items())) for task, counts in sorted(drops.items())},
        not_selected=len(ordered) - len(selected),
    )


def _selector(config: MixConfig) -> Callable[[Candidate], bool]:
    """Whether teacher, licences and task of an answer are among those that the recipe wants."""
    teachers = config.select.teachers if config.select else None
    licences = config.select.licences if config.select else None
    named = config.named_tasks
    equal = any(stage.shares is None for stage in config.curriculum)

    def selected(c: Candidate) -> bool:
        return (
            (c.task in named or (equal and c.task != UNSURE))
            and (teachers is None or c.teacher in teachers)
            and (licences is None or (c.licence in licences and c.source_licence in licences))
        )

    return selected


def _check_licences(selected: Sequence[Candidate]) -> None:
    teachers = Counter(c.teacher for c in selected if not c.licence)
    sources = Counter(c.source for c in selected if not c.source_licence)
    if teachers or sources:
        count = sum(not (c.licence and c.source_licence) for c in selected)
        raise UnlicensedSamples(count, teachers, sources)


def _single_flags(config: MixConfig, candidates: Iterable[Candidate]) -> list[Flag]:
    """Filters that look at one answer alone; the first that drops it says why."""
    active = [(n, check) for n, check in _CHECKS.items() if n in _ALWAYS or n in config.drop]
    flags = []
    for candidate in candidates:
        for name, check in active:
            if detail := check(config, candidate):
                flags.append(Flag(candidate.sample, name, detail))
                break
    return flags


def _refused(config: MixConfig, candidate: Candidate) -> str | None:
    return "the teacher refused to answer" if candidate.state == "refused" else None


def _filtered(config: MixConfig, candidate: Candidate) -> str | None:
    return "the provider's content filter cut it" if candidate.state == "filtered" else None


def _unfinished(config: MixConfig, candidate: Candidate) -> str | None:
    ended = candidate.state in ("done", "truncated", "refused", "filtered")
    return None if ended else f"its request ended as {candidate.state!r}, without a usable answer"


def _unwritable(config: MixConfig, candidate: Candidate) -> str | None:
    """Lone surrogates: Parquet holds UTF-8, which cannot express them."""
    messages = (m["content"] for m in candidate.messages)
    for text in (candidate.answer, candidate.tools or "", *messages):
        if text.isascii():
            continue
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return (
                f"holds U+{ord(text[error.start]):04X}, half of a character, which no file can hold"
            )
    return None


def _empty(config: MixConfig, candidate: Candidate) -> str | None:
    if candidate.answer.strip():
        return None
    return "the answer is only white space" if candidate.answer else "the answer is empty"


def _truncated(config: MixConfig, candidate: Candidate) -> str | None:
    if candidate.state != "truncated":
        return None
    return f"cut off at the limit of generate.max_tokens, after {candidate.tokens:,} student tokens"


def _too_short(config: MixConfig, candidate: Candidate) -> str | None:
    if candidate.tokens >= (config.min_tokens or 0):
        return None
    return f"{candidate.tokens:,} tokens, below mix.min_tokens {config.min_tokens:,}"


def _too_long(config: MixConfig, candidate: Candidate) -> str | None:
    if config.max_tokens is None or candidate.tokens <= config.max_tokens:
        return None
    return f"{candidate.tokens:,} tokens, above mix.max_tokens {config.max_tokens:,}"


def _unverified(config: MixConfig, candidate: Candidate) -> str | None:
    if candidate.score is None:
        return "its prompt has no reference to verify it by"
    if candidate.score >= 1:
        return None
    return f"scores {candidate.score:.2f} against its prompt's reference"


_ALWAYS = ("refused", "filtered", "unfinished", "unwritable")
_CHECKS: dict[str, Callable[[MixConfig, Candidate], str | None]] = {
    "refused": _refused,
    "filtered": _filtered,
    "unfinished": _unfinished,
    "unwritable": _unwritable,
    "empty": _empty,
    "truncated": _truncated,
    "too_short": _too_short,
    "too_long": _too_long,
    "unverified": _unverified,
}


def _duplicates(candidates: Sequence[Candidate]) -> list[Flag]:
    """Same prompt and same answer after Unicode NFC and white space folding.

    Of each group the first by sample key stays, a whole answer before a truncated one.
    """
    digests: dict[str, bytes] = {}
    by_prompt: dict[bytes, list[Candidate]] = {}
    for candidate in candidates:
        if candidate.prompt_key not in digests:
            digests[candidate.prompt_key] = _prompt_digest(candidate)
        by_prompt.setdefault(digests[candidate.prompt_key], []).append(candidate)
    groups = (group for group in by_prompt.values() if len(group) > 1)
    return [flag for group in groups for flag in _repeated_answers(group)]


def _repeated_answers(group: Sequence[Candidate]) -> Iterator[Flag]:
    kept: dict[str, Candidate] = {}
    for candidate in sorted(group, key=lambda c: (c.state == "truncated", c.sample)):
        first = kept.setdefault(_folded(candidate.answer), candidate)
        if first is not candidate:
            detail = f"same prompt and answer as sample {first.sample} of {first.teacher}, kept"
            yield Flag(candidate.sample, "duplicate", detail)


def _not_best(candidates: Sequence[Candidate]) -> Iterator[Flag]:
    """All but one answer of each prompt: the one of the highest score, then of the strongest teacher, then a
    whole one before a truncated one, then the first by sample key."""
    by_prompt: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_prompt.setdefault(candidate.prompt_key, []).append(candidate)
    for group in by_prompt.values():
        best, *others = sorted(
            group, key=lambda c: (-(c.score or 0.0), -c.strength, c.state == "truncated", c.sample)
        )
        for other in others:
            yield Flag(
                other.sample,
                "not_best",
                f"{_standing(other)}; sample {best.sample} {_standing(best)}",
            )


def _standing(candidate: Candidate) -> str:
    scored = "has no score" if candidate.score is None else f"scores {candidate.score:.2f}"
    return f"{scored}, by {candidate.teacher} (strength {candidate.strength:.2f})"


def _prompt_digest(candidate: Candidate) -> bytes:
    turns = [part for m in candidate.messages for part in (m["role"], _folded(m["content"]))]
    text = "\n".join([*turns, candidate.tools or ""])  # folding leaves no newline inside a part
    return blake2b(text.encode(), digest_size=16).digest()


def _folded(text: str) -> str:
    composed = text if text.isascii() else unicodedata.normalize("NFC", text)
    return " ".join(composed.split())
