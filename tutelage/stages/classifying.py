"""classify: prompts are embedded and split into tasks."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ledger.errors import InputError
from ledger.keys import now_us
from ledger.prompts import Item
from tutelage.stages.stage import Output, Stage
from tutelage.watch import Watch
from tutelage.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

    from router.deciding import Discovered, Label, TaskClassifier
    from router.embedding import EmbeddingProgress

SOUGHT_IN = 20_000  # prompts that tasks without examples are made of


def _classify_inputs(workspace: Workspace) -> Any:
    pools = workspace.pools
    return {
        "embedder": workspace.embedder.key,
        "tasks": workspace.recipe.tasks.model_dump(mode="json", exclude={"embedding", "examples"}),
        "examples": pools.fingerprint("examples"),
        "train": [item.prompt.key for item in pools.train],
        "probes": [item.prompt.key for item in pools.probes],
        "test": [item.prompt.key for item in pools.test],
        "sources": [[s.name, s.licence] for s in workspace.recipe.prompts],
        "seed": workspace.recipe.seed,
    }


def _classify(workspace: Workspace, watch: Watch) -> Output:
    pools, given = workspace.pools, workspace.recipe.tasks
    put_prompts(workspace, [*pools.examples, *pools.probes, *pools.test, *pools.train])
    probes = vectors_of(workspace, pools.probes, watch)
    examples, found = _examples(workspace, watch)
    vectors = vectors_of(workspace, [item for item, _ in examples], watch)
    classifier = fitted_classifier(workspace, vectors, [task for _, task in examples], probes)
    tasks, novel = Counter[str](), 0
    for keys, window in embedded_windows(workspace, pools.train, watch):
        labels = classifier.predict(window)
        workspace.ledger.put("label", _label_rows(classifier, keys, labels))
        tasks.update(label.task for label in labels)
        novel += sum(label.novel for label in labels)
    seen = zip(classifier.predict(probes), pools.probes, strict=True)
    named = [(label, item) for label, item in seen if item.task is not None]
    bare = [item for item in (*pools.probes, *pools.test) if item.task is None]
    guesses = classifier.predict(vectors_of(workspace, bare, watch)) if bare else []
    return {
        "classifier": classifier.version,
        "prompts": pools.key,
        "temperature": classifier.temperature,
        "sure_from": classifier.sure_from,
        "novel": novel,
        "task_names": list(classifier.tasks) if given.examples is None else pools.tasks,
        "tasks": dict(sorted(tasks.items())),
        "given": {i.prompt.key: g.best_task for i, g in zip(bare, guesses, strict=True)},
        "examples": [[i.prompt.key, task] for i, task in examples] if not given.examples else [],
        "discovered": sorted(set(found.tasks)) if found and given.discover else [],
        "tried": [asdict(split) for split in found.tried] if found else [],
        "probes_right": sum(label.best_task == item.task for label, item in named),
        "probes": len(named),
    }


def _label_rows(
    classifier: "TaskClassifier", keys: list[str], labels: "list[Label]"
) -> list[dict[str, Any]]:
    return [
        {
            "prompt": key,
            "classifier": classifier.version,
            "task": label.task,
            "probability": label.probability,
            "novel": label.novel,
        }
        for key, label in zip(keys, labels, strict=True)
    ]


def _examples(
    workspace: Workspace, watch: Watch
) -> "tuple[list[tuple[Item, str]], Discovered | None]":
    """Prompts that stand for each task: the recipe's own, or those that its way of making tasks found."""
    from router.deciding import discover, from_descriptions

    given, pools = workspace.recipe.tasks, workspace.pools
    if given.examples is not None:
        return [(item, str(item.task)) for item in pools.examples], None
    items = workspace.in_seeded_order(pools.train)[:SOUGHT_IN]
    vectors = vectors_of(workspace, items, watch)
    if given.describe is not None:
        sentences = workspace.embedder.encode(list(given.describe.values()))
        described = dict(zip(given.describe, sentences, strict=True))
        found = from_descriptions(vectors, described, workspace.recipe.seed)
    else:
        count = given.discover if isinstance(given.discover, int) else None
        texts = [item.prompt.text for item in items]
        found = discover(vectors, texts, workspace.recipe.seed, count)
        _refuse_unknown_names(workspace, sorted(set(found.tasks)))
    pairs = zip(found.rows.tolist(), found.tasks, strict=True)
    return [(items[row], given.names.get(task, task)) for row, task in pairs], found


def refuse_unusable_tasks(workspace: Workspace) -> None:
    """Raises InputError, with file:line, where the recipe's way of making tasks cannot work on its prompts."""
    from router.deciding.classifier import names_in
    from router.deciding.discovery import refuse_few_for_sentences, refuse_few_prompts

    given, pools = workspace.recipe.tasks, workspace.pools
    prompts = min(len(pools.train), SOUGHT_IN)
    try:
        if given.examples is not None:
            way = "examples"
            names_in([str(item.task) for item in pools.examples], given.error_rate)
        elif given.describe is not None:
            way = "describe"
            refuse_few_for_sentences(prompts, len(given.describe))
        else:
            way = "discover"
            refuse_few_prompts(prompts, given.discover if isinstance(given.discover, int) else None)
    except InputError as error:
        raise InputError(f"{workspace.loaded.at('tasks', way)}: {error}") from error


def _refuse_unknown_names(workspace: Workspace, discovered: list[str]) -> None:
    """Raises InputError, with file:line, where `names:` names a task that was not discovered."""
    for name in workspace.recipe.tasks.names:
        if name not in discovered:
            raise InputError(
                f"{workspace.loaded.at('tasks', 'names', name)}: there is no discovered task {name!r}; "
                f"there are {', '.join(discovered)}"
            )


def example_pairs(workspace: Workspace) -> list[tuple[Item, str]]:
    """The examples that `classify` fitted its classifier on, and their tasks."""
    pools = workspace.pools
    if pools.examples:
        return [(item, str(item.task)) for item in pools.examples]
    by_key = {item.prompt.key: item for item in pools.train}
    return [(by_key[key], task) for key, task in workspace.outputs["classify"]["examples"]]


def labels(workspace: Workspace) -> dict[str, tuple[str, float]]:
    """Prompt key -> the task that the classifier gave it and its best task's probability; surest first."""
    rows = workspace.ledger.rows(
        "SELECT p.key, l.task, l.probability FROM label l JOIN prompt p ON l.prompt = p.id "
        "WHERE l.classifier = ? ORDER BY l.probability DESC, p.key",
        [workspace.outputs["classify"]["classifier"]],
    )
    return {key: (task, probability) for key, task, probability in rows}


def put_prompts(workspace: Workspace, items: list[Item]) -> None:
    """The prompts' rows, and the licences of their sources."""
    rows: dict[str, list[dict[str, Any]]] = {"prompt": [], "prompt_text": []}
    for item in items:
        for table, part in item.prompt.rows(item.source):
            rows[table].extend(part)
    workspace.ledger.put_all(list(rows.items()))
    workspace.ledger.fold()
    declare_sources(workspace)


def declare_sources(workspace: Workspace) -> None:
    """The licences of the prompts' sources, where the ledger's newest word on them is another."""
    known = dict(
        workspace.ledger.rows(
            "SELECT subject, licence FROM licence WHERE kind = 'source' "
            "QUALIFY row_number() OVER (PARTITION BY subject ORDER BY id DESC) = 1"
        )
    )
    rows = [
        {"kind": "source", "subject": s.name, "licence": s.licence, "recorded_at": now_us()}
        for s in workspace.recipe.prompts
        if known.get(s.name) != s.licence
    ]
    if rows:
        workspace.ledger.put("licence", rows)
        workspace.ledger.fold()


def fitted_classifier(
    workspace: Workspace, examples: "np.ndarray", tasks: list[str], probes: "np.ndarray"
) -> "TaskClassifier":
    """The classifier that examples, their tasks and the probes make; the same make the same one."""
    from router.deciding import fit

    return fit(examples, tasks, workspace.recipe.seed, workspace.recipe.tasks.error_rate, probes)


def vectors_of(workspace: Workspace, items: Sequence[Item], watch: Watch) -> "np.ndarray":
    """The items' vectors (N, D)."""
    from router.embedding import embed

    prompts = [item.prompt for item in items]
    return embed(workspace.ledger, prompts, workspace.embedder, _shown(watch))


def embedded_windows(
    workspace: Workspace, items: Sequence[Item], watch: Watch
) -> "Iterator[tuple[list[str], np.ndarray]]":
    """Window by window, the items' prompt keys and vectors (n, D)."""
    from router.embedding import embedded

    prompts = (item.prompt for item in items)
    windows = embedded(workspace.ledger, prompts, workspace.embedder, len(items), _shown(watch))
    for window, vectors in windows:
        yield [prompt.key for prompt in window], vectors


def _shown(watch: Watch) -> "Callable[[EmbeddingProgress], None]":
    return lambda p: watch.progress(
        p.done, p.total, f"{p.done:,}/{p.total:,} prompts embedded, {p.reused:,} from the ledger"
    )


def _classify_line(output: Output) -> str:
    counts = ", ".join(f"{count:,} {task}" for task, count in output["tasks"].items())
    new = f"; {output['novel']:,} are like nothing that was probed" if output["novel"] else ""
    if not output["probes"]:
        return f"{counts}{new}"
    return f"{counts}; {output['probes_right']} of {output['probes']} probes recognised{new}"


CLASSIFY = Stage(
    "classify",
    "prompts are embedded and split into tasks",
    _classify_inputs,
    _classify,
    _classify_line,
)
