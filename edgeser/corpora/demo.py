"""The built-in corpus: synthetic speech that shows the tool, not human emotion.

``m1_anger_03.ogg`` is voice, emotion, sentence. ``scripts/make_demo_corpus.py`` made it.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import MappingProxyType

from edgeser.corpora.corpus import Card, CorpusFormat, SpeakerParts, Spoken

FOLDER = Path(__file__).parent / "demo_data"
EMOTIONS = ("anger", "happiness", "neutral", "sadness")
NAME = re.compile(rf"([fm]\d)_({'|'.join(EMOTIONS)})_(\d\d)")
LAYOUT = "files such as m1_anger_03.ogg"

SPLITS = MappingProxyType({"quick": SpeakerParts(dev=("f4", "m4"), test=("f5", "m5"))})
"""Six voices for training, two for dev, two for test; a woman's and a man's in each pair."""

CARD = Card(
    title="edgeser demo corpus",
    language="English",
    licence="CC0 1.0",
    licence_url="https://creativecommons.org/publicdomain/zero/1.0/",
    kind="synthetic",
    citation="made by scripts/make_demo_corpus.py with eSpeak NG",
    access="part of edgeser",
    consent="no person was recorded",
    notes="prosody follows rules from the literature: a score here shows that the tool works, and nothing about people",
)


def parse_name(stem: str) -> Spoken | None:
    """Read a file name without its extension; None where it does not fit."""
    match = NAME.fullmatch(stem)
    if match is None:
        return None
    voice, emotion, _ = match.groups()
    return Spoken(emotion, voice, "female" if voice.startswith("f") else "male")


FORMAT = CorpusFormat("demo", LAYOUT, EMOTIONS, CARD, parse_name=parse_name, splits=SPLITS, built_in=FOLDER)
