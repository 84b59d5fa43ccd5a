"""The built-in corpus: complete, small, of the stated format, and neither trivial nor hopeless."""

from __future__ import annotations

import importlib.util
import shutil
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgeser.corpora import Corpus, load_corpus, make_split
from edgeser.corpora.check import check_corpus
from edgeser.corpora.demo import FOLDER

SCRIPT = Path(__file__).parents[3] / "scripts" / "make_demo_corpus.py"


@pytest.fixture(scope="module")
def demo() -> Corpus:
    return load_corpus("demo")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_demo_corpus", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_voice_says_every_sentence_in_every_way(demo: Corpus) -> None:
    assert len(demo.utterances) == 320
    assert set(Counter((one.speaker, one.emotion) for one in demo.utterances).values()) == {8}
    assert len(demo.speakers) == 10
    assert demo.ignored == 0


def test_it_is_small_and_says_what_it_is() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 4_000_000
    assert "not human emotion" in (FOLDER / "card.md").read_text(encoding="utf-8")


def test_it_passes_the_check(demo: Corpus) -> None:
    report = check_corpus(demo, make_split(demo), n_jobs=2)
    assert report.findings == ()
    assert report.rates == {"16000": 320}
    assert report.subtypes == {"OGG VORBIS": 320}


def test_the_quick_split_has_six_two_and_two_voices(demo: Corpus) -> None:
    described = make_split(demo).describe()
    assert [len(described[part]["speakers"]) for part in ("train", "dev", "test")] == [6, 2, 2]


def test_the_script_and_the_loader_agree(script: ModuleType, demo: Corpus) -> None:
    assert {voice.name for voice in script.VOICES} == set(demo.speakers)
    assert set(script.MANNERS) == set(demo.labels)


def test_encoding_is_repeatable(script: ModuleType, tmp_path: Path) -> None:
    import soundfile

    samples = script.clip_generator(1, "x").normal(0, 0.1, 16000).astype(np.float32)
    once, again = script.encode(samples, "x.ogg"), script.encode(samples, "x.ogg")
    assert once == again
    (tmp_path / "x.ogg").write_bytes(once)
    decoded, rate = soundfile.read(tmp_path / "x.ogg")
    assert (len(decoded), rate) == (16000, 16000)


@pytest.mark.system
@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_speaking_is_repeatable(script: ModuleType) -> None:
    spoken = [
        script.speak(script.VOICES[0], "anger", script.SENTENCES[0], script.clip_generator(7, "x")) for _ in range(2)
    ]
    assert np.array_equal(*spoken)
    assert len(spoken[0]) > script.RATE


@pytest.mark.slow
def test_a_simple_classifier_neither_fails_nor_is_perfect(demo: Corpus) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import recall_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    recalls = []
    features = {one.path: _log_mel_statistics(one.path) for one in demo.utterances}
    for name in ("quick", *(f"fold:{number}" for number in range(1, 6))):
        split = make_split(demo, name)
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=3000))
        model.fit([features[one.path] for one in split.train], [one.emotion for one in split.train])
        guessed = model.predict([features[one.path] for one in split.test])
        recalls.append(recall_score([one.emotion for one in split.test], guessed, average="macro"))
    assert 0.65 < np.mean(recalls) < 0.95
    assert 0.7 < recalls[0] < 0.95


def _log_mel_statistics(path: Path) -> np.ndarray:
    import librosa

    from edgeser_device.data.audio import read_audio, trim_silence

    samples = trim_silence(read_audio(path, 16000), 40)
    mel = librosa.feature.melspectrogram(y=samples, sr=16000, n_fft=1024, hop_length=512, n_mels=64, fmin=50, fmax=8000)
    log_mel = 10 * np.log10(np.maximum(mel, 1e-10))
    return np.concatenate([log_mel.mean(1), log_mel.std(1), np.diff(log_mel, axis=1).std(1)])
