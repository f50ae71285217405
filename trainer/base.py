"""The student's base: where it is, its tokenizer with a chat template, its weights."""

import contextlib
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.keys import folder_hash
from ledger.prompts import Prompt
from ledger.weights import refuse_missing
from trainer.errors import BadBase, BaseMissing
from trainer.signals.hard import PLAIN_TEMPLATE, ChatFormat, Example

if TYPE_CHECKING:
    import torch

ENCODE_AT_ONCE = 4096
LOCAL_AND_NO_CODE = {"trust_remote_code": False, "local_files_only": True}


def find_base(base: str, base_dir: Path) -> str:
    """The folder of a base (relative to the recipe, or in the hub's cache), else its hub id. Raises BadBase."""
    folder = base_dir / base
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise BadBase(
                f"student.base {base!r} is the folder {folder}, which has no config.json: "
                "give a folder as transformers' save_pretrained writes it."
            )
        return str(folder)
    if base.startswith((".", "/", "~")) or base.count("/") > 1 or folder.exists():
        raise BaseMissing(
            f"student.base {base!r} is no folder (looked for {folder}): "
            "give the folder of a model, relative to the recipe, or a hub id such as `owner/name`."
        )
    return _cached(base) or base


def _cached(hub_id: str) -> str | None:
    """The hub's snapshot of a model in this machine's cache; nothing is fetched."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return str(snapshot_download(hub_id, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def open_tokenizer(base: str, base_dir: Path) -> Any:
    """The base's tokenizer, with a chat template and a padding token in every case.

    A base without a template gets PLAIN_TEMPLATE ("User:", "Assistant:", end of text), which the
    saved student carries. Raises BadBase, or TemplateError for `tools` and others it cannot render.
    """
    from transformers import AutoTokenizer

    place = find_base(base, base_dir)
    with quiet(), _loading(base):
        tokenizer = AutoTokenizer.from_pretrained(place, **LOCAL_AND_NO_CODE)
    if not getattr(tokenizer, "is_fast", False):
        raise BadBase(
            f"student.base {base!r} has a tokenizer without tokenizer.json, by which text cannot "
            "be kept apart from control tokens: choose a base with a fast tokenizer."
        )
    tokenizer.chat_template = _own_template(tokenizer) or _plain_template(tokenizer)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def lent_template(folder: Path) -> str | None:
    """The chat template that a base without one is asked and trained by; None where it has its own."""
    if _names_template(folder):
        return None
    from transformers import AutoTokenizer

    with quiet(), _loading(str(folder)):
        tokenizer = AutoTokenizer.from_pretrained(folder, **LOCAL_AND_NO_CODE)
    return None if _own_template(tokenizer) else _plain_template(tokenizer)


def count_tokens(base: str, base_dir: Path, pairs: Sequence[tuple[Prompt, str]]) -> list[int]:
    """Trained tokens of each (prompt, answer): the answer's and its end token's."""
    chat = ChatFormat(open_tokenizer(base, base_dir))
    counts = []
    for start in range(0, len(pairs), ENCODE_AT_ONCE):
        examples = [
            Example.of(prompt, answer) for prompt, answer in pairs[start : start + ENCODE_AT_ONCE]
        ]
        counts += [len(encoded.ids) - encoded.start for encoded in chat.encode(examples)]
    return counts


def load_model(place: str, weights: "torch.dtype") -> Any:
    """The base's weights, from safetensors only. Raises BadBase, or BrokenWeights for some that are missing."""
    from transformers import AutoModelForCausalLM

    with quiet(), _loading(place):
        model, found = AutoModelForCausalLM.from_pretrained(
            place,
            dtype=weights,
            use_safetensors=True,
            output_loading_info=True,
            **LOCAL_AND_NO_CODE,
        )
    refuse_missing(found["missing_keys"], place)
    return model


def text_config(place: str) -> Any:
    """The shape of the base's language model, as transformers names it."""
    from transformers import AutoConfig

    with quiet(), _loading(place):
        return AutoConfig.from_pretrained(place, **LOCAL_AND_NO_CODE).get_text_config()


def revision(place: str) -> str:
    """Which base it is: a hash of the folder's weights and tokenizer. Raises BadBase where it is not here."""
    if not Path(place).is_dir():
        with quiet(), _loading(place):
            raise OSError(f"the hub's cache does not hold {place}.")
    return folder_hash(Path(place), ["*.safetensors", "*.json", "*.jinja"])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers' progress bars and advice off the terminal, which is not ours."""
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            # TRL and PEFT still use the older of two names.
            warnings.filterwarnings("ignore", ".*gradient_checkpointing", FutureWarning)
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextlib.contextmanager
def _loading(base: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise BadBase(
            f"student.base {base!r} cannot be loaded: {reason} Give a folder with safetensors and "
            "tokenizer.json, or a hub id that is in the hub's cache (`hf download ID`)."
        ) from error


def _names_template(folder: Path) -> bool:
    """Whether a folder's files hold a chat template; far cheaper than loading its tokenizer."""
    config = folder / "tokenizer_config.json"
    return (folder / "chat_template.jinja").is_file() or (
        config.is_file() and bool(json.loads(config.read_text("utf-8")).get("chat_template"))
    )


def _own_template(tokenizer: Any) -> str | None:
    template = tokenizer.chat_template
    return template.get("default") if isinstance(template, dict) else template


def _plain_template(tokenizer: Any) -> str:
    if tokenizer.eos_token is None:
        raise BadBase(
            "student.base has neither a chat template nor an end-of-text token: give its tokenizer "
            "an `eos_token`, or a chat_template.jinja."
        )
    bos = tokenizer.bos_token_id
    starts_with_bos = bos is not None and tokenizer("a")["input_ids"][:1] == [bos]
    return "{%- set starts_with_bos = " + str(starts_with_bos).lower() + " -%}" + PLAIN_TEMPLATE
