"""RAVDESS, the speech part: ``03-01-05-02-01-01-12.wav``.

The name is modality, channel, emotion, intensity, statement, repetition, actor. Only modality 03 (audio only) and
channel 01 (speech) belong to the corpus; songs and videos are skipped. Actors with odd numbers are men.
"""

from __future__ import annotations

import re
from types import MappingProxyType

from edgeser.corpora.corpus import Card, CorpusFormat, SpeakerParts, Spoken

NAME = re.compile(r"03-01-(0[1-8])-(0[12])-(0[12])-(0[12])-(0[1-9]|1\d|2[0-4])")
EMOTION_OF_CODE = MappingProxyType(
    {
        "01": "neutral",
        "02": "calm",
        "03": "happiness",
        "04": "sadness",
        "05": "anger",
        "06": "fear",
        "07": "disgust",
        "08": "surprise",
    }
)
LAYOUT = "Actor_01 ... Actor_24 with files such as 03-01-05-02-01-01-12.wav"

TEST_FOLDS = (
    ("01", "11", "20", "21"),
    ("04", "10", "12", "14"),
    ("08", "09", "19", "23"),
    ("03", "05", "07", "24"),
    ("02", "15", "16", "18"),
    ("06", "13", "17", "22"),
)
"""The test actors of EmoBox's six folds. The dev actors of a fold are the test actors of the next one."""

SPLITS = MappingProxyType(
    {
        "quick": SpeakerParts(dev=("01", "02", "15", "16"), test=("03", "04", "11", "12", "19", "20")),
        **{
            f"{name}:{number + 1}": SpeakerParts(dev=TEST_FOLDS[(number + 1) % len(TEST_FOLDS)], test=test)
            for name in ("fold", "emobox")
            for number, test in enumerate(TEST_FOLDS)
        },
    }
)

CARD = Card(
    title="Ryerson Audio-Visual Database of Emotional Speech and Song, speech part",
    language="English (North American)",
    licence="CC BY-NC-SA 4.0",
    licence_url="https://creativecommons.org/licenses/by-nc-sa/4.0/",
    kind="acted",
    citation="Livingstone and Russo (2018), PLoS ONE 13(5): e0196391, doi:10.1371/journal.pone.0196391",
    access="open: https://zenodo.org/records/1188976 (Audio_Speech_Actors_01-24.zip); edgeser data download ravdess",
    consent="24 professional actors, paid, who agreed to the publication of their recordings",
    notes="Actor_07: 03-01-03-01-02-01-07 and 03-01-03-01-02-02-07 are the same recording in every public copy; "
    "neutral has half as many utterances as the other emotions",
)


def parse_name(stem: str) -> Spoken | None:
    """Read a file name without its extension; None for songs, videos and other names."""
    match = NAME.fullmatch(stem)
    if match is None:
        return None
    emotion, intensity, _, _, actor = match.groups()
    if emotion == "01" and intensity == "02":  # neutral has no strong form
        return None
    return Spoken(EMOTION_OF_CODE[emotion], actor, "male" if int(actor) % 2 else "female")


FORMAT = CorpusFormat(
    "ravdess", LAYOUT, tuple(sorted(EMOTION_OF_CODE.values())), CARD, parse_name=parse_name, splits=SPLITS
)
