"""Files of vectors: what is read, how it is split, and what is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from edgeser.config.settings import Settings
from edgeser.corpora.errors import CorpusNotFound, SplitError, UnreadableLabels
from edgeser.representation.vector_file import CORPUS, read_vectors
from edgeser.representation.vectors import Vectors
from edgeser.workers import Workers


def arrays(**changed: Any) -> dict[str, Any]:
    whole = {
        "features": np.arange(60, dtype=np.float64).reshape(12, 5),
        "labels": np.array(["sad", "glad"] * 6),
        "speakers": np.repeat(["ann", "bob", "cem"], 4),
    }
    return {name: value for name, value in {**whole, **changed}.items() if value is not None}


def written(folder: Path, **changed: Any) -> Path:
    np.savez(folder / "vectors.npz", **arrays(**changed))
    return folder / "vectors.npz"


def test_an_npz_file_is_read_with_classes_in_alphabetical_order(tmp_path: Path) -> None:
    found = read_vectors(written(tmp_path))
    assert found.x.shape == (12, 5)
    assert found.x.dtype == np.float32
    assert found.names == ("glad", "sad")
    assert found.labels.tolist() == [1, 0] * 6
    assert found.speakers[3:5] == ("ann", "bob")


def test_a_safetensors_file_says_the_same_with_its_words_in_the_metadata(tmp_path: Path) -> None:
    words = {"labels": ["glad", "sad"], "speakers": ["ann", "bob", "cem"]}
    path = tmp_path / "vectors.safetensors"
    tensors = arrays(labels=np.array([1, 0] * 6), speakers=np.repeat([0, 1, 2], 4))
    save_file(tensors, path, {name: json.dumps(value) for name, value in words.items()})
    found, other = read_vectors(path), read_vectors(written(tmp_path))
    assert np.array_equal(found.x, other.x)
    assert (found.labels.tolist(), found.speakers, found.names) == (other.labels.tolist(), other.speakers, other.names)
    save_file(tensors, path)
    assert read_vectors(path).names == ("0", "1")
    save_file(tensors, path, {"labels": '["glad"]'})
    with pytest.raises(UnreadableLabels, match="labels are no numbers of the words"):
        read_vectors(path)


def extracted(path: Path) -> Any:
    return Vectors().extract(Settings(corpus=CORPUS, folder=str(path), ipc=1), Workers(1))


def test_parts_share_no_speaker_and_hold_every_row(tmp_path: Path) -> None:
    features = extracted(written(tmp_path))
    parts = (features.train, features.dev, features.test)
    assert sorted(int(each.path.name) for part in parts for each in part.utterances) == list(range(12))
    who = [set(part.speakers) for part in parts]
    assert all(len(each) == 1 for each in who)
    assert len(set.union(*who)) == 3


def nan(row: int) -> Any:
    features = arrays()["features"].copy()
    features[row, 2] = np.nan
    return features


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"features": nan(7)}, "1 of the features are not finite, the first in row 7"),
        ({"features": np.full((12, 5), 1e300)}, "12 of the features are not finite"),
        ({"labels": np.array(["sad"] * 11)}, r"12 features, but labels have the shape \(11,\)"),
        ({"speakers": np.array(["ann"] * 13)}, r"12 features, but speakers have the shape \(13,\)"),
        ({"speakers": None}, "holds no array 'speakers'"),
        ({"features": np.zeros(12)}, r"not numbers of N utterances x D"),
        ({"features": np.zeros((0, 5)), "labels": np.array([], str), "speakers": np.array([], str)}, "not numbers"),
        ({"features": np.array([["a"] * 5] * 12)}, "not numbers"),
        ({"labels": np.zeros(12)}, "labels are float64, neither words nor whole numbers"),
        ({"labels": np.array([object()] * 12)}, "cannot be read"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    with pytest.raises(UnreadableLabels, match=words) as caught:
        read_vectors(written(tmp_path, **changed))
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("name", ["vectors.npz", "vectors.safetensors", "vectors.txt"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(CorpusNotFound):
        read_vectors(path)
    path.write_bytes(b"neither of them")
    with pytest.raises(UnreadableLabels):
        read_vectors(path)


@pytest.mark.parametrize("content", ["empty", "one array", "cut", "damaged"])
def test_a_damaged_archive_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "vectors.npz"
    np.savez_compressed(path, **arrays(features=np.random.default_rng(0).standard_normal((12, 400))))
    whole = path.read_bytes()
    np.save(tmp_path / "one.npy", np.zeros((3, 2)))
    middle = len(whole) // 2
    damaged = {
        "empty": b"",
        "one array": (tmp_path / "one.npy").read_bytes(),
        "cut": whole[:middle],
        "damaged": whole[:90] + bytes([255] * 300) + whole[390:],
    }
    path.write_bytes(damaged[content])
    with pytest.raises(UnreadableLabels, match="cannot be read") as caught:
        read_vectors(path)
    assert "\n" not in caught.value.message


def test_more_classes_than_a_byte_holds_are_refused(tmp_path: Path) -> None:
    def many(count: int) -> Path:
        features, speakers = np.ones((count, 2)), np.arange(count) % 5
        return written(tmp_path, features=features, labels=np.arange(count), speakers=speakers)

    assert len(read_vectors(many(255)).names) == 255
    with pytest.raises(UnreadableLabels, match="256 classes"):
        read_vectors(many(256))


def test_the_fingerprint_is_that_of_the_content(tmp_path: Path) -> None:
    first = read_vectors(written(tmp_path)).fingerprint
    (tmp_path / "other").mkdir()
    assert read_vectors(written(tmp_path / "other")).fingerprint == first
    for changed in (
        {"features": arrays()["features"] + 1},
        {"labels": np.array(["glad", "sad"] * 6)},
        {"labels": np.array(["sad", "merry"] * 6)},
        {"speakers": np.repeat(["ann", "bob", "eve"], 4)},
    ):
        assert read_vectors(written(tmp_path, **changed)).fingerprint != first


def test_two_speakers_are_too_few(tmp_path: Path) -> None:
    with pytest.raises(SplitError):
        extracted(written(tmp_path, speakers=np.repeat(["ann", "bob"], 6)))
