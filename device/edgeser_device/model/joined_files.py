"""Encoder and head of a model in one file: mels of a window and the number of its tokens in, probabilities out.

    data = write_joined(model, "tflite-int8")
    recogniser = open_joined(model, data)           # answers as the model's own recogniser does

The encoder's weights are read from its float32 file and written again with the head behind them, so only encoders that
edgeser wrote can be joined. A written file is compared with what ``predict`` computes, on sounds of noise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeser_device.data.vector_set import Scale
from edgeser_device.encoder import FRAMES_PER_TOKEN, Encoder, EncoderCard, mel_windows, powers
from edgeser_device.errors import ModelError
from edgeser_device.model.inputs import EncoderInput, open_encoder_file, read_encoder_file, scale_of_model
from edgeser_device.model.model import Model, file_metadata
from edgeser_device.model.predict import Recogniser
from edgeser_export.graph.encoder_graph import joined
from edgeser_export.graph.op_graph import Graph, Weights
from edgeser_export.graph.transform import for_inference
from edgeser_export.parity import ParityReport, compared, report_of
from edgeser_export.runtimes import Model as LoadedModel
from edgeser_export.runtimes import Windows, load_windows
from edgeser_export.utilities.errors import GraphError, ParityError
from edgeser_export.utilities.files import write_bytes
from edgeser_export.writers.formats import FORMATS, Format, find_format, read_encoder

SOUNDS = 16
"""Sounds of noise on which files are compared; the shortest has a few tokens, the longest fill a window."""
LEAST_COSINE = 0.999
"""Cosine that the vectors of an int8 encoder have to those of float32, at least, on every sound."""
MOST_DIFFERENCE = 1e-4
"""Largest difference of a number of a float32 encoder's vector."""


@dataclass(frozen=True)
class Parts:
    """An encoder read back from its file, and what makes a recogniser of it."""

    encoder: Graph
    encoder_weights: Weights
    graph: Graph
    weights: Weights


def joined_formats(model: Model) -> tuple[str, ...]:
    """The formats in which encoder and head can be written as one file; none where that cannot be done.

    Raises:
        EncoderError: Its encoder is not on this machine.
    """
    if model.encoder is None or model.encoder.input != "mel":
        return ()
    try:
        _parts(model)
    except GraphError:
        return ()
    return tuple(FORMATS)


def file_content(model: Model, format_name: str) -> bytes:
    """What is exported in a format: the joined file of a model of an encoder, else the student's file.

    Raises:
        ModelError: The model has no such file.
        MissingRuntime: A package that writes the format is missing.
    """
    return write_joined(model, format_name) if joined_formats(model) else model.file(format_name)


def open_content(model: Model, format_name: str, runtime: str | None = None) -> Recogniser:
    """A recogniser that computes by :func:`file_content`; errors as there and of :meth:`Recogniser.open`."""
    if joined_formats(model):
        return open_joined(model, write_joined(model, format_name), runtime=runtime)
    return Recogniser.open(model, format_name, runtime)


def write_joined(model: Model, format_name: str) -> bytes:
    """The content of the joined file; equal models give equal bytes.

    Raises:
        EncoderError: Its encoder is not on this machine.
        GraphError: The encoder is none whose weights edgeser wrote.
        MissingRuntime: A package that writes the format is missing.
    """
    row, parts = find_format(format_name), _parts(model)
    return row.write_encoder(parts.graph, parts.weights, _metadata(model, row))


def open_joined(model: Model, data: bytes, threads: int = 1, runtime: str | None = None) -> Recogniser:
    """A recogniser that computes by a joined file.

    Args:
        model: The model that it was written from.
        data: The content of the file.
        threads: Threads of one call.
        runtime: A row of the table of runtimes; by default the first installed one.

    Raises:
        ModelFileError: The runtime cannot read the file, or it is no joined file.
        MissingRuntime: No runtime here runs it.
    """
    count = len(model.labels)
    nothing = np.zeros(count, np.float32)
    neutral = Scale(nothing, nothing + 1, np.zeros(count, np.bool_))
    run = load_windows(data, threads, runtime)
    encoder = _Joined(replace(_card(model), size=count), run)
    return Recogniser(model.labels, EncoderInput(encoder, neutral), _Answers(count, run.runtime))


def export_joined(model: Model, row: Format, folder: Path) -> ParityReport:
    """Write the joined file into ``folder`` and compare it with what ``predict`` computes.

    Args:
        model: A model of an encoder.
        row: The format.
        folder: Receives ``student.onnx`` and so on. Give a draft folder.

    Raises:
        ParityError: The file, or the vectors of its encoder, differ by more than they may.
        EncoderError: The encoder is not on this machine.
        GraphError: The encoder is none whose weights edgeser wrote.
        ModelError: The encoder does not read mels.
    """
    if _card(model).input != "mel":
        raise ModelError(f"the encoder {_card(model).name} reads samples, not mels", "encoders of mels can be joined")
    heard = sounds(_card(model).frames)
    _require_vectors(row, *_vectors(model, row, heard))
    data = write_joined(model, row.name)
    write_bytes(folder / row.file_name, data)
    own, other = Recogniser.open(model), open_joined(model, data)
    reference, found = (_answers(recogniser, heard) for recogniser in (own, other))
    wanted = reference.astype(np.float64)
    report = report_of(wanted, [compared(row, other.runtime, len(data), found, wanted)])
    report.require()
    return report


def vector_cosine(model: Model, row: Format) -> float:
    """The smallest cosine of an encoder's vectors in a format to those of its own file, on sounds of noise."""
    return round(_cosine(*_vectors(model, row, sounds(_card(model).frames))), 6)


def sounds(frames: int) -> list[tuple[NDArray[np.float32], int]]:
    """Windows of noise that swells, of several lengths, as :func:`edgeser_device.encoder.mel_windows` gives them."""
    draw = np.random.default_rng(0)
    found = []
    for place in range(SOUNDS):
        count = max(8, frames * (place + 1) * 2 // SOUNDS)
        noise = np.convolve(draw.standard_normal(count * 160), draw.standard_normal(1 + 4 * place), "same")
        levels = draw.normal(0, 1, -(-count // 10))  # every tenth of a second
        swell = np.exp(np.interp(np.arange(len(noise)) / 1600, np.arange(len(levels)), levels))
        samples = 0.05 * noise / noise.std() * swell
        found.append(mel_windows(*powers(samples.astype(np.float32)), frames)[0])
    return found


class _Joined(Encoder):
    """A joined file in the place of an encoder: the vectors of its windows are probabilities."""

    def __init__(self, card: EncoderCard, run: Windows) -> None:
        super().__init__(card, None)
        self._run = run

    def window(self, frames: NDArray[np.float32], real: int) -> NDArray[np.float32]:
        return self._run(frames, real // FRAMES_PER_TOKEN)[None]


class _Answers(LoadedModel):
    """What stands behind a joined file in a recogniser: nothing is left to compute."""

    def __init__(self, classes: int, runtime: str) -> None:
        self.runtime, self.classes, self.input_shape = runtime, classes, (classes, 1, 1)

    def compute(self, items: NDArray[np.float32]) -> NDArray[np.float32]:
        return items.reshape(len(items), self.classes)


def _vectors(
    model: Model, row: Format, heard: list[tuple[NDArray[np.float32], int]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vectors of the encoder's own file, and of the encoder written in a format, (windows, size) each."""
    own, parts = open_encoder_file(_card(model)), _parts(model)
    run = load_windows(row.write_encoder(parts.encoder, parts.encoder_weights, {}))
    one = np.concatenate([own.window(*each) for each in heard])
    return one, np.stack([run(mel, real // FRAMES_PER_TOKEN) for mel, real in heard])


def _cosine(one: NDArray[np.float32], two: NDArray[np.float32]) -> float:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    return float(((one * two).sum(1) / lengths).min())


def _require_vectors(row: Format, one: NDArray[np.float32], two: NDArray[np.float32]) -> None:
    cosine, difference = _cosine(one, two), float(np.abs(one - two).max())
    if row.precision == "int8":
        kept, words = cosine >= LEAST_COSINE, f"cosine {cosine:.4f}, at least {LEAST_COSINE}"
    else:
        kept, words = difference <= MOST_DIFFERENCE, f"by {difference:.1e}, at most {MOST_DIFFERENCE:.0e}"
    if not kept:
        raise ParityError(
            f"the vectors of the {row.name} encoder differ from those of its file: {words}", "export it in float32"
        )


def _answers(recogniser: Recogniser, heard: list[tuple[NDArray[np.float32], int]]) -> NDArray[np.float32]:
    reads = recogniser.reads
    if not isinstance(reads, EncoderInput):
        raise TypeError("a model of log-mels has no encoder")
    return np.concatenate([recogniser(reads.of_window(*each)) for each in heard])


def _card(model: Model) -> EncoderCard:
    if model.encoder is None:
        raise TypeError("a model of log-mels has no encoder")
    return model.encoder


def _parts(model: Model) -> Parts:
    card, scale = _card(model), scale_of_model(model)
    encoder, weights = read_encoder(read_encoder_file(card))
    factor = np.where(scale.constant, 0, 1 / scale.spread.astype(np.float64))
    head = for_inference(model.recogniser, model.weights)
    return Parts(encoder, weights, *joined(encoder, weights, head, scale.mean, factor))


def _metadata(model: Model, row: Format) -> dict[str, str]:
    card = _card(model)
    kit = str(model.description["training"]["kit_sha256"])
    bits = ", weights of the encoder in 8 bits" if row.precision == "int8" else ""
    return {
        **file_metadata(model.labels, model.frontend, model.temperature, kit, card),
        "input": f"mel: 80 levels of {card.frames} frames of 10 ms, as edgeser_device.encoder computes them; "
        "tokens: half the number of real frames",
        "folded": f"encoder {card.name} ({card.sha256}){bits}, standardisation of its vectors, temperature, softmax",
        "encoder_licence": card.licence,
    }
