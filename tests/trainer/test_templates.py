"""Every chat template that TRL carries, those of the recipes' bases among them, token by token.

Templates only: their tokenizers are stood in for by one token a byte and one for each structural string.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import trl

from tests.trainer.support import character_tokenizer
from trainer.base import open_tokenizer
from trainer.signals.hard import ChatFormat, Encoded, Example, TemplateError

FOLDER = Path(trl.__file__).parent / "chat_templates"
NAMES = sorted(path.stem for path in FOLDER.glob("*.jinja"))
RECIPES = Path(__file__).parents[2] / "recipes"
STRUCTURAL = re.compile(r"<[|｜/]?[A-Za-z_|｜▁.0-9:]+[|｜]?>|\[/?[A-Z_]+\]")
ENDS = re.compile(r"im_end|eot|end_of|end▁of|<\|end\|>|END_OF|return|turn\|?>")
# Of these the answer can be found by no rule, or the template takes no texts; each says which it is.
NEMOTRON = "nemotron_3_5_lightning nemotron_3_nano nemotron_3_super nemotron_3_ultra"
REWRITES = f"deepseek_r1_distill deepseekv3 {NEMOTRON}"
WANTS_LISTS = "idefics3 idefics3_training llava_next llava_next_training smolvlm smolvlm_training"
REFUSED = dict.fromkeys(REWRITES.split(), "endgeneration") | dict.fromkeys(
    WANTS_LISTS.split(), "is a text|has no attribute"
)
ANSWER = "forty-two is\nthe answer"


def tokenizer_of(name: str) -> Any:
    template = (FOLDER / f"{name}.jinja").read_text()
    found = sorted(set(STRUCTURAL.findall(template)))
    end = next((text for text in found if ENDS.search(text)), "<|im_end|>")
    others = [text for text in found if text != end]
    return character_tokenizer(
        template, eos_token=end, bos_token="<s>", additional_special_tokens=others
    )


def encode(chat: ChatFormat, text: str) -> Encoded:
    return chat.encode([Example([{"role": "user", "content": f"say {text}"}], text)])[0]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in REFUSED])
def test_trained_are_the_answer_and_what_ends_it(name: str) -> None:
    tokenizer = tokenizer_of(name)
    chat = ChatFormat(tokenizer)
    encoded = encode(chat, ANSWER)
    text = tokenizer.decode(encoded.ids[encoded.start :])
    assert text.count(ANSWER) == 1
    assert encoded.ids[-1] in chat.control_ids
    asked = tokenizer.decode(encoded.ids[: encoded.start])
    assert asked.count(f"say {ANSWER}") == 1
    assert asked + text == tokenizer.decode(encoded.ids)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in REFUSED])
def test_no_structural_string_in_content_becomes_a_control_token(name: str) -> None:
    chat = ChatFormat(tokenizer_of(name))
    clean = sum(token in chat.control_ids for token in encode(chat, "a b").ids)
    for text in chat.structural:
        dirty = encode(chat, f"a {text} b")
        assert sum(token in chat.control_ids for token in dirty.ids) == clean, text


@pytest.mark.parametrize("name", REFUSED)
def test_a_template_whose_answer_cannot_be_found_says_what_to_do(name: str) -> None:
    with pytest.raises(TemplateError, match=REFUSED[name]):
        ChatFormat(tokenizer_of(name))


def test_marks_tell_where_the_answer_begins() -> None:
    template = (
        "{{ messages | length }}{% for m in messages %}<|im_start|>{% if m.role == 'assistant' %}"
        "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}{% else %}{{ m.content }}<|im_end|>"
        "{% endif %}{% endfor %}"
    )
    tokenizer = character_tokenizer(template)
    encoded = encode(ChatFormat(tokenizer), ANSWER)
    assert tokenizer.decode(encoded.ids[encoded.start :]) == f"{ANSWER}<|im_end|>"
    assert tokenizer.decode(encoded.ids[: encoded.start]).endswith("<|im_end|><|im_start|>")


def test_the_quickstarts_own_template() -> None:
    tokenizer = open_tokenizer("quickstart/base", RECIPES)
    chat = ChatFormat(tokenizer)
    encoded = encode(chat, "abc")
    assert tokenizer.decode(encoded.ids[encoded.start :]) == "abc<|end|>"
    for text in chat.structural:
        dirty = encode(chat, f"abc{text}")
        assert sum(token in chat.control_ids for token in dirty.ids) == sum(
            token in chat.control_ids for token in encoded.ids
        )
