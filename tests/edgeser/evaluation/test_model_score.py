"""What of a corpus a model may be scored on: the kit's test speakers of its own corpus, all of any other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from device.kits import LABELS, write_run

from edgeser.corpora import load_corpus
from edgeser.corpora.fingerprint import corpus_fingerprint, is_own, speaker_hashes
from edgeser.errors import SettingsError
from edgeser.evaluation.model_score import find_test_part
from edgeser.packaging.pack import describe, read_parts
from edgeser.packaging.targets import find_target
from edgeser_device.model.model import DISTILLED, Model

SPEAKERS = ("anna", "ben", "carla")


def record(folder: Path, speakers: tuple[str, ...] = SPEAKERS) -> Path:
    """Two recordings an emotion and speaker."""
    for emotion in LABELS:
        (folder / emotion).mkdir(parents=True, exist_ok=True)
        for speaker in speakers:
            for number in (1, 2):
                soundfile.write(folder / emotion / f"{speaker}_{number}.wav", np.zeros(160, np.float32), 16000)
    return folder


def model_of(place: Path, corpus: dict[str, object], test: list[str]) -> Model:
    """A model as training on a kit of that corpus describes it; nothing is trained."""
    split = {"name": "seed:0", "train": {"speakers": ["x"]}, "dev": {"speakers": ["y"]}, "test": {"speakers": test}}
    parts = read_parts(write_run(place / "run", corpus=corpus, split=split))
    manifest = describe(parts, find_target("rpi4"), {DISTILLED: b""})
    frontend = parts.distilled.frontend
    provenance = json.loads(json.dumps(manifest["provenance"]))
    return Model(place, {"provenance": provenance}, LABELS, frontend, parts.graph)


def speakers_of(part: object) -> set[str]:
    return {utterance.speaker for utterance in part.utterances}  # type: ignore[attr-defined]


def test_the_same_recordings_elsewhere_have_the_same_fingerprint(tmp_path: Path) -> None:
    one, two = (corpus_fingerprint(load_corpus("folder", record(tmp_path / name))) for name in ("one", "two"))
    assert one == two
    assert len(one) == 64
    (tmp_path / "two" / LABELS[0] / "anna_1.wav").rename(tmp_path / "two" / LABELS[1] / "anna_3.wav")
    assert corpus_fingerprint(load_corpus("folder", tmp_path / "two")) != one


def test_a_fingerprint_does_not_depend_on_how_letters_are_composed(tmp_path: Path) -> None:
    composed, decomposed = "Ren\u00e9", "Rene\u0301"
    prints = {
        corpus_fingerprint(load_corpus("folder", record(tmp_path / str(number), (name,))))
        for number, name in enumerate((composed, decomposed))
    }
    assert len(prints) == 1


def test_ones_own_corpus_is_scored_on_its_test_speakers(tmp_path: Path) -> None:
    mine = record(tmp_path / "mine")
    fingerprint = corpus_fingerprint(load_corpus("folder", mine))
    model = model_of(tmp_path, {"name": "folder", "fingerprint": fingerprint}, ["carla"])
    part = find_test_part(model, mine, "folder")
    assert (part.part, speakers_of(part), part.warning) == ("test", {"carla"}, "")


def test_other_own_recordings_are_scored_as_a_whole(tmp_path: Path) -> None:
    fingerprint = corpus_fingerprint(load_corpus("folder", record(tmp_path / "mine")))
    model = model_of(tmp_path, {"name": "folder", "fingerprint": fingerprint}, ["carla"])
    part = find_test_part(model, record(tmp_path / "new", ("dora",)), "folder")
    assert (part.part, speakers_of(part)) == ("all", {"dora"})
    assert "trained on" in part.warning


def test_a_kit_without_a_fingerprint_knows_no_recordings_of_ones_own(tmp_path: Path) -> None:
    mine = record(tmp_path / "mine")
    model = model_of(tmp_path, {"name": "folder", "fingerprint": None}, ["carla"])
    assert "hashes" not in model.description["provenance"]["split"]["test"]
    assert find_test_part(model, mine, "folder").part == "all"


def test_a_published_corpus_is_known_by_its_name(tmp_path: Path) -> None:
    """Also where some files are missing: nothing that was trained on may be scored."""
    part = find_test_part(model_of(tmp_path, {}, ["m5"]), load_corpus("demo").folder, "demo")
    assert (part.part, speakers_of(part), part.warning) == ("test", {"m5"}, "")
    with pytest.raises(SettingsError, match="none of the kit's test speakers: nobody"):
        find_test_part(model_of(tmp_path / "other", {}, ["nobody"]), load_corpus("demo").folder, "demo")


def test_hashes_of_another_corpus_differ() -> None:
    one, two = (speaker_hashes(["anna"], salt * 64) for salt in "ab")
    assert one != two
    assert "anna" not in one[0]


def test_which_layouts_are_for_recordings_of_ones_own() -> None:
    own = {name for name in ("demo", "ravdess", "iemocap", "folder", "manifest", "audformat", "gone") if is_own(name)}
    assert own == {"folder", "manifest", "audformat", "gone"}


def test_a_corpus_in_another_order_is_the_same() -> None:
    corpus = load_corpus("demo")
    turned = replace(corpus, utterances=corpus.utterances[::-1])
    assert corpus_fingerprint(turned) == corpus_fingerprint(corpus)
