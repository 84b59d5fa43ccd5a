"""IEMOCAP with its four customary classes; excitement counts as happiness.

Recordings lie in ``Session1/sentences/wav/{dialogue}/{dialogue}_F000.wav``, labels in
``Session1/dialog/EmoEvaluation/{dialogue}.txt``. The letter in ``Ses01F`` names the dialogue; the speaker is the F or M
before the last number.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from edgeser.corpora.corpus import Card, Corpus, CorpusFormat, SpeakerParts, Spoken
from edgeser.corpora.errors import UnreadableLabels
from edgeser.corpora.scan import load_by_name, need_folder
from edgeser_device.data.recordings import find_files

NAME = re.compile(r"Ses0([1-5])[FM]_(?:impro|script)\w*_([FM])\d{3}")
LABEL_FILE = re.compile(r"Ses0[1-5]\w*\.txt")
LABEL_LINE = re.compile(r"\[\d+\.\d+ - \d+\.\d+\]\t(\w+)\t([a-z]{3})\t\[")
EMOTION_OF_CODE = MappingProxyType(
    {"ang": "anger", "exc": "happiness", "hap": "happiness", "neu": "neutral", "sad": "sadness"}
)
EMOTIONS = ("anger", "happiness", "neutral", "sadness")
LAYOUT = "Session1 ... Session5, each with sentences/wav/*/*.wav and dialog/EmoEvaluation/*.txt"


def _leave_out(session: int) -> SpeakerParts:
    """Test on one session; the session before it is for dev."""
    before = session - 1 or 5
    return SpeakerParts(dev=_speakers(before), test=_speakers(session))


def _speakers(session: int) -> tuple[str, str]:
    return f"Ses0{session}_F", f"Ses0{session}_M"


SPLITS = MappingProxyType(
    {"official": _leave_out(5), **{f"fold:{session}": _leave_out(session) for session in range(1, 6)}}
)
"""Leave one session out; ``official`` is the customary one: Session5 for test, Session4 for dev."""

CARD = Card(
    title="Interactive Emotional Dyadic Motion Capture Database (IEMOCAP)",
    language="English (North American)",
    licence="IEMOCAP release agreement, for research",
    licence_url="https://sail.usc.edu/iemocap/iemocap_release.htm",
    kind="acted",
    citation="Busso et al. (2008), Language Resources and Evaluation 42(4), doi:10.1007/s10579-008-9076-6",
    access="fill in the release form at https://sail.usc.edu/iemocap/iemocap_release.htm",
    consent="ten actors who were recorded for research; scripted and improvised dialogues",
    notes="the customary four classes are 5,531 of 10,039 turns: ang 1103, hap 595 + exc 1041, neu 1708, sad 1084",
)


def parse_name(stem: str) -> Spoken | None:
    """Read who speaks in a turn; the emotion is in another file, so it is empty here."""
    match = NAME.fullmatch(stem)
    if match is None:
        return None
    session, sex = match.groups()
    return Spoken("", f"Ses0{session}_{sex}", "male" if sex == "M" else "female", f"Session{session}")


def parse_labels(text: str) -> dict[str, str]:
    """Read an EmoEvaluation file: turn -> code (ang, hap, exc, ...). Lines of single raters are passed over."""
    return {match[1]: match[2] for match in map(LABEL_LINE.match, text.splitlines()) if match}


def load(folder: Path) -> Corpus:
    """Read IEMOCAP from its folder or a folder above.

    Raises:
        CorpusNotFound: ``folder`` is no folder.
        EmptyCorpus: There is no recording in it.
        WrongCorpus: No recording has a name of IEMOCAP's, or there are no labels.
    """
    labels = _read_labels(need_folder("iemocap", folder))

    def with_emotion(stem: str) -> Spoken | str | None:
        spoken, code = parse_name(stem), labels.get(stem)
        if spoken is None or code is None:
            return spoken and "no label in EmoEvaluation"
        if code not in EMOTION_OF_CODE:
            return "an emotion outside the customary four"
        return replace(spoken, emotion=EMOTION_OF_CODE[code])

    return load_by_name(replace(FORMAT, parse_name=with_emotion), folder)


def _read_labels(folder: Path) -> dict[str, str]:
    labels: dict[str, str] = {}
    for path in find_files(folder, LABEL_FILE.fullmatch):
        if path.parent.name != "EmoEvaluation":  # the folders below hold the raters' own files
            continue
        try:
            labels |= parse_labels(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise UnreadableLabels(path, f"cannot be read ({error})") from error
    return labels


FORMAT = CorpusFormat("iemocap", LAYOUT, EMOTIONS, CARD, load, parse_name, SPLITS)
