"""Corpora of emotional speech: what lies on the disk, who speaks, and how it is split.

from edgeser.corpora import load_corpus, make_split

corpus = load_corpus("demo")
split = make_split(corpus, "quick")
"""

from __future__ import annotations

from edgeser.corpora.corpus import Card, Corpus, CorpusFormat, Skipped, SpeakerParts, Utterance
from edgeser.corpora.splits import Split, make_split, split_names
from edgeser.corpora.table import CORPORA, load_corpus

__all__ = [
    "CORPORA",
    "Card",
    "Corpus",
    "CorpusFormat",
    "Skipped",
    "SpeakerParts",
    "Split",
    "Utterance",
    "load_corpus",
    "make_split",
    "split_names",
]
