"""The check finds every defect that a corpus can have, and no bad file stops it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeser.corpora import Corpus, load_corpus, make_split
from edgeser.corpora.check import CheckReport, Finding, check_corpus, render_check
from edgeser.corpora.errors import SpeakerLeak
from edgeser.distill.pipeline import refusal
from edgeser.workers import Workers

Write = Callable[..., Path]


@pytest.fixture
def clean(write_tone: Write, tmp_path: Path) -> Path:
    """Three speakers, two classes, nothing wrong."""
    for number, speaker in enumerate("abc"):
        for more, emotion in enumerate(("anger", "neutral")):
            write_tone(f"{emotion}/{speaker}_1.wav", seed=10 * number + more, seconds=0.5 + 0.1 * number)
    return tmp_path


def check(folder: Path, name: str = "folder") -> CheckReport:
    corpus = load_corpus(name, folder)
    report = check_corpus(corpus, make_split(corpus), refusal(corpus, None, Workers(1)), n_jobs=2)
    json.dumps(report.to_json(), allow_nan=False)
    return report


def test_a_clean_corpus(clean: Path) -> None:
    report = check(clean)
    assert report.passed
    assert report.findings == ()
    assert report.utterances == 6
    assert report.classes == {"anger": 3, "neutral": 3}
    assert report.speakers["a"] == {"anger": 1, "neutral": 1}
    assert report.durations_s == {"min": 0.5, "median": 0.6, "max": 0.7, "total": 3.6}
    assert (report.rates, report.channels, report.subtypes) == ({"16000": 6}, {"1": 6}, {"WAV PCM_16": 6})
    assert report.split is not None
    assert report.split["test"]["classes"] == {"anger": 1, "neutral": 1}


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    path.write_text("this is no recording")


def _cut_in_the_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def _no_samples(path: Path) -> None:
    soundfile.write(path, np.zeros(0), 16000)


def _nan(path: Path) -> None:
    soundfile.write(path, np.full(16000, np.nan, np.float32), 16000, subtype="FLOAT")


def _infinity(path: Path) -> None:
    soundfile.write(path, np.r_[np.full(8000, 0.1), np.inf].astype(np.float32), 16000, subtype="FLOAT")


def _another_scale(path: Path) -> None:
    samples, rate = soundfile.read(path)
    soundfile.write(path, samples * 32768, rate, subtype="FLOAT")


def _pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 73148\n")


def _cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _opposite(path: Path) -> None:
    samples, rate = soundfile.read(path)
    soundfile.write(path, np.stack([samples, -samples], axis=1), rate)


def _offset(path: Path) -> None:
    samples, rate = soundfile.read(path)
    soundfile.write(path, samples + 0.02, rate)


def _offset_alone(path: Path) -> None:
    soundfile.write(path, np.full(16000, 0.3), 16000)


def _silence(path: Path) -> None:
    soundfile.write(path, np.full(16000, 5e-4), 16000)


def _clipping(path: Path) -> None:
    soundfile.write(path, np.clip(3 * np.sin(np.arange(16000) / 10), -1, 1), 16000)


def _short(path: Path) -> None:
    soundfile.write(path, 0.1 * np.sin(np.arange(1600)), 16000)


def _unreadable(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere.wav")


@pytest.mark.parametrize(
    ("spoil", "kind", "readable"),
    [
        (_empty, "unreadable", False),
        (_text, "unreadable", False),
        (_cut_in_the_header, "unreadable", False),
        (_no_samples, "unreadable", False),
        (_unreadable, "unreadable", False),
        (_nan, "unreadable", False),
        (_infinity, "unreadable", False),
        (_another_scale, "unreadable", False),
        (_pointer, "unreadable", False),
        (_cut_in_half, "cut", True),
        (_opposite, "channels", True),
        (_offset, "offset", True),
        (_offset_alone, "silent", True),
        (_silence, "silent", True),
        (_clipping, "clipped", True),
        (_short, "too short", True),
    ],
)
def test_a_bad_recording_is_reported(
    clean: Path, write_tone: Write, spoil: Callable[[Path], None], kind: str, readable: bool
) -> None:
    write_tone("anger/b_2.wav", seed=77)
    spoil(clean / "anger" / "b_1.wav")
    report = check(clean)
    (found,) = [finding for finding in report.findings if finding.kind == kind]
    assert (found.severity, found.paths) == ("warning", ("anger/b_1.wav",))
    assert ("leaves it out" in found.detail) == (not readable)
    assert report.passed
    (clean / "anger" / "b_2.wav").unlink()  # now no other recording of anger is in b's part
    report = check(clean)
    assert report.passed == readable
    assert (report.findings[0].kind == "refused") == (not readable)


def test_when_nothing_can_be_decoded(clean: Path) -> None:
    for path in clean.rglob("*.wav"):
        path.write_bytes(b"RIFF")
    report = check(clean)
    assert len(report.findings) == 7
    assert report.durations_s == {}
    assert not report.passed


def test_equal_bytes_under_two_names_are_a_warning(clean: Path) -> None:
    (clean / "anger" / "a_2.wav").write_bytes((clean / "anger" / "a_1.wav").read_bytes())
    report = check(clean)
    assert report.findings == (
        Finding("duplicate", "warning", ("anger/a_1.wav", "anger/a_2.wav"), "byte for byte the same"),
    )


def test_equal_samples_in_another_format_are_found(clean: Path) -> None:
    samples, rate = soundfile.read(clean / "anger" / "a_1.wav", dtype="int16")
    soundfile.write(clean / "anger" / "a_2.flac", samples, rate)
    (finding,) = check(clean).findings
    assert (finding.kind, finding.detail) == ("duplicate", "the same samples in different files")


def test_one_recording_with_two_labels_and_two_speakers_is_an_error(clean: Path) -> None:
    (clean / "neutral" / "b_2.wav").write_bytes((clean / "anger" / "a_1.wav").read_bytes())
    report = check(clean)
    assert not report.passed
    refused, copies = report.findings
    assert refused.kind == "refused"
    assert "different emotions and speakers: anger/a_1.wav, neutral/b_2.wav" in refused.detail
    assert (copies.kind, copies.severity) == ("duplicate", "error")
    assert "different emotions and speakers" in copies.detail


def test_one_person_under_two_spellings_is_found(write_tone: Write, tmp_path: Path) -> None:
    lines = ["path,emotion,speaker,split"]
    for number, (speaker, part) in enumerate([("Anna", "train"), ("ben", "dev"), ("anna ", "test")]):
        for more, emotion in enumerate(("anger", "neutral")):
            path = write_tone(f"{number}{more}.wav", seed=10 * number + more)
            lines.append(f"{path.name},{emotion},{speaker},{part}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    with pytest.raises(SpeakerLeak, match="both train and test: Anna"):
        load_corpus("manifest", tmp_path)
    (tmp_path / "manifest.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines))
    corpus = load_corpus("manifest", tmp_path)
    report = check_corpus(corpus, None, refusal(corpus, None, Workers(1)))
    assert report.headline.startswith("distill refuses this corpus: corpus 'manifest' has only 2 speakers (Anna, ben)")
    assert ("reading", "the speakers 'Anna' and 'anna' are taken for one person, 'Anna'") in [
        (finding.kind, finding.detail) for finding in report.findings
    ]


def test_rates_channels_and_widths_are_counted(clean: Path, write_tone: Write) -> None:
    write_tone("anger/a_1.wav", seed=5, rate=44100, subtype="PCM_24")
    samples = np.random.default_rng(3).normal(0, 0.1, (16000, 2))
    soundfile.write(clean / "anger" / "b_1.wav", samples, 16000, subtype="FLOAT")
    report = check(clean)
    assert report.rates == {"16000": 5, "44100": 1}
    assert report.channels == {"1": 5, "2": 1}
    assert report.subtypes == {"WAV FLOAT": 1, "WAV PCM_16": 4, "WAV PCM_24": 1}
    assert [finding.kind for finding in report.findings] == ["mixed rates"]


def test_the_content_decides_not_the_extension(clean: Path) -> None:
    path = clean / "anger" / "a_1.wav"
    samples, rate = soundfile.read(path)
    data = io.BytesIO()
    soundfile.write(data, samples, rate, format="FLAC")
    path.write_bytes(data.getvalue())
    report = check(clean)
    assert report.findings == ()
    assert report.subtypes == {"FLAC PCM_16": 1, "WAV PCM_16": 5}


def test_a_corpus_that_cannot_be_split_can_be_checked(write_tone: Write, tmp_path: Path) -> None:
    for number in range(3):
        write_tone(f"anger/anna_{number}.wav", seed=number)
    (tmp_path / "stray_1.wav").touch()
    report = check_corpus(load_corpus("folder", tmp_path), n_jobs=1)
    assert report.split is None
    assert report.ignored == {"it lies in no class folder": 1}


def test_progress_counts_to_the_end(clean: Path) -> None:
    seen: list[tuple[int, int]] = []
    check_corpus(load_corpus("folder", clean), n_jobs=1, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 6) for number in range(1, 7)]


def test_the_table_shows_what_was_found(clean: Path) -> None:
    from rich.console import Console

    def shown(corpus: Corpus) -> str:
        console = Console(file=io.StringIO(), width=100)
        console.print(render_check(check_corpus(corpus, make_split(corpus), n_jobs=1)))
        return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]

    corpus = load_corpus("folder", clean)
    assert "nothing wrong was found" in shown(corpus)
    (clean / "anger" / "b_1.wav").write_text("[red]text")
    text = shown(corpus)
    assert "unreadable" in text
    assert "anger/b_1.wav" in text
