"""`train`: from a mix to a student's folder, resumable at any moment.

    train(config, mix_folder, out_folder, base_dir=..., seed=7, ledger=ledger, run="quickstart",
          key=..., teachers={"speller": "Apache-2.0"})

While it trains, everything stands in `OUT_FOLDER.training/`: checkpoints and the loss log. The
student's folder appears at the end by one rename: complete or absent.
"""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.keys import content_key, folder_hash, now_us, write_atomically
from ledger.mixes import Manifest, read_manifest
from ledger.records import (
    Records,
    RecordsHead,
    RecordsMissing,
    read_records,
    records_key,
    vocabulary_key,
)
from ledger.store import Ledger
from ledger.topk import TopKFormat
from trainer import checkpoints
from trainer.base import find_base, load_model, open_tokenizer, quiet, revision, text_config
from trainer.card import write_card
from trainer.config import NOT_LEARNT, LogitConfig, StudentConfig
from trainer.data import TrainingData, examples_by_teacher, read_data, require_aligned
from trainer.errors import BadBase, FeaturesMissing, OutOfMemory, StudentExists
from trainer.features import BLOCK_BATCHES, NOBODY, FeatureSource, FeatureTeachers
from trainer.losslog import LOG_NAME, LossLog, Window, diverged
from trainer.shaping import origin, refuse_targets, starting_weights
from trainer.signals.hard import ChatFormat
from trainer.tensorboard import tensorboard

if TYPE_CHECKING:
    from trainer.sft import StudentTrainer, TrainProgress

OnProgress = Callable[["TrainProgress"], None]
RECORD_NAME = "training.json"  # in the student's folder: what `train` returned for it
ADAPTER_FOLDER = "adapter"  # in the student's folder: the adapters by themselves
IDENTITY_NAME = "identity.json"  # in the working folder: which training its checkpoints are of
DAY_NAME = "day"  # in the working folder: when the training began
BLOCK_NAME = "block"  # in the working folder: positions whose hidden states are made at once
NO_MEMORY = ("can't allocate memory", "not enough memory")  # as torch says it on a CPU
NO_LIMIT = 1_000_000  # tokens; a base that states no context
NAMED = 3  # of the samples that are too long, in a note


@dataclass(frozen=True, slots=True)
class StudentRun:
    """A finished student."""

    path: Path
    weights_sha: str
    seconds: float  # spent training, all sittings together
    steps: int
    log: Path
    tokens: int  # trained tokens, repeats and epochs included
    samples: int  # positions that the kept weights were trained on, likewise
    skipped: dict[str, int]  # tokens of the distinct samples left out as too long, by key
    kept_step: int  # after which the weights were as they are
    parameters: int


@dataclass(frozen=True, slots=True)
class _Job:
    config: StudentConfig
    mix: Path
    out: Path
    base_dir: Path
    base: str
    manifest: Manifest
    seed: int
    run: str
    key: str
    identity: str
    records: Path | None
    features: FeatureTeachers | None
    on_progress: OnProgress | None

    @property
    def work(self) -> Path:
        return self.out.with_name(f"{self.out.name}.training")

    def note(self, text: str) -> None:
        """Says something by the progress, without a step."""
        from trainer.sft import TrainProgress

        if self.on_progress:
            self.on_progress(TrainProgress(0, 0, 0.0, 0, 0.0, 0.0, 0.0, note=text))


def train(
    config: StudentConfig,
    mix_folder: Path,
    out_folder: Path,
    *,
    base_dir: Path,
    seed: int,
    ledger: Ledger,
    run: str,
    key: str,
    teachers: Mapping[str, str],
    records: Path | None = None,
    features: FeatureTeachers | None = None,
    on_progress: OnProgress | None = None,
) -> StudentRun:
    """Trains the student, or goes on where an earlier call was cut off; records it in the ledger.

    `teachers` gives each teacher's licence; `records` is the folder of their distributions, which the signal
    `logit` takes, and `features` the teachers that give states to the signal `feature`; the ledger must be
    open for writing. A call for a student that is there already returns it. Raises BadBase, TemplateError,
    NothingToTrain, Diverged, OutOfMemory, StudentExists, MixDamaged, RecordsMissing, RecordsMismatch,
    FeaturesMissing, NoSuchLayer.
    """
    manifest = read_manifest(mix_folder)
    start = [revision(find_base(config.base, base_dir)), config.layers, config.shape, seed]
    made = out_folder.with_name(f"{out_folder.name}.base-{content_key(start)[:8]}")
    base = starting_weights(config, base_dir, made, seed)
    learnt_from = [manifest.lock_sha, manifest.plan_sha, records and records_key(records)]
    identity = content_key(
        [key, config.model_dump(exclude=NOT_LEARNT), revision(base), *learnt_from, seed]
    )
    job = _Job(
        config=config,
        mix=mix_folder,
        out=out_folder,
        base_dir=base_dir,
        base=base,
        manifest=manifest,
        seed=seed,
        run=run,
        key=key,
        identity=identity,
        records=records,
        features=features,
        on_progress=on_progress,
    )
    started = now_us()
    tokenizer = open_tokenizer(config.base, base_dir)
    chat = ChatFormat(tokenizer, _day(job))
    data = read_data(mix_folder, config.epochs, chat, longest_sample(config, base), config.hold_out)
    student = _finished(job)
    if student is None:
        student = _fit(job, tokenizer, chat, data, teachers)
    _record(ledger, job, student, data.until(student.samples), started)
    shutil.rmtree(job.work, ignore_errors=True)
    shutil.rmtree(made, ignore_errors=True)
    return student


def longest_sample(config: StudentConfig, base: str) -> int:
    """Most tokens a sample may have: the recipe's word, within the base's context."""
    context = getattr(text_config(base), "max_position_embeddings", None) or NO_LIMIT
    return min(config.max_length or context, context)


def _left_out(skipped: Mapping[str, int], limit: int) -> str:
    """In words: how many samples are too long, and the longest by name."""
    longest = sorted(skipped, key=lambda key: (-skipped[key], key))[:NAMED]
    names = ", ".join(f"{key} ({skipped[key]:,} tokens)" for key in longest)
    rest = f" and others, all in the student's {RECORD_NAME}" if len(skipped) > NAMED else ""
    return (
        f"samples of more than {limit:,} tokens (`student.max_length`, or the base's context) are left out, "
        f"{len(skipped):,} of them: {names}{rest}"
    )


def _finished(job: _Job) -> StudentRun | None:
    """The student that a call before this one finished. Raises StudentExists for another one."""
    if not job.out.exists():
        return None
    try:
        record = json.loads((job.out / RECORD_NAME).read_text("utf-8"))
    except (OSError, ValueError):
        record = {}
    if record.pop("identity", None) != job.identity:
        raise StudentExists(
            f"{job.out} holds something other than this training's student, and nothing is "
            "overwritten: move it away, or give `run:` another folder."
        )
    return StudentRun(path=job.out, log=job.out / LOG_NAME, **record)


def _fit(
    job: _Job, tokenizer: Any, chat: ChatFormat, data: TrainingData, teachers: Mapping[str, str]
) -> StudentRun:
    _open_work(job)
    if told := origin(job.config, find_base(job.config.base, job.base_dir)):
        job.note(f"the student starts from {told}")
    if len(data.held):
        job.note(f"{len(data.held):,} of {len(data.keys):,} samples are held out")
    if chat.asked_otherwise:
        trained, asked = chat.asked_otherwise
        job.note(
            "the base's chat template writes a prompt with its answer otherwise than alone: the student is "
            f"trained behind {trained[-40:]!r}, and will be asked behind {asked[-40:]!r}"
        )
    if data.skipped:
        job.note(_left_out(data.skipped, longest_sample(job.config, job.base)))
    if idle := sorted(job.config.weights.keys() - set(data.tasks)):
        job.note(f"student.weights names {', '.join(idle)}, of which the mix has no sample")
    records = _open_records(job, tokenizer, data)
    features = _open_features(job, chat, data)
    newest = _last_checkpoint(job)
    with quiet(), _memory_told(job.config):
        trainer = _build(job, tokenizer, data, records, features)
        if job.config.tensorboard:
            log = job.out.with_name(f"{job.out.name}.tensorboard")
            trainer.add_callback(tensorboard(log, checkpoints.step_of(newest) if newest else 0))
        _train_from(job, trainer, newest)
        kept = trainer.log_file.window.best_step or trainer.state.global_step
        data = data.until(kept * job.config.batch_size * job.config.accumulate)
        final = job.work / "student"
        shutil.rmtree(final, ignore_errors=True)
        _save_model(trainer, chat, final)
    tokenizer.save_pretrained(final)
    write_card(
        final,
        job.config,
        job.manifest,
        data,
        teachers,
        run=job.run,
        key=job.key,
        seed=job.seed,
        origin=origin(job.config, find_base(job.config.base, job.base_dir)),
        on_hub=not (job.base_dir / job.config.base).is_dir(),
    )
    shutil.copyfile(trainer.log_file.path, final / LOG_NAME)
    student = StudentRun(
        path=job.out,
        weights_sha=folder_hash(final, ["*.safetensors"]),
        seconds=round(trainer.log_file.window.seconds, 3),
        steps=trainer.state.global_step,
        log=job.out / LOG_NAME,
        tokens=trainer.log_file.window.tokens,
        samples=len(data.order),
        skipped=data.skipped,
        parameters=_count_parameters(trainer),
        kept_step=kept,
    )
    record = {k: v for k, v in asdict(student).items() if k not in ("path", "log")}
    record["identity"] = job.identity
    write_atomically(final / RECORD_NAME, json.dumps(record, indent=2).encode())
    for path in [*final.iterdir(), final]:
        checkpoints.sync(path)
    final.rename(job.out)
    checkpoints.sync(job.out.parent)
    return student


def _count_parameters(trainer: "StudentTrainer") -> int:
    """Of the saved student: tied weights once, adapters merged, projectors left out."""
    from trainer import sft

    model = trainer.accelerator.unwrap_model(trainer.model)
    if hasattr(model, "peft_config"):
        model = model.get_base_model()
    return sum(
        each.numel()
        for name, each in model.named_parameters()
        if "lora_" not in name and sft.PROJECTORS not in name
    )


def _open_work(job: _Job) -> None:
    """Makes the working folder; what another training left there is removed."""
    path = job.work / IDENTITY_NAME
    if path.exists() and path.read_text() != job.identity:
        job.note("the settings changed since the last checkpoint: training begins anew")
    if not path.exists() or path.read_text() != job.identity:
        day = _day(job)
        shutil.rmtree(job.work, ignore_errors=True)
        write_atomically(job.work / DAY_NAME, day.isoformat().encode())
        write_atomically(path, job.identity.encode())


def _day(job: _Job) -> date:
    """When the training began: what a template that writes the date writes, whenever it goes on."""
    path = job.work / DAY_NAME
    return date.fromisoformat(path.read_text()) if path.exists() else date.today()


def _open_records(job: _Job, tokenizer: Any, data: TrainingData) -> Records | None:
    """The captured distributions, where the signal asks for them and they fit the student."""
    if "logit" not in job.config.signal:
        return None
    if job.records is None:
        raise RecordsMissing(
            "student.signal holds `logit`, and no folder of the teachers' distributions is given: name it as "
            "`records`, or train by `signal: hard`."
        )
    records = read_records(job.records, records_head(job.config.logit, tokenizer), job.work)
    found = require_aligned(data, records)
    if not found:
        raise RecordsMissing(
            f"the distributions in {job.records} are of none of the {len(data.keys):,} samples of this mix: "
            "they were captured for another one; `tutelage run` captures them anew, or train by `signal: hard`."
        )
    if without := len(data.keys) - found:
        job.note(
            f"{without:,} of {len(data.keys):,} samples have no distributions of their teacher: they are "
            "trained by their text"
        )
    return records


def _open_features(job: _Job, chat: ChatFormat, data: TrainingData) -> FeatureSource | None:
    """The teachers' states, where the signal asks for them. Raises FeaturesMissing, NoSuchLayer."""
    if "feature" not in job.config.signal:
        return None
    if job.features is None or not job.features.by_name:
        raise FeaturesMissing(NOBODY)
    source = FeatureSource(
        data,
        examples_by_teacher(job.mix),
        chat,
        job.features,
        job.config.feature.layers,
        text_config(job.base).num_hidden_layers,
        _block(job, job.features.together),
    )
    for name, why in source.reasons.items():
        job.note(f"no hidden states of {name}: {why}")
    if not source.covered:
        raise FeaturesMissing(
            "no trained token begins where one of its teacher's does, so there are no hidden states to learn "
            "from: the chat templates of student and teachers write the answers too differently. Leave "
            "`feature` out of `student.signal`, or take another base."
        )
    job.note(
        f"{source.covered:,} of {data.trained:,} trained tokens have their teacher's hidden states"
    )
    if not job.features.together:
        job.note("the teachers do not fit into memory together, and take turns")
    return source


def _block(job: _Job, together: bool) -> int:
    """Positions whose states are made at once: as when the training began, since sums depend on it."""
    path = job.work / BLOCK_NAME
    if not path.exists():
        batches = 1 if together else BLOCK_BATCHES
        write_atomically(path, str(batches * job.config.batch_size).encode())
    return int(path.read_text())


def _last_checkpoint(job: _Job) -> Path | None:
    """The newest whole checkpoint; none where the best weights that it speaks of are gone."""
    from safetensors import SafetensorError, safe_open

    from trainer import sft

    newest = checkpoints.newest(job.work / "checkpoints", job.note)
    if newest is None or not json.loads((newest / sft.WINDOW_NAME).read_text())["best_step"]:
        return newest
    try:
        with safe_open(job.work / sft.BEST_NAME, "pt"):
            return newest
    except (OSError, SafetensorError):
        job.note("the best weights so far are gone or damaged: training begins anew")
        shutil.rmtree(job.work / "checkpoints")
        return None


def records_head(logit: LogitConfig, tokenizer: Any) -> RecordsHead:
    """What a file of records must be over to train a student with this tokenizer."""
    vocabulary = tokenizer.get_vocab()
    size = max(vocabulary.values()) + 1
    top_k = TopKFormat(min(logit.top_k, size), size)
    return RecordsHead(top_k, vocabulary_key(vocabulary), logit.temperature)


def _build(
    job: _Job,
    tokenizer: Any,
    data: TrainingData,
    records: Records | None,
    features: FeatureSource | None,
) -> "StudentTrainer":
    import torch

    from trainer import sft

    bf16 = wants_bf16(job.config.dtype)
    frozen = (
        job.config.lora is not None
    )  # frozen weights need no float32 copy to add small steps to
    model = load_model(job.base, torch.bfloat16 if bf16 and frozen else torch.float32)
    refuse_targets(job.config, model)
    _check_embeddings(job.config, model, data)
    steps = sft.count_steps(job.config, len(data.order))
    log = LossLog(job.work / LOG_NAME, sft.log_every(steps), data.groups)
    args = sft.arguments(
        job.config, job.work / "checkpoints", job.seed, steps, model.num_parameters(), bf16
    )
    trainer = sft.StudentTrainer(model, tokenizer, data, args, log, job.config, records, features)
    trainer.add_callback(sft.Bookkeeper(trainer, job.config, job.on_progress))
    return trainer


def _check_embeddings(config: StudentConfig, model: Any, data: TrainingData) -> None:
    embedded, highest = model.get_input_embeddings().num_embeddings, int(data.ids.max(initial=0))
    if highest >= embedded:
        raise BadBase(
            f"the tokenizer of {config.base} writes token {highest}, and its model embeds {embedded} tokens "
            "alone: take the tokenizer that the model was made with, or enlarge its embeddings."
        )


def wants_bf16(dtype: str) -> bool:
    """Whether the arithmetic is in bfloat16, by the recipe's word or where the GPU has it."""
    import torch

    if dtype == "auto":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return dtype == "bfloat16"


def _train_from(job: _Job, trainer: "StudentTrainer", checkpoint: Path | None) -> None:
    from trainer import sft

    if checkpoint is None:
        trainer.log_file.resume(Window(), 0)
        trainer.train()
    else:
        job.note(f"training goes on from step {sft.resume(trainer, checkpoint)}")
        trainer.train(resume_from_checkpoint=str(checkpoint))
    if len(trainer.data.held):
        window, steps = trainer.log_file.window, trainer.state.global_step
        trainer.bring_back()
        ended = "ended early" if steps < trainer.state.max_steps else "ended"
        job.note(
            f"training {ended} after step {steps:,}; kept are the weights of step {window.best_step:,}, whose "
            f"loss on what is held out was the least ({window.best:.4f})"
        )


@contextlib.contextmanager
def _memory_told(config: StudentConfig) -> Iterator[None]:
    """Says which settings to change where the memory is at its end."""
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        told = str(error).strip().splitlines()
        at_end = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not (at_end or any(words in str(error) for words in NO_MEMORY)):
            raise
        raise OutOfMemory(
            f"the training ran out of memory ({told[0] if told else 'no memory left'}). It needs less with "
            f"{', with '.join(_savings(config))}."
        ) from error


def _savings(config: StudentConfig) -> Iterator[str]:
    """What takes less memory, of what is not done yet."""
    if config.batch_size > 1:
        half = config.batch_size // 2
        parts = config.accumulate * -(-config.batch_size // half)
        yield (
            f"a smaller `student.batch_size` ({config.batch_size}: with {half} and `accumulate: {parts}` the "
            "steps stay the same)"
        )
    if not config.recompute:
        yield "`student.recompute: true`, which makes activations again instead of keeping them"
    if config.lora is None:
        yield "`student.lora`, which keeps no optimiser's averages of frozen weights"
    yield "shorter samples (`student.max_length`)"
    yield "a smaller student (`student.layers`, or another `student.base`)"


def _save_model(trainer: "StudentTrainer", chat: ChatFormat, folder: Path) -> None:
    """A plain folder: adapters merged, in the base's precision, with the template's end token."""
    from transformers import AutoConfig

    from trainer import sft

    model = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    place = model.config._name_or_path
    if hasattr(model, "peft_config"):
        if trainer.config.lora is not None and trainer.config.lora.keep:
            _save_adapter(model, folder / ADAPTER_FOLDER)
        model = model.merge_and_unload()
    if hasattr(model, sft.PROJECTORS):
        delattr(model, sft.PROJECTORS)
    vars(model).pop("forward", None)  # TRL's head and autocast patch the instance
    if broken := [name for name, each in model.named_parameters() if not each.isfinite().all()]:
        raise diverged(
            f"{len(broken)} of the student's weights, such as {broken[0]}, hold no numbers at the end"
        )
    stored = AutoConfig.from_pretrained(place, trust_remote_code=False).dtype
    if stored is not None:
        model = model.to(stored)
    stops = chat.end_ids
    model.generation_config.eos_token_id = list(stops) if len(stops) > 1 else stops[0]
    model.generation_config.pad_token_id = trainer.processing_class.pad_token_id
    model.save_pretrained(folder)


def _save_adapter(model: Any, folder: Path) -> None:
    """The adapters alone: what else PEFT saved with them is no part of the student."""
    from peft.utils import save_and_load
    from safetensors.torch import save_file

    own = {
        name: each.contiguous()
        for name, each in save_and_load.get_peft_model_state_dict(model).items()
        if "lora_" in name
    }
    (config,) = model.peft_config.values()
    config.modules_to_save = config.exclude_modules = None
    config.inference_mode = True
    config.save_pretrained(folder)
    save_file(own, folder / "adapter_model.safetensors", {"format": "pt"})


def _record(
    ledger: Ledger, job: _Job, student: StudentRun, data: TrainingData, started: int
) -> None:
    """Ledger rows: the run, what it consumed, the base's licence. Once, whoever calls again."""
    ledger.fold()
    if ledger.rows("SELECT 1 FROM student_run WHERE key = ?", [job.key]):
        return
    mixes = ledger.rows(
        "SELECT key FROM mix WHERE lock_sha = ? ORDER BY id DESC LIMIT 1", [job.manifest.lock_sha]
    )
    ended = now_us()
    row = {
        "key": job.key,
        "run": job.run,
        "mix": mixes[0][0] if mixes else None,
        "base": job.config.base,
        "settings": json.dumps(job.config.model_dump(), ensure_ascii=False),
        "path": str(job.out),
        "weights_sha": student.weights_sha,
        "started_at": started,
        "ended_at": ended,
        "seconds": student.seconds,
    }
    licence = {
        "kind": "base",
        "subject": job.config.base,
        "licence": job.config.licence or "unknown",
        "recorded_at": ended,
    }
    consumed = [
        {"student_run": job.key, "sample": sample, "times": times}
        for sample, times in data.times().items()
    ]
    ledger.put_all([("student_run", [row]), ("consumed", consumed), ("licence", [licence])])
    ledger.fold()
