"""Is this machine fit to train and listen: every check is one function and one row of a table.

Packages are imported in a process of their own, because a wheel built for another processor ends the process.
"""

from __future__ import annotations

import platform
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from edgeser_device.encoder import encoders_folder
from edgeser_device.kit.kit import ENCODER, HASH, hash_file
from edgeser_device.kit.signature import today, trusted_keys
from edgeser_device.machine import (
    KNOWN_BAD_AARCH64,
    describe_machine,
    installed_versions,
    memory_available_mb,
    memory_total_mb,
    temperature,
    throttled,
)
from edgeser_export.utilities.children import run_child
from edgeser_export.utilities.errors import EdgeserError

LEAST_MEMORY_MB = 200
"""Free memory in which the default student trains."""
LEAST_DISK_MB = 50
"""Free space for a model, its draft and the one before it."""
IMPORT_SECONDS = 120
HOT_C = 80.0
"""Degrees Celsius at which a Raspberry Pi begins to slow down."""
NEEDED_FEATURES: Mapping[str, frozenset[str]] = {"aarch64": frozenset({"fp", "asimd"}), "x86_64": frozenset({"sse4_2"})}
"""Features that the runtimes' wheels need, by their names in /proc/cpuinfo. Every Raspberry Pi from 3 has them."""
THROTTLED = (
    (0x1, "too little voltage now"),
    (0x2, "clock limited now"),
    (0x4, "slowed down now"),
    (0x8, "too hot now"),
    (0x10000, "too little voltage since the start"),
    (0x40000, "slowed down since the start"),
)
"""Bits of the firmware's get_throttled, as Raspberry Pi documents them."""
SYNCHRONISED = Path("/run/systemd/timesync/synchronized")


@dataclass(frozen=True)
class Check:
    """The outcome of one check.

    Attributes:
        name: The part of the machine that was checked.
        ok: Whether it is as it should be.
        required: Whether training or prediction fails without it.
        found: The finding in words.
        hint: Advice when it is not ok; empty otherwise.
    """

    name: str
    ok: bool
    required: bool
    found: str
    hint: str


@dataclass(frozen=True)
class Diagnosis:
    """All checks, and the machine.

    Attributes:
        checks: The outcomes, in the order of the table.
        machine: See :func:`edgeser_device.machine.describe_machine`.
    """

    checks: tuple[Check, ...]
    machine: dict[str, Any]

    @property
    def ok(self) -> bool:
        """Whether nothing required is missing."""
        return all(check.ok for check in self.checks if check.required)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"ok": self.ok, "checks": [asdict(check) for check in self.checks], "machine": self.machine}


def diagnose() -> Diagnosis:
    """Run every check."""
    found: list[Check] = []
    for check in CHECKS:
        result = check()
        found += [result] if isinstance(result, Check) else result
    return Diagnosis(tuple(found), describe_machine())


def check_python() -> Check:
    """Python 3.11 or newer."""
    return _check("python", sys.version_info >= (3, 11), True, platform.python_version(), "use Python 3.11 or newer")


def check_bits() -> Check:
    """A 64-bit system: the runtimes are not built for others."""
    hint = "install the 64-bit Raspberry Pi OS: onnxruntime is not built for 32-bit ARM"
    return _check("64-bit", sys.maxsize > 2**32, True, platform.machine(), hint)


def check_memory() -> Check:
    """Free memory."""
    free = memory_available_mb()
    found = "unknown" if free is None else f"{free} MB free of {memory_total_mb()}"
    return _check(
        "memory", free is None or free >= LEAST_MEMORY_MB, False, found, "stop other programs, or add swap (zram)"
    )


def check_disk() -> Check:
    """Free space where the command was started."""
    free = shutil.disk_usage(Path.cwd()).free >> 20
    return _check("disk", free >= LEAST_DISK_MB, True, f"{free} MB free", "remove files, or use another card")


def check_known_bad() -> Check:
    """No installed version is known not to work on this processor."""
    arm = platform.machine() in ("aarch64", "arm64")
    installed = {f"{name}=={version}" for name, version in installed_versions().items()}
    bad = [f"{name}: {why}" for name, why in KNOWN_BAD_AARCH64.items() if arm and name in installed]
    names = " ".join(f"'{name.replace('==', '!=')}'" for name in KNOWN_BAD_AARCH64)
    return _check("known-bad versions", not bad, True, "; ".join(bad) or "none installed", f"pip install {names}")


def check_microphones() -> list[Check]:
    """Something to listen to, and each device by itself."""
    from edgeser_device.listen.devices import describe_devices

    return [Check(name, not hint, False, found, hint) for name, found, hint in describe_devices()]


def check_processor() -> Check:
    """The instructions that the runtimes' wheels are compiled for."""
    machine, found = platform.machine(), _features()
    missing = sorted(NEEDED_FEATURES.get(machine, frozenset()) - found) if found else []
    words = f"lacks {', '.join(missing)}" if missing else machine if found else f"{machine}, features unknown"
    return _check("processor", not missing, True, words, "use a Raspberry Pi 3 or newer, or a PC with SSE 4.2")


def check_temperature() -> Check:
    """Neither hot nor slowed down for want of power."""
    celsius, flags = temperature(), throttled()
    words = [f"{celsius:.0f} °C"] if celsius is not None else ["unknown"]
    words += [text for bit, text in THROTTLED if flags is not None and flags & bit]
    good = (celsius is None or celsius < HOT_C) and not (flags or 0) & 0xF
    hint = "add a heat sink or a fan, and use the power supply that belongs to the board; measure again when it is cool"
    return _check("temperature", good, False, ", ".join(words), hint)


def check_clock() -> Check:
    """A clock that is right: keys expire by it, and downloads fail without it."""
    now = datetime.now(UTC)
    made = datetime.fromtimestamp(Path(__file__).stat().st_mtime, UTC)
    late = now >= made - timedelta(days=1)
    known = " (synchronised)" if SYNCHRONISED.exists() else ""
    hint = "connect to a network and wait, or set it: sudo date -s '2030-12-31 12:00'"
    return _check("clock", late, False, f"{now:%Y-%m-%d %H:%M} UTC{known}", hint)


def check_trust() -> Check:
    """A key that is set up can be read, has not expired, and signatures can be verified with it."""
    try:
        keys = trusted_keys()
    except EdgeserError as error:
        return _check("trusted key", False, True, error.message, error.hint)
    words = ", ".join(f"{key.id} until {key.expires}" for key in keys) or "none: every whole kit is accepted"
    good = all(key.expires >= today() for key in keys)
    return _check("trusted key", good, True, words, "set up its successor: edgeser device trust NEW.pub")


def check_encoders() -> Check:
    """Every encoder that is shared by the models of this board is the file that its folder is named after."""
    try:
        found = sorted(encoders_folder().glob(f"*/{ENCODER}"))
    except EdgeserError as error:
        return _check("encoders", False, False, error.message, error.hint)
    shared = [path for path in found if HASH.fullmatch(path.parent.name)]
    changed = [path for path in shared if hash_file(path) != path.parent.name]
    words = ", ".join(path.parent.name[:12] for path in shared) or "none from a kit: models of log-mels need none"
    words = f"{', '.join(map(str, changed))}: not the file of that sha256" if changed else words
    hint = "remove it, and train again from a kit that brings the encoder"
    return _check("encoders", not changed, False, words, hint)


def importing(name: str, module: str, required: bool, package: str) -> Callable[[], Check]:
    """A check that ``module`` can be imported in a process of its own."""

    def check() -> Check:
        good, words = _import(module)
        return _check(name, good, required, words, f"pip install --force-reinstall {package}")

    return check


CHECKS: tuple[Callable[[], Check | list[Check]], ...] = (
    check_python,
    check_bits,
    importing("numpy", "numpy", True, "numpy"),
    importing("onnxruntime", "onnxruntime", True, "onnxruntime"),
    importing("tflite runtime", "ai_edge_litert.interpreter", False, "ai-edge-litert"),
    importing("onnx", "onnx", True, "onnx"),
    importing("safetensors", "safetensors.numpy", True, "safetensors"),
    importing("soundfile", "soundfile", True, "soundfile"),
    importing("soxr", "soxr", True, "soxr"),
    check_processor,
    check_memory,
    check_disk,
    check_known_bad,
    check_temperature,
    check_microphones,
    check_clock,
    check_trust,
    check_encoders,
)


def _check(name: str, ok: bool, required: bool, found: str, hint: str) -> Check:
    return Check(name, ok, required, found, "" if ok else hint)


def _import(module: str) -> tuple[bool, str]:
    """Whether a module can be imported in a process of its own, and its version or what went wrong."""
    top = module.partition(".")[0]
    program = f"import {module}, {top}; print(getattr({top}, '__version__', 'installed'))"
    try:
        said = run_child(("-c", program), module, seconds=IMPORT_SECONDS).decode(errors="replace")
    except EdgeserError as error:
        return False, error.message
    return True, said.strip().splitlines()[-1]


def _features() -> frozenset[str]:
    """The processor's features by the kernel's names; empty where they cannot be read."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    found = re.search(r"^(?:Features|flags)\s*:(.*)$", text, re.MULTILINE)
    return frozenset(found[1].split() if found else ())
