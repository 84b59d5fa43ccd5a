"""The programs that run written files, behind one call.

    model = load(Path("student.tflite"), threads=1)
    probabilities = model(items)        # items: float32 (items, channels, height, width), levels in dB

One table, ``RUNTIMES``; nothing of a runtime is imported before a file is loaded in it. A loaded model never spins
between two calls, so a listener that waits for sound leaves the processor idle.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeser_export.graph.op_graph import INPUT, MEL, TOKENS
from edgeser_export.utilities.children import silenced
from edgeser_export.utilities.errors import (
    ExportError,
    MissingRuntime,
    ModelFileError,
    StorageError,
    find_row,
    require_module,
)

Kind: TypeAlias = Literal["onnx", "tflite"]
Items: TypeAlias = NDArray[np.float32]
Loaded = TypeVar("Loaded")
TFLITE_MARK = b"TFL3"
"""Bytes 4 to 8 of every TFLite file."""


class Model(ABC):
    """A loaded file. Not for two threads at once.

    Attributes:
        runtime: Name of the row of ``RUNTIMES`` that runs it.
        input_shape: (channels, height, width) of one item.
        classes: Number of outputs of one item.
    """

    runtime: str
    input_shape: tuple[int, ...]
    classes: int

    def __call__(self, items: Items) -> NDArray[np.float32]:
        """Compute ``items``, float32 (items, channels, height, width).

        Returns:
            What the file's one output says, float32 (items, classes).

        Raises:
            ExportError: The items have another shape or type.
        """
        if items.shape[1:] != self.input_shape or items.dtype != np.float32:
            raise ExportError(
                f"items are {items.dtype} {items.shape}, not float32 (items, {', '.join(map(str, self.input_shape))})",
                "compute the features with the model's own front-end",
            )
        return self.compute(items)

    @abstractmethod
    def compute(self, items: Items) -> NDArray[np.float32]:
        """The same for items that fit."""


@dataclass(frozen=True)
class Runtime:
    """One row of the table of runtimes.

    Attributes:
        name: The name that users write.
        kind: The kind of files that it runs.
        module: The module that is imported.
        packages: Names under which it is distributed, the usual one first.
        open: (content of a file, threads) -> model.
    """

    name: str
    kind: Kind
    module: str
    packages: tuple[str, ...]
    open: Callable[[bytes, int], Model]

    @property
    def installed(self) -> bool:
        """Whether the module can be found; nothing is imported."""
        return find_spec(self.module) is not None

    @property
    def version(self) -> str | None:
        """The installed version, or None."""
        from importlib import metadata  # 4 MB, which no inference needs

        for package in self.packages:
            try:
                return metadata.version(package)
            except metadata.PackageNotFoundError:
                continue
        return None


def load(source: Path | bytes, threads: int = 1, runtime: str | None = None) -> Model:
    """Load a written file into a runtime that is installed here.

    Args:
        source: A file, or its content. What it is, is read from its first bytes.
        threads: Threads of one call.
        runtime: A row of ``RUNTIMES``; by default the first installed one for this kind of file.

    Raises:
        MissingRuntime: No runtime for this file is installed, or the asked one is not.
        ModelFileError: The runtime cannot read the file, or it is not a student.
        StorageError: The file cannot be read.
    """
    return _load(source, threads, runtime, {row.kind: row.open for row in RUNTIMES.values()})


def _load(
    source: Path | bytes, threads: int, runtime: str | None, openers: Mapping[Kind, Callable[[bytes, int], Loaded]]
) -> Loaded:
    data = read_model(source)
    row = choose_runtime("tflite" if data[4:8] == TFLITE_MARK else "onnx", runtime)
    try:
        return openers[row.kind](data, threads)
    except ExportError:
        raise
    except ImportError as error:
        raise MissingRuntime(f"{row.name} is installed but cannot be used: {error}", _how_to_install(row)) from error
    except Exception as error:  # the runtimes' errors have no common class below Exception
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        where = "the model" if isinstance(source, bytes) else str(source)
        raise ModelFileError(f"{row.name} cannot read {where}: {reason}", "export the model again") from error


def read_model(source: Path | bytes) -> bytes:
    """The content of a file; content is returned as it is.

    Raises:
        StorageError: The file cannot be read.
    """
    if isinstance(source, bytes):
        return source
    try:
        return source.read_bytes()
    except OSError as error:
        raise StorageError(
            f"cannot read {source}: {error.strerror or error}", "check that the file exists and may be read"
        ) from error


def find_runtime(name: str) -> Runtime:
    """The row ``name`` of ``RUNTIMES``.

    Raises:
        ExportError: There is no such runtime.
    """
    return find_row(RUNTIMES, name, "runtime", ExportError)


def choose_runtime(kind: Kind, name: str | None = None) -> Runtime:
    """The row ``name``, or the one for files of ``kind``.

    Raises:
        ExportError: There is no such runtime, or it does not run such files.
        MissingRuntime: It is not installed.
    """
    fitting = next(row for row in RUNTIMES.values() if row.kind == kind)
    row = fitting if name is None else find_runtime(name)
    if row.kind != kind:
        raise ExportError(f"{name} does not run {kind} files", f"choose {fitting.name}")
    if not row.installed:
        raise MissingRuntime(f"{row.name} is not installed, which runs {kind} files", _how_to_install(row))
    return row


def open_onnx(data: bytes, threads: int, lean: bool = False) -> Any:
    """An onnxruntime session.

    Args:
        data: The content of an ONNX file.
        threads: Threads of one call, at least 1.
        lean: Take the least memory, which a training step needs; inference takes little as it is.

    Raises:
        MissingRuntime: onnxruntime cannot be imported.
    """
    ort = require_module("onnxruntime", "onnxruntime", "an ONNX file")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    if lean:
        options.enable_mem_pattern = False  # a plan for the whole step at once costs more memory than it saves time
        options.enable_mem_reuse = False  # a tensor that takes the place of an older one keeps it from all in between
    # Spinning threads would keep a core busy between two windows of sound, or from other programs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Without the fallback, which prints on standard output and then tries the same provider again.
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"], enable_fallback=0)


class Windows(ABC):
    """A loaded file of an encoder, alone or with a head behind it. Not for two threads at once.

    Attributes:
        runtime: Name of the row of ``RUNTIMES`` that runs it.
    """

    runtime: str

    @abstractmethod
    def __call__(self, mel: NDArray[np.float32], tokens: int) -> NDArray[np.float32]:
        """The vector, or the probabilities, of one window, float32 (size,).

        Args:
            mel: Float32 (mels, frames), zero behind the real frames.
            tokens: The number of real tokens.
        """


def load_windows(source: Path | bytes, threads: int = 1, runtime: str | None = None) -> Windows:
    """Load a written file of an encoder; arguments and errors as :func:`load`."""
    return _load(source, threads, runtime, {"onnx": _OnnxWindows, "tflite": _TfliteWindows})


class _OnnxModel(Model):
    runtime = "onnxruntime"

    def __init__(self, data: bytes, threads: int) -> None:
        self._session = open_onnx(data, threads)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        _check_names([entry.name for entry in inputs], [entry.name for entry in outputs])
        self.input_shape = tuple(inputs[0].shape[1:])
        self.classes = int(outputs[0].shape[1])

    def compute(self, items: Items) -> NDArray[np.float32]:
        """See :class:`Model`."""
        found: NDArray[np.float32] = self._session.run(None, {INPUT: items})[0]
        return found


class _TfliteModel(Model):
    runtime = "litert"

    def __init__(self, data: bytes, threads: int) -> None:
        self._interpreter = _open_tflite(data, threads)
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        _check_names([entry["name"] for entry in inputs], [entry["name"] for entry in outputs])
        self._item_shape = tuple(int(size) for size in inputs[0]["shape"])
        _, height, width, channels = self._item_shape
        self.input_shape = (channels, height, width)
        self._input = int(inputs[0]["index"])
        self._output = int(outputs[0]["index"])
        self.classes = int(outputs[0]["shape"][1])

    def compute(self, items: Items) -> NDArray[np.float32]:
        """See :class:`Model`."""
        found = np.empty((len(items), self.classes), dtype=np.float32)
        for number, item in enumerate(items):
            # With one channel this is a view; set_tensor copies into the interpreter's own memory.
            self._interpreter.set_tensor(self._input, item.transpose(1, 2, 0).reshape(self._item_shape))
            self._interpreter.invoke()
            found[number] = self._interpreter.get_tensor(self._output)[0]
        return found


def _open_tflite(data: bytes, threads: int) -> Any:
    with silenced():
        interpreter = import_module("ai_edge_litert.interpreter").Interpreter
        opened = interpreter(model_content=data, num_threads=threads)
        opened.allocate_tensors()
    return opened


class _OnnxWindows(Windows):
    runtime = "onnxruntime"

    def __init__(self, data: bytes, threads: int) -> None:
        self._session = open_onnx(data, threads)
        _check_windows([entry.name for entry in self._session.get_inputs()])

    def __call__(self, mel: NDArray[np.float32], tokens: int) -> NDArray[np.float32]:
        feeds = {MEL: mel[None], TOKENS: np.array([tokens], np.int64)}
        found: NDArray[np.float32] = self._session.run(None, feeds)[0][0]
        return found


class _TfliteWindows(Windows):
    runtime = "litert"

    def __init__(self, data: bytes, threads: int) -> None:
        self._interpreter = _open_tflite(data, threads)
        self._inputs = {entry["name"]: int(entry["index"]) for entry in self._interpreter.get_input_details()}
        _check_windows([*self._inputs])
        self._output = int(self._interpreter.get_output_details()[0]["index"])

    def __call__(self, mel: NDArray[np.float32], tokens: int) -> NDArray[np.float32]:
        self._interpreter.set_tensor(self._inputs[MEL], mel[None])
        self._interpreter.set_tensor(self._inputs[TOKENS], np.array([tokens], np.int32))
        self._interpreter.invoke()
        found: NDArray[np.float32] = self._interpreter.get_tensor(self._output)[0]
        return found


RUNTIMES: Mapping[str, Runtime] = {
    row.name: row
    for row in (
        Runtime("onnxruntime", "onnx", "onnxruntime", ("onnxruntime", "onnxruntime-gpu"), _OnnxModel),
        Runtime("litert", "tflite", "ai_edge_litert", ("ai-edge-litert", "ai-edge-litert-nightly"), _TfliteModel),
    )
}


def _check_names(inputs: list[str], outputs: list[str]) -> None:
    if inputs != [INPUT] or len(outputs) != 1:
        raise ModelFileError(
            f"the model has the inputs {inputs} and the outputs {outputs}, not {[INPUT]} and one output",
            "only models that edgeser wrote can be loaded",
        )


def _check_windows(inputs: list[str]) -> None:
    if inputs != [MEL, TOKENS]:
        raise ModelFileError(
            f"the file has the inputs {inputs}, not {[MEL, TOKENS]}", "give an encoder's file that edgeser wrote"
        )


def _how_to_install(row: Runtime) -> str:
    return f"install it with: pip install {row.packages[0]}"
