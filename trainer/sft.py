"""The student's trainer: TRL's SFTTrainer with the mix's order, sealed checkpoints and our own log.

What TRL and transformers do at every step for the sake of metrics (entropy, accuracy, operations,
NaN filter) is left out: at a quarter of a million parameters it takes as long as the arithmetic.
Imports torch; imported by `trainer.run` when training begins.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from transformers import PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer
from trl.models.utils import _ForwardRedirection

from ledger.records import Records
from ledger.threads import threads_for
from trainer import checkpoints
from trainer.config import StudentConfig
from trainer.data import Collator, CurriculumSampler, Rows, TrainingData
from trainer.features import FeatureSource, States
from trainer.head import StudentHead, keeps_apart
from trainer.losslog import POINTS, LossLog, Window
from trainer.signals.feature import Projectors, feature_loss
from trainer.signals.logit import Objective, Targets

WINDOW_NAME = "window.json"
BEST_NAME = "best.safetensors"
MEASUREMENTS = 20  # on what is held out, in a whole training
PROJECTORS = "feature_projectors"  # the student's submodule while it trains, and not at the end
CHECKPOINT_S = 10.0  # least seconds between checkpoints
CHECKPOINT_COST = 50  # and at least so many times what the last one took
PROGRESS_S = 0.5
RECOMPUTE_ABOVE = 1_000_000_000  # parameters: larger students on a GPU recompute activations


@dataclass(frozen=True, slots=True)
class TrainProgress:
    """How far the training is. `note` says something once; `loss` is the newest line of the log."""

    step: int
    steps: int
    loss: float
    tokens: int
    learning_rate: float
    elapsed_s: float
    steps_per_s: float
    note: str = ""


class StudentTrainer(SFTTrainer):
    """Trains on `data` in its order, towards `records` and the teachers' states where there are any.

    Checkpoints under `folder` are complete or absent.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        data: TrainingData,
        args: SFTConfig,
        log: LossLog,
        config: StudentConfig,
        records: Records | None = None,
        features: FeatureSource | None = None,
    ) -> None:
        self.data, self.log_file = data, log
        self.config, self._features = config, features
        self._objective = Objective(config.logit.beta, config.logit.temperature)
        self._staging: Path | None = None
        packs = config.packing and keeps_apart(model)
        if features is not None:
            model.add_module(PROJECTORS, _projectors(model, features, config, args.seed))
        super().__init__(
            model=model,
            args=args,
            train_dataset=Dataset.from_dict({"input_ids": [[0]]}),  # TRL wants one to look at
            data_collator=_no_collator,
            processing_class=tokenizer,
            peft_config=lora(config, keep=None if features is None else PROJECTORS),
        )
        self.train_dataset = Rows(len(data.keys))
        self.data_collator = Collator(
            data,
            tokenizer.pad_token_id or 0,
            with_mask=self.aux_loss_enabled,
            packs=packs and not self.aux_loss_enabled,
            records=records,
            alpha=config.logit.alpha,
            weights=config.weights,
        )
        inner = self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model
        del inner.forward  # TRL's patch of the instance; the class's own shows again
        self._head = StudentHead(inner)
        self.remove_callback(PrinterCallback)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As TRL's, with the threads that the student's size pays for."""
        with threads_for(self.model.num_parameters()):
            return super().train(*args, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return CurriculumSampler(self.data.order)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> int:
        """Trained tokens of one step, over all its forward passes and processes."""
        count = sum(batch["trained"] for batch in batch_samples)
        if self.args.world_size > 1:
            count = int(self.accelerator.gather(torch.tensor([count], device=device)).sum())
        self.log_file.window.tokens += count
        return count

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: int | None = None,
    ) -> Any:
        """Mean loss over the step's trained tokens, whatever forward passes it is cut into."""
        assert not return_outputs, "nothing is evaluated by the outputs of a training step"
        trained, rows = inputs.pop("trained"), inputs.pop("rows")
        states = [] if self._features is None else self._features.states_of(rows)
        # Whatever wraps the model is called as always; PEFT adds arguments on the way, which are dropped.
        total, sums = _ForwardRedirection()(
            model,
            self._head.model,
            lambda *_, **__: self._summed(states=states, **inputs),
            input_ids=inputs["input_ids"],
        )
        self.log_file.add_groups(sums)
        return total * self.accelerator.num_processes / (num_items_in_batch or trained)

    def _summed(
        self,
        *,
        states: list[States],
        input_ids: torch.Tensor,
        places: torch.Tensor,
        groups_N: torch.Tensor,
        feature_weights_N: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        **targets: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The weighted loss summed over the batch, with the balance of a mixture of experts where that is asked
        for; and by group what the log adds up.
        """
        goal = Targets(**targets)
        with self.accelerator.autocast():
            losses, outputs = self._head.losses(
                input_ids,
                places,
                goal,
                self._objective,
                attention_mask=attention_mask,
                position_ids=position_ids,
                hidden_states=bool(states),
                router_logits=self.aux_loss_enabled,
            )
            has_feature_N, feature_N = self._feature_losses(states, outputs, places)
        total = losses.total
        if states:
            total = total + self.config.feature.weight * (feature_N @ feature_weights_N)
        with torch.no_grad():
            has_record_N = goal.kd_weights_N > 0
            each = [
                torch.ones_like(losses.ce_N),
                losses.ce_N,
                has_record_N,
                losses.kd_N * has_record_N,
            ]
            columns_N_C = torch.stack([*each, has_feature_N, feature_N.detach()], dim=1).double()
            sums_G_C = columns_N_C.new_zeros(len(self.log_file.groups), columns_N_C.shape[1])
            sums_G_C.index_add_(0, groups_N, columns_N_C)
        if self.aux_loss_enabled:
            total = total + self.router_aux_loss_coef * outputs.aux_loss * len(places)
        return total, sums_G_C

    def measure(self) -> tuple[float, dict[str, Any]]:
        """The mean loss per token on what is held out, hidden states apart, and its parts."""
        ends = self.data.offsets.tolist()
        rows = sorted(self.data.held.tolist(), key=lambda row: ends[row + 1] - ends[row])
        size = self.args.per_device_train_batch_size
        loss, tokens, sums = 0.0, 0, torch.zeros(())
        model = self._head.model
        was_training = model.training
        model.eval()
        with torch.no_grad():
            for start in range(0, len(rows), size):
                batch = self._prepare_inputs(self.data_collator(rows[start : start + size]))
                tokens += batch.pop("trained")
                del batch["rows"]
                total, by_group = self._summed(states=[], **batch)
                loss, sums = loss + float(total), sums + by_group
        model.train(was_training)
        return loss / tokens, self.log_file.parts(sums.tolist())

    def keep(self) -> None:
        """Puts down the weights as the best so far: complete, or the ones before."""
        path = Path(self.args.output_dir).with_name(BEST_NAME)
        partial = path.with_name(f"{BEST_NAME}.partial")
        save_file({name: each.detach().contiguous() for name, each in self._learnt()}, partial)
        checkpoints.sync(partial)
        partial.replace(path)

    def bring_back(self) -> None:
        """Loads the weights that were kept."""
        found = load_file(Path(self.args.output_dir).with_name(BEST_NAME))
        with torch.no_grad():
            for name, parameter in self._learnt():
                parameter.copy_(found[name])

    def _learnt(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """The student's own weights that are trained."""
        model = self.accelerator.unwrap_model(self.model)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and PROJECTORS not in name:
                yield name, parameter

    def _feature_losses(
        self, states: list[States], outputs: Any, places_N: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Which of the N trained tokens have a teacher's states, and the mean distance from those layers."""
        has_N = torch.zeros(len(places_N), device=places_N.device)
        losses_N = torch.zeros(len(places_N), device=places_N.device)
        for found in states:
            assert self._features is not None
            projectors = getattr(self._head.model, PROJECTORS)
            tokens_n = found.tokens_n.to(places_N.device)
            has_N[tokens_n] = 1.0
            pairs = self._features.pairs[found.teacher]
            for number, (pair, taught_n_E) in enumerate(zip(pairs, found.by_pair, strict=True)):
                own_n_D = outputs.hidden_states[pair.student].flatten(0, 1)[places_N[tokens_n]]
                projected_n_E = projectors(own_n_D, found.teacher, number)
                each_n = feature_loss(
                    projected_n_E, taught_n_E.to(places_N.device), self.config.feature.loss
                )
                losses_N = losses_N.index_add(0, tokens_n, each_n / len(pairs))
        return has_N, losses_N

    def training_step(self, *args: Any, **options: Any) -> torch.Tensor:
        loss = super().training_step(*args, **options)
        self.log_file.add(loss)
        return loss

    def begin(self, step: int) -> None:
        """Says after which step the training goes on."""
        if self._features is not None:
            self._features.begin(step * self.config.batch_size * self.config.accumulate)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        return 0  # counting the parameters at every step costs more than the figure is worth

    def _send_telemetry(self) -> None:
        """Nothing is sent."""

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging) if self._staging else str(super()._get_output_dir(trial))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        step = self.state.global_step
        window = self.log_file.state(step)
        with checkpoints.writing(Path(self.args.output_dir), step) as self._staging:
            super(SFTTrainer, self)._save_checkpoint(model, trial)  # TRL's adds a model card
            path = self._staging / f"checkpoint-{step}" / WINDOW_NAME
            path.write_text(json.dumps(window))
        self._staging = None

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Weights alone: tokenizer and arguments do not change between checkpoints."""
        self.accelerator.unwrap_model(self.model).save_pretrained(output_dir, state_dict=state_dict)


class Bookkeeper(TrainerCallback):
    """After each step: log, progress, and the decision whether a checkpoint is due."""

    def __init__(
        self,
        trainer: StudentTrainer,
        config: StudentConfig,
        on_progress: Callable[[TrainProgress], None] | None,
    ) -> None:
        self.trainer, self.config, self.on_progress = trainer, config, on_progress
        self.log, self.every = trainer.log_file, config.checkpoint_every
        self._rate = 0.0
        self._pause = CHECKPOINT_S
        self._checked = self._shown = self._ticked = self._began = time.monotonic()
        self._first = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._checked = self._shown = self._ticked = self._began = time.monotonic()
        self._first = state.global_step

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        self._rate = parts["optimizer"].param_groups[0]["lr"]  # before the schedule moves on

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        now, step = time.monotonic(), state.global_step
        last = step == state.max_steps
        window = self.log.window
        window.steps += 1
        window.seconds += now - self._ticked
        self._ticked = now
        held_out = self._measure(step, state.max_steps, control)
        last = last or control.should_training_stop
        if step % self.log.every == 0 or last or held_out:
            line = self.log.write(step, self._rate, held_out)
            if self.config.tensorboard:
                self.trainer.log(_flat(line))
        if self.on_progress and (last or now - self._shown >= PROGRESS_S):
            self._shown = now
            self.on_progress(self._progress(state, now))
        control.should_save = not last and self._due(step, now)

    def _measure(self, step: int, steps: int, control: Any) -> dict[str, Any] | None:
        """What is held out, where it is due; keeps the best weights, and ends a training without patience."""
        every = self.config.validate_every or max(1, steps // MEASUREMENTS)
        if not len(self.trainer.data.held) or (step % every and step != steps):
            return None
        self.log.settle(step)  # a diverged student is not measured
        loss, parts = self.trainer.measure()
        window = self.log.window
        if window.best is None or loss < window.best:
            window.best, window.best_step, window.since = loss, step, 0
            self.trainer.keep()
        else:
            window.since += 1
        if self.config.patience is not None and window.since >= self.config.patience:
            control.should_training_stop = True
        return {"loss": round(loss, 6), **parts}

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        now = time.monotonic()
        self._pause = max(CHECKPOINT_S, CHECKPOINT_COST * (now - self._ticked))
        self._checked = now

    def _due(self, step: int, now: float) -> bool:
        if self.every:
            return step % self.every == 0
        return now - self._checked >= self._pause

    def _progress(self, state: Any, now: float) -> TrainProgress:
        step, window = state.global_step, self.log.window
        return TrainProgress(
            step=step,
            steps=state.max_steps,
            loss=self.log.last_loss,
            tokens=window.tokens,
            learning_rate=self._rate,
            elapsed_s=window.seconds,
            steps_per_s=(step - self._first) / max(now - self._began, 1e-9),
        )


def _flat(line: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """A line of the log with its nested numbers by joined names."""
    found: dict[str, float] = {}
    for name, value in line.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}/")
        elif name != "step":
            found[prefix + name] = value
    return found


def count_steps(config: StudentConfig, positions: int) -> int:
    """Optimiser steps of one training."""
    batches = -(-positions // config.batch_size)
    return -(-batches // config.accumulate)


def log_every(steps: int) -> int:
    """Steps between lines of the log."""
    return max(1, round(steps / POINTS))


def arguments(
    config: StudentConfig, folder: Path, seed: int, steps: int, parameters: int, bf16: bool
) -> SFTConfig:
    """TRL's arguments for this student. One pass: the sampler holds all epochs."""
    gpu = torch.cuda.is_available()
    constant = config.schedule == "constant"
    recompute = config.recompute
    if recompute is None:
        recompute = gpu and parameters > RECOMPUTE_ABOVE
    args = SFTConfig(
        output_dir=str(folder),
        use_cpu=not gpu,
        bf16=bf16,
        seed=seed % 2**32,
        num_train_epochs=1,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulate,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant_with_warmup" if constant else config.schedule,
        warmup_steps=round(config.warmup * steps),
        weight_decay=config.weight_decay,
        adam_beta2=config.adam_beta2,
        gradient_checkpointing=recompute,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        dataloader_pin_memory=gpu,
        logging_strategy="no",
        save_strategy="no",
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
    )
    args._n_gpu = min(args.n_gpu, 1)  # several visible GPUs would wrap the model in DataParallel
    return args


def lora(config: StudentConfig, keep: str | None) -> Any:
    """PEFT's settings, or None for full training. `keep` names a module that is trained as it is."""
    if config.lora is None:
        return None
    from peft import LoraConfig, TaskType

    return LoraConfig(
        modules_to_save=keep and [keep],
        exclude_modules=keep and rf".*\b{keep}\b.*",
        task_type=TaskType.CAUSAL_LM,
        r=config.lora.rank,
        lora_alpha=config.lora.alpha or 2 * config.lora.rank,
        lora_dropout=config.lora.dropout,
        target_modules=config.lora.targets or "all-linear",
    )


def _projectors(
    model: Any, features: FeatureSource, config: StudentConfig, seed: int
) -> Projectors:
    """One for each teacher and pair of layers, in float32 whatever the student is kept in."""
    width = model.config.get_text_config().hidden_size
    widths = [teacher.width for teacher in features.teachers]
    pairs = len(config.feature.layers)
    return Projectors(width, widths, pairs, config.feature.projector, seed)


def resume(trainer: StudentTrainer, checkpoint: Path) -> int:
    """Brings log and features to where the checkpoint was taken; returns its step."""
    step = checkpoints.step_of(checkpoint)
    trainer.begin(step)
    window = Window(**json.loads((checkpoint / WINDOW_NAME).read_text()))
    trainer.log_file.resume(window, step)
    return step


def _no_collator(rows: Any) -> Any:
    raise AssertionError("replaced once TRL has built the trainer")
