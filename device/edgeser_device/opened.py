"""An opened model, for programs of one's own: what ``edgeser predict`` and ``edgeser listen`` do, as two methods.

    from edgeser_device import open_model

    model = open_model("model")
    model.predict("clip.wav").emotion
    for event in model.stream(blocks):
        ...

docs/howto/integrate.md says what stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from numpy.typing import NDArray

from edgeser_device.data.audio import hear_array, read_audio
from edgeser_device.listen.capture.sources import given_blocks
from edgeser_device.listen.events import Event
from edgeser_device.listen.gate import open_gate
from edgeser_device.listen.live import Listener, ListenSettings
from edgeser_device.model.model import Model, load_model
from edgeser_device.model.predict import Prediction, Recogniser, predict_bytes, predict_samples

Sound: TypeAlias = str | Path | bytes | NDArray[Any]
"""The path of a recording, the content of its file, or its samples."""


class OpenModel:
    """A model that is ready to answer; :func:`edgeser_device.open_model` makes one. Not for two threads at once.

    >>> from edgeser_device import open_model
    >>> model = open_model("model")
    >>> model.labels
    ('anger', 'happiness', 'neutral', 'sadness')
    >>> model.rate
    16000
    """

    def __init__(self, model: Model, recogniser: Recogniser) -> None:
        """Join a model's folder and the recogniser that was loaded from it."""
        self._model, self._recogniser = model, recogniser

    @classmethod
    def open(cls, folder: Path, threads: int = 1) -> OpenModel:
        """Open a model's folder; arguments and errors of :func:`edgeser_device.open_model`."""
        model = load_model(folder)
        return cls(model, Recogniser.open(model, threads=threads))

    @property
    def labels(self) -> tuple[str, ...]:
        """The emotions, in the order of the classes."""
        return self._model.labels

    @property
    def rate(self) -> int:
        """The sampling rate in Hz to which all sound is brought."""
        return self._recogniser.frontend.rate

    @property
    def version(self) -> str:
        """Twelve hexadecimal digits that change whenever the model's files do: another version, other answers.

        >>> from edgeser_device import open_model
        >>> len(open_model("model").version)
        12
        """
        return self._model.digest[:12]

    @property
    def state(self) -> dict[str, Any]:
        """How the model came to be, as plain JSON values.

        "kit" is the name of the kit's file and "kit_sha256" its hash, "steps" are those of the training from it,
        "own_clips" is how many clips it learnt after that, and "made" when it was written.
        """
        return self._model.identity

    def predict(self, sound: Sound, rate: int = 16000) -> Prediction:
        """The emotion of a recording, as ``edgeser predict`` gives it.

        Args:
            sound: The path of a file that libsndfile reads (WAV, FLAC, Ogg, MP3, ...); or the content of such a file as
                bytes; or samples, an array of the shape (n,) or (n, channels), of floats with full scale 1.0 or of
                signed whole numbers with the full scale of their type.
            rate: The sampling rate of an array in Hz; files state their own.

        Returns:
            The answer: ``state``, "sure", "uncertain", "no_speech" or "too_short"; ``emotion``, None for the last two;
            ``probabilities`` by emotion, ``windows`` that were averaged, ``seconds`` of sound; ``file`` is the path
            where one was given.

        Raises:
            AudioError: The recording is missing, unreadable or empty; an array has another shape or type; a sample is
                NaN, infinite or far above full scale.

        >>> from edgeser_device import open_model
        >>> model = open_model("model")
        >>> answer = model.predict("clip.wav")
        >>> answer.emotion in model.labels, answer.windows
        (True, 1)
        >>> import soundfile
        >>> samples, rate = soundfile.read("clip.wav")
        >>> model.predict(samples, rate).probabilities == answer.probabilities
        True
        """
        if isinstance(sound, str | Path):
            return predict_samples(self._recogniser, read_audio(Path(sound), self.rate), Path(sound))
        if isinstance(sound, bytes):
            return predict_bytes(self._recogniser, sound)
        return predict_samples(self._recogniser, hear_array(sound, rate, self.rate))

    def stream(
        self,
        blocks: Iterable[NDArray[Any]],
        rate: int = 16000,
        gate: str | None = None,
        settings: ListenSettings | None = None,
    ) -> Iterator[Event]:
        """Events of sound that comes block by block, as ``edgeser listen`` gives them.

        Args:
            blocks: Arrays of any lengths, each as :meth:`predict` takes it; 32 ms is what microphones give. Where the
                blocks end, speech that is open is answered.
            rate: Their sampling rate in Hz.
            gate: What finds speech: "silero", "level" or "off"; None takes the first installed.
            settings: When somebody speaks, how sure an answer must be, and a correction of the level; None takes those
                of ``edgeser listen``.

        Returns:
            An iterator of events: about two a second, and one with ``final`` true when somebody stops speaking.

        Raises:
            AudioError: A block is no sound.
            ListenError: There is no such gate, or it does not know sound of the model's rate.
            MissingExtra: The gate's package is not installed.

        >>> from edgeser_device import open_model
        >>> import soundfile
        >>> samples, rate = soundfile.read("clip.wav", dtype="float32")
        >>> blocks = (samples[start : start + 512] for start in range(0, len(samples), 512))
        >>> events = list(open_model("model").stream(blocks, rate, gate="off"))
        >>> [event.state in ("sure", "uncertain") for event in events if event.final]
        [True]
        """
        listener = Listener(self._recogniser, open_gate(gate, self.rate), settings or ListenSettings())

        def events() -> Iterator[Event]:
            for samples in given_blocks(blocks, rate, self.rate):
                yield from listener.push(samples)
            yield from listener.finish()

        return events()
