"""The command line: each command is a few lines over a function that a notebook can call too.

    tutelage run recipes/quickstart.yaml

Exit codes: 0 done; 1 something failed on the way; 2 the recipe, a file or an option is wrong;
3 another run holds the ledger; 4 a teacher was given up, and its answers are missing; 130 stopped by
Ctrl-C.
"""

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ledger.errors import InputError, TutelageError
from ledger.threads import waiting
from tutelage.names import refuse_clashes

app = typer.Typer(
    name="tutelage",
    help="Many teachers, one student: route, mix, distil, and show how close the student came.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 done, 1 failed on the way, 2 wrong recipe or option, 3 ledger in use, "
    "4 a teacher was given up, 130 Ctrl-C.",
)
mix_app = typer.Typer(help="Look at a mix before it is written.", no_args_is_help=True)
audit_app = typer.Typer(
    help="Which teacher produced what, under which licence, at what cost.", no_args_is_help=True
)
app.add_typer(mix_app, name="mix")
app.add_typer(audit_app, name="audit")

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe file.")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or its recipe file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
Seed = Annotated[
    int | None,
    typer.Option(
        help="Seed of prompts, items, order and training, in place of the recipe's.", min=0
    ),
]
RunFolder = Annotated[
    str | None, typer.Option("--run", metavar="DIR", help="Run folder, in place of the recipe's.")
]


def _example(text: str) -> str:
    return f"Example: {text}"


@app.command(epilog=_example("tutelage init my-recipe.yaml"))
def init(
    path: Annotated[Path, typer.Argument(metavar="RECIPE", help="Where to write it.")] = Path(
        "recipe.yaml"
    ),
) -> None:
    """Write a commented recipe with small sample files beside it; asks nothing, overwrites nothing."""
    from tutelage.starting import init_recipe

    for written in init_recipe(path):
        print(f"wrote {written}")
    print(f"next: tutelage check {path}")


@app.command(epilog=_example("tutelage check recipes/quickstart.yaml"))
def check(recipe: RecipePath, as_json: AsJson = False) -> None:
    """Check a recipe and its prompt files; needs no model and no network."""
    from tutelage.planning import check_recipe

    checked = check_recipe(recipe)
    _show(checked.as_dict(), as_json, checked.lines)


@app.command(epilog=_example("tutelage plan recipes/quickstart.yaml"))
def plan(
    recipe: RecipePath,
    seed: Seed = None,
    run: RunFolder = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Train a few steps to tell time, memory and disk of the training."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a run would do, buy and spend, stage by stage; spends nothing."""
    from tutelage.planning import plan_recipe

    planned = plan_recipe(recipe, seed=seed, run=run, measure=measure)
    _show(planned.as_dict(), as_json, planned.lines)


@app.command(name="run", epilog=_example("tutelage run recipes/quickstart.yaml --until mix"))
def run_command(
    recipe: RecipePath,
    until: Annotated[
        str | None, typer.Option(metavar="STAGE", help="Stop after this stage.")
    ] = None,
    seed: Seed = None,
    run: RunFolder = None,
    retry: Annotated[
        str | None,
        typer.Option(
            metavar="STATES",
            help="Only buy again what ended so: failed, invalid, over_budget, cancelled; commas between.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a recipe; what is done already is not done again."""
    from tutelage.buying import PAUSED
    from tutelage.failing import retry_recipe
    from tutelage.pipeline import run_recipe

    if retry is not None and until is not None:
        raise InputError("--retry buys answers and does no stage: leave out --until, or --retry")
    try:
        with _watching(silent=as_json) as watch:
            if retry is not None:
                states = [state.strip() for state in retry.split(",")]
                result = retry_recipe(recipe, states, seed=seed, run=run, watch=watch)
            else:
                result = run_recipe(recipe, until=until, seed=seed, run=run, watch=watch)
    except KeyboardInterrupt:
        _stopped()
        raise typer.Exit(130) from None
    if as_json:
        print(json.dumps(result, indent=2, ensure_ascii=False))
    if result["paused"]:
        _paused(run or str(recipe), result["paused"])
        raise typer.Exit(PAUSED)


@app.command(epilog=_example("tutelage status runs/quickstart"))
def status(run: RunPath, as_json: AsJson = False) -> None:
    """Show how far a run is, also while it goes on."""
    from tutelage.status import run_status

    state = run_status(run)
    _show(state.as_dict(), as_json, state.lines)


@app.command(epilog=_example("tutelage compare runs/a runs/b"))
def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN…", help="Folders or recipes of two or more runs.")
    ],
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it as an HTML page, too.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Hold runs' students against the first one's, on the test items that all of them have."""
    from tutelage.comparing import compare_runs

    found = compare_runs(runs, page)
    _show(found.as_dict(), as_json, found.lines)


@app.command(epilog=_example("tutelage gate runs/quickstart --require within=5%,regress=0"))
def gate(
    run: RunPath,
    require: Annotated[
        str,
        typer.Option(
            help="Conditions, commas between: within=5% (the verdict at that margin), regress=0 (most tasks on "
            "which the student is worse), recovered=90%."
        ),
    ] = "within=5%,regress=0",
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Count regressions against this run's student, not the baseline."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say in one line whether a run is good enough; exit code 1 where it is not."""
    from tutelage.comparing import gate_run

    found = gate_run(run, require, against)
    _show(found.as_dict(), as_json, found.lines)
    if not found.holds:
        raise typer.Exit(1)


@app.command(name="next", epilog=_example("tutelage next runs/quickstart"))
def next_command(run: RunPath, as_json: AsJson = False) -> None:
    """Say what would make a run better, task by task, and write it as a patch for the recipe."""
    from tutelage.advising import advise

    found = advise(run)
    _show(found.as_dict(), as_json, found.lines)


@app.command(epilog=_example("tutelage failures runs/hosted"))
def failures(run: RunPath, as_json: AsJson = False) -> None:
    """Show what of a run failed, by class with an example each, and how to buy it again."""
    from tutelage.failing import list_failures

    found = list_failures(run)
    _show(found.as_dict(), as_json, found.lines)


@app.command(epilog=_example("tutelage batches runs/hosted --cancel"))
def batches(
    run: RunPath,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Call them off; what is answered is taken in.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a run's teachers have in batches at their providers, or call them off."""
    from tutelage.batching import cancel_batches, list_batches

    if cancel:
        with _watching(silent=as_json) as watch:
            found = cancel_batches(run, watch)
    else:
        found = list_batches(run)
    _show(found.as_dict(), as_json, found.lines)


@app.command(epilog=_example("tutelage report runs/quickstart"))
def report(run: RunPath) -> None:
    """Write a run's report again from the ledger, and say where it is."""
    from tutelage.status import write_report

    print(write_report(run))


@mix_app.command("preview", epilog=_example("tutelage mix preview recipes/quickstart.yaml"))
def mix_preview(run: RunPath, as_json: AsJson = False) -> None:
    """Show the mix that would come out of the answers there are; writes nothing."""
    from tutelage.previewing import preview_mix

    preview = preview_mix(run)
    _show(preview.as_dict(), as_json, preview.lines)


@app.command(epilog=_example("tutelage tasks runs/quickstart"))
def tasks(run: RunPath, as_json: AsJson = False) -> None:
    """Show the tasks of a run: size, terms, typical and borderline prompts; write names to edit."""
    from tutelage.tasking import show_tasks

    shown = show_tasks(run)
    _show(shown.as_dict(), as_json, shown.lines)


@app.command(epilog=_example('tutelage route runs/quickstart "Spell this word backward: sun"'))
def route(
    run: RunPath,
    prompt: Annotated[str, typer.Argument(help="The prompt to route.")],
    as_json: AsJson = False,
) -> None:
    """Show a prompt's task, its teacher and why, and the probes nearest to it."""
    from tutelage.asking import explain_route

    explained = explain_route(run, prompt)
    _show(explained.as_dict(), as_json, explained.lines)


@app.command(
    epilog=_example(
        'tutelage ask runs/quickstart "Spell this word backward (example: sun -> nus): moon"'
    )
)
def ask(
    run: RunPath,
    prompt: Annotated[str, typer.Argument(help="The prompt to ask.")],
    as_json: AsJson = False,
) -> None:
    """Ask the student, the routed teacher and the base the same thing, side by side."""
    from tutelage.asking import ask as ask_both

    asked = ask_both(run, prompt)
    _show(asked.as_dict(), as_json, asked.lines)


@audit_app.command("sample", epilog=_example("tutelage audit sample runs/quickstart 3fa9"))
def audit_sample(
    run: RunPath,
    sample: Annotated[str, typer.Argument(metavar="ID", help="A sample's id, or its beginning.")],
    as_json: AsJson = False,
) -> None:
    """Show one sample's whole way: prompt, teacher, licence, cost, mix, students."""
    from tutelage.auditing import audit_sample as look

    _show_record(look(run, sample), as_json)


@audit_app.command("student", epilog=_example("tutelage audit student runs/quickstart"))
def audit_student(run: RunPath, as_json: AsJson = False) -> None:
    """Show what a run's students learned from: mix, teachers, sources, licences."""
    from tutelage.auditing import audit_student as look

    _show_record(look(run), as_json)


@audit_app.command("teacher", epilog=_example("tutelage audit teacher runs/quickstart speller"))
def audit_teacher(
    run: RunPath,
    name: Annotated[str, typer.Argument(help="The teacher's name in the recipe.")],
    as_json: AsJson = False,
) -> None:
    """Show what a teacher was asked, what it cost, and which students learned from it."""
    from tutelage.auditing import audit_teacher as look

    _show_record(look(run, name), as_json)


@audit_app.command("verify", epilog=_example("tutelage audit verify runs/quickstart"))
def audit_verify(run: RunPath) -> None:
    """Recompute the ledger's hash chain, and say whether a row was altered."""
    from tutelage.auditing import audit_verify as verify

    print(f"{verify(run):,} batches match their hashes")


@audit_app.command(
    "sql",
    epilog=_example(
        'tutelage audit sql runs/quickstart "SELECT task, count(*) FROM label GROUP BY 1"'
    ),
)
def audit_sql(
    run: RunPath,
    query: Annotated[str, typer.Argument(help="A SELECT over the ledger's tables.")],
    csv: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the rows as CSV, safe to open in a spreadsheet."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask the ledger anything in SQL; read-only, and sealed off from this machine's files."""
    from tutelage.auditing import as_csv, as_records
    from tutelage.auditing import audit_sql as look
    from tutelage.visible import visible

    columns, rows = look(run, query)
    if csv:
        from ledger.keys import write_atomically

        write_atomically(csv, as_csv(columns, rows).encode())
        print(f"{len(rows):,} rows -> {visible(csv)}")
        return
    if as_json:
        print(json.dumps(as_records(columns, rows), indent=2, ensure_ascii=False, default=str))
        return
    from tutelage.terminal import as_table, stdout_console

    names = [visible(name) for name in columns]
    stdout_console().print(as_table("", names, [[visible(v) for v in row] for row in rows]))


@app.command(epilog=_example("tutelage doctor recipes/hosted.yaml"))
def doctor(
    recipe: Annotated[
        Path | None, typer.Argument(metavar="[RECIPE]", help="Also check what this recipe needs.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what of this machine can be used (GPU, keys, vLLM, packages), and what to do about lacks."""
    from tutelage.doctor import diagnose

    findings = diagnose(recipe)
    if as_json:
        print(json.dumps([finding.as_dict() for finding in findings], indent=2))
    else:
        for finding in findings:
            print(finding.line)
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(1)


def main() -> None:
    """The `tutelage` command. Errors that are someone's to mend are printed without a traceback."""
    os.environ.update(waiting())
    try:
        if sys.argv[1:2] != ["doctor"]:  # which looks closer and goes on
            refuse_clashes()
        app()
    except TutelageError as error:
        from tutelage.terminal import stderr_console
        from tutelage.visible import visible_lines

        stderr_console().print(visible_lines(error), style="red", markup=False)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)


def _show(record: dict[str, Any], as_json: bool, lines: Callable[[], list[Any]]) -> None:
    if as_json:
        print(json.dumps(record, indent=2, ensure_ascii=False))
        return
    from tutelage.terminal import stdout_console
    from tutelage.visible import visible

    console = stdout_console()
    for line in lines():
        console.print(
            visible(line) if isinstance(line, str) else line, soft_wrap=True, markup=False
        )


def _show_record(record: Any, as_json: bool) -> None:
    if as_json:
        print(json.dumps(record, indent=2, ensure_ascii=False, default=str))
        return
    from tutelage.auditing import as_lines

    for line in as_lines(record):
        print(line)


@contextlib.contextmanager
def _watching(*, silent: bool) -> Iterator[Any]:
    """A watcher that draws on standard output, its live bar gone at the end, or a silent one."""
    from tutelage.terminal import Terminal
    from tutelage.watch import Watch

    if silent:
        yield Watch()
        return
    watch = Terminal()
    try:
        yield watch
    finally:
        watch.stop()


def _paused(run: str, teachers: list[str]) -> None:
    from tutelage.terminal import stderr_console

    names = " and ".join(teachers)
    stderr_console().print(
        f"Done without all answers of {names}, which was given up while the others went on: "
        f"`tutelage failures {run}` says why, and running again asks for what is missing.",
        style="yellow",
        markup=False,
    )


def _stopped() -> None:
    from tutelage.terminal import stderr_console

    stderr_console().print(
        "Stopped. Every answer that arrived is in the ledger, finished stages are recorded, and "
        f"training keeps its last checkpoint.\nGo on with: tutelage {shlex.join(sys.argv[1:])}",
        markup=False,
    )
