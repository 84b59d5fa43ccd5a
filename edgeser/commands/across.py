"""The part of ``evaluate`` that is about another corpus: its flags, and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from edgeser.commands.common import say

if TYPE_CHECKING:
    from edgeser.across import Other
    from edgeser.evaluate import Plan
    from edgeser.run import Run
    from edgeser.workers import Workers

On: TypeAlias = Annotated[
    Path | None, typer.Option("--on", metavar="DIR", help="Also on all speakers of another corpus, against full.")
]
OnCorpus: TypeAlias = Annotated[
    str | None, typer.Option("--corpus", metavar="NAME", help="What the corpus of --on is; see edgeser data list.")
]
Maps: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="OURS=THEIRS",
        help="Emotions that mean the same there, beside those of equal name; may be repeated. OURS= leaves one out.",
    ),
]


def open_elsewhere(
    run: Run, folder: Path | None, corpus: str | None, labels: Sequence[str], workers: Workers
) -> Other | None:
    """The corpus of ``--on``, or None where there is none; what of it is left out is said.

    Raises:
        EdgeserError: Flags that need others, or as :func:`edgeser.across.open_other`.
    """
    from edgeser.across import FEWEST_SPEAKERS, open_other
    from edgeser.errors import SettingsError

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
) -> dict[str, Any]:
    """The run's metrics: of its own test speakers, or of them where nothing is known yet and of the corpus elsewhere.

    Args:
        run: A finished run.
        plan: What to measure.
        elsewhere: What ``--on``, ``--corpus`` and ``--map`` say.
        workers: Where students are trained.
        folder: Where the run's own corpus is now, if it was moved.

    Raises:
        EdgeserError: What is wrong with the other corpus shows before anything is trained.
    """
    from edgeser.across import keep_entries, measure_across
    from edgeser.evaluate import evaluate

    other = open_elsewhere(run, *elsewhere, workers)
    if other is None:
        return evaluate(run, plan, workers, folder)
    if run.metrics() is None or len(plan.rows) > 1 or plan.transfer or plan.convergence:
        evaluate(run, plan, workers, folder)
    return keep_entries(run, measure_across(run, [other], plan.seeds, workers, folder))
