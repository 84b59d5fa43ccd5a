"""Databases in audEERING's audformat: ``db.yaml`` with tables of emotions and speakers.

The emotions are taken from the table ``emotion`` where there is one, else from all tables with a column ``emotion``.
Tables whose names hold ``train``, ``dev`` and ``test`` become the official split. The speaker is a column of the same
table, or of any other table over files; his sex is in the labels of the scheme ``speaker``.
"""

from __future__ import annotations

import dataclasses
import importlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeser.corpora.corpus import UNSTATED, Card, Corpus, CorpusFormat, Skipped, SpeakerParts, Utterance, tidy_card
from edgeser.corpora.emotions import read_label
from edgeser.corpora.errors import EmptyCorpus, UnknownSpeaker, UnreadableLabels, WrongCorpus
from edgeser.corpora.scan import find_path, make_corpus, need_folder, one_spelling
from edgeser_export.utilities.errors import MissingExtra
from edgeser_export.utilities.outside import require_text

HEADER = "db.yaml"
LAYOUT = "db.yaml with a column 'emotion' and a column 'speaker' over whole files, and the recordings beside it"
PARTS = ("train", "dev", "test")


def load(folder: Path) -> Corpus:
    """Read a database from its folder or from the folder above.

    Raises:
        MissingExtra: The package audformat is not installed.
        CorpusNotFound: ``folder`` is no folder.
        WrongCorpus: There is no ``db.yaml``, or no table with emotions of whole files.
        UnknownSpeaker: No table says who speaks.
        EmptyCorpus: None of the recordings is on this disk.
    """
    root = _root(need_folder("audformat", folder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of pandas, about calls inside audformat
        return _read(root, _open(root))


def _read(root: Path, database: Any) -> Corpus:
    emotions, written = _emotions(root, database), _column(database, "speaker")
    tidied = {name: require_text(speaker, f"{root}, {name}, speaker") for name, speaker in written.items()}
    people, remarks = one_spelling(tidied.values())
    speakers = {name: people[speaker] for name, speaker in tidied.items()}
    utterances: list[Utterance] = []
    skipped: list[Skipped] = []
    for name, emotion in emotions.items():
        path = find_path(root, name)
        if not emotion:
            skipped.append(Skipped(path or root / name, "no emotion"))
        elif path is None:
            skipped.append(Skipped(root / name, "the recording is not on this disk"))
        elif not speakers.get(name):
            raise UnknownSpeaker(f"{root}, {name}", "give the database a column 'speaker' over the same files")
        else:
            label = read_label(emotion, f"{root}, {name}")
            utterances.append(Utterance(path, label, speakers[name], _sex(database, written[name])))
    if not utterances:
        raise EmptyCorpus(root, LAYOUT)
    splits = _official(database, speakers)
    return make_corpus("audformat", root, utterances, _card(root, database), splits, skipped, remarks)


def _root(folder: Path) -> Path:
    found = [place for place in (folder, *sorted(folder.iterdir())) if (place / HEADER).is_file()]
    if not found:
        raise WrongCorpus(
            "audformat", folder, LAYOUT, next((path.name for path in sorted(folder.iterdir())), "nothing")
        )
    return found[0]


def _open(root: Path) -> Any:
    try:
        package = importlib.import_module("audformat")
    except ImportError as error:
        raise MissingExtra("audformat", "audformat") from error
    try:
        return package.Database.load(str(root))
    except Exception as error:  # whatever its YAML, CSV and parquet readers raise on damaged input
        raise UnreadableLabels(root / HEADER, f"audformat cannot read it ({type(error).__name__}: {error})") from error


def _emotions(root: Path, database: Any) -> dict[str, str]:
    names = [name for name in database.tables if "emotion" in database.tables[name].columns]
    if "emotion" in names:
        names = ["emotion"]
    whole = [name for name in names if database.tables[name].is_filewise]
    if not whole:
        example = names[0] if names else next(iter(database.tables), "no table")
        raise WrongCorpus("audformat", root, LAYOUT, example)
    return {file: label for name in whole for file, label in _cells(database, name, "emotion").items()}


def _column(database: Any, column: str) -> dict[str, str]:
    """Collect a column from every table over whole files."""
    return {
        file: value
        for name in database.tables
        if database.tables[name].is_filewise and column in database.tables[name].columns
        for file, value in _cells(database, name, column).items()
        if value
    }


def _cells(database: Any, table: str, column: str) -> dict[str, str]:
    values = database.tables[table][column].get()
    return {str(file): "" if value != value or value is None else str(value) for file, value in values.items()}


def _sex(database: Any, speaker: str) -> str | None:
    scheme = database.schemes.get("speaker")
    labels = scheme.labels if scheme is not None and isinstance(scheme.labels, dict) else {}
    facts = next((facts for label, facts in labels.items() if str(label) == speaker), None)
    found = str((facts or {}).get("gender") or (facts or {}).get("sex") or "") if isinstance(facts, dict) else ""
    return found if found in ("female", "male") else None


def _official(database: Any, speakers: dict[str, str]) -> Mapping[str, SpeakerParts]:
    """Read the split from tables such as ``emotion.train``; none where a part is absent or a speaker is in two."""
    by_part: dict[str, set[str]] = {part: set() for part in PARTS}
    for name in database.tables:
        words = name.lower().replace("_", ".").replace("-", ".").split(".")
        for part in PARTS:
            if part in words and "emotion" in database.tables[name].columns:
                by_part[part] |= {speakers[file] for file in _cells(database, name, "emotion") if file in speakers}
    train, dev, test = (by_part[part] for part in PARTS)
    if not (train and dev and test) or train & dev or train & test or dev & test:
        return {}
    return {"official": SpeakerParts(tuple(sorted(dev)), tuple(sorted(test)))}


def _card(root: Path, database: Any) -> Card:
    card = dataclasses.replace(
        UNSTATED,
        title=str(database.name),
        language=", ".join(database.languages) or UNSTATED.language,
        licence=str(database.license or UNSTATED.licence),
        licence_url=database.license_url or None,
        citation=str(database.author or ""),
        access=str(database.source or UNSTATED.access),
        consent="not stated by the database",
        notes=str(database.description or ""),
    )
    return tidy_card(card, root / HEADER)


FORMAT = CorpusFormat("audformat", LAYOUT, (), UNSTATED, load)
