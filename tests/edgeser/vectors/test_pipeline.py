"""Runs of vectors: generated vectors teach, runs repeat and go on, and other verbs say what they hold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgeser.cli import main
from edgeser.config.settings import Settings
from edgeser.config.values import settings_of
from edgeser.corpora.errors import UnreadableLabels
from edgeser.distill import gan, gan_targets
from edgeser.errors import RunError, SettingsError
from edgeser.run import Run
from edgeser.vectors import pipeline
from edgeser.vectors.evaluate import evaluate_vectors
from edgeser.vectors.pipeline import distil_vectors, mlp, prepare_vectors, read_set, with_experts

SIZE, SPEAKERS, EACH = 12, 9, 8
FAST = {"experts.steps": 40, "steps": 60, "experts.count": 2}
OF_GAN = {"gan.iterations": 60, "gan.codebook": 6}


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


def settings(file: Path, **changed: object) -> Settings:
    own = OF_GAN if changed.get("method", "gan") == "gan" else {}
    return settings_of({"method": "gan", "corpus": "features", "folder": str(file), "ipc": 4, **FAST, **own, **changed})


def test_generated_vectors_have_no_other_start(file: Path) -> None:
    with pytest.raises(SettingsError, match="--method gan has no other start") as caught:
        prepare_vectors(settings(file, start="real"))
    assert caught.value.hint == "leave out --from"


def test_the_student_is_a_dense_network() -> None:
    graph = mlp(SIZE, 3)
    assert graph.parameter_count == 64 * SIZE + 2 * 64 + 64 * 3 + 3


def test_generated_vectors_teach_what_real_ones_do(file: Path, tmp_path: Path) -> None:
    run = distil_vectors(settings(file), tmp_path / "run", resume=False)
    kept = read_set(run)
    assert kept["items"].shape == (12, SIZE)
    assert kept["classes"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert np.allclose(kept["soft_labels"].astype(float).sum(1), 1, atol=2e-3)
    result = evaluate_vectors(run, (0, 1))
    assert result["full"]["uar_mean"] > 0.8
    assert result["distilled"]["ratio"] > 0.85
    assert result["distilled"]["uar_mean"] > result["init"]["uar"] + 0.2
    assert set(result["baselines"]) == {"random", "random_soft"}
    assert json.loads((run.folder / "metrics.json").read_text()) == json.loads(json.dumps(result))
    with pytest.raises(RunError, match="holds vectors, not log-mels"):
        run.distilled()


def test_no_vector_of_the_file_is_among_those_that_bases_make(file: Path) -> None:
    assignment = with_experts(prepare_vectors(settings(file)).assignment)
    wanted = gan_targets.sums(assignment)
    assert wanted.shape == (18, SIZE)
    real = assignment.task.clips[:, :, 0, 0]
    assert np.abs(wanted[:, None] - real[None]).mean(2).min() > 0.05
    spread = [np.std(each, axis=0).mean() for each in (wanted[:6], real[assignment.task.labels == 0])]
    assert spread[0] == pytest.approx(spread[1], rel=0.5)  # sums do not shrink towards the mean


def test_an_interrupted_run_ends_with_the_same_bytes(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = settings(file, **{"gan.iterations": 12})
    whole = distil_vectors(own, tmp_path / "whole", resume=False)
    improve, calls = gan.improve, []

    def failing(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return improve(*arguments)  # type: ignore[arg-type]

    method = pipeline.find_method("gan")
    monkeypatch.setattr(pipeline, "find_method", lambda _name: type(method)(**{**vars(method), "improve": failing}))
    with pytest.raises(KeyboardInterrupt):
        distil_vectors(own, tmp_path / "cut", resume=False)
    with pytest.raises(RunError, match="already holds a run"):
        distil_vectors(own, tmp_path / "cut", resume=False)
    before, content = (tmp_path / "cut" / "run.json").read_bytes(), file.read_bytes()
    for array in ("features", "labels", "speakers"):
        file.write_bytes(content)
        changed_copy(file, file, array)
        with pytest.raises(RunError, match="the vectors are others than when the run") as caught:
            distil_vectors(own, tmp_path / "cut", resume=True)
        assert "--out" in caught.value.hint
        assert (tmp_path / "cut" / "run.json").read_bytes() == before
    file.write_bytes(content)
    run = distil_vectors(own, tmp_path / "cut", resume=True)
    assert len(calls) == 8 + 5  # seven were made, the eighth again, and the rest
    for name in ("distilled.safetensors", "generator.safetensors", "run.json"):
        assert (run.folder / name).read_bytes() == (whole.folder / name).read_bytes()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"method": "mtt"}, "--method mtt does not work on vectors"),
        ({"gan.ship": "generator"}, "vectors are shipped as items"),
        ({"method": "random", "ipc": 500}, "fewer than the 500 needed"),
    ],
)
def test_what_vectors_do_not_have_is_refused(file: Path, changed: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        prepare_vectors(settings(file, **changed))


def test_a_class_with_fewer_than_eight_vectors_is_refused(file: Path, tmp_path: Path) -> None:
    with np.load(file) as found:
        arrays = dict(found)
    anger = np.flatnonzero(arrays["labels"] == "anger")
    kept = np.setdiff1d(np.arange(len(arrays["labels"])), np.setdiff1d(anger, anger[::EACH]))  # one of each speaker
    np.savez(tmp_path / "few.npz", **{name: array[kept] for name, array in arrays.items()})
    with pytest.raises(SettingsError, match="'anger' has 5 training items, fewer than the 8 needed"):
        prepare_vectors(settings(tmp_path / "few.npz"))


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
    fast = ["--set", "experts.steps=20", "--steps", 20, "--set", "experts.count=1", "--json"]
    fast += ["--set", "gan.iterations=8", "--set", "gan.codebook=4"]
    asked = ["distill", "--features", file, "--ipc", 3, "--out", run, *fast]
    code, out, _ = program(capfd, *asked, "--dry-run")
    assert (code, json.loads(out)["budget"]["items"]) == (0, 9)
    assert not run.exists()
    code, out, _ = program(capfd, *asked)
    assert (code, json.loads(out)["student"]["architecture"]) == (0, "mlp")
    code, out, _ = program(capfd, "evaluate", run, "--seeds", 1, "--json")
    assert (code, json.loads(out)["distilled"]["ipc"]) == (0, 3)
    code, out, _ = program(capfd, "compare", run)
    assert code == 0
    assert "gan" in out
    code, _, said = program(capfd, "compare", run, run, "--html", tmp_path / "page.html")
    assert (code, said) == (0, "")
    page = (tmp_path / "page.html").read_text()
    assert "edgeser distill --features FILE --ipc 3" in page
    assert "different corpora" not in page
    for words in (["evaluate", run, "--transfer"], ["pack", run, "--target", "rpi4", "--out", tmp_path / "kit"]):
        code, _, said = program(capfd, *words)
        assert (code, len(said.strip().splitlines())) == (2, 2)


def test_a_wrong_file_is_said_in_two_lines(file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "nan.npz", features=np.full((9, 2), np.nan), labels=np.arange(9), speakers=np.arange(9))
    (tmp_path / "empty.npz").touch()
    for words in (
        ["--features", tmp_path / "nan.npz"],
        ["--features", tmp_path / "empty.npz"],
        ["--features", tmp_path / "absent.npz"],
        ["--features", file, "--corpus", "demo"],
        ["--features", file, "--method", "invert"],
    ):
        code, out, said = program(capfd, "distill", *words, "--ipc", 2, "--out", tmp_path / "run")
        assert (code, out, len(said.strip().splitlines())) == (2, "", 2)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("array", ["features", "labels", "speakers"])
def test_other_vectors_than_the_run_was_made_of_are_noticed(file: Path, tmp_path: Path, array: str) -> None:
    run = distil_vectors(settings(file, iterations=2), tmp_path / "run", resume=False)
    other = changed_copy(file, tmp_path / "vectors.npz", array)
    with pytest.raises(RunError, match="the vectors are others"):
        evaluate_vectors(Run(run.folder), (0,), str(other))


def with_columns(file: Path, target: Path, columns: np.ndarray) -> Path:
    """A copy of a file of vectors with more dimensions, (utterances, dimensions)."""
    with np.load(file) as found:
        np.savez(target, **{**found, "features": np.concatenate([found["features"], columns], axis=1)})
    return target


def test_dimensions_that_are_constant_in_training_count_for_nothing(file: Path, tmp_path: Path) -> None:
    plain = prepare_vectors(settings(file))
    count, heard = len(plain.vectors.x), np.concatenate([plain.rows[part] for part in ("dev", "test")])
    still = np.full((count, 4), [0.1, 12345.678, -3e7, 0.0])
    still[heard] += [0.5, -40.0, 1e7, 2e-6]  # elsewhere they are not constant
    path = with_columns(file, tmp_path / "still.npz", still)
    material = prepare_vectors(settings(path))
    assert material.scale.constant.tolist() == [False] * SIZE + [True] * 4
    assert material.scale.spread[SIZE:].tolist() == [1] * 4
    for part in ("train", "dev", "test"):
        x, _ = material.part(part)
        assert np.array_equal(x[:, :SIZE], plain.part(part)[0])
        assert not x[:, SIZE:].any()
    assert np.array_equal(material.assignment.task.clips, material.part("train")[0])
    run = distil_vectors(settings(path), tmp_path / "run", resume=False)
    kept = read_set(run)
    assert not kept["items"][:, SIZE:].any()
    assert kept["constant"].tolist() == [0] * SIZE + [1] * 4
    result = evaluate_vectors(run, (0,))
    assert result["full"]["uar_mean"] > 0.8
    assert result["distilled"]["ratio"] > 0.85


def test_vectors_of_any_unit_are_standardised_without_a_warning(file: Path, tmp_path: Path) -> None:
    with np.load(file) as found:
        arrays = dict(found)
    expected = prepare_vectors(settings(file)).part("test")[0]
    for factor in (1e25, 1e30, 1e-3):
        np.savez(tmp_path / "unit.npz", **{**arrays, "features": factor * arrays["features"]})
        assert np.allclose(prepare_vectors(settings(tmp_path / "unit.npz")).part("test")[0], expected, atol=1e-3)
    with pytest.raises(UnreadableLabels, match="do not differ"):
        np.savez(tmp_path / "unit.npz", **{**arrays, "features": np.ones_like(arrays["features"])})
        prepare_vectors(settings(tmp_path / "unit.npz"))


def test_a_vector_that_is_too_far_to_be_standardised_is_named(file: Path, tmp_path: Path) -> None:
    material = prepare_vectors(settings(file))
    with np.load(file) as found:
        arrays = dict(found)
    row = int(material.rows["test"][3])
    arrays["features"] = arrays["features"] / 1e5
    arrays["features"][row, 2] = 3e38
    np.savez(tmp_path / "far.npz", **arrays)
    with pytest.raises(UnreadableLabels, match=f"1 of the features are too large, first in row {row}"):
        prepare_vectors(settings(tmp_path / "far.npz"))
