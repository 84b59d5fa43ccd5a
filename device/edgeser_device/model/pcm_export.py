"""A student's file with the front-end in it: samples in, probabilities out, with golden cases to check a port by.

    data, golden = pcm_file(model, student)         # student: the content of its ONNX file

What the file computes is compared with the board's own front-end and the same student before anything is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeser_device.encoder import DECADES, EDGE, FRAMES_PER_TOKEN, LEAST_POWER
from edgeser_device.frontend import FrontendSpec, hann_window, mel_filters
from edgeser_device.model.inputs import SHORTEST, input_of
from edgeser_device.model.model import Model, file_metadata
from edgeser_device.model.predict import Recogniser, clip_probabilities
from edgeser_export.runtimes import load, open_onnx
from edgeser_export.utilities.errors import ExportError, ParityError
from edgeser_export.utilities.files import sha256
from edgeser_export.writers.formats import Format

if TYPE_CHECKING:
    from edgeser_export.writers.onnx_frontend import HeardSound

GOLDEN = "recogniser.golden.json"
"""The file of the golden cases."""
BOUND = {"float32": 1e-3, "int8": 0.05}
"""Largest accepted difference of a probability. Levels differ by hundredths of a dB, which moves a probability of a
float32 student by up to 2e-5, and now and then an int8 student's number from one step to the next."""
RECIPE = (
    "pcm[k] = amplitude * (sum over h = 1 ... harmonics of sin(2 pi h hz k / rate) / h) for from <= k < to, else 0;"
    " k = 0 ... samples - 1"
)
CASES: tuple[dict[str, Any], ...] = (
    {"name": "one window", "hz": 120, "harmonics": 50, "amplitude": 0.1},
    {"name": "short", "hz": 210, "harmonics": 30, "amplitude": 0.05, "samples": 12_000},
    {"name": "silent edges", "hz": 160, "harmonics": 40, "amplitude": 0.2, "samples": 40000, "from": 9000, "to": 30000},
    {"name": "several windows", "hz": 95, "harmonics": 60, "amplitude": 0.02, "samples": 90_000},
)  # fmt: skip
"""The cases; one without a length fills one window, and one without an end sounds from its start to its end."""


def file_name(row: Format) -> str:
    """The name of the file, "recogniser" instead of "student".

    Raises:
        ExportError: There is no such file in the format.
    """
    if row.kind != "onnx":
        raise ExportError(
            "TFLite has no operator STFT, and edgeser writes none of RFFT2D, COMPLEX_ABS and GATHER to stand for it",
            "use --format onnx, or leave out --with-frontend",
        )
    return row.file_name.replace("student", "recogniser")


def pcm_file(model: Model, student: bytes, row: Format) -> tuple[bytes, dict[str, Any]]:
    """The content of the file, and its golden cases as plain JSON values.

    Args:
        model: Gives the labels and the front-end.
        student: The ONNX file of its student; of a model of an encoder, that of encoder and head, which reads mels.
        row: The format of that file.

    Raises:
        ParityError: The file does not give what the board's own front-end and the student give.
        MissingRuntime: onnx or onnxruntime is not installed.
    """
    from edgeser_export.writers.onnx_frontend import with_front_end

    spec = model.frontend if model.encoder is None else model.encoder.frontend
    data = with_front_end(student, heard_sound(spec, for_encoder=model.encoder is not None), _metadata(model, spec))
    session = open_onnx(data, 1)
    if model.encoder is None:
        recogniser = Recogniser(model.labels, input_of(model), load(student))
    else:
        from edgeser_device.model.joined_files import open_joined

        recogniser = open_joined(model, student)
    cases, bound = [], BOUND[row.precision]
    for case in (_filled(case, spec) for case in CASES):
        samples = tone(case, spec.rate)
        expected, _ = clip_probabilities(recogniser, samples)
        found = session.run(None, {"pcm": samples[None]})[0][0]
        difference = float(np.abs(found - expected).max())
        if not difference <= bound:
            raise ParityError(
                f"the file with the front-end differs from predict by {difference:.2g} on {case['name']!r}, more than"
                f" {bound:g}",
                "do not use it; try another version of onnxruntime",
            )
        named = dict(zip(model.labels, (round(float(value), 6) for value in expected), strict=True))
        cases.append({**case, "probabilities": named})
    golden = {
        "schema": 1,
        "file": file_name(row),
        "sha256": sha256(data).hexdigest(),
        "rate": spec.rate,
        "labels": list(model.labels),
        "recipe": RECIPE,
        "tolerance": bound,
        "cases": cases,
    }
    return data, golden


def heard_sound(spec: FrontendSpec, for_encoder: bool) -> HeardSound:
    """The numbers of a front-end as the writer takes them."""
    from edgeser_export.writers.onnx_frontend import HeardForEncoder, HeardSound

    window, filters = hann_window(spec.n_fft), mel_filters(spec)
    shared = window, filters, spec.hop, spec.floor, spec.frames, spec.window_hop, spec.trim_db
    if not for_encoder:
        return HeardSound(*shared)
    return HeardForEncoder(*shared, EDGE, SHORTEST, LEAST_POWER, DECADES, FRAMES_PER_TOKEN)


def window_samples(spec: FrontendSpec) -> int:
    """The samples of which the frames of one window are computed."""
    return spec.n_fft + (spec.frames - 1) * spec.hop


def tone(case: dict[str, Any], rate: int) -> NDArray[np.float32]:
    """The samples of a golden case, float32 (samples,); see ``RECIPE``."""
    k = np.arange(case["samples"])
    heard = (k >= case["from"]) & (k < case["to"])
    h = np.arange(1, case["harmonics"] + 1)[:, None]
    summed = (np.sin(2 * np.pi * h * case["hz"] * k / rate) / h).sum(axis=0)
    found: NDArray[np.float32] = (case["amplitude"] * heard * summed).astype(np.float32)
    return found


def _filled(case: dict[str, Any], spec: FrontendSpec) -> dict[str, Any]:
    samples = case.get("samples", window_samples(spec))
    return {"samples": samples, "from": 0, "to": samples} | case


def _metadata(model: Model, spec: FrontendSpec) -> dict[str, str]:
    kit = str(model.description["training"]["kit_sha256"])
    about = file_metadata(model.labels, model.frontend, model.temperature, kit, model.encoder)
    return about | {
        "input": f"pcm: samples of one channel at {spec.rate} Hz, full scale 1.0, float32 (1, samples)",
        "folded": f"trimming of silent edges, log-mels, windows, {about['folded']}, mean over windows",
        "rate": str(spec.rate),
        "window_samples": str(window_samples(spec)),
    }
