"""Scores of a model folder on a corpus, through the board's own audio, front-end and runtime.

The corpus the kit was made of is scored on the kit's test speakers only; any other corpus as a whole. A published
corpus is known by its name; one's own recordings are the kit's where their fingerprint is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeser.corpora import Corpus, Utterance, load_corpus
from edgeser.corpora.fingerprint import corpus_fingerprint, is_own, speaker_hashes
from edgeser.corpora.joined import renamed
from edgeser.errors import SettingsError
from edgeser_device.model.calibration import recalls, unweighted_average_recall
from edgeser_device.model.joined_files import open_joined
from edgeser_device.model.model import Model
from edgeser_device.model.predict import Prediction, Recogniser, choose_format, predict_files
from edgeser_device.model.reexport import Drop
from edgeser_export.runtimes import load
from edgeser_export.utilities.progress import Advance, ignore_progress


@dataclass(frozen=True)
class DeviceScore:
    """The scores that a model reached.

    Attributes:
        uar: Unweighted average recall over the emotions that occur.
        recalls: Recall of each emotion that occurs.
        corpus: Name of the corpus.
        part: "test" for the kit's test speakers, "all" for another corpus.
        speakers: Speakers of the recordings that were chosen.
        utterances: Recordings that were scored.
        skipped: Recordings that could not be read.
        left_out: Recordings of emotions that the model does not know.
    """

    uar: float
    recalls: Mapping[str, float]
    corpus: str
    part: str
    speakers: int
    utterances: int
    skipped: int
    left_out: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "recalls": dict(self.recalls)}


@dataclass(frozen=True)
class TestPart:
    """Recordings to score.

    Attributes:
        corpus: Name of the corpus.
        part: "test" or "all".
        utterances: The recordings.
        left_out: Recordings of emotions that the model does not know.
        warning: A sentence that a reader of the score must know; empty where there is none.
    """

    __test__ = False  # its name begins like a test's

    corpus: str
    part: str
    utterances: tuple[Utterance, ...]
    left_out: int
    warning: str = ""


def find_test_part(model: Model, folder: Path, corpus_name: str) -> TestPart:
    """The recordings of a corpus that this model may be scored on.

    Raises:
        CorpusError: The corpus cannot be read.
        SettingsError: None of its recordings is fit: other emotions, or only speakers that were trained on.
    """
    corpus: Corpus = load_corpus(corpus_name, folder)
    prefix = ""
    provenance = model.description["provenance"]
    stored, test = provenance["corpus"], provenance["split"].get("test", {})
    parts = [each for each in stored.get("corpora") or () if each["corpus"] == corpus.name]
    part = next((each for each in parts if _is_whole(each, corpus)), parts[0] if parts else None)
    if part is not None:
        corpus, prefix = renamed(corpus, part["labels"]), f"{part['name']}/"
    alike, fingerprint = part is not None or stored["name"] == corpus.name, corpus_fingerprint(corpus)
    same = alike and (not is_own(corpus.name) or (part or stored).get("fingerprint") == fingerprint)
    salt = fingerprint if part is None else stored["fingerprint"]
    chosen, warning = corpus.utterances, ""
    if same:
        chosen = tuple(utterance for utterance in chosen if _is_of(f"{prefix}{utterance.speaker}", test, salt))
        if not chosen:
            listed = ", ".join(test.get("names", ())) or f"{test.get('speakers', 0)} of them"
            raise SettingsError(
                f"{folder} holds none of the kit's test speakers: {listed}",
                "give the whole corpus that the kit was made of",
            )
    elif alike:
        warning = "these are not the very recordings that the kit was made of; none that it was trained on may be in it"
    known = tuple(utterance for utterance in chosen if utterance.emotion in model.labels)
    if not known:
        raise SettingsError(
            f"{folder} holds no recording of {', '.join(model.labels)}", "test on a corpus with the model's emotions"
        )
    return TestPart(corpus.name, "test" if same else "all", known, len(chosen) - len(known), warning)


def _is_whole(part: Mapping[str, Any], corpus: Corpus) -> bool:
    """Whether one of a kit's several corpora holds these very recordings: two may have one format."""
    return bool(part.get("fingerprint") == corpus_fingerprint(renamed(corpus, part["labels"])))


def _is_of(speaker: str, test: Mapping[str, Any], fingerprint: str) -> bool:
    """Whether a kit's test speakers, by name or by hash, have this one among them."""
    if speaker in test.get("names", ()):
        return True
    return speaker_hashes([speaker], fingerprint)[0] in test.get("hashes", ())


def score_on(recogniser: Recogniser, part: TestPart, advance: Advance = ignore_progress) -> DeviceScore:
    """UAR on the recordings of ``part``.

    Raises:
        SettingsError: No recording could be read.
    """
    truth, guesses, skipped = [], [], 0
    rows = predict_files(recogniser, (utterance.path for utterance in part.utterances))
    for done, (utterance, row) in enumerate(zip(part.utterances, rows, strict=True), start=1):
        if isinstance(row, Prediction):
            truth.append(utterance.emotion)
            guesses.append(row.best)
        else:
            skipped += 1
        advance(done, utterance.path.name)
    if not truth:
        raise SettingsError("none of the test recordings can be read", "run: edgeser data check DIR --corpus NAME")
    return DeviceScore(
        uar=unweighted_average_recall(truth, guesses),
        recalls=recalls(truth, guesses),
        corpus=part.corpus,
        part=part.part,
        speakers=len({utterance.speaker for utterance in part.utterances}),
        utterances=len(truth),
        skipped=skipped,
        left_out=part.left_out,
    )


def uar_drop(model: Model, data: bytes, part: TestPart) -> Drop:
    """UAR of the model's own file and of another file's content on the same recordings; errors as :func:`score_on`."""
    own = Recogniser.open(model, choose_format(model))
    other = Recogniser(model.labels, own.reads, load(data)) if model.encoder is None else open_joined(model, data)
    scores = [score_on(each, part).uar for each in (own, other)]
    return Drop("uar", *(round(uar, 6) for uar in scores))
