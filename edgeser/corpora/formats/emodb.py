"""EMO-DB, the Berlin database of emotional speech: ``wav/03a01Fa.wav``.

The name is speaker (two digits), text (a letter and two digits), emotion (a German letter), version.
"""

from __future__ import annotations

import re
from types import MappingProxyType

from edgeser.corpora.corpus import Card, CorpusFormat, SpeakerParts, Spoken

NAME = re.compile(r"(03|08|09|1[0-6])([ab]\d\d)([WLEAFTN])([a-z]?)")
EMOTION_OF_LETTER = MappingProxyType(
    {
        "W": "anger",  # Wut
        "L": "boredom",  # Langeweile
        "E": "disgust",  # Ekel
        "A": "fear",  # Angst
        "F": "happiness",  # Freude
        "T": "sadness",  # Trauer
        "N": "neutral",
    }
)
MEN = frozenset({"03", "10", "11", "12", "15"})
LAYOUT = "wav/ with files such as 03a01Fa.wav (535 in the full corpus)"

TEST_FOLDS = (("03", "08"), ("10", "09"), ("11", "13"), ("12", "14"), ("15", "16"))
"""A man and a woman a fold: alone, some speakers have no utterance of disgust. Dev is the next fold's pair."""

SPLITS = MappingProxyType(
    {
        "quick": SpeakerParts(dev=("08", "15"), test=("03", "10", "13", "16")),
        **{
            f"fold:{number + 1}": SpeakerParts(dev=TEST_FOLDS[(number + 1) % len(TEST_FOLDS)], test=test)
            for number, test in enumerate(TEST_FOLDS)
        },
    }
)

CARD = Card(
    title="Berlin Database of Emotional Speech (EMO-DB)",
    language="German",
    licence="not stated by the publisher; redistributed elsewhere as CC0 1.0 or CC BY 4.0: verify before publishing",
    licence_url=None,
    kind="acted",
    citation="Burkhardt, Paeschke, Rolfes, Sendlmeier and Weiss (2005), Interspeech, doi:10.21437/Interspeech.2005-446",
    access="open: http://emodb.bilderbar.info; edgeser data download emodb",
    consent="ten actors who were recorded for publication; the form they signed is not public",
    notes="ten German sentences; copies with fewer than seven emotions are in circulation",
)


def parse_name(stem: str) -> Spoken | None:
    """Read a file name without its extension; None where it does not fit."""
    match = NAME.fullmatch(stem)
    if match is None:
        return None
    speaker, _, letter, _ = match.groups()
    return Spoken(EMOTION_OF_LETTER[letter], speaker, "male" if speaker in MEN else "female")


FORMAT = CorpusFormat(
    "emodb", LAYOUT, tuple(sorted(EMOTION_OF_LETTER.values())), CARD, parse_name=parse_name, splits=SPLITS
)
