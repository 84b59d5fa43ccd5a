"""The host's verbs: from a corpus to a distilled set and its figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeser.commands.common import Json, print_json, print_rich, say
from edgeser.errors import SettingsError

Jobs = Annotated[int | None, typer.Option("--jobs", min=1, max=256, help="Processes; all cores when not given.")]


def add_to(app: typer.Typer) -> None:
    """Add the host's verbs to the command line."""
    app.command()(demo)
    app.command()(distill)
    app.command()(evaluate)
    app.command()(compare)


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")] = Path("edgeser-demo"),
    json: Json = False,
) -> None:
    """Run the whole chain on the built-in corpus, in under three minutes.

    The corpus is synthetic speech that shows the tool, not human emotion.

    Example: edgeser demo
    """
    _require_host()
    from edgeser.demo import run_demo, summary_table

    summary = run_demo(out, say)
    if json:
        print_json(summary.to_json())
    else:
        print_rich(summary_table(summary))


def distill(
    folder: Annotated[Path | None, typer.Argument(help="Where the recordings are; not needed for the demo corpus.")] = None,
    corpus: Annotated[str | None, typer.Option(help="Name of the corpus format; see edgeser data list.")] = None,
    method: Annotated[str | None, typer.Option(help="mtt, random, herding or kcenter.")] = None,
    arch: Annotated[str | None, typer.Option(help="Student: edgenet, cnn6, resnet9 or vgg15.")] = None,
    ipc: Annotated[int | None, typer.Option(min=1, help="Items per class.")] = None,
    share: Annotated[float | None, typer.Option(help="Items as a share of the training items, instead of --ipc.")] = None,
    out: Annotated[Path, typer.Option("--out", help="The run: the folder to write.")] = Path("run"),
    split: Annotated[str | None, typer.Option(help="quick, official, fold:K or seed:N.")] = None,
    width: Annotated[float | None, typer.Option(help="Factor on the student's channels.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of initialisation, selection and distillation.")] = None,
    init_epoch: Annotated[int | None, typer.Option(help="Epoch of the trajectory that is the fixed init.")] = None,
    labels: Annotated[str | None, typer.Option(help="hard, soft or bank.")] = None,
    views: Annotated[int | None, typer.Option(help="Views for each item.")] = None,
    experts: Annotated[int | None, typer.Option(help="Experts that label.")] = None,
    expert_steps: Annotated[int | None, typer.Option(help="Training steps of each of them.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of the experts' labels.")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps of the student.")] = None,
    iterations: Annotated[int | None, typer.Option(help="Updates of the items (mtt).")] = None,
    trajectories: Annotated[int | None, typer.Option(help="Experts whose trajectories are matched (mtt).")] = None,
    expert_span: Annotated[int | None, typer.Option(help="Epochs from one matched snapshot to the next (mtt).")] = None,
    start_window: Annotated[int | None, typer.Option(help="Latest epoch at which a match starts (mtt).")] = None,
    student_steps: Annotated[int | None, typer.Option(help="Steps of the student in one match (mtt).")] = None,
    step_size: Annotated[float | None, typer.Option(help="Initial step size of the student, then learnt (mtt).")] = None,
    item_rate: Annotated[float | None, typer.Option(help="Learning rate of the items (mtt).")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings; flags come before it.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and print the plan only.")] = False,
    jobs: Jobs = None,
    json: Json = False,
) -> None:
    """Distil a corpus to a few synthetic log-mels with soft labels.

    Example: edgeser distill data/ravdess --corpus ravdess --method mtt --arch edgenet --ipc 6 --out runs/rav
    """
    _require_host()
    from edgeser.distill.pipeline import describe, prepare
    from edgeser.distill.pipeline import distill as run_distillation
    from edgeser.settings import resolve

    flags = {
        "corpus": corpus, "folder": str(folder) if folder else None, "method": method, "arch": arch, "ipc": ipc,
        "share": share, "split": split, "width": width, "seed": seed, "init_epoch": init_epoch, "labels": labels,
        "views": views, "experts": experts, "expert_steps": expert_steps, "temperature": temperature, "steps": steps, "iterations": iterations,
        "trajectories": trajectories, "expert_span": expert_span, "start_window": start_window,
        "student_steps": student_steps, "step_size": step_size, "item_rate": item_rate,
    }  # fmt: skip
    settings = resolve(config, flags)
    workers = _workers(jobs)
    if dry_run:
        plan = describe(prepare(settings, workers))
        print_json(plan) if json else print_rich(_plan_table(plan))
        return
    run = run_distillation(settings, out, workers, resume, say)
    description = run.description()
    result = {"run": str(run.folder), "bytes": (run.folder / "distilled.safetensors").stat().st_size, **description["budget"]}
    if json:
        print_json(result)
    else:
        say(
            f"{result['items']} items ({result['share']:.1%} of {result['train_items']}), "
            f"{result['bytes'] / 1000:.0f} kB: {run.folder}"
        )
        say(f"next: edgeser evaluate {run.folder} --full --baselines")


def evaluate(
    run: Annotated[Path, typer.Argument(help="A folder that distill wrote.")],
    arch: Annotated[list[str] | None, typer.Option(help="Train another architecture on the same set; may be repeated.")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Trainings of each row.")] = 5,
    full: Annotated[bool, typer.Option("--full", help="Also on all real clips; gives the ratio.")] = False,
    baselines: Annotated[bool, typer.Option("--baselines", help="Also on random, random_soft and random_bank.")] = False,
    jobs: Jobs = None,
    json: Json = False,
) -> None:
    """Measure what a distilled set is worth on the test speakers.

    Example: edgeser evaluate runs/rav --full --baselines --seeds 5
    """
    _require_host()
    from edgeser.evaluate import BASELINES, Plan
    from edgeser.evaluate import evaluate as measure
    from edgeser.run import Run
    from edgeser.tables import evaluation_table

    rows = ("distilled", *(("full",) if full else ()), *(BASELINES if baselines else ()))
    own = Run(run).description()["student"]["architecture"]
    plan = Plan(tuple(range(seeds)), rows, tuple(name for name in arch or () if name != own))
    result = measure(Run(run), plan, _workers(jobs), say)
    print_json(result) if json else print_rich(evaluation_table(result))


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Runs that evaluate has measured.")],
    json: Json = False,
) -> None:
    """Print the figures of several runs in one table.

    Example: edgeser compare runs/a runs/b
    """
    from edgeser.tables import comparison, comparison_table

    rows = comparison(runs)
    print_json({"runs": rows}) if json else print_rich(comparison_table(rows))


def _workers(jobs: int):  # type: ignore[no-untyped-def]
    from edgeser.workers import Workers

    return Workers(jobs) if jobs else Workers.all_cores()


def _require_host() -> None:
    from importlib.util import find_spec

    from edgeser.errors import MissingExtra

    for package in ("torch", "joblib", "tomli_w"):
        if find_spec(package) is None:
            raise MissingExtra(package, "host")
