"""Tasks go to the strongest teacher where that is beyond noise, and a person can read why."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ledger.errors import InputError
from router.deciding import Route, RouteConfig, UnroutableTask, decide

TEACHERS = ["speller", "adder", "generalist"]
STRONGEST = RouteConfig()


def probed(right: dict[str, dict[str, int]], n: int = 60) -> dict[str, dict[str, dict[str, float]]]:
    """Scores of `n` probes per task, of which each teacher gets the first so many right."""
    return {
        task: {
            teacher: {f"{task}-{i}": float(i < count) for i in range(n)}
            for teacher, count in teachers.items()
        }
        for task, teachers in right.items()
    }


SPECIALISTS = probed(
    {
        "spell": {"speller": 59, "adder": 0, "generalist": 28},
        "sum": {"speller": 0, "adder": 60, "generalist": 20},
        "caesar": {"speller": 0, "adder": 0, "generalist": 25},
    }
)


def by_task(routes: list[Route]) -> dict[str, Route]:
    return {route.task: route for route in routes}


def test_each_task_goes_to_its_specialist_and_says_why() -> None:
    routes = by_task(decide(STRONGEST, list(SPECIALISTS), TEACHERS, SPECIALISTS))
    assert {task: route.teacher for task, route in routes.items()} == {
        "spell": "speller",
        "sum": "adder",
        "caesar": "generalist",
        "unsure": "generalist",
    }
    assert routes["spell"].reason == (
        "speller is right on 59 of 60 probes, 0.52 above generalist (95 % interval 0.37 to 0.63)"
    )
    assert routes["spell"].runner_up == "generalist"
    assert routes["spell"].margin == pytest.approx(31 / 60)
    assert routes["spell"].over_best_single is not None
    assert routes["unsure"].reason == (
        "prompts of no clear task go to generalist, the best single teacher "
        "(mean strength 0.41 over 3 tasks)"
    )
    assert not any(route.guarded for route in routes.values())


NOISY = probed(
    {
        "spell_backward": {"speller": 31, "adder": 30, "generalist": 0},
        "sum": {"speller": 10, "adder": 50, "generalist": 49},
    }
)


def test_guard_keeps_a_task_with_the_best_single_teacher() -> None:
    route = by_task(decide(STRONGEST, list(NOISY), TEACHERS, NOISY))["spell_backward"]
    assert (route.teacher, route.runner_up, route.guarded) == ("adder", "speller", True)
    assert route.margin == pytest.approx(-1 / 60)
    assert route.reason == (
        "no teacher is better than adder here beyond noise (speller gains 0.02, 95 % interval "
        "-0.04 to 0.07), so spell_backward goes to the best single teacher"
    )


def test_without_the_guard_the_highest_mean_wins() -> None:
    config = RouteConfig(guard=False)
    route = by_task(decide(config, list(NOISY), TEACHERS, NOISY))["spell_backward"]
    assert (route.teacher, route.runner_up, route.guarded) == ("speller", "adder", False)
    assert "0.02 above adder, which is within noise (95 % interval" in route.reason


def test_best_single_teacher_within_noise_says_so() -> None:
    route = by_task(decide(STRONGEST, list(NOISY), TEACHERS, NOISY))["sum"]
    assert (route.teacher, route.guarded) == ("adder", False)
    assert route.reason.startswith(
        "adder is right on 50 of 60 probes, 0.02 above generalist, which"
    )
    assert route.reason.endswith("it is the best single teacher too")


def test_a_few_probes_do_not_outvote_many() -> None:
    many = probed({"large": {"speller": 84, "adder": 72, "generalist": 0}}, 120)
    few = probed({f"small{i}": {"speller": 1, "adder": 2, "generalist": 0} for i in range(2)}, 3)
    routes = decide(STRONGEST, ["large", "small0", "small1"], TEACHERS, many | few)
    assert {route.teacher for route in routes} == {"speller"}


def test_ties_go_to_the_best_single_teacher_then_by_the_recipes_order() -> None:
    even = probed({"x": {"a": 20, "b": 20, "c": 20}, "y": {"a": 10, "b": 30, "c": 30}})
    for config, order in itertools.product(
        (STRONGEST, RouteConfig(guard=False)), (["a", "b", "c"], ["c", "a", "b"])
    ):
        first = next(name for name in order if name != "a")
        routes = decide(config, ["x", "y"], order, even)
        assert [route.teacher for route in routes] == [first] * 3
    assert (
        "no more than" in by_task(decide(STRONGEST, ["x", "y"], ["a", "b", "c"], even))["x"].reason
    )


def test_one_teacher_needs_no_probes() -> None:
    routes = decide(STRONGEST, ["x"], ["only"], {})
    assert [(route.task, route.teacher) for route in routes] == [("x", "only"), ("unsure", "only")]
    assert routes[0].reason == "only is the only teacher"
    probes = probed({"x": {"only": 55}})
    reason = decide(STRONGEST, ["x"], ["only"], probes)[0].reason
    assert reason == "only is the only teacher, and is right on 55 of 60 probes"


def test_task_without_scores_goes_to_the_best_single_teacher() -> None:
    route = by_task(decide(STRONGEST, ["spell", "other"], TEACHERS, SPECIALISTS))["other"]
    assert route.teacher == "speller"
    assert route.reason.startswith("no probe of other was scored, so it goes to speller")
    assert route.margin is None


def test_teacher_that_answered_few_probes_is_compared_on_those_it_shares() -> None:
    partial = {
        "x": {
            "a": {f"p{i}": 1.0 for i in range(3)},
            "b": {f"p{i}": float(i >= 6) for i in range(60)},
        },
        "y": {"b": {f"q{i}": 1.0 for i in range(60)}},
    }
    route = by_task(decide(STRONGEST, ["x", "y"], ["a", "b"], partial))["x"]
    assert route.best_single == "b"
    assert (route.teacher, route.guarded) == ("b", True), "3 probes are not beyond noise"


def test_graded_scores_are_told_as_means() -> None:
    graded = {
        "x": {
            "a": {f"p{i}": 0.75 for i in range(60)},
            "b": {f"p{i}": 0.25 for i in range(60)},
        }
    }
    reason = decide(STRONGEST, ["x"], ["a", "b"], graded)[0].reason
    assert reason.startswith("a scores 0.75 on 60 probes, 0.50 above b (95 % interval 0.")


def test_fixed_follows_the_recipe_and_tells_what_probes_say() -> None:
    config = RouteConfig(policy="fixed", to={"spell": "adder"})
    routes = by_task(decide(config, list(SPECIALISTS), TEACHERS, SPECIALISTS))
    assert routes["spell"].teacher == "adder"
    assert routes["spell"].reason.startswith(
        "the recipe sends spell to adder, which is right on 0 of 60 probes, 0.98 below speller ("
    )
    assert routes["sum"].teacher == routes["unsure"].teacher == "generalist"
    assert routes["sum"].reason.startswith("`to:` does not name sum, so it goes to generalist")


def test_fixed_works_without_probes() -> None:
    config = RouteConfig(policy="fixed", to={"a": "adder", "b": "adder", "c": "speller"})
    routes = by_task(decide(config, ["a", "b", "c"], TEACHERS, {}))
    assert routes["c"].reason == "the recipe sends c to speller"
    assert routes["unsure"].teacher == "adder"
    assert "names most often (nothing was probed)" in routes["unsure"].reason


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (RouteConfig(policy="fixed", to={"spel": "adder"}), "names the task 'spel'"),
        (RouteConfig(policy="fixed", to={"spell": "ader"}), "sends 'spell' to 'ader'"),
        (STRONGEST, "nothing to go by"),
    ],
)
def test_what_cannot_be_routed_is_an_input_error(config: RouteConfig, message: str) -> None:
    with pytest.raises(UnroutableTask, match=message) as caught:
        decide(config, ["spell"], TEACHERS, {})
    assert isinstance(caught.value, InputError)


def test_policy_and_its_table_go_together() -> None:
    with pytest.raises(ValidationError, match="`policy: fixed` needs `to:`"):
        RouteConfig(policy="fixed")
    with pytest.raises(ValidationError, match="goes with `policy: fixed`"):
        RouteConfig(to={"a": "b"})


counts = st.dictionaries(
    st.sampled_from(["x", "y", "z"]),
    st.fixed_dictionaries({teacher: st.integers(0, 12) for teacher in TEACHERS}),
    min_size=1,
)


@given(counts)
def test_guarded_route_leaves_the_best_single_teacher_only_beyond_noise(
    right: dict[str, dict[str, int]],
) -> None:
    routes = decide(STRONGEST, list(right), TEACHERS, probed(right, n=12))
    assert routes == decide(STRONGEST, list(right), TEACHERS, probed(right, n=12))
    for route in routes:
        if route.teacher != route.best_single:
            assert route.over_best_single is not None
            assert route.over_best_single.lo > 0
            strongest = max(one.mean for one in route.strengths.values())
            assert route.strengths[route.teacher].mean == strongest


USD = {task: {"speller": 9.0, "adder": 1.0, "generalist": 0.5} for task in SPECIALISTS}


def test_cost_weighs_strength_against_price() -> None:
    def routes(alpha: float) -> dict[str, Route]:
        config = RouteConfig(policy="cost", alpha=alpha)
        return by_task(decide(config, list(SPECIALISTS), TEACHERS, SPECIALISTS, USD))

    assert routes(0.001)["spell"].teacher == "speller"
    dear = routes(0.1)
    assert {task: dear[task].teacher for task in SPECIALISTS} == {
        "spell": "generalist",
        "sum": "adder",
        "caesar": "generalist",
    }
    assert dear["sum"].margin == pytest.approx(40 / 60 - 0.1 * 0.5)
    assert dear["sum"].reason.endswith(
        "; 1,000 answers cost 1.00 USD, generalist's 0.50, which at 0.1 a dollar is -0.05 in the gain"
    )


def test_cost_and_alpha_go_together() -> None:
    for fields in ({"policy": "cost"}, {"alpha": 0.1}, {"policy": "cost", "alpha": 0.0}):
        with pytest.raises(ValidationError, match="alpha"):
            RouteConfig.model_validate(fields)


def test_a_teacher_that_hardly_anybody_asked_does_not_hide_a_better_known_one() -> None:
    right = {"best": 120, "second": 180}
    scores = {
        name: {f"p{i}": float(i < count) for i in range(200)} for name, count in right.items()
    }
    other = {name: {f"q{i}": float(name == "best") for i in range(200)} for name in right}
    few = {"few": {f"p{i + 110}": 1.0 for i in range(6)}}
    names = ["best", "second", "few"]
    route = by_task(decide(STRONGEST, ["t", "u"], names, {"t": scores | few, "u": other}))["t"]
    assert (route.teacher, route.best_single, route.guarded) == ("second", "best", False)
    assert route.over_best_single is not None
    assert route.over_best_single.lo > 0
    assert route.strengths["few"].mean > route.strengths["second"].mean


def test_a_teacher_without_a_price_or_a_probe_is_left_out_of_cost() -> None:
    config = RouteConfig(policy="cost", alpha=0.1)
    scores = {"t": {"dear": {"p": 1.0, "q": 1.0}, "cheap": {"p": 1.0, "q": 1.0}, "silent": {}}}
    usd = {"t": {"dear": 5.0, "cheap": 0.1}}
    routes = decide(config, ["t"], ["dear", "cheap", "silent"], scores, usd)
    assert [route.teacher for route in routes] == ["cheap", "cheap"]


def test_unsure_prompts_that_the_recipe_routes_have_a_second_teacher_too() -> None:
    config = RouteConfig(policy="fixed", to={"unsure": "adder"}, unsure="two_teachers")
    unsure = by_task(decide(config, list(SPECIALISTS), TEACHERS, SPECIALISTS))["unsure"]
    assert (unsure.teacher, unsure.runner_up) == ("adder", "generalist")
