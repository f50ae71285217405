"""capture: the teachers' distributions over the tokens of the mixed samples, for the signal `logit`."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.keys import content_key
from tutelage.stages.stage import Output, Stage
from tutelage.watch import Watch
from tutelage.workspace import Workspace

if TYPE_CHECKING:
    from trainer.signals.hard import Example
    from tutelage.foretelling import Learner, Source

AT_ONCE = 256  # samples that a teacher foretells together
PART = 2048  # samples of a file: what a killed run loses


def _capture_inputs(workspace: Workspace) -> Any:
    student = workspace.recipe.student
    if "logit" not in student.signal:
        return {"logit": False}
    return {
        "mix": workspace.outputs["mix"]["lock_sha"],
        "base": workspace.baseline_key,
        "teachers": {name: teacher.key for name, teacher in workspace.teachers.items()},
        "top_k": student.logit.top_k,
        "temperature": student.logit.temperature,
    }


def refuse_tight_servers(workspace: Workspace) -> None:
    """Raises CallError where a running server could not give what `capture` will ask it for."""
    student = workspace.recipe.student
    if "logit" not in student.signal:
        return
    from trainer.base import open_tokenizer
    from trainer.run import records_head
    from tutelage.foretelling import Foreteller, refuse_tight_server

    head = records_head(student.logit, open_tokenizer(student.base, workspace.base))
    for name, teacher in workspace.teachers.items():
        if workspace.recipe.teachers[name].url and isinstance(teacher, Foreteller):
            refuse_tight_server(teacher, head)


def _capture(workspace: Workspace, watch: Watch) -> Output:
    """Files of PART samples, each complete or absent: what a killed run captured stays."""
    student = workspace.recipe.student
    if "logit" not in student.signal:
        return {"folder": None, "teachers": {}}
    from ledger.records import RecordsMissing, records_key
    from trainer.base import open_tokenizer
    from trainer.data import examples_by_teacher
    from trainer.run import records_head
    from trainer.signals.hard import ChatFormat
    from tutelage.foretelling import Learner

    tokenizer = open_tokenizer(student.base, workspace.base)
    learner = Learner(ChatFormat(tokenizer), records_head(student.logit, tokenizer))
    folder = Path("capture") / workspace.keys["capture"][:12]
    teachers = {
        name: _capture_teacher(workspace, watch, name, examples, learner, workspace.folder / folder)
        for name, examples in sorted(examples_by_teacher(workspace.mix_folder).items())
    }
    if not any(found.get("covered") for found in teachers.values()):
        reasons = "; ".join(f"{name}: {_coverage(found)}" for name, found in teachers.items())
        raise RecordsMissing(
            f"student.signal holds `logit`, and no teacher of the mix can give its distributions ({reasons}): "
            "train by `signal: hard`, or mix a teacher that runs in this process or behind vLLM."
        )
    sha = records_key(workspace.folder / folder)
    return {"folder": str(folder), "sha": sha, "teachers": teachers}


def _capture_teacher(
    workspace: Workspace,
    watch: Watch,
    name: str,
    examples: "dict[str, Example]",
    learner: "Learner",
    folder: Path,
) -> dict[str, Any]:
    """Writes a teacher's files that are not there: trained tokens, and those that have a distribution."""
    from ledger.records import count_records
    from router.teachers.waiting import result_of
    from tutelage.foretelling import source_of

    teacher = workspace.teachers.get(name)
    if teacher is None:
        why = "it is not among the recipe's teachers any more"
        return {"samples": len(examples), "why": why}
    source = source_of(teacher, examples, learner, workspace.ledger)
    if isinstance(source, str):
        return {"samples": len(examples), "why": source}
    own = content_key([name, teacher.key])[:12]  # two names may have one model
    keys, counts = list(examples), Counter[str]()
    for start in range(0, len(keys), PART):
        path = folder / f"{own}-{start // PART:04}.parquet"
        if not path.is_file():
            part = keys[start : start + PART]
            _write_part(path, name, part, source, learner, watch, done=start, of=len(keys))
        counts.update(count_records(path))
    result_of(teacher.close())
    return {"samples": len(examples), "how": source.how, **counts}


def _write_part(
    path: Path,
    name: str,
    keys: list[str],
    source: "Source",
    learner: "Learner",
    watch: Watch,
    *,
    done: int,
    of: int,
) -> None:
    from ledger.records import writing_records

    with writing_records(path, learner.head) as put:
        for start in range(0, len(keys), AT_ONCE):
            watch.progress(done + start, of, f"{name}'s distributions")
            chunk = keys[start : start + AT_ONCE]
            for key, found in zip(chunk, source.foretell(chunk), strict=True):
                put(key, name, learner.head.format.encode(*found))


def _files_are_there(workspace: Workspace, output: Output) -> bool:
    if output["folder"] is None:
        return True
    from ledger.records import records_key

    folder = workspace.folder / output["folder"]
    return folder.is_dir() and records_key(folder) == output["sha"]


def _capture_line(output: Output) -> str:
    if output["folder"] is None:
        return "not needed: the student does not learn from distributions"
    return "; ".join(f"{name}: {_coverage(found)}" for name, found in output["teachers"].items())


def _coverage(found: dict[str, Any]) -> str:
    if "why" in found:
        return f"none for {found['samples']:,} samples, since {found['why']}"
    told = f"{found['covered']:,} of {found['tokens']:,} tokens have a distribution"
    return told if found["how"] == "its own tokens" else f"{told}, {found['how']}"


CAPTURE = Stage(
    "capture",
    "the teachers' distributions over the mixed samples",
    _capture_inputs,
    _capture,
    _capture_line,
    _files_are_there,
)
