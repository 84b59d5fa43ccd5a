"""The verb ``audit``: what a distilled set gives away."""

from __future__ import annotations

from typing import Annotated

import typer

from edgeser.cli import options as flags
from edgeser.cli.host import RunFolder, require_host, workers_of
from edgeser.cli.options import Json, option, say, show, whole_path
from edgeser.config.renamed import modern
from edgeser.errors import SettingsError

STARTED = "Also the method from real, mix, aligned or noise; may be repeated."
RUNS = "the run's"
SHADOWS = "Shadow runs of the whole distillation, an even number; 0 skips membership."


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("audit", epilog="Example: edgeser audit runs/ravdess --shadows 16 --jobs 2")(audit)


def audit(
    run: RunFolder,
    shadows: Annotated[int, option("--shadows", SHADOWS, "N", min=0, max=512)] = 16,
    start: Annotated[list[str] | None, option("--from", STARTED, "START")] = None,
    experts: Annotated[int | None, option("--experts", "Experts of a shadow.", "N", RUNS, min=1, max=64)] = None,
    expert_steps: Annotated[int | None, option("--expert-steps", "Training steps of each.", "N", RUNS, min=1)] = None,
    iterations: Annotated[int | None, option("--iterations", "Updates of a shadow's items.", "N", RUNS, min=1)] = None,
    folder: flags.Moved = None,
    sounds: Annotated[bool, option("--sounds/--no-sounds", "Write items as WAV files.")] = True,
    resume: Annotated[bool, option("--resume", "Use the shadows that are there, and make what is missing.")] = False,
    dry_run: Annotated[bool, option("--dry-run", "Check everything, and print how long it will take.")] = False,
    jobs: flags.Jobs = None,
    backend: flags.Backend = "local",
    as_json: Json = False,
) -> None:
    """Attack a distilled set: copies, membership, speakers, sounds; figures with intervals, beside a planted leak.

    The figures are of these attacks; a stronger one may find more.
    """
    require_host("sklearn", "scipy", "librosa")
    from edgeser.distill.plan import in_words
    from edgeser.privacy.attack_lines import audit_table
    from edgeser.privacy.audit import AuditPlan
    from edgeser.privacy.audit import audit as make_audit
    from edgeser.privacy.cost import foretell
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
        cost = foretell(Run(run), plan, workers_of(jobs, backend))
        words = (
            f"{cost['missing']} of {plan.shadows} shadows to make, {in_words(cost['shadow_seconds'])} each, "
            f"{cost['jobs']} side by side: {in_words(cost['total_seconds'])}"
        )
        show(cost, lambda: words, as_json)
        for line in () if as_json else cost["left_out"]:
            say(line)
        return
    found = make_audit(Run(run), plan, workers_of(jobs, backend))
    show(found, lambda: audit_table(found), as_json)
    picture, heard = found["inversion"]["picture"], found["inversion"]["sounds"]
    places = [run / "audit.json", *([run / picture] if picture else []), *([run / "audit" / "sounds"] if heard else [])]
    if not as_json:
        say(f"wrote {', '.join(map(str, places))}")
