"""The verb ``audit``: what a distilled set gives away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from edgeser.cli import options as flags
from edgeser.cli.host import RunFolder, require_host, workers_of
from edgeser.cli.options import Json, option, print_json, print_rich, say, whole_path
from edgeser.config.renamed import modern

if TYPE_CHECKING:
    from edgeser.privacy.audit import AuditPlan
    from edgeser.run import Run

STARTED = "Also the method from real, mix, aligned or noise; may be repeated."
RUNS = "the run's"


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("audit", epilog="Example: edgeser audit runs/ravdess --shadows 16 --jobs 2")(audit)


def audit(
    run: RunFolder,
    shadows: Annotated[
        int,
        typer.Option(min=0, max=512, help="Shadow runs of the whole distillation, an even number; 0 skips membership."),
    ] = 16,
    start: Annotated[list[str] | None, option("--from", STARTED, "START")] = None,
    experts: Annotated[int | None, option("--experts", "Experts of a shadow.", "N", RUNS, min=1, max=64)] = None,
    expert_steps: Annotated[int | None, option("--expert-steps", "Training steps of each.", "N", RUNS, min=1)] = None,
    iterations: Annotated[int | None, option("--iterations", "Updates of a shadow's items.", "N", RUNS, min=1)] = None,
    folder: flags.Moved = None,
    sounds: Annotated[bool, typer.Option("--sounds/--no-sounds", help="Write items as WAV files.")] = True,
    resume: Annotated[
        bool, typer.Option("--resume", help="Use the shadows that are there, and make what is missing.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, and print how long it will take.")
    ] = False,
    jobs: flags.Jobs = None,
    backend: flags.Backend = "local",
    as_json: Json = False,
) -> None:
    """Attack a distilled set: copies, membership, speakers, sounds; figures with intervals, beside a planted leak.

    The figures are of these attacks; a stronger one may find more.
    """
    require_host("sklearn", "scipy", "librosa")
    from edgeser.errors import SettingsError
    from edgeser.privacy.attack_lines import audit_table
    from edgeser.privacy.audit import AuditPlan
    from edgeser.privacy.audit import audit as make_audit
    from edgeser.run import Run

    overrides = {"experts": experts, "expert_steps": expert_steps, "iterations": iterations}
    chosen = {name: value for name, value in overrides.items() if value is not None}
    if chosen and not shadows:
        raise SettingsError(
            f"--{next(iter(chosen)).replace('_', '-')} has no effect with --shadows 0", "leave out one of them"
        )
    renamed = [modern({"start": each}) for each in start or ()]
    for note in (note for _, notes in renamed for note in notes):
        say(f"note: {note}")
    starts, place = tuple(values["start"] for values, _ in renamed), whole_path(folder)
    plan = AuditPlan(shadows, starts, resume or dry_run, chosen, place, sounds)
    if dry_run:
        _foretell(Run(run), plan, jobs, backend, as_json)
        return
    found = make_audit(Run(run), plan, workers_of(jobs, backend))
    if as_json:
        print_json(found)
        return
    print_rich(audit_table(found))
    picture, heard = found["inversion"]["picture"], found["inversion"]["sounds"]
    places = [run / "audit.json", *([run / picture] if picture else []), *([run / "audit" / "sounds"] if heard else [])]
    say(f"wrote {', '.join(map(str, places))}")


def _foretell(run: Run, plan: AuditPlan, jobs: int | None, backend: str, as_json: bool) -> None:
    from edgeser.distill.plan import in_words
    from edgeser.privacy.cost import foretell

    cost = foretell(run, plan, workers_of(jobs, backend))
    if as_json:
        print_json(cost)
        return
    typer.echo(
        f"{cost['missing']} of {plan.shadows} shadows to make, {in_words(cost['shadow_seconds'])} each, "
        f"{cost['jobs']} side by side: {in_words(cost['total_seconds'])}"
    )
    for line in cost["left_out"]:
        say(line)
