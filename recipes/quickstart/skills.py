"""What the quickstart's models are trained and measured on.

The three families are reasoning-gym's own, in its own wording. The models that ship never see a
prompt that a recipe can draw: words are random letters that are in none of reasoning-gym's word
lists, and sums come from a reserved subset that `teachers_saw.jsonl` lists. `base` learns seven
other families, and small skills (copy, next letter, sums of one digit) in our own wording.
"""

import random
import re
import string
from collections.abc import Callable, Iterator
from typing import Any

import reasoning_gym
from reasoning_gym.data import read_data_file

Pair = tuple[str, str]  # prompt, answer

FAMILIES: dict[str, dict[str, Any]] = {
    "spell_backward": {"min_word_len": 3, "max_word_len": 6},
    "chain_sum": {"min_terms": 2, "max_terms": 2, "min_digits": 2, "max_digits": 2},
    "caesar_cipher": {
        "delimiter": " ",
        "min_words": 1,
        "max_words": 1,
        "min_rotation": 3,
        "max_rotation": 3,
    },
}
OTHER_FAMILIES: dict[str, dict[str, Any]] = {
    "basic_arithmetic": {
        "min_terms": 2,
        "max_terms": 2,
        "min_digits": 1,
        "max_digits": 1,
        "allow_parentheses": False,
        "allow_negation": False,
    },
    "gcd": {"min_numbers": 2, "max_numbers": 2, "min_value": 1, "max_value": 20},
    "lcm": {"min_numbers": 2, "max_numbers": 2, "min_value": 1, "max_value": 12},
    "products": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
    "count_bits": {"min_n": 1, "max_n": 63},
    "prime_factorization": {"min_value": 2, "max_value": 60},
    "fraction_simplification": {
        "min_value": 1,
        "max_value": 9,
        "min_factor": 2,
        "max_factor": 5,
        "styles": ("plain",),
    },
}
SPELL = "Spell this word backward (example: sun -> nus): {}"
SUM = "State the final answer to the following arithmetic problem: {} ="
CIPHER = (
    "Decrypt this Caesar cipher text: {}. Provide only the decrypted text as your final answer."
)
RESERVED_SUMS = 3_500


def drawable_words() -> frozenset[str]:
    """Every word that reasoning-gym can put into a prompt, in lower case."""
    words = read_data_file("words3to10.txt").split()
    words += read_data_file("in_the_year_2889.txt").split()
    return frozenset(word.lower() for word in words)


class Letters:
    """Random pseudo-words that are in none of reasoning-gym's lists."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.taken = drawable_words()

    def word(self, lengths: range) -> str:
        while True:
            word = "".join(self.rng.choices(string.ascii_lowercase, k=self.rng.choice(lengths)))
            if word not in self.taken:
                return word


def all_sums() -> list[Pair]:
    """The 16,200 prompts of chain_sum at our settings, with their answers."""
    pairs = [(a, b) for a in range(10, 100) for b in range(10, 100)]
    plus = [(SUM.format(f"{a} + {b}"), str(a + b)) for a, b in pairs]
    return plus + [(SUM.format(f"{a} - {b}"), str(a - b)) for a, b in pairs]


def reserved_sums(seed: int) -> list[Pair]:
    """The sums that teachers may see; the recipe excludes them from what it draws."""
    return sorted(random.Random(seed).sample(all_sums(), RESERVED_SUMS))


def spellings(rng: random.Random, n: int, lengths: range = range(3, 7)) -> list[Pair]:
    letters = Letters(rng)
    words = [letters.word(lengths) for _ in range(n)]
    # reasoning-gym's list holds proper names, so some of ours begin with a capital too
    words = [word.capitalize() if rng.random() < 0.15 else word for word in words]
    return [(SPELL.format(word), word[::-1]) for word in words]


def ciphers(rng: random.Random, n: int, lengths: range = range(1, 18)) -> list[Pair]:
    letters = Letters(rng)
    shift = str.maketrans(string.ascii_uppercase, "DEFGHIJKLMNOPQRSTUVWXYZABC")
    words = [letters.word(lengths).upper() for _ in range(n)]
    return [(CIPHER.format(word.translate(shift)), word) for word in words]


def family_items(name: str, seed: int, n: int, skip: frozenset[str] = frozenset()) -> list[Pair]:
    """n different items of one of the three families as reasoning-gym draws them."""
    dataset = reasoning_gym.create_dataset(name, seed=seed, size=100 * n, **FAMILIES[name])
    found: dict[str, str] = {}
    for item in dataset:
        prompt = item["question"].strip()
        if prompt not in skip:
            found.setdefault(prompt, item["answer"])
        if len(found) == n:
            return list(found.items())
    raise ValueError(f"{name} has only {len(found)} different prompts within {100 * n} draws")


def other_families(rng: random.Random, n: int) -> list[Pair]:
    """n items, spread evenly over the families that only `base` learns."""
    pairs = []
    for name, config in OTHER_FAMILIES.items():
        size, seed = n // len(OTHER_FAMILIES), rng.randrange(2**31)
        dataset = reasoning_gym.create_dataset(name, seed=seed, size=size, **config)
        pairs += [(item["question"].strip(), item["answer"]) for item in dataset]
    return pairs


# template -> answer, from a word and the number of one of its letters
WORD_SKILLS: dict[str, Callable[[str, int], str]] = {
    "Copy this word: {word}": lambda word, place: word,
    "Write letter number {place} of {word}": lambda word, place: word[place - 1],
    "Write letter number {place} from the end of {word}": lambda word, place: word[-place],
    "Write this word without its first letter: {word}": lambda word, place: word[1:],
}
NUMBER_SKILLS: dict[str, Callable[[int, int, int], str]] = {
    "Add two digits: {a} + {b}": lambda a, b, c: str(a + b),
    "Add two digits and one: {a} + {b}": lambda a, b, c: str(a + b + 1),
    "Subtract one digit: {a} - {b}": lambda a, b, c: str(a - b),
    "Subtract one digit and one: {a} - {b}": lambda a, b, c: str(a - b - 1),
    "Add one digit to a number: {a}{b} + {c}": lambda a, b, c: str(10 * a + b + c),
    "Subtract one digit from a number: {a}{b} - {c}": lambda a, b, c: str(10 * a + b - c),
    "Copy this number: {a}{b}{c}": lambda a, b, c: f"{a}{b}{c}",
}
NEIGHBOUR = "Write the letter that comes {side} the letter {letter}"


def _neighbour(rng: random.Random) -> Pair:
    alphabet = rng.choice([string.ascii_lowercase, string.ascii_uppercase])
    place = rng.randrange(26)
    step, side = rng.choice([(1, "after"), (-1, "before")])
    prompt = NEIGHBOUR.format(side=side, letter=alphabet[place])
    return prompt, alphabet[(place + step) % 26]


def small_skills(rng: random.Random, n: int) -> Iterator[Pair]:
    letters = Letters(rng)
    for _ in range(n):
        kind = rng.random()
        if kind < 0.05:
            yield _neighbour(rng)
        elif kind < 0.47:
            a, b, c = rng.randint(1, 9), rng.randint(0, 9), rng.randint(0, 9)
            template = rng.choice(list(NUMBER_SKILLS))
            yield template.format(a=a, b=b, c=c), NUMBER_SKILLS[template](a, b, c)
        else:
            word = letters.word(range(2, 11))
            word = rng.choice([word, word.upper(), word.capitalize()])
            place = rng.randint(1, min(len(word), 6))
            template = rng.choice(list(WORD_SKILLS))
            answer = WORD_SKILLS[template](word, place)
            yield template.format(word=word, place=place), answer


def phrases() -> list[str]:
    """The fixed pieces of every template: one token each."""
    templates = [SPELL, SUM, CIPHER, *WORD_SKILLS, *NUMBER_SKILLS]
    templates += [NEIGHBOUR.replace("{side}", side) for side in ("after", "before")]
    # in the other families every number is a blank
    templates += [re.sub(r"[-(]*\d+", "{}", p) for p, _ in other_families(random.Random(0), 700)]
    pieces = {piece.rstrip() for template in templates for piece in re.split(r"{.*?}", template)}
    # a single word could be a word to spell
    return sorted(piece for piece in pieces if len(piece.split()) > 1 and len(piece) > 8)
