"""The loaders against lists that others made of the licence-gated corpora; no recording is needed."""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from edgeser.corpora import load_corpus, make_split
from edgeser.corpora.formats import cremad, demos

Touch = Callable[[Iterable[str]], Path]


@pytest.fixture
def lists(corpora_folder: Path) -> Path:
    folder = corpora_folder / "ref"
    if not folder.is_dir():
        pytest.skip("the lists of the licence-gated corpora are not there")
    return folder


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_demos_every_name_says_what_the_list_says(lists: Path, touch: Touch) -> None:
    rows = read_csv(lists / "demos_nkululeko_filelist.csv")
    assert len(rows) == 9697
    for row in rows:
        spoken = demos.parse_name(Path(row["file"]).stem)
        assert spoken is not None, row
        assert (spoken.emotion, spoken.speaker, spoken.sex) == (row["emotion"], row["speaker"], row["gender"])
    corpus = load_corpus("demos", touch(row["file"] for row in rows))
    assert len(corpus.utterances) == 9697
    assert corpus.ignored == 0
    assert corpus.labels == demos.FORMAT.emotions
    sexes = Counter({utterance.speaker: utterance.sex for utterance in corpus.utterances}.values())
    assert sexes == {"male": 45, "female": 23}
    assert len(make_split(corpus).describe()["test"]["speakers"]) == 14


def test_iemocap_four_classes_five_sessions(lists: Path, touch: Touch) -> None:
    records = [json.loads(line) for line in (lists / "iemocap_emobox.jsonl").read_text().splitlines()]
    folder = touch(record["wav"].removeprefix("downloads/") for record in records)
    emotion_of = {"ang": "anger", "exc": "happiness", "hap": "happiness", "neu": "neutral", "sad": "sadness"}
    annotations: dict[Path, list[str]] = defaultdict(lambda: ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]"])
    for record in records:
        wav = folder / record["wav"].removeprefix("downloads/")
        path = wav.parents[3] / "dialog" / "EmoEvaluation" / f"{wav.parent.name}.txt"
        annotations[path] += [
            f"[6.2901 - 8.2357]\t{wav.stem}\t{record['emo']}\t[2.5000, 2.5000, 2.5000]",
            "C-E2:\tNeutral;\t()",
            "A-E3:\tval 3; act 2; dom  2;\t()",
        ]
    for path, lines in annotations.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
    corpus = load_corpus("iemocap", folder)
    assert Counter(utterance.emotion for utterance in corpus.utterances) == {
        "anger": 1103,
        "happiness": 1636,
        "neutral": 1708,
        "sadness": 1084,
    }
    found = {utterance.path.stem: utterance for utterance in corpus.utterances}
    for record in records:
        utterance = found[Path(record["wav"]).stem]
        assert utterance.emotion == emotion_of[record["emo"]]
        assert utterance.session == record["wav"].split("/")[2]
    assert len(corpus.speakers) == 10
    official = make_split(corpus).describe()
    assert official["name"] == "official"
    assert official["test"]["speakers"] == ["Ses05_F", "Ses05_M"]
    assert official["dev"]["speakers"] == ["Ses04_F", "Ses04_M"]
    assert official["test"]["utterances"] == 1241


def test_cremad_sexes_are_those_of_the_demographics(lists: Path) -> None:
    rows = read_csv(lists / "cremad_VideoDemographics.csv")
    assert len(rows) == 91
    for row in rows:
        spoken = cremad.parse_name(f"{row['ActorID']}_DFA_ANG_XX")
        assert spoken is not None
        assert spoken.sex == row["Sex"].lower()


def test_cremad_splits_by_speaker_with_both_sexes(touch: Touch) -> None:
    codes = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
    folder = touch(f"CREMA-D/AudioWAV/{actor}_DFA_{code}_XX.wav" for actor in range(1001, 1092) for code in codes)
    split = make_split(load_corpus("cremad", folder))
    assert split.name == "seed:0"
    sexes = Counter(utterance.sex for utterance in split.test)
    assert len({utterance.speaker for utterance in split.test}) == 18
    assert abs(sexes["female"] - sexes["male"]) <= 2 * len(codes)
