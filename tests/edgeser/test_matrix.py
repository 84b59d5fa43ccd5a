"""Every method on every representation with every kind of labels and whatever is shipped: it works to the end, or it is
refused before anything is read or trained.

The rows come from the tables of methods, representations, labels, starts and students, so a new one is walked by being
there. The rules of what is allowed stand here once more, in the words of the documents.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from edgeser.config.settings import SETTINGS, USUAL, Settings
from edgeser.config.values import changed, owner
from edgeser.config.values import settings_of as settings_from
from edgeser.distill.label_bank import LABELS
from edgeser.distill.pipeline import distill, prepare
from edgeser.distill.registry import METHODS, require_possible
from edgeser.distill.starts import STARTS
from edgeser.errors import RunError, SettingsError
from edgeser.evaluation.conditions import BASELINES
from edgeser.evaluation.evaluate import Plan, evaluate
from edgeser.models.students import STUDENTS, VECTOR_STUDENTS
from edgeser.packaging.pack import pack_kit
from edgeser.report.page import ReportPlan, write_report
from edgeser.representation import REPRESENTATIONS
from edgeser.representation.vector_file import CORPUS
from edgeser.run import Run
from edgeser.workers import Workers
from edgeser_device.data.distilled import DistilledSet
from edgeser_device.kit.kit import read_kit
from edgeser_device.train.train import Settings as BoardSettings
from edgeser_device.train.train import train

pytestmark = pytest.mark.usefixtures("tiny_encoder")
ALONE = Workers(1)
SHIPPED = SETTINGS["gan.ship"].choices
EVERY = list(product(REPRESENTATIONS, METHODS, LABELS, SHIPPED))
TINY = {
    "width": 0.25, "ipc": 2, "views": 4, "experts.count": 1, "experts.width": 0.25, "experts.steps": 12,
    "steps": 12, "batch": 16,
    "mtt.trajectories": 1, "mtt.expert_span": 1, "mtt.max_start_epoch": 1, "mtt.first_max_start_epoch": 1,
    "mtt.student_steps": 2, "mtt.iterations": 2, "invert.iterations": 2, "match.iterations": 2, "unroll.iterations": 2,
    "gradmatch.iterations": 2, "kip.iterations": 2,
    "gan.iterations": 2, "unroll.window": 2, "gan.codebook": 2, "gan.pretraining": 0.5,
}  # fmt: skip


def exists(name: str, method: str) -> bool:
    """Some methods need the plain vectors of clips."""
    return method not in {"gaussian", "centroids", "gradmatch", "kip"} or not REPRESENTATIONS[name].has_time


def is_allowed(name: str, method: str, ship: str) -> bool:
    """Generators are shipped by the method that has one, for boards, which hear log-mels."""
    return exists(name, method) and (ship == "items" or (METHODS[method].makes_more and REPRESENTATIONS[name].has_time))


ALLOWED = [each for each in EVERY if is_allowed(each[0], each[1], each[3])]
REFUSED = [each for each in EVERY if each not in ALLOWED]
THIN = [
    (name, method, list(LABELS)[place % len(LABELS)], "items")
    for place, (name, method) in enumerate((name, method) for name in REPRESENTATIONS for method in METHODS)
    if not REPRESENTATIONS[name].has_time or method == "random"
]
"""Once through every method of what is quick, and once through log-mels."""


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes whose means are apart, nine speakers, four vectors of each; one number is always the same."""
    random = np.random.default_rng(0)
    labels, speakers = np.divmod(np.arange(3 * 9 * 4) // 4, 9)
    x = random.standard_normal((len(labels), 6)) + 2 * random.standard_normal((3, 6))[labels]
    x[:, 5] = 7.0
    path = tmp_path_factory.mktemp("vectors") / "vectors.npz"
    np.savez(path, features=x, labels=np.array(["anger", "joy", "sadness"])[labels], speakers=speakers)
    return path


def settings_of(name: str, vectors: Path, method: str, **more: object) -> Settings:
    """Tiny settings; a representation that reads recordings has the demo corpus."""
    of_file = {"corpus": CORPUS, "folder": str(vectors)}
    source = {"log-mel": {"corpus": "demo"}, "vectors": of_file, "encoder": {"corpus": "demo", "encoder": "tiny"}}[name]
    of_codebook = {"gan.codebook", "gan.pretraining"} if not REPRESENTATIONS[name].has_time else set()
    own = {key: value for key, value in TINY.items() if owner(key) in ("", method) and key not in of_codebook}
    shipped = {"gan.ship": more.pop("ship", "items")}
    given = {} if shipped["gan.ship"] == "items" and method != "gan" else shipped
    return settings_from({"method": method, **own, **source, **given, **more})


def walk(settings: Settings, folder: Path) -> Run:
    """Distil, look at what is stored, and evaluate with all rows."""
    run = distill(settings, folder / "run", ALONE, resume=False, warn=lambda _line: None)
    material, kept = prepare(settings, ALONE), run.stored_set()
    items = kept.items()
    assert items.shape == (len(kept.item_classes()), *material.task.maps.shape[1:])
    assert np.isfinite(items).all()
    assert np.bincount(kept.classes).tolist() == [settings.ipc] * material.task.classes
    labels = kept.soft_labels.astype(float)
    assert labels.shape == (len(kept.recipes), material.task.classes)
    assert np.allclose(labels.sum(1), 1, atol=1e-2)
    result = evaluate(run, Plan((0,), ("distilled", "full", *BASELINES)), ALONE)
    for row in (result["distilled"], result["full"], *result["baselines"].values()):
        assert 0 <= row["uar_mean"] <= 1
    return run


def go_on(run: Run, folder: Path) -> None:
    """Report; pack and train on a board where the set is of recordings, which a board can hear."""
    has_time = isinstance(run.stored_set(), DistilledSet)
    page = Path(write_report(run, ReportPlan(items=1), ALONE)["report"]).read_text()
    assert ("vectors of" in page) != has_time
    if run.settings().corpus == CORPUS:
        with pytest.raises(RunError, match="holds vectors"):
            pack_kit(run.folder, "rpi4", folder / "kit")
        return
    kit = read_kit(pack_kit(run.folder, "rpi4", folder / "kit").path)
    assert train(kit, folder / "model", BoardSettings(threads=1)).steps == kit.distilled.schedule.steps


@pytest.mark.parametrize(("name", "method", "labels", "ship"), THIN)
def test_a_thin_diagonal_works_to_the_end(
    name: str, method: str, labels: str, ship: str, vectors: Path, tmp_path: Path
) -> None:
    run = walk(settings_of(name, vectors, method, labels=labels, ship=ship), tmp_path)
    if not REPRESENTATIONS[name].has_time:  # sounds and boards take their time
        go_on(run, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "method", "labels", "ship"), ALLOWED)
def test_what_is_allowed_works_to_the_end(
    name: str, method: str, labels: str, ship: str, vectors: Path, tmp_path: Path
) -> None:
    go_on(walk(settings_of(name, vectors, method, labels=labels, ship=ship), tmp_path), tmp_path)


def refused(make: Callable[[], Settings], out: Path) -> SettingsError:
    """The error of a distillation that leaves nothing behind."""
    with pytest.raises(SettingsError) as caught:
        distill(make(), out, ALONE, resume=False, warn=pytest.fail)
    assert not out.exists()
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert "\n" not in caught.value.hint
    return caught.value


@pytest.mark.parametrize(("name", "method", "labels", "ship"), REFUSED)
def test_what_is_not_allowed_is_refused_before_anything_is_read(
    name: str, method: str, labels: str, ship: str, tmp_path: Path
) -> None:
    """The file of vectors is not there: nobody looks for it."""
    refused(lambda: settings_of(name, tmp_path / "none.npz", method, labels=labels, ship=ship), tmp_path / "run")


@pytest.mark.parametrize(("name", "method", "start"), list(product(REPRESENTATIONS, METHODS, STARTS)))
def test_starts_are_those_that_method_and_representation_have(
    name: str, method: str, start: str, tmp_path: Path
) -> None:
    settings = settings_of(name, tmp_path / "none.npz", method, start=start)
    makes_its_own = METHODS[method].makes_more and start != REPRESENTATIONS[name].usual_starts[0]
    needs_time = start in {"aligned", "noise"} and not REPRESENTATIONS[name].has_time
    needs_vectors = start == "centroids" and REPRESENTATIONS[name].has_time
    wrong = makes_its_own or needs_time or needs_vectors or not exists(name, method)
    if wrong or METHODS[method].improve is None:
        refused(lambda: settings, tmp_path / "run")
    else:
        require_possible(settings)


@pytest.mark.parametrize("key", ["gan.codebook", "gan.pretraining"])
def test_a_generator_of_vectors_has_no_codebook(key: str, vectors: Path, tmp_path: Path) -> None:
    error = refused(lambda: changed(settings_of("vectors", vectors, "gan"), {key: TINY[key]}), tmp_path / "run")
    assert key in error.message


@pytest.mark.parametrize(("name", "arch"), list(product(REPRESENTATIONS, [*STUDENTS, *VECTOR_STUDENTS])))
@pytest.mark.parametrize("role", ["arch", "experts.arch"])
def test_students_are_those_that_read_the_representation(name: str, arch: str, role: str, tmp_path: Path) -> None:
    settings = changed(settings_of(name, tmp_path / "none.npz", "random"), {role: arch})
    if (arch in STUDENTS) == REPRESENTATIONS[name].has_time:
        require_possible(settings)
    else:
        refused(lambda: settings, tmp_path / "run")


def test_a_representation_has_a_method_and_students_by_default(vectors: Path) -> None:
    for name in REPRESENTATIONS:
        method = str(USUAL[name].get("method", Settings.method))
        require_possible(settings_of(name, vectors, method))


def test_the_diagonal_walks_every_method_and_kind_of_labels() -> None:
    walked = {method for _, method, _, _ in THIN}, {labels for _, _, labels, _ in THIN}, {name for name, *_ in THIN}
    assert walked == (set(METHODS), set(LABELS), set(REPRESENTATIONS))
    assert set(THIN) <= set(ALLOWED)
