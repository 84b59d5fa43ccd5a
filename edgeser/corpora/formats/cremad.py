"""CREMA-D: ``AudioWAV/1001_DFA_ANG_XX.wav``.

The name is actor, sentence, emotion, level. Sexes are those of ``VideoDemographics.csv``, kept here so that a copy
without that file splits in the same way.
"""

from __future__ import annotations

import re
from types import MappingProxyType

from edgeser.corpora.corpus import Card, CorpusFormat, Spoken

NAME = re.compile(r"(10[0-8]\d|109[01])_([A-Z]{3})_(ANG|DIS|FEA|HAP|NEU|SAD)_(LO|MD|HI|XX?)")
EMOTION_OF_CODE = MappingProxyType(
    {
        "ANG": "anger",
        "DIS": "disgust",
        "FEA": "fear",
        "HAP": "happiness",
        "NEU": "neutral",
        "SAD": "sadness",
    }
)
# fmt: off
WOMEN = frozenset({
    1002, 1003, 1004, 1006, 1007, 1008, 1009, 1010, 1012, 1013, 1018, 1020, 1021, 1024, 1025, 1028, 1029,
    1030, 1037, 1043, 1046, 1047, 1049, 1052, 1053, 1054, 1055, 1056, 1058, 1060, 1061, 1063, 1072, 1073,
    1074, 1075, 1076, 1078, 1079, 1082, 1084, 1089, 1091,
})
# fmt: on
LAYOUT = "AudioWAV/ with files such as 1001_DFA_ANG_XX.wav"

CARD = Card(
    title="Crowd-sourced Emotional Multimodal Actors Dataset (CREMA-D)",
    language="English (North American)",
    licence="ODbL 1.0 (database), DbCL 1.0 (contents)",
    licence_url="https://opendatacommons.org/licenses/odbl/1-0/",
    kind="acted",
    citation="Cao, Cooper, Keutmann, Gur, Nenkova and Verma (2014), IEEE Transactions on Affective Computing 5(4), "
    "doi:10.1109/TAFFC.2014.2336244",
    access="open: git clone https://github.com/CheyneyComputerScience/CREMA-D (recordings come through git-lfs)",
    consent="91 actors who were recorded for a public research corpus",
    notes="1076_MTI_SAD_XX.wav holds no speech in the public copies",
)


def parse_name(stem: str) -> Spoken | None:
    """Read a file name without its extension; None where it does not fit."""
    match = NAME.fullmatch(stem)
    if match is None or match[1] == "1000":
        return None
    actor, _, code, _ = match.groups()
    return Spoken(EMOTION_OF_CODE[code], actor, "female" if int(actor) in WOMEN else "male")


FORMAT = CorpusFormat("cremad", LAYOUT, tuple(sorted(EMOTION_OF_CODE.values())), CARD, parse_name=parse_name)
