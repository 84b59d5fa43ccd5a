"""Items with several log-mels: from every method to a set that a student trains on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeser.config.settings import SETTINGS, Settings
from edgeser.config.values import changed
from edgeser.distill.label_bank import build_set
from edgeser.distill.loop import blurred, run_method
from edgeser.distill.method import Assignment
from edgeser.distill.pipeline import distill, prepare
from edgeser.distill.registry import METHODS
from edgeser.errors import SettingsError
from edgeser.models.training import train_on_set
from edgeser.run import Run
from edgeser.workers import Workers
from edgeser_device.data.sample_storage import blur
from edgeser_export.utilities.progress import ignore_progress


def folded(assignment: Assignment, method: str) -> Assignment:
    few = {f"{method}.iterations": 2} if f"{method}.iterations" in SETTINGS else {}
    settings = changed(assignment.settings, {"method": method, "samples_per_item": 4, "views": 8, **few})
    ensemble = replace(assignment.ensemble, starts=assignment.ensemble.members)  # match goes from the one to the other
    return replace(assignment, settings=settings, ensemble=ensemble)


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"gan"}))
def test_every_method_makes_items_that_can_be_folded(name: str, assignment: Assignment, tmp_path: Path) -> None:
    given = folded(assignment, name)
    state = run_method(Run(tmp_path), replace(given, method=METHODS[name]), ignore_progress)
    items = state["items"]
    count = 4 * given.settings.ipc * given.task.classes
    assert len(items) == count == len(given.classes)
    np.testing.assert_allclose(blur(items, 4), items, atol=1e-4)  # only bits are lost when they are stored
    distilled = build_set(given, items)
    assert len(distilled) == count // 4
    assert distilled.per_class == given.settings.ipc
    assert len(distilled.recipes) == 8 * len(distilled)
    assert int(distilled.recipes.item.max()) == count - 1
    np.testing.assert_array_equal(distilled.item_classes(), given.classes)
    np.testing.assert_allclose(distilled.items(), items, atol=1.5)
    assert np.sqrt(np.square(distilled.items() - items).mean()) < 0.15


def test_without_formations_a_state_stays_as_it_is(assignment: Assignment) -> None:
    state = {"items": np.zeros((2, 64, 96), np.float32)}
    assert blurred(state, 1)["items"] is state["items"]


def test_a_run_with_formations_trains_a_student(tiny: Settings, tmp_path: Path) -> None:
    settings = changed(tiny, {"method": "invert", "samples_per_item": 2, "invert.iterations": 1})
    run = distill(settings, tmp_path / "run", Workers(1), resume=False, warn=lambda _: None)
    distilled = run.distilled()
    assert distilled.samples_per_item == 2
    assert run.description()["budget"]["formations"] == 2
    assert run.description()["budget"]["views"] == len(distilled.recipes)
    weights = train_on_set(run.graph(), run.init(), distilled, 0)
    assert all(np.isfinite(value).all() for value in weights.values())


def test_more_log_mels_than_clips_are_refused(tiny: Settings) -> None:
    material = prepare(replace(tiny, method="random"), Workers(1))
    clips = int(np.bincount(material.task.labels).min())
    with pytest.raises(SettingsError, match="with samples_per_item 8") as caught:
        prepare(changed(tiny, {"method": "random", "ipc": clips, "samples_per_item": 8}), Workers(1))
    assert caught.value.hint == "set samples_per_item to 1"


def test_a_generator_draws_whole_log_mels(tiny: Settings) -> None:
    with pytest.raises(SettingsError, match="makes whole log-mels"):
        prepare(changed(tiny, {"method": "gan", "gan.ship": "generator", "samples_per_item": 2}), Workers(1))
