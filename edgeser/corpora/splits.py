"""Splits that keep speakers apart.

    split = make_split(corpus, "quick")      # quick | official | fold:K | emobox:K | seed:N

Several corpora as one are split each by itself, by the same name.

``quick`` and ``official`` are the corpus's own speaker lists; where it has no quick list, ``quick`` is ``seed:0``.
``fold:K`` counts from 1: the corpus's own folds, or up to five folds over the speakers. ``seed:N`` draws speakers at
random: about a fifth of them for test, a fifth for dev, of each sex in turn, each emotion in each part where possible.
Speakers are ordered by a hash of seed and name, not by a random generator, so a seed means the same for ever.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from edgeser.corpora.corpus import Corpus, SpeakerParts, Utterance
from edgeser.corpora.errors import SpeakerLeak, SplitError, UnknownSplit
from edgeser_device.kit.manifest import MOST_CLASSES
from edgeser_export.utilities.words import counted

PARTS = ("train", "dev", "test")
FEWEST_SPEAKERS = 3
FOLDS = 5
"""Folds of a corpus that brings none of its own."""
HELD_OUT = 0.2
"""Share of the speakers in dev, and again in test, of a random split."""
PUBLISHED = {"emobox": "a fold of EmoBox, whose dev speakers are taken from its training speakers"}
"""Folds by which others publish figures, and what differs."""
ATTEMPTS = 200
"""Orders of the speakers that a random split tries before it gives up on having each emotion in each part."""


@dataclass(frozen=True)
class Split:
    """Three parts of a corpus that share no speaker.

    Raises:
        SpeakerLeak: Two parts share a speaker: such a split cannot be made.
    """

    name: str
    train: tuple[Utterance, ...]
    dev: tuple[Utterance, ...]
    test: tuple[Utterance, ...]

    def __post_init__(self) -> None:
        """Check that no speaker stands in two parts."""
        for first, second in (("train", "dev"), ("train", "test"), ("dev", "test")):
            shared = _speakers(self.part(first)) & _speakers(self.part(second))
            if shared:
                raise SpeakerLeak(self.name, first, second, sorted(shared))

    def part(self, name: str) -> tuple[Utterance, ...]:
        """Return the utterances of train, dev or test."""
        return {"train": self.train, "dev": self.dev, "test": self.test}[name]

    def describe(self) -> dict[str, Any]:
        """Return name, and for each part its speakers and its number of utterances in all and by class; JSON-able.

        The name of a published fold has a remark beside it.
        """
        remark = PUBLISHED.get(self.name.partition(":")[0])
        parts = {part: _describe(self.part(part)) for part in PARTS}
        return {"name": self.name, **({"remark": remark} if remark else {}), **parts}


def _speakers(utterances: Iterable[Utterance]) -> set[str]:
    return {utterance.speaker for utterance in utterances}


def _describe(utterances: tuple[Utterance, ...]) -> dict[str, Any]:
    classes = Counter(utterance.emotion for utterance in utterances)
    return {
        "utterances": len(utterances),
        "speakers": sorted(_speakers(utterances)),
        "classes": {label: classes[label] for label in sorted(classes)},
    }


def split_names(corpus: Corpus) -> tuple[str, ...]:
    """Return the names that `make_split` takes for this corpus; ``seed:N`` stands for every number N."""
    if corpus.parts:
        names = [split_names(part) for part in corpus.parts]
        return tuple(name for name in names[0] if all(name in others for others in names))
    own = [name for name in ("quick", "official") if name in corpus.splits or name == "quick"]
    published = [name for name in corpus.splits if name.partition(":")[0] in PUBLISHED]
    return (*own, *(f"fold:{number + 1}" for number in range(_fold_count(corpus))), *published, "seed:N")


def make_split(corpus: Corpus, name: str | None = None) -> Split:
    """Split a corpus by speakers.

    Args:
        corpus: At least two classes and three speakers.
        name: ``quick``, ``official``, ``fold:K``, ``emobox:K`` or ``seed:N``; None is the corpus's quick list, else
            its official one, else ``seed:0``.

    Raises:
        SplitError: The corpus has one class, more than a kit can have or fewer than three speakers, or a part would
            lack a class.
        UnknownSplit: There is no split of that name.
    """
    if len(corpus.labels) < 2:
        raise SplitError(
            f"corpus {corpus.name!r} has one class only ({corpus.labels[0]})",
            "add recordings of at least one other emotion",
        )
    if len(corpus.labels) > MOST_CLASSES:
        raise SplitError(
            f"corpus {corpus.name!r} has {len(corpus.labels)} classes, more than {MOST_CLASSES}",
            "check that the labels are emotions, and not names of people or recordings",
        )
    _require_speakers(corpus)
    if name is None and corpus.parts:
        name = "quick"
    if name is None:
        name = next((own for own in ("quick", "official") if own in corpus.splits), "seed:0")
    parts = _parts(corpus, name)
    split = Split(name, *(_utterances(corpus, parts, part) for part in PARTS))
    for part in PARTS:
        for own in corpus.parts:
            if not any(speaker.startswith(f"{own.name}/") for speaker in _speakers(split.part(part))):
                raise SplitError(
                    f"split {name!r} of corpus {own.name!r} has nobody in its {part} part",
                    "choose another --split, such as seed:0, or get the recordings that are missing",
                )
        present = {utterance.emotion for utterance in split.part(part)}
        for label in corpus.labels:
            if label not in present:
                speakers = counted(len(_who_says(corpus)[label]), "speaker")
                raise SplitError(
                    f"split {name!r} of corpus {corpus.name!r} has no {label} in its {part} part "
                    f"({label} is said by {speakers} in all)",
                    f"choose another --split, or give {label} at least three speakers",
                )
    return split


def _require_speakers(corpus: Corpus) -> Corpus:
    """Return a corpus that has enough speakers for three parts.

    Raises:
        SplitError: It has too few.
    """
    if len(corpus.speakers) < FEWEST_SPEAKERS:
        number = "one speaker only" if len(corpus.speakers) == 1 else f"only {len(corpus.speakers)} speakers"
        raise SplitError(
            f"corpus {corpus.name!r} has {number} ({', '.join(corpus.speakers)}); a split that keeps speakers apart "
            f"needs {FEWEST_SPEAKERS}",
            "add recordings of other people, or correct the speaker names",
        )
    return corpus


def _utterances(corpus: Corpus, parts: SpeakerParts, part: str) -> tuple[Utterance, ...]:
    def part_of(speaker: str) -> str:
        return "test" if speaker in parts.test else "dev" if speaker in parts.dev else "train"

    return tuple(utterance for utterance in corpus.utterances if part_of(utterance.speaker) == part)


def _parts(corpus: Corpus, name: str) -> SpeakerParts:
    if corpus.parts:
        found = [(part.name, _parts(part, name)) for part in map(_require_speakers, corpus.parts)]
        dev, test = (
            tuple(f"{own}/{speaker}" for own, parts in found for speaker in getattr(parts, which))
            for which in ("dev", "test")
        )
        return SpeakerParts(dev, test)
    if name in corpus.splits:
        return corpus.splits[name]
    if name == "quick":
        return _random_parts(corpus, 0)
    match = re.fullmatch(r"(fold|seed):([0-9]{1,9})", name)
    if match and match[1] == "seed":
        return _random_parts(corpus, int(match[2]))
    if match and 1 <= int(match[2]) <= _fold_count(corpus):
        return _fold_parts(corpus, int(match[2]) - 1)
    raise UnknownSplit(name, corpus.name, split_names(corpus))


def _fold_count(corpus: Corpus) -> int:
    """Return the number of folds: the corpus's own, or as many as the class with the fewest speakers allows."""
    own = sum(name.startswith("fold:") for name in corpus.splits)
    rarest = min(len(speakers) for speakers in _who_says(corpus).values())
    return own or min(FOLDS, max(rarest, FEWEST_SPEAKERS))


def _fold_parts(corpus: Corpus, fold: int) -> SpeakerParts:
    """Deal the speakers out to the folds, those of the rarest class first; test on one fold, dev on the next."""
    says, free = _who_says(corpus), _order(corpus, "folds")
    folds: list[list[str]] = [[] for _ in range(_fold_count(corpus))]
    for label in sorted(says, key=lambda label: (len(says[label]), label)):
        for speaker in [speaker for speaker in free if speaker in says[label]]:
            min(folds, key=lambda members: (len(says[label].intersection(members)), len(members))).append(speaker)
            free.remove(speaker)
    return SpeakerParts(dev=tuple(folds[(fold + 1) % len(folds)]), test=tuple(folds[fold]))


def _random_parts(corpus: Corpus, seed: int) -> SpeakerParts:
    """Return the first of the seed's orders that gives each part each class, or the first one if none does."""
    tries = (_deal(corpus, _order(corpus, f"{seed}/{attempt}")) for attempt in range(ATTEMPTS))
    first = None
    for parts, complete in tries:
        if complete:
            return parts
        first = first or parts
    return first or SpeakerParts((), ())


def _order(corpus: Corpus, salt: str) -> list[str]:
    """Order the speakers by a hash, with the sexes mixed evenly."""
    groups: dict[str, list[str]] = defaultdict(list)
    sex_of = {utterance.speaker: utterance.sex or "" for utterance in corpus.utterances}
    for speaker in sorted(sex_of, key=lambda speaker: hashlib.sha256(f"{salt}/{speaker}".encode()).digest()):
        groups[sex_of[speaker]].append(speaker)
    ranked = (
        ((rank + 0.5) / len(group), sex, speaker) for sex, group in groups.items() for rank, speaker in enumerate(group)
    )
    return [speaker for _, _, speaker in sorted(ranked)]


def _deal(corpus: Corpus, order: list[str]) -> tuple[SpeakerParts, bool]:
    """Give each part a speaker of each class, the rarest class first; then fill test and dev up to their share."""
    says = _who_says(corpus)
    chosen: dict[str, list[str]] = {part: [] for part in PARTS}
    free = list(order)
    complete = True
    for label in sorted(says, key=lambda label: (len(says[label]), label)):
        for part in ("test", "dev", "train"):
            if says[label].isdisjoint(chosen[part]):
                speaker = next((speaker for speaker in free if speaker in says[label]), None)
                if speaker is None:
                    complete = False
                else:
                    chosen[part].append(speaker)
                    free.remove(speaker)
    wanted = max(1, round(HELD_OUT * len(order)))
    for part in ("test", "dev"):
        more = max(0, min(wanted - len(chosen[part]), len(free) - (not chosen["train"])))
        chosen[part] += free[:more]
        free = free[more:]
    return SpeakerParts(dev=tuple(chosen["dev"]), test=tuple(chosen["test"])), complete


def _who_says(corpus: Corpus) -> dict[str, set[str]]:
    says: dict[str, set[str]] = {label: set() for label in corpus.labels}
    for utterance in corpus.utterances:
        says[utterance.emotion].add(utterance.speaker)
    return says
