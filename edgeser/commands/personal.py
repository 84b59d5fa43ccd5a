"""The part of train-on-device that learns its owner's voice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeser.commands.common import say
from edgeser.errors import SettingsError

if TYPE_CHECKING:
    from edgeser_device.kit import Kit
    from edgeser_device.personal.clips import OwnClips
    from edgeser_device.personal.fine_tune import PersonalReport, PersonalSettings


@dataclass(frozen=True)
class Asked:
    """What --clips asks for.

    Attributes:
        own: The clips.
        settings: How to train on them.
        train_first: Whether there is no model of this kit yet.
    """

    own: OwnClips
    settings: PersonalSettings
    train_first: bool


def require_personal(
    kit: Kit, out: Path, clips: Path | None, part: str | None, max_forget: float | None, threads: int | None
) -> Asked | None:
    """Read the clips before anything is trained; None without any.

    Raises:
        SettingsError: Flags that mean nothing without --clips.
        ClipsError: The clips do not fit the kit.
        GraphError: There is no such part of a student.
    """
    if clips is None:
        for flag, value in (("--adapt", part), ("--max-forget", max_forget)):
            if value is not None:
                raise SettingsError(f"{flag} belongs to --clips", "give the folder with your clips: --clips DIR")
        return None
    from edgeser_device.machine import available_cores
    from edgeser_device.personal.clips import read_clips
    from edgeser_device.personal.fine_tune import PersonalSettings, is_of
    from edgeser_device.personal.settings import settings_for

    how = PersonalSettings(threads=threads or min(int(kit.manifest["target"]["threads"]), available_cores()))
    if part is not None:
        how = replace(how, adapt=settings_for(part))
    if max_forget is not None:
        how = replace(how, max_forget=max_forget, keep_emotions=True)
    own = read_clips(clips, kit.labels, kit.distilled.frontend)
    for each in own.left_out:
        say(f"left out: {each.reason}")
    return Asked(own, how, not is_of(kit, out))


def learn_clips(kit: Kit, out: Path, asked: Asked, result: dict[str, Any]) -> PersonalReport:
    """Train on the clips; ``result`` gets what --json prints of it, and of the model where it was not trained now."""
    from edgeser_device.model import load_model
    from edgeser_device.personal.fine_tune import fine_tune, number_of_trainings
    from edgeser_device.progress import progress_bar

    if not asked.train_first:
        say(f"note: {out} is a model of this kit and is trained further")
        result.update(load_model(out).description["training"])
    with progress_bar("your clips", number_of_trainings(asked.own, asked.settings.adapt)) as advance:
        report = fine_tune(kit, out, asked.own, asked.settings, advance)
    for label in report.trial.collapsed:
        right = report.trial.emotions[label]
        say(
            f"warning: of your {right.clips} clips of {label} {right.before} were right before and {right.after} are"
            " after: record more of them, or of what they are taken for"
        )
    left_out = [each.to_json() for each in asked.own.left_out]
    result["personal"] = {"clips": len(asked.own), "left_out": left_out, **report.to_json()}
    return report
