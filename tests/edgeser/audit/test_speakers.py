"""Linkage finds voices that are there, is at chance on lots, and asks about no clip that it learnt."""

from __future__ import annotations

import numpy as np
import pytest

from edgeser.audit.speakers import Linked, Voices, linkage_figures, sex_figures

SPEAKERS, EACH = 6, 30


@pytest.fixture(scope="module")
def voices() -> Voices:
    """Six speakers with a spectrum of their own, three of them women, whose spectra are alike."""
    random = np.random.default_rng(0)
    speakers = np.repeat(np.arange(SPEAKERS), EACH)
    women = speakers >= 3
    spectra = 0.6 * random.standard_normal((SPEAKERS, 16))
    spectra[3:, :4] += 1.5
    clips = spectra[speakers][:, :, None] + random.standard_normal((len(speakers), 16, 20))
    return Voices(clips.astype(np.float32), speakers, women)


def test_stored_clips_and_mixtures_are_linked_to_their_speakers(voices: Voices) -> None:
    random = np.random.default_rng(1)
    single = random.permutation(SPEAKERS * EACH)[:24][:, None]
    several = np.stack([random.permutation(SPEAKERS)[:2] * EACH + random.integers(EACH, size=2) for _ in range(24)])
    found = linkage_figures(
        voices,
        {
            "subset": Linked(voices.clips[single[:, 0]], single, "is"),
            "mixed": Linked(voices.clips[several].mean(1), several, "began as"),
        },
    )
    assert found["real"]["top_1"]["low"] > 0.8
    assert found["real"]["equal_error"]["high"] < 0.15
    subset, mixed = found["sets"]["subset"], found["sets"]["mixed"]
    assert subset["chance"] == pytest.approx(1 / SPEAKERS)
    assert mixed["chance"] == pytest.approx(2 / SPEAKERS)
    for each in (subset, mixed):
        assert each["applied"]["top_1"]["low"] > each["chance"] + 0.2
        assert each["retrained"]["top_1"]["low"] > found["chance"]["top_1"]
        assert each["applied"]["equal_error"]["high"] < 0.4


def test_noise_with_speakers_by_lot_is_at_chance(voices: Voices) -> None:
    random = np.random.default_rng(2)
    noise = random.standard_normal((60, 16, 20)).astype(np.float32)
    lots = random.permutation(SPEAKERS * EACH)[:60][:, None]
    found = linkage_figures(voices, {"noise": Linked(noise, lots, "by lot")})["sets"]["noise"]
    for name in ("applied", "retrained"):
        assert found[name]["top_1"]["low"] <= 1 / SPEAKERS <= found[name]["top_1"]["high"] + 0.05
        assert found[name]["equal_error"]["low"] <= 0.5 <= found[name]["equal_error"]["high"] + 0.05


def test_items_of_one_speaker_can_be_learnt_from(voices: Voices) -> None:
    first = np.arange(4)[:, None]  # all of one speaker: the classifier can only name that one
    found = linkage_figures(voices, {"one": Linked(voices.clips[:4], first, "is")})["sets"]["one"]
    assert found["retrained"]["top_1"]["value"] == pytest.approx(1 / SPEAKERS, abs=0.03)


def test_sex_is_inferred_where_the_corpus_tells_it(voices: Voices) -> None:
    random = np.random.default_rng(3)
    chosen = random.permutation(SPEAKERS * EACH)[:40][:, None]
    noise = random.standard_normal((40, 16, 20)).astype(np.float32)
    found = sex_figures(
        voices, {"subset": Linked(voices.clips[chosen[:, 0]], chosen, "is"), "noise": Linked(noise, chosen, "by lot")}
    )
    assert found is not None
    assert found["real"]["accuracy"]["low"] > 0.9
    assert found["sets"]["subset"]["applied"]["auc"]["low"] > 0.9
    noisy = found["sets"]["noise"]["applied"]["auc"]
    assert noisy["low"] <= 0.5 <= noisy["high"]


def test_where_the_corpus_does_not_tell_there_is_no_figure(voices: Voices) -> None:
    assert sex_figures(Voices(voices.clips, voices.speakers), {}) is None
