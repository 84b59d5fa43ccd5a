"""URDU, clips of talk shows: ``Angry/SM1_F10_A010.wav``.

The name is speaker (whose second letter is the sex), file, emotion letter with a number.
"""

from __future__ import annotations

import re
from types import MappingProxyType

from edgeser.corpora.corpus import Card, CorpusFormat, SpeakerParts, Spoken

NAME = re.compile(r"(S([MF])\d+)_F\d+_([AHNS])\d+")
EMOTION_OF_LETTER = MappingProxyType({"A": "anger", "H": "happiness", "N": "neutral", "S": "sadness"})
LAYOUT = "Angry/, Happy/, Neutral/ and Sad/ with files such as SM1_F10_A010.wav"

QUICK = SpeakerParts(
    dev=("SM1", "SM3", "SM6", "SM18", "SM21", "SM23", "SM26", "SF2", "SF4"),
    test=("SM2", "SM17", "SM20", "SM22", "SM24", "SF1", "SF3", "SF5", "SF9", "SF10"),
)
"""Whole speakers, each emotion in each part, both sexes in each part.

There is little choice: four men say all of the anger, SM5 alone says 72 of the 100 neutral clips (so he must be in
training) and SM24 and SM25 say 78 of the 100 sad ones. Speaker and emotion are confounded, so report URDU apart.
"""

CARD = Card(
    title="URDU-Dataset",
    language="Urdu",
    licence="for research only",
    licence_url="https://github.com/siddiquelatif/URDU-Dataset",
    kind="natural",
    citation="Latif, Qayyum, Usman and Qadir (2018), Frontiers of Information Technology, doi:10.1109/FIT.2018.00023",
    access="https://github.com/siddiquelatif/URDU-Dataset, research only",
    consent="cut from television talk shows; the speakers were not asked",
    notes="speaker and emotion are confounded: most speakers show one emotion only",
)


def parse_name(stem: str) -> Spoken | None:
    """Read a file name without its extension; None where it does not fit."""
    match = NAME.fullmatch(stem)
    if match is None:
        return None
    speaker, sex, letter = match.groups()
    return Spoken(EMOTION_OF_LETTER[letter], speaker, "male" if sex == "M" else "female")


FORMAT = CorpusFormat(
    "urdu", LAYOUT, tuple(sorted(EMOTION_OF_LETTER.values())), CARD, parse_name=parse_name, splits={"quick": QUICK}
)
