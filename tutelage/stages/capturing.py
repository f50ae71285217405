"""capture: the teachers' distributions over the tokens of the mixed samples, for the signal `logit`."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.stages.stage import Output, Stage
from tutelage.watch import Watch
from tutelage.workspace import Workspace

if TYPE_CHECKING:
    from ledger.records import RecordsHead
    from router.teachers.local import LocalTeacher
    from trainer.signals.hard import ChatFormat, Encoded, Example

AT_ONCE = 256  # samples, then their records are put


def _capture_inputs(workspace: Workspace) -> Any:
    student = workspace.recipe.student
    if student.signal != "logit":
        return {"signal": student.signal}
    return {
        "mix": workspace.outputs["mix"]["lock_sha"],
        "base": workspace.baseline.key,
        "teachers": {name: teacher.key for name, teacher in workspace.teachers.items()},
        "top_k": student.logit.top_k,
        "temperature": student.logit.temperature,
    }


def _capture(workspace: Workspace, watch: Watch) -> Output:
    """One file a teacher, each complete or absent: what a killed run captured stays."""
    student = workspace.recipe.student
    if student.signal != "logit":
        return {"folder": None, "teachers": {}}
    from ledger.records import RecordsMissing, records_key
    from router.teachers.local import LocalTeacher
    from trainer.base import open_tokenizer
    from trainer.data import examples_by_teacher
    from trainer.run import records_head
    from trainer.signals.hard import ChatFormat

    tokenizer = open_tokenizer(student.base, workspace.base)
    head = records_head(student.logit, tokenizer)
    folder = Path("capture") / workspace.keys["capture"][:12]
    teachers = {}
    for name, examples in sorted(examples_by_teacher(workspace.mix_folder).items()):
        teacher = workspace.teachers.get(name)
        found: dict[str, Any] = {"samples": len(examples), "why": None}
        if teacher is None:
            found["why"] = "it is not among the recipe's teachers any more"
        elif not isinstance(teacher, LocalTeacher):
            found["why"] = f"`{teacher.kind}` teachers give none yet"
        elif not _speaks(teacher, head):
            found["why"] = "its tokenizer is not the student's"
        else:
            path = workspace.folder / folder / f"{teacher.key[:12]}.parquet"
            found |= _capture_teacher(teacher, examples, ChatFormat(tokenizer), head, path, watch)
        teachers[name] = found
    if not any("tokens" in found for found in teachers.values()):
        reasons = "; ".join(f"{name}: {found['why']}" for name, found in teachers.items())
        raise RecordsMissing(
            f"student.signal is `logit`, and no teacher of the mix can give its distributions ({reasons}): "
            "train by `signal: hard`, or mix a local teacher with the base's own tokenizer."
        )
    sha = records_key(workspace.folder / folder)
    return {"folder": str(folder), "sha": sha, "teachers": teachers}


def _speaks(teacher: "LocalTeacher", head: "RecordsHead") -> bool:
    from ledger.records import vocabulary_key

    return vocabulary_key(teacher.tokenizer().get_vocab()) == head.vocabulary_key


def _capture_teacher(
    teacher: "LocalTeacher",
    examples: "dict[str, Example]",
    student: "ChatFormat",
    head: "RecordsHead",
    path: Path,
    watch: Watch,
) -> dict[str, int]:
    """Writes a teacher's file, unless it is there: trained tokens, and those that have a distribution."""
    from ledger.records import writing_records
    from router.teachers.waiting import result_of
    from trainer.signals.hard import ChatFormat

    keys = list(examples)
    asked = [_as_asked(teacher, example) for example in examples.values()]
    learnt = dict(zip(keys, student.encode(list(examples.values())), strict=True))
    taught = dict(zip(keys, ChatFormat(teacher.tokenizer()).encode(asked), strict=True))
    shared = {key: _shared(learnt[key], taught[key]) for key in keys}
    k, vocabulary, record = head.format.k, head.format.vocabulary, head.format.record.itemsize
    if not path.is_file():
        with writing_records(path, head) as put:
            for start in range(0, len(keys), AT_ONCE):
                watch.progress(start, len(keys), f"{teacher.name}'s distributions")
                chunk = keys[start : start + AT_ONCE]
                rows = [
                    (taught[x].ids[: taught[x].start + shared[x]], taught[x].start) for x in chunk
                ]
                found = result_of(teacher.top_k(rows, k, vocabulary, head.temperature))
                for key, (ids, probabilities) in zip(chunk, found, strict=True):
                    missing = _trained(learnt[key]) - len(ids)
                    data = head.format.encode(ids, probabilities) + bytes(missing * record)
                    put(key, teacher.name, data)
        result_of(teacher.close())
    return {"tokens": sum(map(_trained, learnt.values())), "covered": sum(shared.values())}


def _trained(encoded: "Encoded") -> int:
    return len(encoded.ids) - encoded.start


def _as_asked(teacher: "LocalTeacher", example: "Example") -> "Example":
    """The example behind the teacher's own system prompt, which the student never sees."""
    if not teacher.system:
        return example
    return replace(
        example, messages=[{"role": "system", "content": teacher.system}, *example.messages]
    )


def _shared(student: "Encoded", teacher: "Encoded") -> int:
    """How many trained tokens both have in common before they part, as at two templates' end tokens."""
    pairs = zip(student.ids[student.start :], teacher.ids[teacher.start :], strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _files_are_there(workspace: Workspace, output: Output) -> bool:
    if output["folder"] is None:
        return True
    from ledger.records import records_key

    folder = workspace.folder / output["folder"]
    return folder.is_dir() and records_key(folder) == output["sha"]


def _capture_line(output: Output) -> str:
    if output["folder"] is None:
        return "not needed: the student learns from text alone"
    return "; ".join(
        f"{name}: {found['covered']:,} of {found['tokens']:,} tokens have a distribution"
        if "tokens" in found
        else f"{name}: none for {found['samples']:,} samples, since {found['why']}"
        for name, found in output["teachers"].items()
    )


CAPTURE = Stage(
    "capture",
    "the teachers' distributions over the mixed samples",
    _capture_inputs,
    _capture,
    _capture_line,
    _files_are_there,
)
