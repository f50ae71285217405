"""The signal `hard`: a teacher's text becomes token ids and the place where the answer begins.

    chat = ChatFormat(tokenizer)
    chat.encode([Example(messages, "42")])  # -> [Encoded(ids, start)], trained on ids[start:]

The prompt's ids are what the student sees when it is asked, and an exact prefix of the example's.
Trained are the answer and the end token that the template writes after it. Text that someone wrote
(prompts, answers, tools) never becomes a control token, even where it spells one: each such string
is rendered as a stand-in, and the stand-in is replaced by the string's ordinary tokens.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any, Protocol

from ledger.errors import InputError
from ledger.prompts import Prompt

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Messages = Sequence[Mapping[str, str]]

# Written where a base has no template of its own: it needs no token but the end of text.
PLAIN_TEMPLATE = (
    "{%- if starts_with_bos %}{{ bos_token }}{% endif -%}"
    "{%- for message in messages -%}"
    "{{ message['role'] | capitalize }}:\n{{ message['content'] }}"
    "{%- if message['role'] == 'assistant' -%}{{ eos_token }}{%- endif -%}"
    "{{ '\n\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ 'Assistant:\n' }}{%- endif -%}"
)
GENERATION_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")
THINKING = re.compile(
    r"\s*<think>(.*?)</think>(.*)", re.DOTALL
)  # how an answer begins that has its reasoning
NOW = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")  # how a template asks for the date
# Private-use characters; whoever writes one gets plain tokens, so no harm.
STAND_IN, NOBODYS = 0x100001, 0xF0000


class TemplateError(InputError):
    """The tokenizer's chat template cannot be trained through."""


class ChatTokenizer(Protocol):
    """What is used of a transformers tokenizer (a fast one)."""

    chat_template: Any
    eos_token: str | None
    eos_token_id: int | None
    all_special_tokens: list[str]
    special_tokens_map: dict[str, Any]
    added_tokens_decoder: dict[int, Any]
    backend_tokenizer: Any

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt's messages, a teacher's answer, and the prompt's tools as JSON."""

    messages: Messages
    answer: str
    tools: str | None = None

    @classmethod
    def of(cls, prompt: Prompt, answer: str) -> "Example":
        """A prompt as the ledger knows it, with an answer to it."""
        return cls(prompt.messages, answer, json.dumps(prompt.tools) if prompt.tools else None)

    def behind(self, system: str | None) -> "Example":
        """As a teacher with a system prompt of its own was asked; the student never sees that."""
        if not system:
            return self
        return replace(self, messages=[{"role": "system", "content": system}, *self.messages])


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of prompt and answer; ids[start:] are trained."""

    ids: list[int]
    start: int


class ChatFormat:
    """Turns chats into ids through a tokenizer's chat template."""

    def __init__(self, tokenizer: ChatTokenizer, day: date | None = None) -> None:
        """`day` is what a template writes that writes the date, today's if not given. Raises TemplateError."""
        if not isinstance(tokenizer.chat_template, str):
            raise TemplateError(
                "the tokenizer has no single chat template: open it with trainer.open_tokenizer, "
                "which gives a base without one a plain template."
            )
        self.tokenizer, self.day = tokenizer, day
        self._template = (
            tokenizer.chat_template if day is None else _dated(tokenizer.chat_template, day)
        )
        self.structural = structural_strings(tokenizer)
        backend = json.loads(tokenizer.backend_tokenizer.to_str())
        ids = {token["content"]: token["id"] for token in backend["added_tokens"]}
        self.control_ids = frozenset(ids[text] for text in self.structural if text in ids)
        self._pattern = _any_of(self.structural)
        self._stand_ins = {text: chr(STAND_IN + i) for i, text in enumerate(self.structural)}
        self._guard, self._spelled = _guarded(backend, self._stand_ins, self.control_ids)
        self._reasons = self._find_reasoning()
        self._writes_end, self.end_ids = self._find_end()
        self.asked_otherwise = self._find_asked()

    def encode(self, examples: Sequence[Example]) -> list[Encoded]:
        """Ids of each example. Raises TemplateError where the prompt is no prefix of the whole."""
        pairs = [self._render(example) for example in examples]
        prompts = self._ids([prompt for prompt, _ in pairs])
        wholes = self._ids([prompt + completion for prompt, completion in pairs])
        encoded = []
        for (_, completion), prompt, whole in zip(pairs, prompts, wholes, strict=True):
            # A token that spans the border (such as two newlines) would hide the prompt's last one.
            if whole[: len(prompt)] != prompt:
                whole = prompt + self._ids([completion])[0]
            encoded.append(Encoded(self._ended(whole, len(prompt)), len(prompt)))
        return encoded

    def trained(self, answer: str) -> list[int]:
        """What is trained of an answer to a prompt of one letter."""
        (encoded,) = self.encode([Example([{"role": "user", "content": "a"}], answer)])
        return encoded.ids[encoded.start :]

    def _render(self, example: Example) -> tuple[str, str]:
        """The prompt as the student will be asked, and the text that follows it.

        Where the template writes a prompt with its answer differently, its marks tell where the answer begins.
        """
        messages = [self._message(message) for message in example.messages]
        tools = self._defused(json.loads(example.tools)) if example.tools else None
        answer = self._message({"role": "assistant", "content": example.answer})
        prompt = self._apply(messages, tools, add_generation_prompt=True)
        whole = self._apply([*messages, answer], tools)
        if not whole.startswith(prompt):
            start = self._marked([*messages, answer], tools)
            if start is None:
                raise TemplateError(
                    "the chat template writes a prompt with its answer differently from the prompt alone, "
                    "and has no marks around the answer, so that it cannot be told apart. Alone it ends in "
                    f"{prompt[-60:]!r}; the whole is {whole[:200]!r}. Put `{{% generation %}}` and "
                    "`{% endgeneration %}` around the answer in chat_template.jinja in the base's folder, or "
                    "choose a base whose template only adds to the prompt."
                )
            prompt = whole[:start]
        return prompt, whole[len(prompt) :]

    def _message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """A message without control strings, its reasoning by itself where the template would have found it."""
        said = dict(message)
        found = THINKING.fullmatch(str(said.get("content"))) if self._reasons else None
        if found and said["role"] == "assistant":
            said |= {"reasoning_content": found[1].strip("\n"), "content": found[2].lstrip("\n")}
        defused: dict[str, Any] = self._defused(said)
        return defused

    def _marked(self, messages: Any, tools: Any) -> int | None:
        """Where the last answer begins by the template's `generation` marks, if it has any."""
        if not GENERATION_MARK.search(self._template):
            return None
        from transformers.utils.chat_template_utils import render_jinja_template

        _, (spans,) = render_jinja_template(
            conversations=[messages],
            tools=tools,
            chat_template=self._template,
            return_assistant_tokens_mask=True,
            **self.tokenizer.special_tokens_map,
        )
        return int(spans[-1][0]) if spans else None

    def _apply(self, messages: Any, tools: Any, add_generation_prompt: bool = False) -> str:
        from jinja2 import TemplateError as JinjaError

        try:
            return str(
                self.tokenizer.apply_chat_template(
                    messages,
                    tools=tools,
                    chat_template=self._template,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                )
            )
        except JinjaError as error:
            roles = ", ".join(str(message.get("role")) for message in messages)
            raise TemplateError(
                f"the base's chat template refuses a chat with the roles {roles}: {error}. "
                "Leave such prompts out, or choose a base whose template takes them."
            ) from error

    def _defused(self, value: Any) -> Any:
        """The same value with every structural string in it as its stand-in."""
        if isinstance(value, str):
            return self._pattern.sub(lambda match: self._stand_ins[match[0]], value)
        if isinstance(value, dict):
            return {self._defused(key): self._defused(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._defused(item) for item in value]
        return value

    def _ids(self, texts: list[str]) -> list[list[int]]:
        batch = self._guard.encode_batch_fast(texts, add_special_tokens=False)
        return [
            [plain for token in row.ids for plain in self._spelled.get(token, (token,))]
            for row in batch
        ]

    def _ended(self, ids: list[int], start: int) -> list[int]:
        """`ids` up to the end token, which is added where the template writes none."""
        end = self.end_ids[0]
        if not self._writes_end or end not in ids[start:]:
            return [*ids, end]
        return ids[: ids.index(end, start) + 1]

    def _find_reasoning(self) -> bool:
        """Whether the template finds reasoning in an answer's text, and writes it as if it came by itself."""
        if "reasoning_content" not in self._template:
            return False
        thought, said = chr(STAND_IN - 1), chr(STAND_IN - 2)
        user = {"role": "user", "content": "a"}
        whole = {"role": "assistant", "content": f"<think>\n{thought}\n</think>\n\n{said}"}
        apart = {"role": "assistant", "reasoning_content": thought, "content": said}
        try:
            pairs = [
                [self._apply([user, answer, *after], None) for answer in (whole, apart)]
                for after in ([], [user])
            ]
        except TemplateError:
            return False
        return all(one == other for one, other in pairs) and thought in pairs[0][0]

    def _find_asked(self) -> tuple[str, str] | None:
        """A prompt as it is written with its answer, and alone, where these differ."""
        user = {"role": "user", "content": "a"}
        prompt, _ = self._render(Example([user], "b"))
        asked = self._apply([user], None, add_generation_prompt=True)
        return None if asked == prompt else (prompt, asked)

    def _find_end(self) -> tuple[bool, tuple[int, ...]]:
        """Whether the template ends an answer by a token; after which tokens the student stops."""
        mark = chr(STAND_IN - 1)
        _, completion = self._render(Example([{"role": "user", "content": "a"}], mark))
        if mark not in completion:
            raise TemplateError(
                f"the chat template leaves out an answer that is a text, and writes {completion[:60]!r} in its "
                "place: choose a base whose template takes texts, or edit chat_template.jinja in its folder."
            )
        ids = self._ids([completion.rpartition(mark)[2]])[0]
        written = [token for token in ids if token in self.control_ids][:1]
        eos = self.tokenizer.eos_token_id
        if not written and eos is None:
            raise TemplateError(
                "neither the chat template nor the tokenizer has an end token, so the student "
                "could never stop: give the base's tokenizer an `eos_token`."
            )
        stops = [*written, *([int(eos)] if eos is not None and eos not in written else [])]
        return bool(written), tuple(stops)


def structural_strings(tokenizer: ChatTokenizer) -> list[str]:
    """Special tokens, and added tokens that the template writes: content must not become these.

    Longest first. Other added tokens (runs of blanks, HTML tags) are ordinary text.
    """
    found = {text for text in tokenizer.all_special_tokens if text}
    for token in tokenizer.added_tokens_decoder.values():
        text = str(token.content)
        if text.strip() and (token.special or text in tokenizer.chat_template):
            found.add(text)
    return sorted(found, key=lambda text: (-len(text), text))


def _dated(template: str, day: date) -> str:
    """The template with a day's date wherever it asks for today's."""
    return NOW.sub(lambda match: json.dumps(day.strftime(match[2])), template)


def _any_of(texts: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(text) for text in texts) or "(?!)")


def _guarded(
    backend: dict[str, Any], stand_ins: Mapping[str, str], control: frozenset[int]
) -> tuple["Tokenizer", dict[int, tuple[int, ...]]]:
    """The tokenizer with the stand-ins added, and the plain ids that each stand-in means."""
    from tokenizers import AddedToken, Tokenizer

    # Normalised matching would find `<think>` in full-width or upper-case look-alikes.
    added = [
        {**token, "normalized": token["normalized"] and token["content"] not in stand_ins}
        for token in backend["added_tokens"]
    ]
    model = _without(backend["model"], control)
    plain = {**backend, "model": model, "truncation": None, "padding": None, "post_processor": None}
    parts = {name: _without_blank(plain[name]) for name in ("normalizer", "pre_tokenizer")}
    bare = Tokenizer.from_str(json.dumps({**plain, **parts, "added_tokens": []}))
    guard = Tokenizer.from_str(json.dumps({**plain, "added_tokens": added}))
    guard.add_special_tokens(
        [AddedToken(mark, normalized=False, special=True) for mark in stand_ins.values()]
    )
    spelled = {}
    for text, mark in stand_ins.items():
        mark_id = guard.token_to_id(mark)
        assert mark_id is not None
        spelled[mark_id] = tuple(_spell(bare, text, control))
    for token in added:
        number = guard.token_to_id(token["content"])
        assert number is not None
        spelled.setdefault(number, (token["id"],))
        if token["id"] in _in_model(backend["model"], control):
            spelled[token["id"]] = tuple(_spell(bare, token["content"], control))
    return guard, spelled


def _without(model: dict[str, Any], control: frozenset[int]) -> dict[str, Any]:
    """A tokenizer's model that cannot cut text into its control tokens, as Unigram otherwise does where
    normalising has made such a string: each becomes a private-use character.
    """
    if model["type"] != "Unigram":
        return model
    vocabulary = list(model["vocab"])
    for i, number in enumerate(sorted(_in_model(model, control))):
        vocabulary[number] = [chr(NOBODYS + i), vocabulary[number][1]]
    return {**model, "vocab": vocabulary}


def _in_model(model: dict[str, Any], control: frozenset[int]) -> set[int]:
    """The control tokens that Unigram itself could cut text into."""
    unigram = model["type"] == "Unigram"
    return (
        {n for n in control if n < len(model["vocab"]) and n != model["unk_id"]}
        if unigram
        else set()
    )


def _without_blank(part: dict[str, Any] | None) -> dict[str, Any] | None:
    """A normalizer or pre-tokenizer that puts no blank before a text."""
    if part is None or part["type"] == "Prepend":
        return None
    changed = dict(part)
    if part["type"] == "Metaspace":
        changed["prepend_scheme"] = "never"
    if "add_prefix_space" in part:
        changed["add_prefix_space"] = False
    for name in ("normalizers", "pretokenizers"):
        if name in part:
            changed[name] = [kept for each in part[name] if (kept := _without_blank(each))]
    return changed


def _spell(bare: "Tokenizer", text: str, control: frozenset[int]) -> list[int]:
    """Ordinary ids of a structural string, cut in halves until none of them is a control id."""
    ids = list(bare.encode(text, add_special_tokens=False).ids)
    if not control.intersection(ids):
        return ids
    if len(text) == 1:
        raise TemplateError(
            f"the tokenizer knows {text!r} as a control token only, so text that holds it cannot "
            "be told from structure: choose a base with another tokenizer."
        )
    middle = len(text) // 2
    return _spell(bare, text[:middle], control) + _spell(bare, text[middle:], control)
