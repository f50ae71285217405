"""The recipe: one YAML file that says everything about a run. Each room owns its own section.

`load_recipe` gives a checked `Recipe` or a RecipeError that lists every broken rule with file:line.
"""

import difflib
import shlex
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from evals.config import JUDGE, EvaluateConfig, JudgeConfig, ProbesConfig
from ledger.keys import content_key
from ledger.section import Section
from mixer.config import MixConfig
from router.deciding.config import RouteConfig, TasksConfig
from router.engine.config import GenerateConfig
from router.teachers.config import TeacherConfig
from trainer.config import StudentConfig
from tutelage.sources import PromptSource
from tutelage.strict_yaml import Document, Location, RecipeError, load

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class Misplaced(ValueError):
    """A broken rule between two places of a recipe; `location` is the one to mend."""

    def __init__(self, location: Location, told: str) -> None:
        super().__init__(told)
        self.location = location


class Recipe(Section):
    """A whole recipe. `file:` and other paths are relative to it, `run:` to the working directory."""

    name: str = Field(
        pattern=NAME_PATTERN,
        description="Name of the run: letters, digits, `.`, `_`, `-`; at most 64.",
    )
    run: str = Field(
        description="Folder for mix, student and report; the ledger stands beside it in `ledger/` "
        "and serves every recipe there."
    )
    seed: int = Field(
        7, ge=0, description="Seed of prompts, items, order and training; `--seed` overrides it."
    )
    on_bad_row: Literal["stop", "skip"] = Field(
        "stop", description="What to do with a line of a prompt file that cannot be used."
    )
    prompts: list[PromptSource] = Field(min_length=1, description="Where the prompts come from.")
    tasks: TasksConfig = Field(description="How prompts are split into tasks.")
    teachers: dict[str, TeacherConfig] = Field(
        min_length=1, description="The teachers, by the name that ledger and report give them."
    )
    judges: dict[str, TeacherConfig] = Field(
        default_factory=dict,
        description="Models that grade answers, declared like teachers; several decide by majority.",
    )
    judge: JudgeConfig = Field(default_factory=JudgeConfig, description="How the judges grade.")
    probes: ProbesConfig = Field(description="Held-out prompts that measure every teacher.")
    route: RouteConfig = Field(
        default_factory=RouteConfig, description="How each task gets its teacher."
    )
    generate: GenerateConfig = Field(
        default_factory=GenerateConfig, description="How answers are bought."
    )
    mix: MixConfig = Field(description="What the student is trained on, in which order.")
    student: StudentConfig = Field(description="The model that learns, and how.")
    evaluate: EvaluateConfig = Field(description="The test items, and what passes.")

    @field_validator("teachers", "judges")
    @classmethod
    def _plain_names(cls, teachers: dict[str, TeacherConfig]) -> dict[str, TeacherConfig]:
        for name in teachers:
            if not name.replace("-", "").replace("_", "").isalnum() or len(name) > 40:
                raise ValueError(f"name {name!r}: use letters, digits, `-` and `_`, at most 40")
            if name in ("student", "baseline"):
                raise ValueError(f"the name {name!r} is taken; choose another")
        return teachers

    @field_validator("run")
    @classmethod
    def _not_the_ledger(cls, run: str) -> str:
        if Path(run).name in ("", "ledger"):
            raise ValueError(f"{run!r} cannot be the run's folder: `ledger/` beside it is taken")
        return run

    @model_validator(mode="after")
    def _known_teachers(self) -> Self:
        selected = self.mix.select.teachers if self.mix.select else None
        named: list[tuple[Location, str]] = [
            (("route", "to", task), name) for task, name in self.route.to.items()
        ]
        named += [(("mix", "from", "teachers", n), name) for n, name in enumerate(selected or ())]
        for location, name in named:
            if name not in self.teachers:
                told = f"{name!r} is no teacher of this recipe"
                raise Misplaced(location, told + did_you_mean(name, list(self.teachers)))
        for n, size in enumerate(self.student.sizes):
            if size.label in self.teachers:
                told = f"a teacher is called {size.label!r} too: give this size another `name`"
                raise Misplaced(("student", "sizes", n), told)
        for name in self.judges:
            if name in self.teachers:
                told = f"a teacher is called {name!r} too: give the judge another name"
                raise Misplaced(("judges", name), told)
        for section in ("probes", "evaluate"):
            scorer = getattr(self, section).scorer
            named_scorers = scorer.values() if isinstance(scorer, dict) else [scorer]
            if JUDGE in named_scorers and not self.judges:
                raise Misplaced(
                    (section, "scorer"), "`judge` needs `judges:`, the models that grade"
                )
        if not self.eligible:
            told = "takes the answers of no teacher of this recipe: name another teacher or licence"
            raise Misplaced(("mix", "from"), told)
        calls, least = self.probes.max_calls, len(self.eligible)
        if calls is not None and calls < least:
            told = f"{calls} answers are not one of each of {least} teachers: give {least} or more"
            raise Misplaced(("probes", "max_calls"), told)
        for task, name in self.route.to.items():
            if name not in self.eligible:
                told = (
                    f"`mix: from:` does not take the answers of {name}: name another, or take them"
                )
                raise Misplaced(("route", "to", task), told)
        return self

    @property
    def eligible(self) -> list[str]:
        """The teachers that prompts may be routed to: those whose answers the mix takes."""
        select = self.mix.select
        return [
            name
            for name, teacher in self.teachers.items()
            if select is None
            or (
                (select.teachers is None or name in select.teachers)
                and (select.licences is None or teacher.licence in select.licences)
            )
        ]

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.run)

    @property
    def ledger_folder(self) -> Path:
        """The ledger's folder, shared by every run beside this one."""
        return self.folder.parent / "ledger"


@dataclass(frozen=True, slots=True)
class LoadedRecipe:
    """A checked recipe, the file that it came from, and the options that overrode it."""

    recipe: Recipe
    path: Path
    text: str
    document: Document
    options: tuple[str, ...] = ()

    @property
    def base(self) -> Path:
        """What the paths in the recipe are relative to."""
        return self.path.parent

    @property
    def key(self) -> str:
        """A key over the recipe with every default filled in, but for where its run stands."""
        return content_key(self.recipe.model_dump(mode="json", by_alias=True, exclude={"run"}))

    def command(self, name: str, *more: str) -> str:
        """What to type to do something with this recipe, as it was called: `tutelage NAME …`."""
        return shlex.join(["tutelage", name, str(self.path), *self.options, *more])

    def line(self, *location: str | int) -> str:
        """The file:line of a value, or of the nearest thing around it."""
        return f"{self.path}:{self.document.line(location)}"

    def at(self, *location: str | int) -> str:
        """The beginning of an error about a value: file:line and the key."""
        return f"{self.line(*location)}: {'.'.join(map(str, location))}"


def load_recipe(
    path: Path, *, seed: int | None = None, run: str | None = None, origin: Path | None = None
) -> LoadedRecipe:
    """Reads and checks a recipe. `seed` and `run` override what it says; its paths are relative to
    `origin`, where that is another file. Raises RecipeError."""
    document = load(path)
    value = document.value
    if not isinstance(value, dict):
        raise RecipeError(f"{path}:1: a recipe is a mapping of keys such as `name:` and `prompts:`")
    options: list[str] = []
    for key, override in (("seed", seed), ("run", run)):
        if override is not None:
            value[key] = override
            options += [f"--{key}", str(override)]
    try:
        recipe = Recipe.model_validate(value)
    except ValidationError as error:
        raise RecipeError("\n".join(_messages(error, document))) from None
    return LoadedRecipe(recipe, origin or path, document.text, document, tuple(options))


def did_you_mean(word: str, known: list[str]) -> str:
    """The tail of an error message: "; did you mean 'x'?", or the known words where none is near."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(known))}"


def _messages(error: ValidationError, document: Document) -> list[str]:
    """One line for each broken rule, in the order of the file. Of a union's branches the nearest speaks."""
    found: dict[str, tuple[int, str]] = {}
    for problem in _nearest_branches(error, document):
        location = _location_of(problem, document)
        line = document.line(location)
        where = ".".join(str(part) for part in location) or "recipe"
        text = f"{document.path}:{line}: {where}: {_explain(problem, location)}"
        found.setdefault(text, (line, text))
    return [text for _, text in sorted(found.values())]


def _location_of(problem: Any, document: Document) -> Location:
    told = problem.get("ctx", {}).get("error")
    return told.location if isinstance(told, Misplaced) else _location(problem["loc"], document)


def _nearest_branches(error: ValidationError, document: Document) -> Iterator[Any]:
    """Drops the problems of union branches that have more of them than their best sibling."""
    problems = error.errors(include_url=False)
    branches: dict[Location, dict[Any, int]] = {}
    for problem in problems:
        at, branch = _branch(problem["loc"], document)
        if branch is not None:
            counts = branches.setdefault(at, {})
            weight = 3 if problem["type"] in ("model_type", "string_type", "dict_type") else 1
            counts[branch] = counts.get(branch, 0) + weight
    for problem in problems:
        at, branch = _branch(problem["loc"], document)
        if branch is None or branch == min(branches[at], key=branches[at].__getitem__):
            yield problem


def _branch(loc: tuple[Any, ...], document: Document) -> tuple[Location, Any]:
    """Where a union stands in a problem's path, and which branch the problem is about."""
    at: Location = ()
    for part in loc:
        if (*at, part) in document.lines:
            at = (*at, part)
        elif isinstance(part, str) and (part[0].isupper() or part.split("[")[0] in _PLAIN_TYPES):
            return at, part
    return at, None


_PLAIN_TYPES = {"str", "int", "float", "dict", "list", "bool"}


def _location(loc: tuple[Any, ...], document: Document) -> Location:
    """The path in the file: pydantic's, without the names of union branches."""
    location: Location = ()
    for index, part in enumerate(loc):
        if (*location, part) in document.lines or index == len(loc) - 1:
            is_branch = isinstance(part, str) and (
                part[:1].isupper() or part.split("[")[0] in _PLAIN_TYPES
            )
            if not is_branch or (*location, part) in document.lines:
                location = (*location, part)
    return location


def _explain(problem: Any, location: Location) -> str:
    kind, value = problem["type"], problem.get("input")
    if kind == "extra_forbidden":
        return f"unknown key {location[-1]!r}" + did_you_mean(
            str(location[-1]), _keys_at(Recipe, location[:-1])
        )
    if kind == "missing":
        return "is missing, and has no default"
    if kind == "value_error":
        return str(problem["ctx"]["error"])
    if kind == "int_type" and isinstance(value, float) and value.is_integer():
        return f"must be a whole number: write {int(value)}"
    if kind == "string_type" and isinstance(value, bool | int | float):
        return f"must be a text: write '{str(value).lower()}' in quotes"
    if kind == "string_type":
        return f"must be a text, not {value!r:.60}"
    message = problem["msg"].removeprefix("Input ")
    return f"{message[0].lower()}{message[1:]}, not {value!r:.60}"


def _keys_at(model: type[BaseModel], location: Location) -> list[str]:
    """The keys that a recipe may have at `location`, following lists, mappings and unions."""
    candidates: list[Any] = [model]
    for part in location:
        candidates = [inner for c in candidates for inner in _inside(c, part)]
    return sorted({key for c in candidates for key in _field_names(c)})


def _field_names(annotation: Any) -> list[str]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [field.alias or name for name, field in annotation.model_fields.items()]
    return []


def _inside(annotation: Any, part: str | int) -> Iterator[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            if part == (field.alias or name):
                yield from _members(field.annotation)
        return
    arguments = get_args(annotation)
    if get_origin(annotation) in (list, dict) and arguments:
        yield from _members(arguments[-1])


def _members(annotation: Any) -> Iterator[Any]:
    """The alternatives of a union, with `Annotated` taken off."""
    if get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    elif hasattr(annotation, "__metadata__"):
        yield from _members(get_args(annotation)[0])
    else:
        yield annotation
