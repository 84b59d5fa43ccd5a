"""From pieces of sound to events: a gate for speech, the streaming front-end, the model every half second.

    listener = Listener(recogniser, open_gate(None, recogniser.frontend.rate))
    for block in read_blocks(Path("clip.wav"), recogniser.frontend.rate):
        for event in listener.push(block):
            ...
    for event in listener.finish():
        ...

While somebody speaks the windows are those that ``predict`` sees, or every second, third, ... of them where the
machine is too slow for all: :mod:`edgeser_device.listen.pace`. When the speech ends it is judged as a recording of
its own, silent edges trimmed: the same samples give the answer of ``predict``, bit for bit.

Half a second of digital silence is where a stream ends: the frames of the next one are counted from its first sample
that is not zero, as in a file, and the last one ends with its last. So it does not matter when a microphone was
switched on, or when a file was played into it.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeser_device.data.audio import trim_silence
from edgeser_device.errors import ListenError
from edgeser_device.frontend import FrontendSpec
from edgeser_device.listen.events import Event
from edgeser_device.listen.gate import CHUNK_SECONDS, Gate, level_db, power_db
from edgeser_device.listen.pace import Pace
from edgeser_device.listen.speech import REACH_SECONDS, Begin, Boundaries, End, SpeechSettings
from edgeser_device.listen.utterance import Utterance
from edgeser_device.model.adaptation import OwnVoice
from edgeser_device.model.predict import Recogniser
from edgeser_device.model.voice import LEAST_CONFIDENCE, NAMED, State, state_of

DIGITAL_SILENCE = 0.5
"""Seconds of zeros after which the stream begins anew."""

RECENT_SECONDS = 3.0
"""Seconds of speech that goes on in which a voice is looked for."""
LARGEST_GAIN_DB = 100
"""From a whisper to a shout are 60 dB; what is larger is a mistake."""

Keep: TypeAlias = Callable[[NDArray[np.float32], str], str | None]
"""Given an utterance's samples and emotion; the file in which it was stored, or None."""


@dataclass(frozen=True)
class ListenSettings:
    """Settings of a listener.

    Attributes:
        speech: When somebody speaks.
        min_confidence: Probability below which an emotion is called uncertain, 0 to 1.
        gain_db: A correction of the level in dB; None learns it from what is heard.
    """

    speech: SpeechSettings = field(default_factory=SpeechSettings)
    min_confidence: float = LEAST_CONFIDENCE
    gain_db: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence <= 1:
            raise ListenError(f"a least confidence of {self.min_confidence:g}", "give a number from 0 to 1")
        if self.gain_db is not None and not -LARGEST_GAIN_DB <= self.gain_db <= LARGEST_GAIN_DB:
            raise ListenError(
                f"a gain of {self.gain_db:g} dB", f"give a number from -{LARGEST_GAIN_DB} to {LARGEST_GAIN_DB}"
            )


class Listener:
    """Takes sound, returns events; knows nothing of microphones, files or sinks."""

    def __init__(
        self,
        recogniser: Recogniser,
        gate: Gate,
        settings: ListenSettings = ListenSettings(),
        keep: Keep | None = None,
        live: bool = False,
        voice: OwnVoice | None = None,
    ) -> None:
        """Start with nothing heard.

        Args:
            recogniser: The model.
            gate: Tells speech from other sound.
            settings: Settings of the listener.
            keep: Given the samples of everything that was said.
            live: The sound does not wait: where a window takes longer than a hop, answers come more rarely.
            voice: The adaptation to the user's own voice; None where it was not asked for.
        """
        self._settings, self._keep, self._voice = settings, keep, voice
        self._session = secrets.token_hex(6)
        self._spec, self._labels, self._gate = recogniser.frontend, recogniser.labels, gate
        self._chunk = np.empty(round(CHUNK_SECONDS * self._spec.rate), np.float32)
        self._filled = 0
        self._boundaries = Boundaries(settings.speech, self._spec.trim_db)
        self._before: deque[NDArray[np.float32]] = deque(maxlen=self._boundaries.kept_before)
        speech = settings.speech
        seconds = REACH_SECONDS + speech.longest + speech.tail + 2 * speech.margin + 1
        longest = round(seconds * self._spec.rate)
        self._utterance = Utterance(recogniser, longest)
        self._loudness = Loudness(self._spec, settings.gain_db)
        self._answer = np.full(len(self._labels), 1 / len(self._labels))
        self._every = self._spec.window_hop * self._spec.hop
        self._live, self.pace = live, Pace(self._every / self._spec.rate)
        self._position, self._zeros, self._began = 0, 0, 0
        self._energy, self._samples, self._told = 0.0, 0, 0
        self._arrived = 0.0

    @property
    def correction_db(self) -> float:
        """The correction added to every level now; see :class:`edgeser_device.listen.live.Loudness`."""
        return self._loudness.correction_db

    def push(self, samples: NDArray[np.float32], arrived: float | None = None, behind: bool = False) -> list[Event]:
        """Take the next samples and return the events that they complete.

        Args:
            samples: Float32 (n,), full scale 1.0, at the model's rate; n may be 0.
            arrived: Time by ``time.monotonic`` at which the last of them came; now, if it is not known.
            behind: Sound has piled up: answers that a newer one would replace at once are not computed.
        """
        self._arrived = time.monotonic() if arrived is None else arrived
        events: list[Event] = []
        place = 0
        while place < len(samples):
            if self._resting:
                place += self._pass_zeros(samples[place : place + self._every - self._samples], events)
                continue
            piece = samples[place : place + len(self._chunk) - self._filled]
            place += len(piece)
            self._chunk[self._filled : self._filled + len(piece)] = piece
            self._filled += len(piece)
            if self._filled == len(self._chunk):
                self._filled = 0
                self._hear(self._chunk, events, skip=behind and len(samples) - place >= self._every)
        return events

    def finish(self) -> list[Event]:
        """The answer to what was being said when the sound ended; if nothing was told at all, one event."""
        self._arrived = time.monotonic()
        events: list[Event] = []
        if self._filled:
            self._hear(self._chunk[: self._filled], events, skip=True)
            self._filled = 0
        if (turn := self._boundaries.finish()) is not None:
            self._open(turn)
        if self._boundaries.open:
            events.append(self._close(self._boundaries.close()))
        elif not self._told and self._samples:
            events.append(self._quiet())
        return events

    @property
    def _resting(self) -> bool:
        return not self._boundaries.open and self._zeros >= DIGITAL_SILENCE * self._spec.rate

    def _pass_zeros(self, samples: NDArray[np.float32], events: list[Event]) -> int:
        """Pass what is zero, begin anew where it ends; how many samples were passed."""
        sounds = np.flatnonzero(samples)
        zeros = int(sounds[0]) if sounds.size else len(samples)
        self._position += zeros + self._filled
        self._samples += zeros + self._filled
        self._filled = 0
        if sounds.size:
            self._zeros = 0
            self._before.clear()
            self._gate.reset()
            self._boundaries.restart()
        elif self._samples >= self._every:
            events.append(self._quiet())
        return zeros

    def _hear(self, chunk: NDArray[np.float32], events: list[Event], skip: bool) -> None:
        """Take a chunk, or what is left of one when the sound ends."""
        self._position += len(chunk)
        self._samples += len(chunk)
        self._energy += float(np.dot(chunk, chunk))
        sounds = np.flatnonzero(chunk)
        self._zeros = len(chunk) - 1 - int(sounds[-1]) if sounds.size else self._zeros + len(chunk)
        turn = self._boundaries.push(self._gate(np.pad(chunk, (0, len(self._chunk) - len(chunk)))), level_db(chunk))
        self._before.append(chunk.copy())
        due = False
        if isinstance(turn, Begin):
            due = self._open(turn)
        elif self._boundaries.open or isinstance(turn, End):
            due = self._utterance.push(chunk)
        if isinstance(turn, End):
            events.append(self._close(turn))
        elif self._boundaries.open:
            if due and self.pace.due() and not skip:
                events.append(self._so_far())
        elif self._samples >= self._every:
            events.append(self._quiet())

    def _open(self, turn: Begin) -> bool:
        self._utterance.clear()
        known = list(self._before)[-(self._boundaries.number - turn.chunk) :]
        self._began = self._position - sum(len(chunk) for chunk in known)
        due = [self._utterance.push(chunk) for chunk in known]
        return any(due)

    def _so_far(self) -> Event:
        began = time.monotonic()
        self._answer = self._utterance.answer_so_far(self.correction_db)
        if self._live:
            self.pace.took(time.monotonic() - began)
        recent = self._utterance.samples[-round(RECENT_SECONDS * self._spec.rate) :]
        return self._event(self._state(recent), began=self._seconds(self._began))

    def _close(self, turn: End) -> Event:
        length = len(self._chunk)
        ended = self._position - (self._boundaries.number - 1 - turn.last) * length
        kept = self._sounding((turn.chunk - turn.first) * length)
        self._answer, levels = self._utterance.answer(kept, self.correction_db)
        if levels is not None:
            self._loudness.learn(levels)
        clip = None
        samples = self._utterance.samples[:kept]
        state = self._state(samples)
        adapted = self._adapted
        if state in NAMED:
            if self._voice is not None:
                self._voice(self._utterance.windows)
            if self._keep is not None:
                clip = self._keep(samples, self._labels[int(self._answer.argmax())])
        return self._event(
            state,
            final=True,
            began=self._seconds(self._began),
            ended=self._seconds(ended),
            clip=clip,
            adapted=adapted,
        )

    def _sounding(self, samples: int) -> int:
        """The number of the utterance's first samples without the digital silence at their end."""
        kept = self._utterance.samples[:samples]
        sounds = np.flatnonzero(kept)
        end = int(sounds[-1]) + 1 if sounds.size else len(kept)
        return end if len(kept) - end >= len(self._chunk) else len(kept)

    @property
    def _adapted(self) -> bool:
        return self._voice is not None and self._voice.utterances > 0

    def _quiet(self) -> Event:
        return self._event("no_speech")

    def _state(self, samples: NDArray[np.float32]) -> State:
        """The state of ``predict`` for a recording of these samples with the answer as it is now."""
        spec, confidence = self._spec, round(float(self._answer.max()), 6)
        part = trim_silence(samples, spec.trim_db)
        return state_of(part, spec.rate, confidence, self._settings.min_confidence, self._gate.checked)

    def _event(self, state: State, **more: Any) -> Event:
        best, named = int(self._answer.argmax()), state in NAMED
        power = self._energy / max(1, self._samples)
        self._energy, self._samples = 0.0, 0
        self._told += 1
        shares = zip(self._labels, (round(float(value), 6) for value in self._answer), strict=True)
        return Event(
            t=self._seconds(self._position),
            emotion=self._labels[best] if named else None,
            probabilities=dict(shares),
            speech="began" in more and state != "no_speech",
            level_db=round(power_db(power), 1),
            latency_ms=round(1000 * (time.monotonic() - self._arrived), 2),
            state=state,
            confidence=round(float(self._answer[best]), 6) if named else 0.0,
            session=self._session,
            hop_s=self.pace.seconds,
            **{"adapted": self._adapted, **more},
        )

    def _seconds(self, samples: int) -> float:
        return round(samples / self._spec.rate, 3)


GAIN_STD_DB = 15.0
"""Standard deviation in dB of the levels of microphones and distances."""
MANNER_STD_DB = 8.0
"""Standard deviation in dB of the levels of utterances: 5 dB in the demo corpus, 11 dB in RAVDESS."""
MEMORY = 50
"""Utterances after which older ones begin to fade: somebody may move the microphone."""


class Loudness:
    """The correction in dB that utterances of one microphone get."""

    def __init__(self, spec: FrontendSpec, fixed_db: float | None = None) -> None:
        """Start without knowing the microphone.

        Args:
            spec: The model's front-end, whose ``mean`` is the corpus's level.
            fixed_db: This correction always, instead of learning one; 0 leaves the sound as it is.
        """
        self._reference = spec.mean
        self._fixed = fixed_db
        self._mean, self._count = 0.0, 0

    @property
    def correction_db(self) -> float:
        """The correction added to every level."""
        if self._fixed is not None:
            return self._fixed
        if not self._count:
            return 0.0
        return -self._mean * GAIN_STD_DB**2 / (GAIN_STD_DB**2 + MANNER_STD_DB**2 / self._count)

    def learn(self, levels: NDArray[np.float32]) -> None:
        """Take an utterance's log-mels, shape (mels, frames), dB, silence trimmed, as it was heard."""
        self._count = min(self._count + 1, MEMORY)
        self._mean += (float(levels.mean(dtype=np.float64)) - self._reference - self._mean) / self._count
