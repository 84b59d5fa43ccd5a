"""Runs of vectors: made ones teach what real ones do, runs go on, and other verbs say what they hold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from device.kits import synthetic_set

from edgeser.cli.entry import main
from edgeser.config.settings import Settings
from edgeser.config.values import settings_of
from edgeser.corpora.errors import UnreadableLabels
from edgeser.distill.methods import gan
from edgeser.distill.pipeline import Material, assign, distill, prepare
from edgeser.errors import RunError, SettingsError
from edgeser.evaluation.conditions import BASELINES
from edgeser.evaluation.evaluate import Plan, evaluate
from edgeser.models.students import build
from edgeser.representation.vector_file import CORPUS
from edgeser.run import Run, open_run
from edgeser.workers import Workers
from edgeser_device.data.vector_set import VectorSet
from edgeser_device.errors import DistilledSetError

ALONE = Workers(1)
SIZE, SPEAKERS, EACH = 12, 9, 8
FAST = {"experts.steps": 120, "steps": 200, "experts.count": 2}
OF_GAN = {"gan.iterations": 60}


def write_vectors(path: Path) -> Path:
    """Three classes whose means are apart, nine speakers with a shift of their own, eight vectors of each."""
    random = np.random.default_rng(0)
    means = 1.5 * random.standard_normal((3, SIZE))
    rows = [(label, speaker) for speaker in range(SPEAKERS) for label in range(3) for _ in range(EACH)]
    shifts = 0.5 * random.standard_normal((SPEAKERS, SIZE))
    x = np.stack([means[label] + shifts[speaker] + random.standard_normal(SIZE) for label, speaker in rows])
    labels, speakers = np.array(rows).T
    np.savez(path, features=100 + 30 * x, labels=np.array(["anger", "joy", "sadness"])[labels], speakers=speakers)
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vectors(tmp_path_factory.mktemp("vectors") / "vectors.npz")


def silent(words: str) -> None:
    """What the budget decided matters to nobody here."""


def settings(file: Path, **changed: object) -> Settings:
    own = OF_GAN if changed.get("method", "gan") == "gan" else {}
    return settings_of({"method": "gan", "corpus": CORPUS, "folder": str(file), "ipc": 4, **FAST, **own, **changed})


def prepared(file: Path, **changed: object) -> Material:
    return prepare(settings(file, **changed), ALONE)


def distilled(file: Path, out: Path, resume: bool = False, **changed: object) -> Run:
    return distill(settings(file, **changed), out, ALONE, resume, silent)


def test_the_student_is_a_dense_network(file: Path) -> None:
    graph = build("mlp", 3, input_shape=(SIZE, 1, 1))
    assert graph.parameter_count == 64 * SIZE + 2 * 64 + 64 * 3 + 3
    assert prepared(file).graph == graph
    for arch, shape in (("mlp", (1, 64, 96)), ("edgenet", (SIZE, 1, 1))):
        with pytest.raises(SettingsError, match=f"no architecture '{arch}' for"):
            build(arch, 3, input_shape=shape)


def test_made_vectors_teach_what_real_ones_do(file: Path, tmp_path: Path) -> None:
    run = distilled(file, tmp_path / "run")
    kept = run.stored_set()
    assert isinstance(kept, VectorSet)
    assert kept.items().shape == (12, SIZE, 1)
    assert kept.classes.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert np.allclose(kept.soft_labels.astype(float).sum(1), 1, atol=2e-3)
    result = evaluate(run, Plan((0, 1), ("distilled", "full", "full_soft", *BASELINES)), ALONE)
    assert result["full"]["uar_mean"] > 0.8
    assert result["distilled"]["ratio"] > 0.85
    assert result["distilled"]["uar_mean"] > result["init"]["uar"] + 0.2
    assert set(result["baselines"]) == set(BASELINES)
    with pytest.raises(RunError, match="holds vectors, not log-mels"):
        run.distilled()


def test_a_set_is_read_as_it_was_written(file: Path, tmp_path: Path) -> None:
    run = distilled(file, tmp_path / "run", method="random", labels="bank", views=5)
    kept = run.stored_set()
    assert kept.to_bytes() == (run.folder / "distilled.safetensors").read_bytes()
    views = kept.recipes
    assert len(views) == 5 * len(kept) == len(kept.soft_labels)
    assert views.weight.any()
    assert views.contrast.any()
    for unused in (views.shift, views.stretch, views.mel_shift, views.gain):
        assert not unused.any()


@pytest.mark.parametrize("damage", ["cut", "log-mels", "views"])
def test_a_damaged_set_is_said_in_one_line(file: Path, tmp_path: Path, damage: str) -> None:
    run, other = distilled(file, tmp_path / "run", method="random", labels="hard", views=1), synthetic_set()
    path = run.folder / "distilled.safetensors"
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[:-40], "log-mels": other.to_bytes(), "views": b""}[damage])
    with pytest.raises(DistilledSetError, match="not a distilled set of vectors") as caught:
        run.stored_set()
    assert "\n" not in caught.value.message


def test_no_vector_of_the_file_is_among_those_that_the_generator_makes(file: Path, tmp_path: Path) -> None:
    material = prepared(file)
    assignment = assign(open_run(tmp_path / "run", material.settings, resume=False), material, ALONE)
    made = gan.items(assignment, gan.begin(assignment))[:, :, 0]
    real = assignment.task.maps[:, :, 0]
    assert np.abs(made[:, None] - real[None]).mean(2).min() > 0.05
    means = [made[assignment.classes == number].mean(0) for number in range(assignment.task.classes)]
    own = [real[assignment.task.labels == number].mean(0) for number in range(assignment.task.classes)]
    assert np.allclose(means, own, atol=1e-4)  # the numbers of a class have no mean


def test_a_run_that_was_interrupted_is_resumed_with_the_same_vectors_only(file: Path, tmp_path: Path) -> None:
    whole = distilled(file, tmp_path / "whole", **{"gan.iterations": 6})
    cut = distilled(file, tmp_path / "cut", **{"gan.iterations": 6})
    (cut.folder / "distilled.safetensors").unlink()
    with pytest.raises(RunError, match="already holds a run"):
        distilled(file, cut.folder, **{"gan.iterations": 6})
    before, content = (cut.folder / "run.json").read_bytes(), file.read_bytes()
    for array in ("features", "labels", "speakers"):
        file.write_bytes(content)
        changed_copy(file, file, array)
        with pytest.raises(RunError, match=r"the corpus has other .* than when the run") as caught:
            distilled(file, cut.folder, resume=True, **{"gan.iterations": 6})
        assert "--out" in caught.value.hint
        assert (cut.folder / "run.json").read_bytes() == before
    file.write_bytes(content)
    run = distilled(file, cut.folder, resume=True, **{"gan.iterations": 6})
    for name in ("distilled.safetensors", "generator.safetensors", "run.json"):
        assert (run.folder / name).read_bytes() == (whole.folder / name).read_bytes()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"gan.ship": "generator"}, "gan.ship=generator works on log-mels, not on vectors"),
        ({"method": "random", "ipc": 500}, "fewer than --ipc 500"),
        ({"method": "invert", "start": "aligned"}, "--from aligned works on log-mels"),
        ({"method": "match", "start": "noise"}, "--from noise works on log-mels"),
        ({"method": "match", "match.dp": 8.0}, "match.dp=8 works on log-mels"),
        ({"method": "random", "samples_per_item": 2}, "samples_per_item=2 works on log-mels"),
        ({"start": "real"}, "--method gan has no other start"),
        ({"arch": "edgenet"}, "no architecture 'edgenet' for vectors"),
    ],
)
def test_what_vectors_do_not_have_is_refused(file: Path, changed: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        prepared(file, **changed)


def test_a_class_with_fewer_than_eight_vectors_is_refused(file: Path, tmp_path: Path) -> None:
    with np.load(file) as found:
        arrays = dict(found)
    anger = np.flatnonzero(arrays["labels"] == "anger")
    kept = np.setdiff1d(np.arange(len(arrays["labels"])), np.setdiff1d(anger, anger[::EACH]))  # one of each speaker
    np.savez(tmp_path / "few.npz", **{name: array[kept] for name, array in arrays.items()})
    with pytest.raises(SettingsError, match="'anger' has 5 training items, fewer than the 8 that --method gan"):
        prepared(tmp_path / "few.npz")


def changed_copy(file: Path, target: Path, name: str) -> Path:
    """A copy of a file of vectors with two rows of one array exchanged."""
    with np.load(file) as found:
        arrays = dict(found)
    other = np.flatnonzero((arrays["labels"] != arrays["labels"][0]) & (arrays["speakers"] != arrays["speakers"][0]))[0]
    arrays[name][[0, other]] = arrays[name][[other, 0]]
    np.savez(target, **arrays)
    return target


def program(capfd: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the program's entry point."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return (int(ended.value.code or 0), *capfd.readouterr())


def test_the_verbs(file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    fast = ["--set", "experts.steps=20", "--steps", 20, "--set", "experts.count=1", "--jobs", "1", "--json"]
    fast += ["--set", "gan.iterations=8"]
    asked = ["distill", "--features", file, "--ipc", 3, "--out", run, *fast]
    code, out, _ = program(capfd, *asked, "--dry-run")
    assert (code, json.loads(out)["budget"]["items"]) == (0, 9)
    assert not run.exists()
    code, out, _ = program(capfd, *asked)
    assert (code, json.loads(out)["student"]["architecture"]) == (0, "mlp")
    code, out, _ = program(capfd, "evaluate", run, "--seeds", 1, "--transfer", "--jobs", 1, "--json")
    assert (code, json.loads(out)["distilled"]["ipc"]) == (0, 3)
    code, out, _ = program(capfd, "compare", run)
    assert code == 0
    assert "gan" in out
    code, _, said = program(capfd, "compare", run, run, "--html", tmp_path / "page.html")
    assert (code, said) == (0, "")
    page = (tmp_path / "page.html").read_text()
    assert "edgeser distill --features FILE --ipc 3" in page
    assert "different corpora" not in page
    code, out, _ = program(capfd, "report", run, "--json")
    assert (code, {"audit", "cross_corpus"} & set(json.loads(out)["missing"])) == (0, {"audit"})
    assert "pack" not in (run / "report.html").read_text().partition("Repeat it</h2>")[2]
    code, _, said = program(capfd, "pack", run, "--target", "rpi4", "--out", tmp_path / "kit")
    assert (code, len(said.strip().splitlines())) == (2, 2)


def test_a_wrong_file_is_said_in_two_lines(file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "nan.npz", features=np.full((9, 2), np.nan), labels=np.arange(9), speakers=np.arange(9))
    (tmp_path / "empty.npz").touch()
    for words in (
        ["--features", tmp_path / "nan.npz"],
        ["--features", tmp_path / "empty.npz"],
        ["--features", tmp_path / "absent.npz"],
        ["--features", file, "--corpus", "demo"],
        ["--features", file, "--set", "gan.ship=generator"],
    ):
        code, out, said = program(capfd, "distill", *words, "--ipc", 2, "--out", tmp_path / "run")
        assert (code, out, len(said.strip().splitlines())) == (2, "", 2)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("array", ["features", "labels", "speakers"])
def test_other_vectors_than_the_run_was_made_of_are_noticed(file: Path, tmp_path: Path, array: str) -> None:
    run = distilled(file, tmp_path / "run", **{"gan.iterations": 2})
    other = changed_copy(file, tmp_path / "vectors.npz", array)
    with pytest.raises(RunError, match="the corpus has other"):
        evaluate(Run(run.folder), Plan((0,), ("distilled",)), ALONE, str(other))


def with_columns(file: Path, target: Path, columns: np.ndarray) -> Path:
    """A copy of a file of vectors with more dimensions, (utterances, dimensions)."""
    with np.load(file) as found:
        np.savez(target, **{**found, "features": np.concatenate([found["features"], columns], axis=1)})
    return target


def parts_of(material: Material) -> dict[str, np.ndarray]:
    return {part: getattr(material.features, part).crops for part in ("train", "dev", "test")}


def rows_of(material: Material, part: str) -> list[int]:
    return [int(each.path.name) for each in getattr(material.features, part).utterances]


def test_dimensions_that_are_constant_in_training_count_for_nothing(file: Path, tmp_path: Path) -> None:
    plain = prepared(file)
    count, heard = SPEAKERS * 3 * EACH, [row for part in ("dev", "test") for row in rows_of(plain, part)]
    still = np.full((count, 4), [0.1, 12345.678, -3e7, 0.0])
    still[heard] += [0.5, -40.0, 1e7, 2e-6]  # elsewhere they are not constant
    path = with_columns(file, tmp_path / "still.npz", still)
    material = prepared(path)
    for part, x in parts_of(material).items():
        assert np.array_equal(x[:, :SIZE], parts_of(plain)[part])
        assert not x[:, SIZE:].any()
    run = distilled(path, tmp_path / "run")
    kept = run.stored_set()
    assert not kept.items()[:, SIZE:].any()
    assert kept.scale.constant.tolist() == [False] * SIZE + [True] * 4
    assert kept.scale.spread[SIZE:].tolist() == [1] * 4
    result = evaluate(run, Plan((0,), ("distilled", "full")), ALONE)
    assert result["full"]["uar_mean"] > 0.8
    assert result["distilled"]["ratio"] > 0.85


def test_vectors_of_any_unit_are_standardised_without_a_warning(file: Path, tmp_path: Path) -> None:
    with np.load(file) as found:
        arrays = dict(found)
    expected = parts_of(prepared(file))["test"]
    for factor in (1e25, 1e30, 1e-3):
        np.savez(tmp_path / "unit.npz", **{**arrays, "features": factor * arrays["features"]})
        assert np.allclose(parts_of(prepared(tmp_path / "unit.npz"))["test"], expected, atol=1e-3)
    with pytest.raises(UnreadableLabels, match="do not differ"):
        np.savez(tmp_path / "unit.npz", **{**arrays, "features": np.ones_like(arrays["features"])})
        prepared(tmp_path / "unit.npz")


def test_a_vector_that_is_too_far_to_be_standardised_is_named(file: Path, tmp_path: Path) -> None:
    row = rows_of(prepared(file), "test")[3]
    with np.load(file) as found:
        arrays = dict(found)
    arrays["features"] = arrays["features"] / 1e5
    arrays["features"][row, 2] = 3e38
    np.savez(tmp_path / "far.npz", **arrays)
    with pytest.raises(UnreadableLabels, match=f"1 of the features are too large, first in row {row}"):
        prepared(tmp_path / "far.npz")
