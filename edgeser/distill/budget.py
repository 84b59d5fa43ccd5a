"""Settings that the budget, the corpus and the method decide where the user gave nothing: here, and once.

settings = resolve(given, train_items=840, classes=8, rarest=60)
print(in_words(given, settings))            # budget decides: start aligned, views 64, steps 600, ...
"""

from __future__ import annotations

from dataclasses import replace

from edgeser.config import settings as usual
from edgeser.config.field import shown
from edgeser.config.settings import Settings
from edgeser.config.values import changed, values_of
from edgeser.distill.registry import as_many_as_clips, find_method
from edgeser.representation import representation_of


def resolve(settings: Settings, train_items: int, classes: int, rarest: int) -> Settings:
    """The settings with everything decided; what was decided already stays.

    A share is rounded to the nearest number of items, at least 1 a class.

    Args:
        settings: As the user gave them.
        train_items: Number of training clips.
        classes: Number of emotions.
        rarest: Number of training clips of the rarest emotion.
    """
    large = train_items >= usual.LARGE
    ipc = settings.ipc or max(1, round(settings.share * train_items / classes))
    small = ipc * classes / train_items < usual.SMALL
    method, starts = find_method(settings.method), representation_of(settings).usual_starts
    start = settings.start or method.usual_start or starts[0 if small else 1]
    found = changed(
        settings,
        {
            "ipc": ipc,
            "share": 0.0,
            "start": start if method.has_starts else settings.start,
            "steps": settings.steps or usual.STEPS_OF.get(settings.method, usual.STEPS),
            "experts.width": settings.experts.width or usual.WIDTHS[large],
            "experts.steps": settings.experts.steps or usual.EXPERT_STEPS[large],
        },
    )
    found = _with_iterations(found)
    found = replace(found, samples_per_item=found.samples_per_item or _samples(found, small, rarest))
    return replace(found, views=found.views or _views(found, classes))


def in_words(given: Settings, resolved: Settings) -> str:
    """One line on what was decided."""
    before, after = values_of(given), values_of(resolved)
    parts = [
        f"{key} {shown(after[key])}" for key in after if after[key] != before[key] and key not in ("share", "encoder")
    ]
    return f"budget decides: {', '.join(parts) or 'nothing, all is given'}"


def with_start(settings: Settings, start: str) -> Settings:
    """Resolved settings for another start, with its iterations where they had those of the start before."""
    if settings.invert.iterations == usual.ITERATIONS_FROM.get(settings.start, usual.ITERATIONS):
        settings = changed(settings, {"invert.iterations": 0})
    return _with_iterations(replace(settings, start=start))


def _with_iterations(settings: Settings) -> Settings:
    if settings.method != "invert" or settings.invert.iterations:
        return settings
    return changed(settings, {"invert.iterations": usual.ITERATIONS_FROM.get(settings.start, usual.ITERATIONS)})


def _samples(settings: Settings, small: bool, rarest: int) -> int:
    """Log-mels in an item; what a board draws from a generator is whole.

    Methods that take clips get no more than there are: ``rarest`` of the class that has the fewest.
    """
    method = find_method(settings.method)
    if method.makes_more:
        return usual.SAMPLES[0] if settings.gan.ship == "items" else 1
    if not method.takes_clips(settings.start):
        return usual.SAMPLES[small]
    return as_many_as_clips(settings.ipc, usual.SAMPLES[small], rarest)


def _views(settings: Settings, classes: int) -> int:
    """Views of each item: few items have more each, so that a student does not see them too often.

    Many have no more together than the student has steps for.
    """
    if settings.method == "mtt" and settings.mtt.plain_steps:
        return settings.samples_per_item
    items, most = settings.ipc * classes, usual.MOST_VIEWS * settings.samples_per_item
    seen = max(1, settings.steps * settings.batch // items)
    return min(most, max(min(usual.FEWEST_VIEWS, seen), usual.VIEWS // items))
