"""Training on own clips: what is learnt, what is left out, what is kept, and what is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import soundfile
from device.kits import synthetic_items
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeser_device.errors import ClipsError, GateFailed, ModelError
from edgeser_device.frontend import FrontendSpec
from edgeser_device.kit.kit import Kit
from edgeser_device.model.inputs import input_of
from edgeser_device.model.model import BASE, Model, load_model, previous_path, rollback
from edgeser_device.personal.fine_tune import (
    Forgetting,
    PersonalSettings,
    Right,
    Trial,
    adapt,
    deal,
    fine_tune,
    forgetting,
    is_of,
    leave_out,
    uar,
    why_not,
)
from edgeser_device.personal.own_clips import MOST_WINDOWS, OwnClips, fault_of, read_clips
from edgeser_device.personal.student_parts import (
    NOBODY,
    PARTS,
    AdaptSettings,
    CutStudent,
    Material,
    choose_rehearsal,
    prepare,
    rate_of,
    settings_for,
)
from edgeser_export.utilities.errors import GraphError

DEMO = Path(str(files("edgeser.corpora").joinpath("demo_data")))
QUICK = replace(PARTS["tail"], steps=30, own_views=96, rehearsal_views=32)
"""Enough for the synthetic kit, whose student knows nothing of speech."""


def copy_clips(folder: Path, speaker: str = "f1", each: int = 2) -> Path:
    """Clips of the demonstration corpus, a folder an emotion, as its owner would have recorded them."""
    for label in ("anger", "neutral", "sadness"):
        (folder / label).mkdir(parents=True)
        for path in sorted(DEMO.glob(f"{speaker}_{label}_*"))[:each]:
            shutil.copy(path, folder / label / path.name)
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_clips(tmp_path_factory.mktemp("own") / "clips")


@pytest.fixture(scope="module")
def own(clips: Path, kit: Kit) -> OwnClips:
    return read_clips(clips, kit.labels, input_of(kit))


@pytest.fixture(scope="module")
def student(kit: Kit, model: Model) -> CutStudent:
    return CutStudent.open(kit.graph, model.weights, "tail", threads=1)


@pytest.fixture(scope="module")
def material(student: CutStudent, own: OwnClips, kit: Kit) -> Material:
    return prepare(student, own, kit.distilled, QUICK)


@pytest.fixture(scope="module")
def muffled() -> OwnClips:
    """Synthetic clips through a microphone of its own: the student that was trained without it knows few of them."""
    items, classes = synthetic_items(3, seed=5)
    windows = (0.5 * items + np.linspace(3, -3, items.shape[1])[:, None]).astype(np.float32)
    digests = tuple(map(str, range(len(items))))
    return OwnClips(digests, classes.astype(np.int64), windows, np.arange(len(items)))


@pytest.fixture
def trained(model: Model, tmp_path: Path) -> Path:
    """A copy of the trained model, to be changed."""
    shutil.copytree(model.folder, tmp_path / "model")
    return tmp_path / "model"


def test_clips_are_read_by_their_folders(own: OwnClips, kit: Kit) -> None:
    spec = kit.distilled.frontend
    assert own.classes.tolist() == [0, 0, 1, 1, 2, 2]
    assert own.windows.shape[1:] == (spec.mels, spec.frames)
    assert own.windows.dtype == np.float32
    assert sorted(set(own.owners.tolist())) == list(range(6))
    assert own.window_classes.tolist() == own.classes[own.owners].tolist()


def test_capitals_and_hidden_files_do_not_matter(tmp_path: Path, kit: Kit) -> None:
    folder = copy_clips(tmp_path / "clips")
    (folder / "anger").rename(folder / "Anger")
    (folder / ".trash").mkdir()
    shutil.copy(next((folder / "Anger").iterdir()), folder / ".trash" / "old.ogg")
    (folder / "notes.txt").write_text("mine")
    assert len(read_clips(folder, kit.labels, input_of(kit))) == 6


def test_a_long_clip_does_not_fill_the_memory(tmp_path: Path, kit: Kit) -> None:
    folder = copy_clips(tmp_path / "clips")
    noise = np.random.default_rng(0).standard_normal(60 * 16000).astype(np.float32) * 0.1
    soundfile.write(folder / "anger" / "long.wav", noise, 16000)
    own = read_clips(folder, kit.labels, input_of(kit))
    assert np.bincount(own.owners).max() == MOST_WINDOWS


RATE, SPEC = 16000, FrontendSpec()
LOUD, OFFSETS = st.floats(-50, 0), st.floats(-0.5, 0.5)


def sound(seconds: float, level_db: float, offset: float = 0.0) -> NDArray[np.float32]:
    """Noise whose loudest sample has this level, dB under full scale."""
    noise = np.random.default_rng(0).uniform(-1, 1, round(seconds * RATE))
    return np.asarray(noise / np.abs(noise).max(initial=1e-9) * 10 ** (level_db / 20) + offset, dtype=np.float32)


def quiet(seconds: float) -> NDArray[np.float32]:
    return np.zeros(round(seconds * RATE), np.float32)


@given(st.floats(0.4, 2), LOUD, st.floats(0, 1), st.floats(0, 1), OFFSETS)
def test_sound_that_is_long_enough_is_used(
    seconds: float, level: float, before: float, after: float, offset: float
) -> None:
    clip = np.concatenate([quiet(before), sound(seconds, level), quiet(after)]) + np.float32(offset)
    assert fault_of(clip, SPEC) == ""


@given(st.integers(1, 3 * RATE), st.floats(-200, -60.5), OFFSETS)
def test_silence_of_any_length_and_offset_is_not_used(samples: int, level: float, offset: float) -> None:
    clip = sound(samples / RATE, level)
    assert "no sound" in fault_of(clip + np.float32(offset * (level < -120)), SPEC)


@given(st.floats(1e-4, 0.15), LOUD, st.floats(0.5, 2), st.floats(0.5, 2))
def test_a_click_in_silence_is_not_used(seconds: float, level: float, before: float, after: float) -> None:
    assert "sound" in fault_of(np.concatenate([quiet(before), sound(seconds, level), quiet(after)]), SPEC)


def write(path: Path, samples: NDArray[np.float32]) -> Path:
    soundfile.write(path, samples, RATE)
    return path


def test_what_cannot_be_used_is_left_out_with_its_reason(tmp_path: Path, kit: Kit) -> None:
    folder = copy_clips(tmp_path / "clips")
    whole = read_clips(folder, kit.labels, input_of(kit))
    anger, sadness = folder / "anger", folder / "sadness"
    reasons = {
        write(anger / "zeros.wav", quiet(1)): "holds no sound",
        write(anger / "one.wav", np.array([0.1], np.float32)): "holds no sound",
        write(anger / "click.wav", np.concatenate([quiet(1), sound(0.01, -6)])): "s of sound",
        anger / "broken.wav": "cannot be decoded",
        anger / "empty.wav": "is empty",
        anger / "notes.txt": "cannot be decoded",
        anger / "z.ogg": f"is a copy of {anger / 'f1_anger_01.ogg'}",
        write(anger / "both.wav", sound(1, -6)): "another emotion, too",
        write(sadness / "both.wav", sound(1, -6)): "another emotion, too",
    }
    (anger / "broken.wav").write_bytes(b"RIFF")
    (anger / "empty.wav").touch()
    (anger / "notes.txt").write_text("mine")
    shutil.copy(anger / "f1_anger_01.ogg", anger / "z.ogg")
    own = read_clips(folder, kit.labels, input_of(kit))
    assert own.digests == whole.digests
    assert np.array_equal(own.windows, whole.windows)
    assert {each.file for each in own.left_out} == set(reasons)
    for each in own.left_out:
        assert str(each.file) in each.reason
        assert reasons[each.file] in each.reason


def test_too_few_that_can_be_used(tmp_path: Path, kit: Kit) -> None:
    folder = copy_clips(tmp_path / "clips")
    for path in (folder / "sadness").iterdir():
        path.write_bytes(b"RIFF")
    with pytest.raises(
        ClipsError, match=r"too few clips that can be used, 0 of sadness; 2 left out, the first"
    ) as caught:
        read_clips(folder, kit.labels, input_of(kit))
    assert "record 2 or more" in caught.value.hint
    assert "\n" not in caught.value.message


def _nothing(_: Path) -> None:
    """The folder stays empty."""


def _unknown(folder: Path) -> None:
    copy_clips(folder)
    (folder / "anger").rename(folder / "angry")


def _outside(folder: Path) -> None:
    copy_clips(folder)
    shutil.move(next((folder / "anger").iterdir()), folder / "clip.ogg")


def _single(folder: Path) -> None:
    copy_clips(folder)
    next((folder / "sadness").iterdir()).unlink()


def _one_emotion(folder: Path) -> None:
    copy_clips(folder)
    for name in ("anger", "sadness"):
        shutil.rmtree(folder / name)


@pytest.mark.parametrize(
    ("arrange", "words", "hint"),
    [
        (_nothing, "holds clips of 0 emotions", "two clips or more"),
        (_unknown, "does not know the emotion 'angry'", "did you mean 'anger'"),
        (_outside, "lies in no folder of an emotion", "anger, neutral, sadness"),
        (_single, "too few clips that can be used, 1 of sadness", "record 2 or more"),
        (_one_emotion, "clips of 1 emotion", "at least two"),
    ],
)
def test_clips_that_cannot_be_trained_on(arrange, words: str, hint: str, tmp_path: Path, kit: Kit) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    arrange(folder)
    with pytest.raises(ClipsError, match=words) as caught:
        read_clips(folder, kit.labels, input_of(kit))
    assert hint in caught.value.hint
    assert "\n" not in caught.value.message


def test_no_folder(tmp_path: Path, kit: Kit) -> None:
    with pytest.raises(ClipsError, match="there is no folder"):
        read_clips(tmp_path / "none", kit.labels, input_of(kit))


def test_nothing_of_a_clip_that_is_left_out_is_in_the_lesson(material: Material) -> None:
    assert set(material.clips[:, 0].tolist()) == set(range(6))
    assert NOBODY in material.clips[:, 1]
    for left_out in ([0], [2, 5]):
        lesson = material.training_data(left_out)
        expected = [row for row, pair in enumerate(material.clips) if not set(pair.tolist()) & set(left_out)]
        assert 0 < len(expected) < len(material.own)
        assert np.array_equal(lesson.own, material.own[expected])
        assert np.array_equal(lesson.own_labels, material.own_labels[expected])
        assert len(lesson.rehearsal) == QUICK.rehearsal_views
        each = [lesson.own_shares[material.own_classes[expected] == number].sum() for number in range(3)]
        assert each == pytest.approx([1 / 3] * 3)


def test_labels_are_probabilities(student: CutStudent, own: OwnClips, material: Material, kit: Kit) -> None:
    assert np.allclose(material.own_labels.sum(axis=1), 1, atol=1e-3)
    assert (material.own_labels >= 0).all()
    bank = prepare(student, own, kit.distilled, replace(QUICK, old_labels=0.0))
    assert np.array_equal(bank.rehearsal_labels, kit.distilled.labels_of(choose_rehearsal(kit.distilled, QUICK)))
    assert np.allclose(material.rehearsal_labels.sum(axis=1), 1, atol=1e-5)


def test_rehearsal_can_be_labelled_by_the_old_student(student: CutStudent, own: OwnClips, kit: Kit) -> None:
    old = prepare(student, own, kit.distilled, replace(QUICK, old_labels=1.0))
    assert np.allclose(old.rehearsal_labels, student.probabilities(old.rehearsal), atol=1e-6)


def test_training_moves_towards_the_clips_and_keeps_the_statistics(
    student: CutStudent, material: Material, own: OwnClips
) -> None:
    upper = student.train(material.training_data(), QUICK)
    features = student.features(own.windows[:, None])
    rows = np.arange(len(own.windows))
    before, after = (student.probabilities(features, each)[rows, own.window_classes] for each in (None, upper))
    assert np.log(after).mean() > np.log(before).mean() + 0.1
    for name in student.upper.statistics:
        assert np.array_equal(upper[name], student.weights[name])
    again = student.train(material.training_data(), QUICK)
    assert all(np.array_equal(upper[name], again[name]) for name in upper)


def test_the_share_is_how_far_the_weights_go(student: CutStudent, material: Material) -> None:
    stay, half, whole = (
        student.train(material.training_data(), replace(QUICK, share=share)) for share in (0.0, 0.5, 1.0)
    )
    for name, old in student.weights.items():
        assert np.array_equal(stay[name], old)
        assert np.allclose(half[name] - old, (whole[name] - old) / 2, atol=1e-6)
    assert any(not np.allclose(whole[name], old) for name, old in student.weights.items())


@pytest.mark.parametrize("part", PARTS)
def test_every_part_can_be_trained_and_only_it_changes(part: str, kit: Kit, model: Model, own: OwnClips) -> None:
    how = replace(QUICK, part=part, steps=2)
    report, weights = adapt(kit, model.weights, own, PersonalSettings(adapt=how))
    changed = {name for name, value in weights.items() if not np.array_equal(value, model.weights[name])}
    assert changed == set(CutStudent.open(kit.graph, model.weights, part, 1).upper.parameters)
    assert report.part == part
    assert report.trial.clips == 6


def test_training_without_rehearsal(student: CutStudent, own: OwnClips, kit: Kit) -> None:
    alone = prepare(student, own, kit.distilled, replace(QUICK, rehearsal_views=0))
    assert len(alone.rehearsal) == 0
    assert student.train(alone.training_data(), QUICK).keys() == student.weights.keys()


def test_the_rate_rises_and_falls() -> None:
    how = AdaptSettings(steps=50, rate=1.0)
    rates = [rate_of(step, how) for step in range(50)]
    assert max(rates) == rates[4] == rates[5] == 1.0
    assert rates[0] == 0.2
    assert 0 < rates[-1] < 0.01
    assert rate_of(0, replace(how, steps=1)) == 1.0


@given(st.lists(st.integers(0, 4), min_size=2, max_size=40), st.integers(2, 20))
def test_every_clip_is_left_out_once(classes: list[int], folds: int) -> None:
    groups = deal(np.array(classes), folds)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(classes)))
    assert len(groups) == min(folds, len(classes))
    for number in set(classes):
        counts = [int((np.array(classes)[group] == number).sum()) for group in groups]
        assert max(counts) - min(counts) <= 1


def test_a_trial_judges_clips_by_students_that_did_not_see_them(
    student: CutStudent, own: OwnClips, material: Material
) -> None:
    """By hand, for the two folds."""
    told: list[int] = []
    trial = leave_out(student, own, ("anger", "neutral", "sadness"), material, QUICK, 2, told.append)
    features = student.features(own.windows[:, None])
    by_clip = np.zeros((6, 3))
    for left_out in ([0, 2, 4], [1, 3, 5]):
        each = student.probabilities(features, student.train(material.training_data(left_out), QUICK))
        for clip in left_out:
            by_clip[clip] = each[own.owners == clip].mean(axis=0)
    assert trial.after == pytest.approx(uar(by_clip, own.classes))
    assert trial.after_loss == pytest.approx(-np.log(by_clip[np.arange(6), own.classes]).mean(), rel=1e-5)
    assert (trial.clips, trial.folds, told) == (6, 2, [1, 2])
    answers = by_clip.argmax(axis=1).reshape(3, 2)
    assert {label: (right.clips, right.after) for label, right in trial.emotions.items()} == {
        label: (2, int((answers[number] == number).sum()))
        for number, label in enumerate(("anger", "neutral", "sadness"))
    }
    assert np.mean([right.before / right.clips for right in trial.emotions.values()]) == pytest.approx(trial.before)
    assert np.mean([right.after / right.clips for right in trial.emotions.values()]) == pytest.approx(trial.after)


def test_what_better_means() -> None:
    trial = Trial(4, 4, 0.5, 0.5, 1.0, 0.9, {})
    assert trial.better
    assert not replace(trial, after_loss=1.1).better
    assert not replace(trial, after=0.75, after_loss=1.0).better
    assert replace(trial, after=0.25).better
    assert Forgetting(10, 0.9, 0.8).lost == pytest.approx(0.1)


def test_forgetting_is_measured_on_views_that_were_not_rehearsed(student: CutStudent, kit: Kit) -> None:
    assert len(kit.distilled.recipes) == 96
    assert forgetting(student, student.weights, kit.distilled, QUICK).views == 96 - 32
    assert forgetting(student, student.weights, kit.distilled, QUICK).lost == 0.0
    everything = replace(QUICK, rehearsal_views=96)
    assert forgetting(student, student.weights, kit.distilled, everything).views == 96


def test_a_better_model_is_installed_and_the_old_one_kept(kit: Kit, trained: Path, muffled: OwnClips) -> None:
    before = load_model(trained)
    old = before.weights
    asked = PersonalSettings(adapt=replace(QUICK, steps=60), max_forget=1.0)
    report = fine_tune(kit, trained, muffled, asked)
    assert report.installed
    assert before.identity["own_clips"] == 0
    assert load_model(trained).identity == {
        **before.identity,
        "own_clips": 9,
        "made": load_model(trained).identity["made"],
    }
    assert report.trial.better
    model = load_model(trained)
    assert model.description["personal"]["clips"] == {"anger": 3, "neutral": 3, "sadness": 3}
    assert model.description["training"] == before.description["training"]
    assert BASE in model.description["files"]
    new = model.weights
    assert any(not np.array_equal(new[name], old[name]) for name in old)
    assert load_model(previous_path(trained)).description == before.description
    # A second time starts from the same base, not from what was learnt before.
    assert fine_tune(kit, trained, muffled, asked).installed
    assert all(np.array_equal(load_model(trained).weights[name], new[name]) for name in new)
    now, aside = rollback(trained)
    assert "personal" in now.description
    assert aside is not None
    assert aside.words == now.words.replace(now.identity["made"], aside.identity["made"])


def test_a_model_that_forgets_too_much_is_not_installed(kit: Kit, trained: Path, muffled: OwnClips) -> None:
    before = {path.name: path.read_bytes() for path in trained.iterdir()}
    report = fine_tune(kit, trained, muffled, PersonalSettings(adapt=replace(QUICK, steps=60), max_forget=-1.0))
    assert not report.installed
    assert "is allowed" in report.reason
    assert {path.name: path.read_bytes() for path in trained.iterdir()} == before
    assert [path.name for path in trained.parent.iterdir()] == ["model"]
    with pytest.raises(GateFailed, match="the old model was kept"):
        report.require_installed()


@given(st.integers(0, 30), st.integers(0, 30))
def test_an_emotion_collapses_where_more_than_half_of_what_was_right_is_lost(before: int, after: int) -> None:
    right = Right(30, before, after)
    assert right.collapsed == (after < before / 2)
    trial = Trial(30, 2, 0.5, 0.5, 1.0, 0.9, {"anger": right, "sadness": Right(30, 4, 4)})
    assert trial.collapsed == (("anger",) if right.collapsed else ())
    assert trial.to_json()["emotions"]["anger"] == {"clips": 30, "before": before, "after": after}
    assert trial.to_json()["collapsed"] == list(trial.collapsed)


def test_a_collapse_keeps_the_old_model_where_that_is_asked_for() -> None:
    trial = Trial(8, 8, 1.0, 0.5, 1.0, 0.9, {"anger": Right(4, 4, 0), "sadness": Right(4, 4, 4)})
    forgot = Forgetting(10, 0.9, 0.9)
    assert why_not(trial, forgot, PersonalSettings()) == ""
    assert "your anger" in why_not(trial, forgot, PersonalSettings(keep_emotions=True))


def test_a_model_that_is_no_better_is_not_installed(kit: Kit, trained: Path, own: OwnClips) -> None:
    report = fine_tune(kit, trained, own, PersonalSettings(adapt=replace(QUICK, share=0.0)))
    assert not report.installed
    assert "clips that were left out" in report.reason


def test_a_model_of_another_kit_is_refused(kit: Kit, plain_kit: Kit, trained: Path, own: OwnClips) -> None:
    assert is_of(kit, trained)
    assert not is_of(plain_kit, trained)
    assert not is_of(kit, trained / "nothing")
    with pytest.raises(ModelError, match="another kit"):
        fine_tune(plain_kit, trained, own, PersonalSettings(adapt=QUICK))


def test_an_unknown_part() -> None:
    with pytest.raises(GraphError, match="no part 'heads'") as caught:
        settings_for("heads")
    assert "'head'" in caught.value.hint
