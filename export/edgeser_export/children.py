"""What a child process that writes files says when it fails: one JSON line, or the way it ended."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from types import MappingProxyType

from edgeser_export.errors import (
    EdgeserError,
    ExportError,
    GraphError,
    MissingRuntime,
    ModelFileError,
    ParityError,
    StorageError,
)

KINDS: Mapping[str, type[EdgeserError]] = MappingProxyType(
    {
        kind.__name__: kind
        for kind in (ExportError, GraphError, MissingRuntime, ModelFileError, ParityError, StorageError)
    }
)


def child_error(what: str, code: int, stderr: str) -> EdgeserError:
    """The error that a child's last line describes, or one that says how it ended.

    Args:
        what: What the child did, as a noun: "the export".
        code: As ``subprocess`` has it, negative for a signal.
        stderr: All that it wrote there.
    """
    last = stderr.strip().splitlines()[-1] if stderr.strip() else ""
    try:
        report = json.loads(last)
        return KINDS.get(report["kind"], ExportError)(report["message"], report["hint"])
    except (ValueError, KeyError, TypeError):
        pass
    if code < 0:
        ending = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        hints = {
            "SIGKILL": "the machine was probably out of memory: close other programs",
            "SIGILL": "an installed runtime does not suit this processor: see edgeser doctor",
        }
        return ExportError(f"{what} was ended by {ending}", hints.get(ending, "see edgeser doctor"))
    return ExportError(f"{what} failed: {last or f'exit code {code}'}", "this is a mistake in edgeser: report it")
