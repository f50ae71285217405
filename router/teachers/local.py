"""Teachers whose weights run in this process: batched `transformers` generation.

Prompts go through the tokenizer's chat template and are padded on the left. The same batch gives
the same answers. Weights are read from safetensors only, when the first answer is due, in the one
thread that runs all local teachers; no code that comes with a model is run.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ledger.keys import content_key, folder_hash, teacher_key
from ledger.prompts import Prompt
from ledger.threads import threads_for
from ledger.weights import BrokenWeights, refuse_broken, refuse_missing
from router.teachers.errors import CallError, TeacherUnavailable
from router.teachers.protocol import Answer, Sampling, lacking, too_long, with_system

if TYPE_CHECKING:
    import numpy as np
    import torch

T = TypeVar("T")

# Whatever can change an answer: weights, how text becomes tokens, where an answer ends.
IDENTITY = (
    "*.safetensors",
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "chat_template*",
    "additional_chat_templates/*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
)
ADAPTER_IDENTITY = ("adapter_model.safetensors", "adapter_config.json")

MOST_IDS = 4_096  # prompts whose tokens are kept between `check` and `answer`
LOGIT_TOKENS = 2048  # whose logits are in memory together: 400 MB with 50,000 words

# Local teachers share the machine, so they share one thread: two at once would only be slower.
_THREAD = ThreadPoolExecutor(1, thread_name_prefix="local-teacher")


class Foretelling(NamedTuple):
    """What a model foretells at T places: log-probabilities (T, K) of the tokens asked for and (T) of the one
    that comes, the likeliest token (T), and its probability (T).
    """

    logprobs_T_K: "np.ndarray"
    next_T: "np.ndarray"
    best_T: "np.ndarray"
    confidence_T: "np.ndarray"


class LocalTeacher:
    """A model folder, perhaps with a peft adapter, that answers in batches."""

    kind = "local"
    remote = False
    start_in_flight = max_in_flight = 1
    rpm: float | None = None
    tpm: float | None = None
    budget_usd: float | None = None
    batch_api = None
    server = None
    by_batch = False

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        model: str,
        adapter: Path | None,
        system: str | None,
        dtype: str,
        batch_size: int,
        context: int | None,
        lacks: Sequence[str],
        licence: str,
        settings: dict[str, Any],
        chat_template: str | None = None,
    ) -> None:
        self.name, self.model, self.licence, self.settings = name, model, licence, settings
        self.folder, self.adapter, self.system = folder, adapter, system
        self.dtype, self.batch_size = dtype, batch_size
        self.context, self.lacks = context or _context_of(folder), lacks
        self.chat_template = chat_template
        self.revision = _revision(folder, adapter, chat_template)
        # The revision stands for the model: a folder that was moved is still the same teacher.
        self.key = teacher_key(
            model="", revision=self.revision, kind="local", quantisation=dtype, system=system or ""
        )
        self._tokenizer: Any = None
        self._network: Any = None
        self._ids: dict[str, list[int]] = {}  # tokens of prompts that `check` saw, until answered

    def require_ready(self) -> None:
        """The folder was looked into when it was opened."""

    async def check(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[CallError | None]:
        return await _in_thread(lambda: [self._problem(prompt, sampling) for prompt in prompts])

    async def answer(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Answer]:
        stop = threading.Event()
        try:
            return await _in_thread(lambda: self._generate(prompts, sampling, stop))
        except asyncio.CancelledError:
            stop.set()  # the thread cannot be cancelled; it ends at the next token
            raise

    async def logprobs(self, rows: Sequence[tuple[Sequence[int], int]]) -> "list[np.ndarray]":
        """Log-probabilities (nats), float32, of the tokens of each row (ids, start) from `start` on, which
        is 1 at least. Tokens beyond the model's context get none.
        """
        return await _in_thread(lambda: self._logprobs(rows))

    async def top_k(
        self, rows: Sequence[tuple[Sequence[int], int]], k: int, vocabulary: int, temperature: float
    ) -> "list[tuple[np.ndarray, np.ndarray]]":
        """For each row (ids, start) the `k` likeliest tokens at its places from `start` on: ids (T, k) int64
        and probabilities (T, k) float32 of the softmax at `temperature`, highest first.

        Only ids below `vocabulary` are named; what others have is missing from the sum. Places beyond the
        model's context are left out.
        """
        return await _in_thread(lambda: self._top_k(rows, k, vocabulary, temperature))

    async def held_against(
        self, rows: Sequence[tuple[Sequence[int], int]], ids: "Sequence[np.ndarray]"
    ) -> "list[Foretelling]":
        """For each row (ids, start) what the model foretells of its places from `start` on, by
        log-probabilities of the tokens (T, K) that `ids` names there. Places beyond the model's context are
        left out.
        """
        return await _in_thread(lambda: self._held_against(rows, ids))

    def hidden_states(
        self, tokens_B_T: "torch.Tensor", mask_B_T: "torch.Tensor", layers: Sequence[int]
    ) -> "list[torch.Tensor]":
        """The states (B, T, `width`) that each of `layers` gives, counted from 1, as far as the model's context
        reaches. Loads the weights where they are not loaded.
        """
        import torch

        network = self._loaded_network()
        with torch.no_grad(), threads_for(network.num_parameters()):
            states = network.base_model(
                tokens_B_T.to(network.device),
                attention_mask=mask_B_T.to(network.device),
                use_cache=False,
                output_hidden_states=True,
            ).hidden_states
        return [states[layer] for layer in layers]

    def shape(self) -> tuple[int, int]:
        """How many layers the model has, and how wide its hidden states are."""
        from transformers import AutoConfig

        with _load_errors(self.name, self.folder):
            config = AutoConfig.from_pretrained(
                self.folder, local_files_only=True, trust_remote_code=False
            ).get_text_config()
        return config.num_hidden_layers, config.hidden_size

    @property
    def weights_bytes(self) -> int:
        """How large the weights are on disk."""
        return sum(path.stat().st_size for path in self.folder.glob("*.safetensors"))

    def unload(self) -> None:
        """Lets go of the weights, where no other thread uses them; they come back when they are needed."""
        self._network = None

    def tokenizer(self) -> Any:
        """The model's tokenizer, with the chat template that its prompts go through."""
        return self._loaded_tokenizer()

    def size(self, prompt: Prompt, sampling: Sampling) -> int:
        return 0

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        return 0.0

    def worst_cost_usd(self, prompt: Prompt, sampling: Sampling) -> float | None:
        return 0.0

    async def close(self) -> None:
        await _in_thread(self._unload)

    def _unload(self) -> None:
        self.unload()
        self._tokenizer = None
        self._ids.clear()

    def _problem(self, prompt: Prompt, sampling: Sampling) -> CallError | None:
        if lack := lacking(prompt, self.lacks):
            return lack
        try:
            ids = self._tokenise(prompt)
        except CallError as error:
            return error
        if len(self._ids) >= MOST_IDS:  # of prompts that were checked and not answered
            self._ids.clear()
        self._ids[prompt.key] = ids
        if sampling.top_logprobs:
            return CallError(
                "no_logprobs",
                "`local` teachers give no log-probabilities: leave `top_logprobs` out",
            )
        if self.context is None:
            return None
        return too_long(len(ids), sampling, self.context, estimated=False)

    def _tokenise(self, prompt: Prompt) -> list[int]:
        tokenizer = self._loaded_tokenizer()
        try:
            text = tokenizer.apply_chat_template(
                with_system(prompt, self.system),
                tools=list(prompt.tools) if prompt.tools else None,
                tokenize=False,
                add_generation_prompt=True,
            )
            return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        except Exception as error:  # templates raise what they like, tokenizers for half characters
            raise CallError(
                "bad_prompt", f"the chat template or tokenizer of `{self.name}` refused it: {error}"
            ) from error

    def _generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, stop: threading.Event
    ) -> list[Answer]:
        import torch

        network, tokenizer = self._loaded_network(), self._loaded_tokenizer()
        ids = [self._ids.pop(prompt.key, []) or self._tokenise(prompt) for prompt in prompts]
        width = max(map(len, ids))
        fill = network.generation_config.pad_token_id
        tokens_B_P = torch.tensor([[fill] * (width - len(row)) + row for row in ids])
        mask_B_P = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids])
        threads = threads_for(network.num_parameters())
        with torch.inference_mode(), threads, _dice(sampling, prompts):
            out_B_T = network.generate(
                tokens_B_P.to(network.device),
                attention_mask=mask_B_P.to(network.device),
                stopping_criteria=[_Stop(stop)],
                **_generation_arguments(sampling),
            )
        if stop.is_set():
            raise CallError("cancelled", "generation was stopped")
        rows = out_B_T[:, width:].tolist()
        ends = set(_as_list(network.generation_config.eos_token_id))
        return [
            self._read(tokenizer, row, ends, len(row_ids))
            for row, row_ids in zip(rows, ids, strict=True)
        ]

    def _logprobs(self, rows: Sequence[tuple[Sequence[int], int]]) -> "list[np.ndarray]":
        import numpy as np
        import torch

        found = [np.zeros(0, np.float32)] * len(rows)
        for i, logits_T_V in self._foretelling(rows):
            ids, start = rows[i]
            next_T = torch.tensor(ids[start : start + len(logits_T_V)], device=logits_T_V.device)
            chosen_T = logits_T_V.gather(1, next_T[:, None])[:, 0]
            found[i] = (chosen_T - logits_T_V.logsumexp(1)).cpu().numpy()
        return found

    def _top_k(
        self, rows: Sequence[tuple[Sequence[int], int]], k: int, vocabulary: int, temperature: float
    ) -> "list[tuple[np.ndarray, np.ndarray]]":
        import numpy as np

        found = [(np.zeros((0, k), np.int64), np.zeros((0, k), np.float32))] * len(rows)
        for i, logits_T_V in self._foretelling(rows):
            top = (logits_T_V / temperature).softmax(1)[:, :vocabulary].topk(k, dim=1)
            found[i] = (top.indices.cpu().numpy(), top.values.cpu().numpy())
        return found

    def _held_against(
        self, rows: Sequence[tuple[Sequence[int], int]], ids: "Sequence[np.ndarray]"
    ) -> "list[Foretelling]":
        import numpy as np
        import torch

        nothing = np.zeros(0, np.float64)
        found = [
            Foretelling(np.zeros((0, each.shape[1])), nothing, nothing.astype(np.int64), nothing)
            for each in ids
        ]
        for i, logits_T_V in self._foretelling(rows):
            tokens, start = rows[i]
            logprobs_T_V = logits_T_V.log_softmax(1)
            places = len(logits_T_V)
            asked_T_K = torch.as_tensor(ids[i][:places], device=logits_T_V.device)
            next_T = torch.tensor(tokens[start : start + places], device=logits_T_V.device)
            best_T = logprobs_T_V.max(dim=1)
            found[i] = Foretelling(
                logprobs_T_V.gather(1, asked_T_K).double().cpu().numpy(),
                logprobs_T_V.gather(1, next_T[:, None])[:, 0].double().cpu().numpy(),
                best_T.indices.cpu().numpy(),
                best_T.values.exp().double().cpu().numpy(),
            )
        return found

    def _foretelling(
        self, rows: Sequence[tuple[Sequence[int], int]]
    ) -> "Iterator[tuple[int, torch.Tensor]]":
        """Each row's number with the logits (T, V) float32 that foretell its tokens from its start on.

        Batches of rows of about one length; logits are made of the positions that are asked for alone.
        """
        import torch

        network = self._loaded_network()
        cut = [list(ids)[: self.context] for ids, _ in rows]
        within = [i for i, (_, start) in enumerate(rows) if start < len(cut[i])]
        order = sorted(within, key=lambda i: len(cut[i]))
        for batch in _batches(order, [len(ids) for ids in cut]):
            ids = [cut[i] for i in batch]
            starts = [rows[i][1] for i in batch]
            width = max(map(len, ids))
            tokens_B_T = torch.tensor([row + [0] * (width - len(row)) for row in ids])
            mask_B_T = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids])
            first = min(starts)  # the first token that is foretold
            with torch.inference_mode(), threads_for(network.num_parameters()):
                logits_B_K_V = network(
                    tokens_B_T.to(network.device),
                    attention_mask=mask_B_T.to(network.device),
                    logits_to_keep=width - first + 1,
                ).logits[:, :-1]
            for place, i in enumerate(batch):
                asked = slice(starts[place] - first, len(ids[place]) - first)
                yield i, logits_B_K_V[place, asked].float()

    def _read(self, tokenizer: Any, row: list[int], ends: set[int], prompt_tokens: int) -> Answer:
        """The answer in a row of generated tokens: up to the first end token, all of it if none."""
        stop = next((i for i, token in enumerate(row) if token in ends), None)
        body = row if stop is None else row[:stop]
        return Answer(
            text=tokenizer.decode(body, skip_special_tokens=True),
            finish_reason="length" if stop is None else "stop",
            prompt_tokens=prompt_tokens,
            completion_tokens=len(body) if stop is None else len(body) + 1,
            model=self.model,
            cost_usd=0.0,
            price_source="none",
        )

    def _loaded_tokenizer(self) -> Any:
        if self._tokenizer is None:
            self._tokenizer = _load_tokenizer(self.name, self.folder, self.chat_template)
        return self._tokenizer

    def _loaded_network(self) -> Any:
        if self._network is None:
            import torch
            from transformers import AutoModelForCausalLM, GenerationConfig

            with _load_errors(self.name, self.folder), _quiet_loading():
                network, found = AutoModelForCausalLM.from_pretrained(
                    self.folder,
                    dtype=self.dtype,
                    use_safetensors=True,
                    local_files_only=True,
                    trust_remote_code=False,
                    output_loading_info=True,
                )
                refuse_missing(found["missing_keys"], str(self.folder))
                if self.adapter is not None:
                    from peft import PeftModel

                    network = PeftModel.from_pretrained(network, self.adapter).merge_and_unload()
            ends = _as_list(network.generation_config.eos_token_id) or _as_list(
                self._loaded_tokenizer().eos_token_id
            )
            fill = self._loaded_tokenizer().pad_token_id
            # Whatever else the folder's generation_config.json sets (top_k, a repetition penalty)
            # is not in the recipe, so it is not used.
            network.generation_config = GenerationConfig(
                eos_token_id=ends or None,
                pad_token_id=fill if fill is not None else (ends or [0])[0],
            )
            device = "cuda" if torch.cuda.is_available() else "cpu"
            self._network = network.to(device).eval()
        return self._network


def find_tokenizer(name: str, model: str, base_dir: Path) -> Any:
    """The tokenizer of a model that a server runs: from its folder, else from the hub's cache."""
    folder = base_dir / model
    return _load_tokenizer(name, folder if folder.is_dir() else model, None)


def _load_tokenizer(name: str, place: Path | str, chat_template: str | None) -> Any:
    from transformers import AutoTokenizer

    with _load_errors(name, place):
        tokenizer = AutoTokenizer.from_pretrained(
            place, local_files_only=True, trust_remote_code=False
        )
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    if not tokenizer.chat_template:
        raise CallError(
            "no_chat_template",
            f"the tokenizer in {place} has no chat template: add a chat_template.jinja there, or use "
            "the instruction-tuned version of the model.",
            fatal=True,
        )
    return tokenizer


def _batches(order: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    """Numbers of rows in `order`, shortest first, in batches of LOGIT_TOKENS at most, padding included."""
    batch: list[int] = []
    for i in order:
        if batch and (len(batch) + 1) * lengths[i] > LOGIT_TOKENS:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


class _Stop:
    """A stopping criterion that someone else can set."""

    def __init__(self, event: threading.Event) -> None:
        self._event = event

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        import torch

        return torch.full((input_ids.shape[0],), self._event.is_set(), device=input_ids.device)


async def _in_thread(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(_THREAD, work)


def _generation_arguments(sampling: Sampling) -> dict[str, Any]:
    if sampling.temperature == 0:
        return {"do_sample": False, "max_new_tokens": sampling.max_tokens}
    return {
        "do_sample": True,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": 0,
        "max_new_tokens": sampling.max_tokens,
    }


@contextlib.contextmanager
def _dice(sampling: Sampling, prompts: Sequence[Prompt]) -> Iterator[None]:
    """Seeds torch by the sampling seed and the batch, and gives the old state back."""
    import torch

    if sampling.temperature == 0 or sampling.seed is None:
        yield
        return
    with torch.random.fork_rng():
        key = content_key([sampling.seed, [prompt.key for prompt in prompts]])
        torch.manual_seed(int(key[:15], 16))
        yield


@contextlib.contextmanager
def _load_errors(name: str, folder: Path | str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # loaders raise OSError, ValueError, KeyError, SafetensorError …
        raise CallError(
            "cannot_load",
            f"teacher `{name}` cannot be loaded from {folder}: {type(error).__name__}: {error}",
            fatal=True,
        ) from error


@contextlib.contextmanager
def _quiet_loading() -> Iterator[None]:
    """Keeps transformers' loading bars off a terminal that is not ours to write to."""
    from transformers.utils import logging as hf_logging

    was_on = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            hf_logging.enable_progress_bar()


def _as_list(value: int | list[int] | None) -> list[int]:
    if value is None:
        return []
    return [value] if isinstance(value, int) else list(value)


def _context_of(folder: Path) -> int | None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise TeacherUnavailable(f"{folder / 'config.json'} is not JSON: {error}") from error
    config = config.get("text_config", config)
    value = config.get("max_position_embeddings")
    return value if isinstance(value, int) else None


def _revision(folder: Path, adapter: Path | None, chat_template: str | None) -> str:
    parts = [folder_hash(folder, IDENTITY)]
    if adapter is not None:
        parts.append(folder_hash(adapter, ADAPTER_IDENTITY))
    if chat_template is not None:
        parts.append(content_key(chat_template))
    return content_key(parts) if len(parts) > 1 else parts[0]


def model_folder(what: str, path: str, base_dir: Path, revision: str | None) -> Path:
    """The folder that `path` names: under `base_dir`, or a snapshot in the hub cache.

    `what` begins the message where there is none, such as "student.base".
    """
    folder = base_dir / path
    if not folder.is_dir():
        folder = _cached_snapshot(what, path, folder, revision)
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise TeacherUnavailable(
            f"{what}: {folder} has no config.json with *.safetensors beside it. Only "
            "safetensors are loaded; convert pickled weights with `save_pretrained`."
        )
    try:
        refuse_broken(folder)
    except BrokenWeights as error:
        raise TeacherUnavailable(f"{what}: {error}") from error
    return folder


def adapter_folder(name: str, path: str, base_dir: Path) -> Path:
    """The folder of a peft adapter, which must be in safetensors."""
    folder = base_dir / path
    if (
        not (folder / "adapter_config.json").is_file()
        or not (folder / "adapter_model.safetensors").is_file()
    ):
        raise TeacherUnavailable(
            f"teacher `{name}`: {folder} has no adapter_config.json with "
            "adapter_model.safetensors: `adapter:` names a folder that peft saved."
        )
    return folder


def _cached_snapshot(what: str, path: str, folder: Path, revision: str | None) -> Path:
    missing = f"{what}: there is no folder {folder}"
    if path.count("/") != 1 or path.startswith((".", "/")):
        raise TeacherUnavailable(f"{missing}; `local:` is relative to the recipe.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(path, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise TeacherUnavailable(
            f"{missing}, and the hub cache does not hold {path}: fetch it with "
            f"`hf download {path}`, or give the folder, relative to the recipe."
        ) from error
