"""The host's verbs: from a corpus to a distilled set and its figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeser.commands import across, flags
from edgeser.commands.common import Json, print_json, print_rich, say, whole_path

if TYPE_CHECKING:
    from edgeser.evaluate import Plan
    from edgeser.run import Run
    from edgeser.settings import Settings
    from edgeser.workers import Workers

VECTORS = "features"
"""Name of the corpus in the settings of a run of vectors; ``--features`` gives its file."""
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder that distill wrote.")]


def add_to(app: typer.Typer) -> None:
    """Add the host's verbs to the command line."""
    for verb, example in (
        (demo, "edgeser demo"),
        (
            distill,
            "edgeser distill data/ravdess --corpus ravdess --arch edgenet --ipc 6 --out runs/ravdess",
        ),
        (evaluate, "edgeser evaluate runs/ravdess --full --baselines --seeds 5"),
        (compare, "edgeser compare runs/a runs/b --picture runs.svg"),
    ):
        app.command(verb.__name__, epilog=f"Example: {example}")(verb)


def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write to.")] = Path("demo"),
    as_json: Json = False,
) -> None:
    """Run the whole chain on the built-in corpus, in under three minutes on two cores.

    The corpus is synthetic speech that shows the tool, not human emotion.
    """
    require_host()
    from edgeser.demo import run_demo, summary_table

    summary = run_demo(out)
    print_json(summary.to_json()) if as_json else print_rich(summary_table(summary))


def distill(
    context: typer.Context,
    folder: flags.Folder = None,
    corpus: flags.Corpus = None,
    features: flags.Features = None,
    method: flags.Method = None,
    arch: flags.Arch = None,
    ipc: flags.Ipc = None,
    share: flags.Share = None,
    formations: flags.Formations = None,
    out: flags.Out = Path("run"),
    split: flags.Split = None,
    width: flags.Width = None,
    seed: flags.Seed = None,
    start_from: flags.StartFrom = None,
    init_epoch: flags.InitEpoch = None,
    labels: flags.Labels = None,
    views: flags.Views = None,
    experts: flags.Experts = None,
    label_arch: flags.LabelArch = None,
    label_width: flags.LabelWidth = None,
    expert_steps: flags.ExpertSteps = None,
    temperature: flags.Temperature = None,
    steps: flags.Steps = None,
    batch: flags.Batch = None,
    peak_rate: flags.PeakRate = None,
    weight_decay: flags.WeightDecay = None,
    iterations: flags.Iterations = None,
    check_every: flags.CheckEvery = None,
    patience: flags.Patience = None,
    candidates: flags.Candidates = None,
    trajectories: flags.Trajectories = None,
    trajectory_rate: flags.TrajectoryRate = None,
    trajectory_momentum: flags.TrajectoryMomentum = None,
    flatness: flags.Flatness = None,
    expert_span: flags.ExpertSpan = None,
    earliest_start: flags.EarliestStart = None,
    first_window: flags.FirstWindow = None,
    start_window: flags.StartWindow = None,
    window_growth: flags.WindowGrowth = None,
    student_steps: flags.StudentSteps = None,
    student_batch: flags.StudentBatch = None,
    step_size: flags.StepSize = None,
    label_rate: flags.LabelRate = None,
    gate: flags.Gate = None,
    item_average: flags.ItemAverage = None,
    memory: flags.Memory = None,
    item_rate: flags.ItemRate = None,
    statistics_weight: flags.StatisticsWeight = None,
    label_weight: flags.LabelWeight = None,
    unroll_window: flags.UnrollWindow = None,
    latent: flags.Latent = None,
    pretraining: flags.Pretraining = None,
    generator_rate: flags.GeneratorRate = None,
    critic_rate: flags.CriticRate = None,
    critic_steps: flags.CriticSteps = None,
    penalty_weight: flags.PenaltyWeight = None,
    adversarial_weight: flags.AdversarialWeight = None,
    feature_weight: flags.FeatureWeight = None,
    probability_weight: flags.ProbabilityWeight = None,
    diversity_weight: flags.DiversityWeight = None,
    polish: flags.Polish = None,
    ratio: flags.Ratio = None,
    ship: flags.Ship = None,
    dp: flags.Dp = None,
    config: flags.Config = None,
    resume: flags.Resume = False,
    dry_run: flags.DryRun = False,
    jobs: flags.Jobs = None,
    backend: flags.Backend = "local",
    as_json: Json = False,
) -> None:
    """Distil a corpus to a few log-mels with soft labels, and a fixed initialisation."""
    require_host()
    from edgeser.distill.pipeline import describe, prepare
    from edgeser.distill.pipeline import distill as run_distillation
    from edgeser.distill.plan import make_plan, plan_table
    from edgeser.stopwatch import Stopwatch

    watch = Stopwatch.of_program()
    settings = _settings(context.params, config, out if resume else None)
    workers = workers_of(jobs, backend)
    if settings.corpus == VECTORS:
        _distil_vectors(settings, out, resume, dry_run, as_json)
        return
    if dry_run:
        description = describe(prepare(settings, workers))
        workers.release()
        plan = make_plan(settings, workers)
        if as_json:
            print_json({**description, "plan": plan})
        else:
            typer.echo(_plan_text(description))
            print_rich(plan_table(plan))
            typer.echo("no run was written")
        return
    run = run_distillation(settings, out, workers, resume, say, watch)
    result, description = _outcome(run), run.description()
    if "dp" in description:
        result |= {"dp": description["dp"], "dev_uar": run.events("utility")[-1]["dev_uar"]}
    print_json(result) if as_json else _print_outcome(result)


def _distil_vectors(settings: Settings, out: Path, resume: bool, dry_run: bool, as_json: bool) -> None:
    """The verb for a file of vectors; it takes seconds, so a dry run only checks."""
    from edgeser.vectors.pipeline import describe_vectors, distil_vectors, prepare_vectors

    if dry_run:
        description = describe_vectors(prepare_vectors(settings))
        print_json(description) if as_json else typer.echo(f"{_plan_text(description)}\nno run was written")
        return
    result = _outcome(distil_vectors(settings, out, resume))
    print_json(result) if as_json else _print_outcome(result)


def _outcome(run: Run) -> dict[str, Any]:
    """What distill says of a finished run."""
    description = run.description()
    size = (run.folder / "distilled.safetensors").stat().st_size
    own = {"run": str(run.folder), "bytes": size, **description["budget"], "student": description["student"]}
    return own | run.took()


def evaluate(
    run: RunFolder,
    arch: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[:WIDTH]", help="Train another architecture on the same set too; may be repeated."),
    ] = None,
    transfer: Annotated[
        bool, typer.Option("--transfer", help="Train all architectures on the same set, at the run's width.")
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Trainings of each row.")] = 5,
    full: Annotated[bool, typer.Option("--full", help="Also on all real clips; gives the ratio.")] = False,
    full_best: Annotated[
        bool, typer.Option("--full-best", help="Also on all real clips with as many steps as help.")
    ] = False,
    full_soft: Annotated[
        bool, typer.Option("--full-soft", help="Also on all real clips with the experts' soft labels.")
    ] = False,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Also on random, random_soft, random_bank and random_bank_bytes.")
    ] = False,
    convergence: Annotated[
        bool, typer.Option("--convergence", help="Also for shorter trainings, the set against all real clips.")
    ] = False,
    picture: flags.Picture = None,
    folder: flags.Moved = None,
    on: across.On = None,
    corpus: across.OnCorpus = None,
    labels: across.Maps = None,
    jobs: flags.Jobs = None,
    backend: flags.Backend = "local",
    as_json: Json = False,
) -> None:
    """Measure what a distilled set is worth on the test speakers, or on another corpus."""
    require_host()
    from edgeser import pictures
    from edgeser.curves import SHARES
    from edgeser.evaluate import Plan, other_students
    from edgeser.rows import BASELINES
    from edgeser.run import Run
    from edgeser.students import STUDENTS
    from edgeser.tables import evaluation_tables

    if picture is not None:
        pictures.check_picture(picture)
    place = whole_path(folder)
    of_vectors = Run(run).settings().corpus == VECTORS
    asked = {"full": full, "full_best": full_best, "full_soft": full_soft} | dict.fromkeys(BASELINES, baselines)
    rows = ("distilled", *(row for row, wanted in asked.items() if wanted))
    students = other_students(Run(run), [*(arch or ()), *(STUDENTS if transfer else ())])
    plan = Plan(tuple(range(seeds)), rows, students, SHARES if convergence else ())
    if of_vectors and on is None and corpus is None:
        result = _of_vectors(run, plan, place)
    else:
        elsewhere = (on, corpus, labels or ())
        result = across.measure_there(Run(run), plan, elsewhere, workers_of(jobs, backend), place)
    if picture is not None:
        pictures.save(pictures.evaluation_picture(result), picture)
    print_json(result) if as_json else print_rich(evaluation_tables(result))


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Runs that evaluate has measured.")],
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE", help="Draw the runs, as SVG, PNG or PDF.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the comparison as one HTML file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the figures of several runs in one table."""
    from edgeser import pictures
    from edgeser.tables import comparison, comparison_table

    if picture is not None:
        pictures.check_picture(picture)
    if html is not None:
        require_host("matplotlib", "jinja2")
        from edgeser.report.comparison import check_page, write_comparison

        check_page(html)
    rows = comparison(runs)
    if picture is not None:
        pictures.save(pictures.comparison_picture(rows), picture)
    if html is not None:
        write_comparison(runs, html)
    print_json({"runs": rows}) if as_json else print_rich(comparison_table(rows))


def _settings(given: Mapping[str, Any], config: Path | None, begun: Path | None) -> Settings:
    """Settings from flags over a file; when a begun run goes on, its own file is the one."""
    from dataclasses import fields

    from edgeser.distill.table import defaults_of, require_read
    from edgeser.errors import SettingsError
    from edgeser.settings import Settings, read_toml, resolve

    chosen = {field.name: given.get(field.name) for field in fields(Settings)}
    chosen["folder"] = str(given["folder"]) if given["folder"] else None
    if given["features"]:
        if chosen["folder"] or chosen["corpus"]:
            raise SettingsError("--features stands instead of a corpus", "leave out DIR and --corpus")
        method = chosen["method"] or (None if config else "gan")  # the default of recordings moves log-mels
        chosen |= {"corpus": VECTORS, "folder": str(given["features"]), "method": method}
    own = begun / "config.toml" if begun is not None else None
    file = own if config is None and own is not None and own.is_file() else config
    settings = resolve(file, chosen, defaults_of, _require_place)
    named = [name for name, value in chosen.items() if value is not None]
    if config is not None and not chosen["method"]:  # else the file may be that of a run of another method
        named += [name for name, value in read_toml(config).items() if value != getattr(Settings, name, None)]
    require_read(settings, named, vectors=settings.corpus == VECTORS)
    return settings


def _require_place(corpus: str, folder: str) -> None:
    """Check that a corpus and its place exist, or the file of vectors.

    Raises:
        CorpusError: One does not.
    """
    from edgeser.corpora.table import find_corpus
    from edgeser.vectors.corpus import require_file

    require_file(Path(folder)) if corpus == VECTORS else find_corpus(corpus, folder or None)


def _of_vectors(run: Path, plan: Plan, place: str) -> dict[str, Any]:
    """What evaluate measures of a run of vectors, always with all rows that there are.

    Raises:
        SettingsError: Something is asked for that such a run has not.
    """
    from edgeser.errors import SettingsError
    from edgeser.run import Run
    from edgeser.vectors.evaluate import evaluate_vectors

    if plan.transfer or plan.convergence or "full_best" in plan.rows:
        raise SettingsError(
            "a run of vectors has one student and one length of training",
            "leave out --arch, --transfer, --convergence and --full-best",
        )
    return evaluate_vectors(Run(run), plan.seeds, place)


def _plan_text(plan: Mapping[str, Any]) -> str:
    budget, student, split = plan["budget"], plan["student"], plan["split"]
    parts = ", ".join(f"{split[part]['utterances']} {part}" for part in ("train", "dev", "test"))
    items = f"{budget['items']} items, {budget['ipc']} a class ({budget['share']:.1%}); {budget['views']} views"
    return "\n".join(
        (
            f"corpus   {plan['corpus']['title']}, classes: {', '.join(plan['labels'])}",
            f"split    {split['name']}: {parts}",
            f"student  {_student_text(student)}",
            f"budget   {items}",
        )
    )


def _student_text(student: Mapping[str, Any]) -> str:
    return (
        f"{student['architecture']}, {student['parameters']:,} parameters, "
        f"{student['multiply_accumulates']:,} multiply-accumulates a window"
    )


def _print_outcome(result: Mapping[str, Any]) -> None:
    typer.echo(
        f"{result['run']}: {result['items']} items ({result['share']:.1%} of {result['train_items']} training items), "
        f"{result['bytes'] / 1000:.0f} kB; {_student_text(result['student'])}"
    )
    if "dp" in result:
        promise = result["dp"]
        typer.echo(f"dp       epsilon {promise['epsilon']:g}, delta {promise['delta']:g}, unit: {promise['unit']}")
        typer.echo(f"         noise of {promise['noise_multiplier']:.3f} sensitivities on the classes' statistics")
        typer.echo(f"         covers {'; '.join(promise['covered'])}")
        for line in promise["not_covered"]:
            typer.echo(f"         does not cover {line}")
        typer.echo(f"utility  UAR {result['dev_uar']:.3f} on the dev speakers, one student")
    say(f"next: edgeser evaluate {result['run']} --full --baselines")


def workers_of(jobs: int | None, backend: str) -> Workers:
    """As many processes as asked for, or as there are cores."""
    from edgeser.workers import Workers

    return Workers(jobs, backend) if jobs else Workers.all_cores(backend)


def require_host(*more: str) -> None:
    """Check that the packages of the extra ``host`` are installed, ``more`` among them.

    Raises:
        MissingExtra: One is not.
    """
    from importlib.util import find_spec

    from edgeser.errors import MissingExtra

    for package in ("torch", "joblib", "tomli_w", *more):
        if find_spec(package) is None:
            raise MissingExtra(package, "host")
