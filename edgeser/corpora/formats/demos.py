"""DEMoS, Italian, elicited: ``DEMOS/PR_m_23_tri00a.wav`` and ``NEU/m_23_neu00a.wav``.

The name is read from the right: neutral utterances have no prefix, emotional ones begin with PR (prototypical) or NP.
"""

from __future__ import annotations

import re
from types import MappingProxyType

from edgeser.corpora.corpus import Card, CorpusFormat, Spoken

NAME = re.compile(r"(?:(NP|PR)_)?([mf])_(\d\d)_([a-z]{3})(\d+)([abc])")
EMOTION_OF_CODE = MappingProxyType(
    {
        "rab": "anger",  # rabbia
        "tri": "sadness",  # tristezza
        "gio": "happiness",  # gioia
        "pau": "fear",  # paura
        "dis": "disgust",  # disgusto
        "col": "guilt",  # colpa
        "sor": "surprise",  # sorpresa
        "neu": "neutral",
    }
)
LAYOUT = "DEMOS/ with files such as PR_m_23_tri00a.wav, and NEU/ with files such as m_23_neu00a.wav"

CARD = Card(
    title="Database of Elicited Mood in Speech (DEMoS)",
    language="Italian",
    licence="for research, under an agreement with the authors",
    licence_url="https://zenodo.org/records/2544829",
    kind="elicited",
    citation="Parada-Cabaleiro, Costantini, Batliner, Schmitt and Schuller (2020), "
    "Language Resources and Evaluation 54, doi:10.1007/s10579-019-09450-y",
    access="request access at https://zenodo.org/records/2544829 and accept the agreement",
    consent="68 students in whom moods were induced; their consent covers research use under the agreement",
    notes="332 neutral utterances beside 9,365 emotional ones",
)


def parse_name(stem: str) -> Spoken | None:
    """Read a file name without its extension; None where it does not fit."""
    match = NAME.fullmatch(stem)
    if match is None:
        return None
    prefix, sex, speaker, code, _, _ = match.groups()
    emotion = EMOTION_OF_CODE.get(code)
    if emotion is None or (prefix is None) != (code == "neu"):
        return None
    return Spoken(emotion, speaker, "male" if sex == "m" else "female")


FORMAT = CorpusFormat("demos", LAYOUT, tuple(sorted(EMOTION_OF_CODE.values())), CARD, parse_name=parse_name)
