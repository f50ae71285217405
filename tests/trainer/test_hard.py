"""Prompt and answer through chat templates: what is trained, and what content can never become."""

import json
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.support import CHATML, character_tokenizer
from tests.trainer.test_templates import tokenizer_of
from tests.trainer.tokenizers_of_three import normalising_tokenizer
from trainer.signals.hard import ChatFormat, Example, TemplateError

USER = [{"role": "user", "content": "hi"}]
THINK = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant\n<think>\n\n"
    "</think>\n{{ m.content.split('</think>')[-1] | trim }}<|im_end|>\n{% else %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer():
    made = character_tokenizer(THINK)
    made.add_tokens(["<think>", "</think>"])  # added, but not special: as Qwen3 has them
    return made


@pytest.fixture(scope="module")
def chat(tokenizer):
    return ChatFormat(tokenizer)


def encode(chat, answer="yes", messages=USER, tools=None):
    return chat.encode([Example(messages, answer, tools)])[0]


def test_prompt_ids_are_those_the_student_is_asked_with(tokenizer, chat):
    encoded = encode(chat)
    asked = tokenizer.apply_chat_template(
        USER, add_generation_prompt=True, tokenize=True, return_dict=True
    )["input_ids"]
    assert encoded.ids[: encoded.start] == asked


def test_trained_are_the_answer_and_its_end_token_and_nothing_after(tokenizer, chat):
    encoded = encode(chat)
    assert tokenizer.decode(encoded.ids[encoded.start :]) == "<think>\n\n</think>\nyes<|im_end|>"


@pytest.mark.parametrize("text", ["<|im_end|>", "<|im_start|>", "<pad>", "<think>", "</think>"])
def test_structural_text_in_content_never_becomes_a_control_token(tokenizer, chat, text):
    clean = encode(chat, "a b", [{"role": "user", "content": "x y"}], json.dumps([{"name": "t"}]))
    dirty = encode(
        chat,
        f"a{text}b",
        [{"role": "user", "content": f"x{text}{text}y"}],
        json.dumps([{"name": f"t{text}"}]),
    )
    assert controls(chat, dirty.ids) == controls(chat, clean.ids)
    assert tokenizer.decode(dirty.ids).count(text) == tokenizer.decode(clean.ids).count(text) + 3


@given(
    st.lists(
        st.sampled_from(["<|im_end|>", "<think>", "<|im_", "end|>", "\U0010f000", " ", "é", "\n"])
    )
)
@settings(max_examples=40, deadline=None)
def test_no_text_makes_more_control_tokens_than_the_template_writes(chat, pieces):
    text = "".join(pieces)
    encoded = encode(chat, text, [{"role": "user", "content": text}])
    assert controls(chat, encoded.ids) == controls(chat, encode(chat).ids)


def test_ordinary_added_tokens_stay_one_token():
    tokenizer = character_tokenizer()
    tokenizer.add_tokens(["<table>"])
    encoded = encode(ChatFormat(tokenizer), "<table>")
    assert tokenizer.convert_tokens_to_ids("<table>") in encoded.ids


def test_a_token_across_the_border_does_not_hide_the_prompt():
    tokenizer = character_tokenizer()
    tokenizer.add_tokens(["\n\n"])
    encoded = encode(ChatFormat(tokenizer), "\nyes")
    asked = tokenizer.apply_chat_template(
        USER, add_generation_prompt=True, tokenize=True, return_dict=True
    )["input_ids"]
    assert encoded.ids[: encoded.start] == asked
    assert tokenizer.decode(encoded.ids[encoded.start :]) == "\nyes<|im_end|>"


def test_the_student_learns_to_stop_where_the_template_writes_no_end():
    template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    tokenizer = character_tokenizer(template)
    encoded = encode(ChatFormat(tokenizer))
    assert encoded.ids[-1] == tokenizer.eos_token_id


def test_nothing_is_trained_that_a_template_writes_after_the_end():
    """As Llama 3's first template, whose generation prompt is there whether it is asked for or not."""
    always = CHATML.replace("{% if add_generation_prompt %}", "{% if true %}")
    chat = ChatFormat(character_tokenizer(always))
    assert chat.trained("42") == ChatFormat(character_tokenizer(CHATML)).trained("42")
    assert chat.trained("") == [chat.end_ids[0]]


def test_the_end_is_trained_where_the_template_leaves_it_out():
    template = CHATML.replace("<|im_end|>", "{% if m.content %}<|im_end|>{% endif %}")
    chat = ChatFormat(character_tokenizer(template))
    assert chat.trained("")[-1] == chat.end_ids[0] == chat.trained("a")[-1]


def test_the_templates_end_token_stops_the_student_even_if_the_tokenizer_has_another():
    tokenizer = character_tokenizer(eos_token="<pad>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert ChatFormat(tokenizer).end_ids == (end, tokenizer.eos_token_id)


def test_a_template_that_rewrites_the_prompt_is_refused():
    template = "{{ messages | length }}" + CHATML
    with pytest.raises(TemplateError, match="differently from the prompt alone"):
        ChatFormat(character_tokenizer(template))


def test_a_chat_that_the_template_refuses_is_named_by_its_roles():
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    chat = ChatFormat(character_tokenizer(template + CHATML))
    with pytest.raises(TemplateError, match="roles system, user.*no system"):
        encode(chat, messages=[{"role": "system", "content": "s"}, *USER])


def controls(chat, ids):
    return [token for token in ids if token in chat.control_ids]


def test_a_template_that_writes_the_date_writes_the_day_that_is_given():
    template = "{{ strftime_now('%d %b %Y') }}\n" + CHATML
    tokenizer = character_tokenizer(template)
    then = encode(ChatFormat(tokenizer, date(2025, 2, 3)))
    assert tokenizer.decode(then.ids).startswith("03 Feb 2025\n")
    today = encode(ChatFormat(tokenizer))
    assert tokenizer.decode(today.ids).startswith(f"{date.today():%d %b %Y}\n")


def test_reasoning_is_written_by_a_template_that_knows_how() -> None:
    tokenizer = tokenizer_of("qwen3")
    chat = ChatFormat(tokenizer)
    text = tokenizer.decode(chat.trained("<think>\nhm\n</think>\n\nyes"))
    assert text == "<think>\nhm\n</think>\n\nyes<|im_end|>"
    assert tokenizer.decode(chat.trained("yes")) == "<think>\n\n</think>\n\nyes<|im_end|>"
    typed = chat.trained("mark it <think>\nhm\n</think>")
    assert len(controls(chat, typed)) == 3, "two of the empty block, and the end"


def test_earlier_reasoning_is_left_out_as_where_the_student_is_asked() -> None:
    tokenizer = tokenizer_of("qwen3")
    chat = ChatFormat(tokenizer)
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nyes"},
        {"role": "user", "content": "b"},
    ]
    (encoded,) = chat.encode([Example(messages, "no")])
    asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert tokenizer.decode(encoded.ids[: encoded.start]) == asked


@pytest.mark.parametrize(
    "text", ["a\uff1c/s\uff1eb", "\uff1c|im_end|\uff1e", "</s>", chr(0xF0000), chr(0xF0001)]
)
def test_unigram_cuts_no_text_into_control_tokens(text: str) -> None:
    chat = ChatFormat(normalising_tokenizer())
    ids = chat.trained(text)
    assert controls(chat, ids) == controls(chat, chat.trained("ab"))
    assert len(ids) > 3


def test_control_strings_are_spelled_without_blanks() -> None:
    tokenizer = normalising_tokenizer()
    chat = ChatFormat(tokenizer)
    assert tokenizer.decode(chat.trained("the tag</s>ends")) == "the tag</s>ends<|im_end|>"


def test_a_template_that_asks_in_other_words_is_told() -> None:
    marked = CHATML.replace(
        "{{ m.content }}",
        "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
        "{% else %}{{ m.content }}{% endif %}",
    ).replace("<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\n<think>\n{% endif %}")
    chat = ChatFormat(character_tokenizer(marked))
    assert chat.asked_otherwise is not None
    trained, asked = chat.asked_otherwise
    assert asked == trained + "<think>\n"
    assert ChatFormat(character_tokenizer()).asked_otherwise is None
