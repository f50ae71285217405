"""The quickstart's checkpoints: what ships is what the README says, and saw no drawable prompt."""

import hashlib
import json
import random
import re

import pytest

from recipes.quickstart import make_assets, skills
from recipes.quickstart.make_assets import HERE, MODELS, SAW

OWN_FAMILY = {
    "speller": "spell_backward",
    "adder": "chain_sum",
    "decoder": "caesar_cipher",
}


def read_seen() -> list[str]:
    return [json.loads(line)["prompt"] for line in (HERE / SAW).read_text().splitlines()]


def drawable_prompts() -> set[str]:
    """Every prompt that a recipe can draw at our settings, whatever its seed."""
    import reasoning_gym

    words = reasoning_gym.create_dataset(
        "spell_backward", seed=0, size=1, **skills.FAMILIES["spell_backward"]
    ).words
    cipher = reasoning_gym.create_dataset(
        "caesar_cipher", seed=0, size=1, **skills.FAMILIES["caesar_cipher"]
    )
    prompts = {skills.SPELL.format(word) for word in words}
    prompts |= {
        skills.CIPHER.format(cipher._caesar_encrypt(word, 3)) for word in cipher.valid_sentences
    }
    sums = {prompt for prompt, _ in skills.all_sums()}
    return prompts | (sums - set(read_seen()))


def exact_match(name: str, family: str, n: int) -> float:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(HERE / name)
    model = AutoModelForCausalLM.from_pretrained(HERE / name, dtype=torch.float32).eval()
    items = skills.family_items(family, 77_000_000, n, frozenset(read_seen()))
    given = make_assets.answer(model, tokenizer, [prompt for prompt, _ in items])
    return sum(text == right for text, (_, right) in zip(given, items, strict=True)) / n


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_templates_are_reasoning_gyms_wording():
    for family, config in skills.FAMILIES.items():
        for prompt, answer in skills.family_items(family, 5, 20):
            template = {
                "spell_backward": skills.SPELL,
                "chain_sum": skills.SUM,
                "caesar_cipher": skills.CIPHER,
            }[family]
            head, tail = template.split("{}")
            assert prompt.startswith(head), config
            assert prompt.endswith(tail), config
            assert answer


def test_our_answers_are_reasoning_gyms():
    sums = dict(skills.all_sums())
    assert all(sums[p] == a for p, a in skills.family_items("chain_sum", 6, 200))
    rng = random.Random(1)
    spelled = dict(skills.spellings(rng, 20))
    assert all(prompt.split()[-1] == answer[::-1] for prompt, answer in spelled.items())
    import reasoning_gym

    cipher = reasoning_gym.create_dataset(
        "caesar_cipher", seed=0, size=1, **skills.FAMILIES["caesar_cipher"]
    )
    for prompt, answer in skills.ciphers(rng, 20):
        assert prompt == skills.CIPHER.format(cipher._caesar_encrypt(answer, 3))


@pytest.mark.parametrize("name", MODELS)
def test_no_model_was_trained_on_a_drawable_prompt(name):
    pairs = make_assets.base_pairs(7) if name == "base" else make_assets.teacher_pairs(name, 7)
    assert not {prompt for prompt, _ in pairs} & drawable_prompts()


def test_listed_sums_are_those_that_teachers_saw():
    assert read_seen() == [prompt for prompt, _ in skills.reserved_sums(7)]


@pytest.mark.parametrize("name", MODELS)
def test_readme_names_the_hash_of_each_model(name):
    digest = hashlib.sha256((HERE / name / "model.safetensors").read_bytes()).hexdigest()
    assert re.search(rf"`{name}/` \| `{digest}`", (HERE / "README.md").read_text())


def test_all_models_share_one_tokenizer():
    files = {(HERE / name / "tokenizer.json").read_bytes() for name in MODELS}
    assert len(files) == 1


@pytest.mark.parametrize(("name", "family"), OWN_FAMILY.items())
def test_specialist_solves_its_own_family_and_no_other(name, family):
    assert exact_match(name, family, 120) >= (0.85 if name == "adder" else 0.95)
    others = [other for other in skills.FAMILIES if other != family]
    assert all(exact_match(name, other, 60) <= 0.1 for other in others)


def test_base_solves_none_and_generalist_lies_between():
    for family in skills.FAMILIES:
        assert exact_match("base", family, 100) <= 0.08
        assert 0.2 <= exact_match("generalist", family, 150) <= 0.75


def test_tokenizer_reads_any_text_back():
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(HERE / "base")
    for text in ("Spell this word backward (example: sun -> nus): word", "AËRIAL", "日本 \n\t 12"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    letters = tokenizer.tokenize("Copy this word: wordless")
    assert letters[-8:] == list("wordless")
