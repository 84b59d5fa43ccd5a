"""The names of emotions: plain English nouns, the same over all corpora."""

from __future__ import annotations

from types import MappingProxyType

EMOTIONS = (
    "amusement",
    "anger",
    "boredom",
    "calm",
    "contempt",
    "disgust",
    "excitement",
    "fear",
    "frustration",
    "guilt",
    "happiness",
    "interest",
    "neutral",
    "pride",
    "relief",
    "sadness",
    "shame",
    "surprise",
)
"""Every name a corpus may use without declaring it."""

ALIASES = MappingProxyType(
    {
        "amused": "amusement",
        "angry": "anger",
        "anxiety": "fear",
        "anxious": "fear",
        "bored": "boredom",
        "calmness": "calm",
        "disgusted": "disgust",
        "excited": "excitement",
        "fearful": "fear",
        "frustrated": "frustration",
        "guilty": "guilt",
        "happy": "happiness",
        "joy": "happiness",
        "neutrality": "neutral",
        "proud": "pride",
        "relieved": "relief",
        "sad": "sadness",
        "surprised": "surprise",
    }
)
"""Other words for the same names."""


def plain_name(label: str) -> str:
    """Return the plain name for a label: lower case, trimmed, adjectives turned into nouns.

    >>> plain_name(" Angry ")
    'anger'
    """
    word = label.strip().lower()
    return ALIASES.get(word, word)
