"""The machine and the memory of its processes, read from /proc and /sys; None where something cannot be read."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeser_export.utilities.children import process_mb
from edgeser_export.utilities.errors import MissingRuntime
from edgeser_export.utilities.words import counted

PACKAGES = ("edgeser", "numpy", "onnxruntime", "ai-edge-litert", "onnx", "soxr", "soundfile")
"""Packages whose version changes a number."""
UNKNOWN = "unknown"
"""The model of a machine that does not say it."""
KNOWN_BAD_AARCH64: Mapping[str, str] = {
    "onnxruntime==1.21.0": "illegal instruction on a Raspberry Pi 4, microsoft/onnxruntime#23957"
}
"""Versions of packages that are known not to work on 64-bit ARM, as pip requirements, each with the reason: the one
list that kits and the doctor read."""
CGROUPS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Version 2 and 1: a folder, its files with limit and use, and the field of its statistics for cached files that can be
given back."""


def require_64_bit() -> None:
    """Refuse a 32-bit system before anything else is tried there.

    What counts is Python: a 64-bit kernel may run a 32-bit system, as Raspberry Pi OS did.

    Raises:
        MissingRuntime: No runtime is built for it.
    """
    if sys.maxsize <= 2**32:
        raise MissingRuntime(
            "this system is 32-bit, for which neither onnxruntime nor LiteRT is built",
            "install the 64-bit Raspberry Pi OS; edgeser doctor says what else is missing",
        )


def describe_machine() -> dict[str, Any]:
    """Model, system, processor, memory, versions, governor, temperature and throttle flags of this machine."""
    import platform  # what training and inference do without

    memory = memory_total_mb()
    return {
        "model": _device_tree_model() or _text("/sys/class/dmi/id/product_name") or UNKNOWN,
        "is_raspberry_pi": "Raspberry Pi" in (_device_tree_model() or ""),
        "system": _system(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "bits": 64 if platform.architecture()[0] == "64bit" else 32,
        "cpu": _cpu(),
        "cores": available_cores(),
        "memory_mb": memory,
        "python": platform.python_version(),
        "packages": installed_versions(),
        "governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "temperature_c": temperature(),
        "throttled": _text("/sys/devices/platform/soc/soc:firmware/get_throttled"),
    }


def machine_words(machine: Mapping[str, Any]) -> str:
    """The machine in a few words: what is known of model, processor and cores; see :func:`describe_machine`."""
    model, cpu, cores = (machine.get(key) for key in ("model", "cpu", "cores"))
    parts = [None if model == UNKNOWN else model, cpu, counted(cores, "core") if cores else None]
    return ", ".join(part for part in parts if part)


def installed_versions() -> dict[str, str]:
    """Versions of the packages that matter, of those that are installed."""
    from importlib import metadata  # 4 MB, which no training needs

    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def available_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def temperature() -> float | None:
    """Temperature of the processor in degrees Celsius."""
    text = _text("/sys/class/thermal/thermal_zone0/temp")
    return int(text) / 1000 if text and text.lstrip("-").isdigit() else None


def throttled() -> int | None:
    """The bits of a Raspberry Pi's firmware that say whether it is, or was, slowed down."""
    text = _text("/sys/devices/platform/soc/soc:firmware/get_throttled")
    try:
        return int(text, 16) if text else None
    except ValueError:
        return None


def peak_rss_mb() -> float | None:
    """The most memory that this process has held by itself, without its children, in MB."""
    return process_mb("VmHWM")


def family_peak_rss_mb() -> float | None:
    """The most memory that this process has held, and each living one that it or they started, added up, in MB.

    Pages that several of them share are counted in each.
    """
    if peak_rss_mb() is None:
        return None
    parents, peaks = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            status = str(entry / "status")
            parents[int(entry.name)] = _field(status, "PPid")
            peaks[int(entry.name)] = _field(status, "VmHWM") or 0  # a process that ends meanwhile holds nothing
    family = {os.getpid()}
    while found := {process for process, parent in parents.items() if parent in family} - family:
        family |= found
    return round(sum(peaks.get(process, 0) for process in family) / 1024, 1)


def memory_total_mb() -> int | None:
    """Memory of the machine in MB."""
    kilobytes = _field("/proc/meminfo", "MemTotal")
    return kilobytes // 1024 if kilobytes is not None else None


def memory_available_mb() -> int | None:
    """Memory that a program could still take, in MB: what the system says, or less where a cgroup bounds it.

    A cgroup counts cached files as used; those that were not read lately are given back when memory is asked for.
    """
    kilobytes = _field("/proc/meminfo", "MemAvailable")
    free = [kilobytes // 1024] if kilobytes is not None else []
    for folder, limit, used, cached in CGROUPS:
        bounds = _text(f"{folder}/{limit}"), _text(f"{folder}/{used}")
        if all(bound and bound.isdigit() for bound in bounds):
            reclaimable = _field(f"{folder}/memory.stat", cached) or 0
            free.append((int(bounds[0] or 0) - int(bounds[1] or 0) + reclaimable) >> 20)
    return max(0, min(free)) if free else None


def seconds_since_start() -> float:
    """Seconds since this process was started, imports and all; of this clock's start where that cannot be read."""
    try:
        stat = Path("/proc/self/stat").read_text(encoding="ascii")
        ticks = int(stat.rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return time.process_time()


def _device_tree_model() -> str | None:
    text = _text("/proc/device-tree/model")
    return text.rstrip("\0") if text else None


def _cpu() -> str | None:
    found = re.search(r"^(?:model name|Model)\s*:(.*)$", _text("/proc/cpuinfo") or "", re.MULTILINE)
    import platform

    return found[1].strip() if found else platform.processor() or None


def _system() -> str:
    import platform

    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform(terse=True)


def _field(path: str, name: str) -> int | None:
    """The whole number that stands after a name at the start of a line; None where it is missing."""
    found = re.search(rf"^{name}:?\s+(\d+)", _text(path) or "", re.MULTILINE)
    return int(found[1]) if found else None


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
