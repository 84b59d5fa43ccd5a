"""The host's verbs: from a corpus to a distilled set and its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from edgeser.cli import options as flags
from edgeser.cli.options import Json, add_verbs, option, say, show, whole_path
from edgeser.config.settings import INPUT, JOINED, SETTINGS, VECTORS
from edgeser.errors import SettingsError
from edgeser_device.machine import available_cores
from edgeser_export.utilities.errors import MissingExtra

if TYPE_CHECKING:
    from edgeser.config.settings import Settings
    from edgeser.evaluation.cross_corpus import Other
    from edgeser.evaluation.evaluate import Plan
    from edgeser.run import Run
    from edgeser.workers import Workers


FEATURES = "Vectors instead of a corpus: .npz or .safetensors with features, labels, speakers."
CORPORA = "TOML file that lists several corpora to learn."
CONFIG = "TOML file with settings; options come before it."
ARCH = "Train another architecture too; may be repeated."
DRY_RUN = "Check everything, and print about how long it takes."
MAPS = "Emotions that mean the same there, beside those of equal name; may be repeated. OURS= leaves one out."
ADAPT = "Also adapted by up to N clips without labels, at most half, of each speaker of --on; 0 measures none."
On: TypeAlias = Annotated[Path | None, option("--on", "Also on all speakers of another corpus, against full.", "DIR")]
OnCorpus: TypeAlias = Annotated[
    str | None, option("--corpus", "Format of the corpus of --on; see edgeser data list.", "NAME")
]
Maps: TypeAlias = Annotated[list[str] | None, option("--map", MAPS, "OURS=THEIRS")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder that distill wrote.")]


def add_to(app: typer.Typer) -> None:
    """Add the host's verbs to the command line."""
    distilled = "Example: edgeser distill data/ravdess --corpus ravdess --arch edgenet --ipc 6 --out runs/ravdess"
    add_verbs(app, ("demo", demo, "edgeser demo"))
    app.command("distill", cls=flags.SettingsVerb, epilog=distilled)(distill)
    add_verbs(
        app,
        ("evaluate", evaluate, "edgeser evaluate runs/ravdess --full --baselines --seeds 5"),
        ("compare", compare, "edgeser compare runs/a runs/b --html runs.html"),
    )


def demo(
    out: Annotated[Path, option("--out", "Folder to write to.", "DIR")] = Path("demo"),
    encoder: Annotated[bool, option("--encoder", "Learn vectors of a pretrained speech encoder.")] = False,
    as_json: Json = False,
) -> None:
    """Run the whole chain on the built-in corpus, which takes some minutes on two cores.

    The corpus is synthetic speech that shows the tool, not human emotion.
    """
    require_host()
    from edgeser.demonstration import run_demo, summary_table

    summary = run_demo(out, encoder)
    show(summary, lambda: summary_table(summary), as_json)


@flags.with_settings
def distill(
    given: dict[str, str],
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help=SETTINGS["folder"].help, show_default=False)
    ] = None,
    features: Annotated[Path | None, option("--features", FEATURES, "FILE", rich_help_panel=INPUT)] = None,
    corpora: Annotated[Path | None, option("--corpora", CORPORA, "FILE", rich_help_panel=INPUT)] = None,
    out: Annotated[Path, option("--out", "Folder of the run.", "RUN", rich_help_panel=flags.RUN)] = Path("run"),
    config: Annotated[Path | None, option("--config", CONFIG, "FILE", rich_help_panel=flags.RUN)] = None,
    resume: Annotated[bool, option("--resume", "Go on with an interrupted run.", rich_help_panel=flags.RUN)] = False,
    dry_run: Annotated[bool, option("--dry-run", DRY_RUN, rich_help_panel=flags.RUN)] = False,
    jobs: flags.Jobs = None,
    backend: flags.Backend = "local",
    as_json: Json = False,
) -> None:
    """Distil a corpus to a few items with soft labels, and a fixed initialisation."""
    require_host()
    from edgeser.distill.budget import in_words
    from edgeser.distill.pipeline import describe, left_out, prepare
    from edgeser.distill.pipeline import distill as run_distillation
    from edgeser.distill.plan import make_plan, plan_text

    begun = out / "config.toml"
    config = begun if resume and not config and begun.is_file() else config
    settings = _settings(given, folder, {VECTORS: features, JOINED: corpora}, config)
    workers = workers_of(jobs, backend)
    if dry_run:
        material = prepare(settings, workers)
        for line in left_out(material):
            say(line)
        description, plan = describe(material), make_plan(material, workers)
        say(in_words(settings, material.settings))
        words = f"{_plan_text(description)}\n{plan_text(plan)}\nno run was written"
        show({**description, "plan": plan}, lambda: words, as_json)
        return
    run = run_distillation(settings, out, workers, resume, say)
    result, description = _outcome(run), run.description()
    if "dp" in description:
        result |= {"dp": description["dp"], "dev_uar": run.events("utility")[-1]["dev_uar"]}
    show(result, lambda: _outcome_text(result), as_json)
    if not as_json:
        say(f"next: edgeser evaluate {run.folder} --full --baselines")


def _outcome(run: Run) -> dict[str, Any]:
    """The JSON that distill prints of a finished run."""
    description = run.description()
    size = (run.folder / "distilled.safetensors").stat().st_size
    own = {"run": str(run.folder), "bytes": size, **description["budget"], "student": description["student"]}
    return own | run.took()


def evaluate(
    run: RunFolder,
    arch: Annotated[list[str] | None, option("--arch", ARCH, "NAME[:WIDTH]")] = None,
    transfer: Annotated[
        bool, option("--transfer", "Train all architectures on the same set, at the run's width.")
    ] = False,
    seeds: Annotated[int, option("--seeds", "Trainings of each row.", "N", min=1, max=100)] = 5,
    full: Annotated[bool, option("--full", "Also on all real clips; gives the ratio.")] = False,
    full_best: Annotated[bool, option("--full-best", "Also on all real clips with as many steps as help.")] = False,
    full_soft: Annotated[bool, option("--full-soft", "Also on all real clips with the experts' soft labels.")] = False,
    baselines: Annotated[
        bool, option("--baselines", "Also on random, random_soft, random_bank, random_bank_bytes.")
    ] = False,
    convergence: Annotated[
        bool, option("--convergence", "Also for shorter trainings, against all real clips.")
    ] = False,
    folder: flags.Moved = None,
    on: On = None,
    corpus: OnCorpus = None,
    labels: Maps = None,
    adapt: Annotated[int, option("--adapt", ADAPT, "N", min=0, max=1000)] = 0,
    jobs: flags.Jobs = None,
    backend: flags.Backend = "local",
    as_json: Json = False,
) -> None:
    """Measure what a distilled set is worth on the test speakers, or on another corpus."""
    require_host()
    from edgeser.evaluation.conditions import BASELINES
    from edgeser.evaluation.convergence import SHARES
    from edgeser.evaluation.evaluate import Plan, other_students
    from edgeser.models.students import students_for
    from edgeser.report.tables import evaluation_tables
    from edgeser.run import Run

    place = whole_path(folder)
    asked = {"full": full, "full_best": full_best, "full_soft": full_soft} | dict.fromkeys(BASELINES, baselines)
    rows = ("distilled", *(row for row, wanted in asked.items() if wanted))
    every = students_for(Run(run).graph().input_shape) if transfer else ()
    students = other_students(Run(run), [*(arch or ()), *every])
    plan = Plan(tuple(range(seeds)), rows, students, SHARES if convergence else ())
    elsewhere = (on, corpus, labels or ())
    result = measure_there(Run(run), plan, elsewhere, workers_of(jobs, backend), place, adapt)
    show(result, lambda: evaluation_tables(result), as_json)


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Runs that evaluate has measured.")],
    html: Annotated[Path | None, option("--html", "Write the comparison as one HTML file.", "FILE")] = None,
    as_json: Json = False,
) -> None:
    """Print the figures of several runs in one table."""
    from edgeser.report.tables import comparison, comparison_table

    if html is not None:
        require_host("matplotlib", "jinja2")
        from edgeser.report.comparison import check_page, write_comparison

        check_page(html)
    rows = comparison(runs)
    if html is not None:
        write_comparison(runs, html)
    show({"runs": rows}, lambda: comparison_table(rows), as_json)


def _settings(
    given: dict[str, str], folder: Path | None, instead: Mapping[str, Path | None], config: Path | None
) -> Settings:
    """The settings that the options and a file give; old names are told on stderr."""
    from edgeser.config.values import read_settings

    named = {corpus: path for corpus, path in instead.items() if path is not None}
    for corpus, path in named.items():
        if folder is not None or "corpus" in given or len(named) > 1:
            raise SettingsError(f"--{corpus} stands instead of a corpus", "leave out DIR, --corpus and others like it")
        given = {**given, "corpus": corpus, "folder": str(path)}
    if folder is not None:
        given = {**given, "folder": str(folder)}
    if given.get("encoder"):
        from edgeser.encoders.given import encoder_here

        given = {**given, "encoder": encoder_here(given["encoder"], say)}
    settings, notes = read_settings(config, given, _require_place)
    for note in notes:
        say(f"note: {note}")
    return settings


def _require_place(corpus: str, folder: str) -> None:
    """Check that a corpus and its place exist, or the file of vectors, or that of several corpora and theirs.

    Raises:
        CorpusError: One does not.
    """
    from edgeser.corpora.joined import read_entries
    from edgeser.corpora.table import find_corpus
    from edgeser.representation.vector_file import require_file

    if corpus == JOINED:
        read_entries(Path(folder))
    elif corpus == VECTORS:
        require_file(Path(folder))
    else:
        find_corpus(corpus, folder or None)


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


def _outcome_text(result: Mapping[str, Any]) -> str:
    lines = [
        f"{result['run']}: {result['items']} items ({result['share']:.1%} of {result['train_items']} training items), "
        f"{result['bytes'] / 1000:.0f} kB; {_student_text(result['student'])}"
    ]
    if "dp" in result:
        promise = result["dp"]
        lines += [
            f"dp       epsilon {promise['epsilon']:g}, delta {promise['delta']:g}, unit: {promise['unit']}",
            f"         noise of {promise['noise_multiplier']:.3f} sensitivities on the classes' statistics",
            f"         covers {'; '.join(promise['covered'])}",
            *(f"         does not cover {line}" for line in promise["not_covered"]),
            f"utility  UAR {result['dev_uar']:.3f} on the dev speakers, one student",
        ]
    return "\n".join(lines)


def workers_of(jobs: int | None, backend: str) -> Workers:
    """As many processes as asked for, or as there are cores."""
    from edgeser.workers import Workers

    return Workers(jobs or available_cores(), backend)


def require_host(*more: str) -> None:
    """Check that the packages of the extra ``host`` are installed, ``more`` among them.

    Raises:
        MissingExtra: One is not.
    """
    from importlib.util import find_spec

    for package in ("torch", "joblib", "tomli_w", *more):
        if find_spec(package) is None:
            raise MissingExtra(package, "host")


def open_elsewhere(
    run: Run, folder: Path | None, corpus: str | None, labels: Sequence[str], workers: Workers
) -> Other | None:
    """The corpus of ``--on``, or None where there is none; what of it is left out is said.

    Raises:
        EdgeserError: Flags that need others, or as :func:`edgeser.evaluation.cross_corpus.open_other`.
    """
    from edgeser.evaluation.cross_corpus import FEWEST_SPEAKERS, open_other

    if corpus is None and folder is not None:
        raise SettingsError(f"--on {folder} does not say which corpus that is", "add --corpus NAME")
    if corpus is None:
        if labels:
            raise SettingsError("--map says which emotions of another corpus count", "add --on DIR --corpus NAME")
        return None
    other = open_other(run, corpus, folder, labels, workers)
    for reason in other.unreadable:
        say(f"left out: {reason}")
    speakers = int(other.speakers.max()) + 1
    if speakers < FEWEST_SPEAKERS:
        say(f"{corpus} has {speakers} speakers of shared emotions, too few for an interval, so there is none")
        say(f"hint: give a corpus of at least {FEWEST_SPEAKERS} speakers")
    return other


def measure_there(
    run: Run,
    plan: Plan,
    elsewhere: tuple[Path | None, str | None, Sequence[str]],
    workers: Workers,
    folder: str,
    adapt: int = 0,
) -> dict[str, Any]:
    """The run's metrics: of its own test speakers, or of them where nothing is known yet and of the corpus elsewhere.

    Args:
        run: A finished run.
        plan: The rows, students and seeds to measure.
        elsewhere: The values of ``--on``, ``--corpus`` and ``--map``.
        workers: The processes that train the students.
        folder: The present folder of the run's own corpus, if it was moved.
        adapt: The value of ``--adapt``.

    Raises:
        EdgeserError: The other corpus cannot be used; this shows before anything is trained.
    """
    from edgeser.evaluation.cross_corpus import keep_entries, measure_across
    from edgeser.evaluation.evaluate import evaluate

    other = open_elsewhere(run, *elsewhere, workers)
    if other is None:
        if adapt:
            raise SettingsError("--adapt adapts to speakers of another corpus", "add --on DIR --corpus NAME")
        return evaluate(run, plan, workers, folder)
    if run.metrics() is None or len(plan.rows) > 1 or plan.transfer or plan.convergence:
        evaluate(run, plan, workers, folder)
    return keep_entries(run, measure_across(run, [other], plan.seeds, workers, folder, adapt))
