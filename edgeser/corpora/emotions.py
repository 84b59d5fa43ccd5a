"""The names of emotions: plain English nouns, the same over all corpora."""

from __future__ import annotations

import re
import unicodedata
from types import MappingProxyType

from edgeser_export.utilities.outside import require_label, tidy

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

_FOREIGN = """
ang exc fru hap neu sur fea dis tri gio rab pau sor col ps pleasantsurprise sleepy sleepiness tired stress stressed
arger angst ekel freude freudig froh gleichgultig langeweile neutral scham stolz trauer traurig uberraschung
uberrascht veracht verachtung verargert wut wutend zufrieden
calma colpa disgusto felicita gioia neutra neutrale neutro noia paura rabbia sorpresa tristezza vergogna
calme colere degout ennui fierte heureux honte joie mepris neutre peur surpris tristesse triste
aburrimiento alegria asco desprecio enojo felicidad ira miedo orgullo raiva medo tristeza nojo
gussa khushi khauf udasi
"""
"""Codes of published corpora, and words of the languages that the loaders and many collections have, without accents.
They only tell which folders are emotions: a folder ``Wut`` stays a class ``wut``."""
KNOWN_WORDS = frozenset({*EMOTIONS, *ALIASES, *_FOREIGN.split()})


def plain_name(label: str) -> str:
    """Return the plain name for a label: lower case, tidy, adjectives turned into nouns.

    >>> plain_name(" Angry ")
    'anger'
    """
    word = tidy(tidy(label).lower())
    return ALIASES.get(word, word)


def read_label(text: str, where: str) -> str:
    """Return the plain name for a label that comes from outside.

    Raises:
        TextError: It is no label.
    """
    return require_label(plain_name(text), where)


def is_emotion(word: str) -> bool:
    """Tell whether a word is that of an emotion in a language that is known here; numbers before it do not count.

    >>> is_emotion("02_Angry"), is_emotion("col\u00e8re"), is_emotion("anna")
    (True, True, False)
    """
    letters = unicodedata.normalize("NFKD", word).casefold()
    return re.sub(r"[\W\d_]|[\u0300-\u036f]", "", letters) in KNOWN_WORDS
