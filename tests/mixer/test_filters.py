"""Filters drop for a stated reason, in any order of answers; nothing enters without licences."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer import UnlicensedSamples, apply_filters
from mixer.filters import Filtered


def reasons(filtered: Filtered) -> dict[str, str]:
    return {flag.filter: flag.detail for flag in filtered.flags}


def test_each_drop_has_one_flag_with_a_reason(mix: Any, answers: Any) -> None:
    config = mix(
        total=9,
        drop=["empty", "truncated", "too_short", "too_long", "duplicate"],
        min_tokens=2,
        max_tokens=50,
    )
    good, empty, cut, short, long, refused, blocked, lost, half = answers("maths", 9)
    filtered = apply_filters(
        config,
        [
            good,
            replace(empty, answer=" \n"),
            replace(cut, state="truncated", tokens=49),
            replace(short, tokens=1),
            replace(long, tokens=1200),
            replace(refused, state="refused"),
            replace(blocked, state="filtered"),
            replace(lost, state="failed"),
            replace(half, answer="\ud83d"),
        ],
    )
    assert filtered.kept == [good]
    assert len(filtered.flags) == 8
    said = reasons(filtered)
    assert said["empty"] == "the answer is only white space"
    assert "49 student tokens" in said["truncated"]
    assert said["too_short"] == "1 tokens, below mix.min_tokens 2"
    assert said["too_long"] == "1,200 tokens, above mix.max_tokens 50"
    assert "refused" in said["refused"]
    assert "content filter" in said["filtered"]
    assert "'failed'" in said["unfinished"]
    assert "U+D83D" in said["unwritable"]
    assert filtered.drops == {"maths": dict.fromkeys(sorted(said), 1)}


def test_filters_that_are_not_named_do_not_drop(mix: Any, answers: Any) -> None:
    one, two, three = answers("maths", 3)
    pool = [replace(one, answer=""), replace(two, state="truncated"), three]
    assert len(apply_filters(mix(total=9, drop=[]), pool).kept) == 3


def test_duplicates_are_found_through_white_space_and_unicode_forms(mix: Any, answers: Any) -> None:
    first, again, other = answers("maths", 3)
    first = replace(first, sample="a" * 32, answer="caf\u00e9  au lait\n", teacher="bob")
    again = replace(again, sample="b" * 32, messages=first.messages, answer="cafe\u0301 au lait")
    same_answer_to_other_prompt = replace(other, answer=first.answer)
    filtered = apply_filters(mix(total=9), [again, same_answer_to_other_prompt, first])
    assert filtered.kept == sorted([first, same_answer_to_other_prompt], key=lambda c: c.sample)
    (flag,) = filtered.flags
    assert (flag.sample, flag.filter) == (again.sample, "duplicate")
    assert first.sample in flag.detail
    assert "bob" in flag.detail


def test_prompts_that_differ_in_role_turn_or_tools_are_no_duplicates(
    mix: Any, answers: Any
) -> None:
    base = replace(answers("maths", 1)[0], answer="yes")
    user, system = {"role": "user", "content": "a"}, {"role": "system", "content": "a"}
    chats = [(user,), (system,), (user, user), ({"role": "user", "content": "a a"},)]
    pool = [
        replace(base, sample=f"{n}", prompt_key=f"{n}", messages=chat)
        for n, chat in enumerate(chats)
    ]
    pool.append(replace(pool[0], sample="t", prompt_key="t", tools='[{"name": "f"}]'))
    assert len(apply_filters(mix(total=9), pool).kept) == 5


def test_a_whole_answer_is_kept_before_a_truncated_duplicate(mix: Any, answers: Any) -> None:
    (whole,) = answers("maths", 1)
    whole = replace(whole, sample="b")
    cut = replace(whole, sample="a", state="truncated")
    assert apply_filters(mix(total=9, drop=["duplicate"]), [cut, whole]).kept == [whole]


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_the_order_of_the_answers_has_no_influence(mix: Any, answers: Any, data: Any) -> None:
    pool = [replace(c, sample=f"{n:02}") for n, c in enumerate(answers("maths", 4) * 3)]
    shuffled = data.draw(st.permutations(pool))
    config = mix(total=9)
    assert apply_filters(config, shuffled) == apply_filters(config, pool)


def test_only_named_teachers_licences_and_tasks_are_selected(mix: Any, answers: Any) -> None:
    ada, bob = answers("maths", 2), answers("maths", 2, teacher="bob", licence="other")
    code, unsure = answers("code", 2), answers("unsure", 1)
    pool = ada + bob + code + unsure
    by_teacher = apply_filters(mix(total=9, **{"from": {"teachers": ["ada"]}}), pool)
    assert {c.teacher for c in by_teacher.kept} == {"ada"}
    assert by_teacher.not_selected == 3
    licences = ["Apache-2.0", "CC-BY-4.0"]
    by_licence = apply_filters(mix(total=9, **{"from": {"licences": licences}}), pool)
    assert {c.licence for c in by_licence.kept} == {"Apache-2.0"}
    half = apply_filters(mix(total=9, **{"from": {"licences": ["Apache-2.0"]}}), pool)
    assert half.kept == []  # the prompts' licence counts as well
    by_task = apply_filters(mix(total=9, shares={"unsure": 0.5, "code": 0.5}), pool)
    assert by_task.found == {"code": 2, "unsure": 1}


def test_answers_without_licence_are_counted_and_refused(mix: Any, answers: Any) -> None:
    bare = answers("maths", 2, teacher="bob", licence="")
    unsourced = answers("code", 1, source="mine.jsonl", source_licence="")
    pool = bare + unsourced + answers("maths", 3)
    with pytest.raises(UnlicensedSamples) as refused:
        apply_filters(mix(total=9), pool)
    assert refused.value.count == 3
    assert "teacher 'bob' (2), prompts 'mine.jsonl' (1)" in str(refused.value)
    apply_filters(mix(total=9, shares={"maths": 1}, **{"from": {"teachers": ["ada"]}}), pool)


def test_unverified_answers_are_dropped_with_their_score(mix: Any, answers: Any) -> None:
    right, part, bare = answers("maths", 3)
    pool = [replace(right, score=1.0), replace(part, score=0.5), bare]
    filtered = apply_filters(mix(total=9, drop=["unverified"]), pool)
    assert [c.sample for c in filtered.kept] == [right.sample]
    assert {flag.sample: flag.detail for flag in filtered.flags} == {
        part.sample: "scores 0.50 against its prompt's reference",
        bare.sample: "its prompt has no reference to verify it by",
    }


def test_one_answer_of_a_prompt_is_kept_the_best_by_score_then_by_strength(
    mix: Any, answers: Any
) -> None:
    other, one = answers("maths", 2)
    two, three, four = (replace(one, sample=f"{n}" * 32, answer=f"answer {n}") for n in "234")
    pool = [
        replace(one, score=0.5, strength=0.9),
        replace(two, score=1.0, strength=0.2, teacher="bob"),
        replace(three, score=1.0, strength=0.6, teacher="eve"),
        replace(four, score=1.0, strength=0.6, state="truncated"),
        other,
    ]
    filtered = apply_filters(mix(total=9, drop=["not_best"]), pool)
    assert {c.sample for c in filtered.kept} == {three.sample, other.sample}
    details = {flag.sample: flag.detail for flag in filtered.flags}
    assert details[two.sample] == (
        f"scores 1.00, by bob (strength 0.20); sample {three.sample} scores 1.00, by eve (strength 0.60)"
    )
    truncated = apply_filters(mix(total=9, drop=["truncated", "not_best"]), [pool[3], other])
    assert {c.sample for c in truncated.kept} == {other.sample}
