"""The program of ``edgeser serve``: the page without a microphone, and answers to recordings that are sent to it.

serve_model(Path("model"), "127.0.0.1:8765")
"""

from __future__ import annotations

import io
import secrets
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeser_device.data.audio import UNREADABLE, read_audio_bytes
from edgeser_device.errors import AudioError
from edgeser_device.listen.events import Counters, Event, Status
from edgeser_device.listen.gate import level_db
from edgeser_device.listen.program import STATUS_SECONDS, ended_by_a_signal, notify, tell
from edgeser_device.listen.sinks.sink import Sink
from edgeser_device.listen.sinks.web import facts_of, web_page
from edgeser_device.model.model import load_model
from edgeser_device.model.predict import Recogniser, predict_samples

MOST_SECONDS = 300.0
"""Longest recording that is answered: a compressed one of few bytes would fill the memory."""
WORDS = "waiting for recordings at /classify"


class Answers:
    """Answers recordings one after the other, counts them and shows them on the page; for any thread.

    Attributes:
        page: What is told of every answer.
    """

    def __init__(self, recogniser: Recogniser, counters: Counters) -> None:
        self.page = Sink()
        self._recogniser, self._counters = recogniser, counters
        self._turn, self._session = threading.Lock(), secrets.token_hex(6)

    def __call__(self, data: bytes) -> Mapping[str, Any]:
        """The prediction of ``edgeser predict`` for the content of a WAV file.

        Raises:
            AudioError: It is no WAV, cannot be read, or is longer than ``MOST_SECONDS``.
        """
        arrived = time.monotonic()
        _require_short_wav(data)
        with self._turn:
            rate = self._recogniser.frontend.rate
            samples = read_audio_bytes(data, rate)
            found = predict_samples(self._recogniser, samples)
            began = self._counters.seconds_heard
            self._counters.seconds_heard = ended = began + found.seconds
            confidence = 0.0 if found.emotion is None else found.probabilities[found.emotion]
            event = Event(
                t=round(ended, 3), emotion=found.emotion, probabilities=found.probabilities,
                speech=found.state != "no_speech",
                level_db=round(level_db(samples), 1), latency_ms=round(1000 * (time.monotonic() - arrived), 2),
                state=found.state,
                confidence=confidence, final=True, began=round(began, 3), ended=round(ended, 3),
                session=self._session,
            )  # fmt: skip
            tell(event, self.page, self._counters)
        return found.to_json()


def _require_short_wav(data: bytes) -> None:
    import soundfile

    if data[:4] not in (b"RIFF", b"RF64"):
        raise AudioError("the recording is no WAV", "convert it, or use edgeser predict, which reads more formats")
    try:
        seconds = soundfile.info(io.BytesIO(data)).duration
    except UNREADABLE as error:
        raise AudioError("the recording cannot be decoded", "write the WAV again") from error
    if seconds > MOST_SECONDS:
        raise AudioError(
            f"the recording is longer than {MOST_SECONDS:g} seconds", "cut it, or use edgeser predict on the file"
        )


def serve_model(folder: Path, address: str | None) -> None:
    """Answer recordings until the program is ended.

    Raises:
        ModelError: The model cannot be used.
        ListenError: The address cannot be understood.
        PortInUse: It is taken, or not ours.
    """
    model, counters = load_model(folder), Counters()
    recogniser = Recogniser.open(model)
    answers = Answers(recogniser, counters)
    with ended_by_a_signal(), web_page(address, recogniser, counters, facts_of(model), answers) as page:
        answers.page = page
        notify("READY=1")
        while True:
            notify(f"WATCHDOG=1\nSTATUS={WORDS}")
            page.status(Status("listening", WORDS, "recordings", None, counters.to_json()))
            time.sleep(STATUS_SECONDS)
