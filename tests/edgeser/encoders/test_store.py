"""Fetching: hashes are compared first, a machine without a registry is told what to do, and the real file works."""

from __future__ import annotations

import os
import zipfile

import numpy as np
import pytest

from edgeser.encoders.store import (
    ENCODERS,
    SMART_TURN,
    add_package,
    added,
    encoder_folder,
    fetch,
    find_named,
    open_encoder,
    take_out,
)
from edgeser_device.encoder import Encoder
from edgeser_device.errors import EncoderError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def wheel(folder, content=b"not the encoder", member=SMART_TURN.member):
    path = folder / "pipecat_ai-1.14.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
    return path


def test_a_near_miss_is_suggested() -> None:
    with pytest.raises(EncoderError) as caught:
        find_named("smart-trun-2")
    assert "smart-turn-2" in caught.value.hint


def test_a_package_with_another_file_is_refused_before_it_is_parsed(tmp_path, cache) -> None:
    with pytest.raises(EncoderError, match="not the published file"):
        add_package(wheel(tmp_path))
    assert not cache.exists()


def test_a_package_without_the_file_is_refused(tmp_path) -> None:
    with pytest.raises(EncoderError, match="does not hold"):
        take_out(wheel(tmp_path, member="other.onnx"), SMART_TURN, tmp_path)


def test_a_damaged_package_is_refused(tmp_path) -> None:
    path = wheel(tmp_path)
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(EncoderError):
        take_out(path, SMART_TURN, tmp_path)


def test_another_package_is_no_encoder(tmp_path) -> None:
    with pytest.raises(EncoderError, match="no named encoder"):
        add_package(tmp_path / "numpy-2.0.0.whl")


def test_an_unreachable_registry_says_how_to_go_on(cache, monkeypatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(EncoderError) as caught:
        fetch("smart-turn-1")
    assert "encoder add" in caught.value.hint
    assert added() == []


def test_an_encoder_that_was_not_fetched_names_the_command(cache) -> None:
    with pytest.raises(EncoderError) as caught:
        open_encoder("smart-turn-2")
    assert caught.value.hint == "run: edgeser encoder fetch smart-turn-2"


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The real encoders, fetched once; continuous integration fails where they cannot be had."""
    folder = tmp_path_factory.mktemp("encoders")
    before = os.environ.get("EDGESER_CACHE")
    os.environ["EDGESER_CACHE"] = str(folder)
    try:
        for name in ENCODERS:
            fetch(name)
        yield folder
    finally:
        os.environ.pop("EDGESER_CACHE") if before is None else os.environ.update(EDGESER_CACHE=before)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [("smart-turn-1", 768), ("smart-turn-2", 1536)])
def test_the_named_encoders_give_vectors(real, name, size) -> None:
    card, data = open_encoder(name)
    assert (card.size, card.frames) == (size, 300)
    assert (encoder_folder(name) / "LICENSE").is_file()
    sound = np.random.default_rng(0).normal(0, 0.1, 32_000).astype("f4")
    found = Encoder.open(card, data)(sound)
    assert found.shape == (1, size)
    assert np.isfinite(found).all()


@pytest.mark.slow
def test_a_file_that_was_changed_by_a_byte_is_refused(real) -> None:
    path = encoder_folder("smart-turn-1") / "encoder.onnx"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        with pytest.raises(EncoderError, match="not the file"):
            open_encoder("smart-turn-1")
    finally:
        path.write_bytes(whole)
