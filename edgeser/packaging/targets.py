"""The boards that a kit can be packed for: one table, a row each.

target = find_target("rpi4")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from edgeser.errors import SettingsError
from edgeser_device.machine import KNOWN_BAD_AARCH64

AARCH64 = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
X86_64 = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")

SYSTEM_MB = 96
"""Memory that firmware and system take in any case: the firmware of a Raspberry Pi keeps 64 MB by
default, an idle system without a desktop takes some tens. The bound refuses only what surely does not fit."""


@dataclass(frozen=True)
class Target:
    """One row of the table of boards.

    Attributes:
        name: The name that users write.
        title: The name that is printed on the box.
        memory_mb: Memory of the smallest variant in MB.
        threads: Processor cores, and so the threads that training uses.
        runtime: The runtime to start with; a row of the exporters' table.
        precision: The precision to start with; measure with ``edgeser bench`` before choosing another.
        platforms: Platform tags of the wheels that fit, newest first.
        known_bad: Versions that must not be installed there, as pip requirements, each with the reason.
        gflops: Single-precision arithmetic that one core is expected to give a model, in GFLOP/s: an estimate, nothing
            was run there. For the Pi 4 and 5 it is twice what HPL reaches a core in double precision (11.9 and 35.2
            GFLOP/s by four cores); for cores that execute in order 0.3 of what their units could do at the usual clock,
            for other boards half of it; for the PC what an AMD EPYC gave.
    """

    name: str
    title: str
    memory_mb: int
    threads: int
    runtime: str = "onnxruntime"
    precision: str = "float32"
    platforms: tuple[str, ...] = AARCH64
    known_bad: Mapping[str, str] = field(default_factory=lambda: KNOWN_BAD_AARCH64)
    gflops: float = 6.0

    def window_ms(self, multiply_accumulates: int) -> float:
        """The estimated time of one window on one core, in milliseconds."""
        return round(2 * multiply_accumulates / self.gflops / 1e6, 2)

    def require_memory(self, needed_mb: int, student: str) -> None:
        """Refuse a student whose training surely does not fit.

        Args:
            needed_mb: Least memory of the training process.
            student: The words for the student in the message.

        Raises:
            SettingsError: Its training takes more than the board has beside its system.
        """
        if needed_mb > self.memory_mb - SYSTEM_MB:
            raise SettingsError(
                f"training {student} takes at least {needed_mb} MB; {self.title} has {self.memory_mb} MB in all",
                "distil with a smaller --width or --batch, or pack for another --target",
            )

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON values for a kit, which states no estimate."""
        known = {name: value for name, value in vars(self).items() if name != "gflops"}
        return {**known, "platforms": list(self.platforms), "known_bad": dict(self.known_bad)}


NOTHING: Mapping[str, str] = MappingProxyType({})

TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        target.name: target
        for target in (
            Target("rpi5", "Raspberry Pi 5", 2048, 4, gflops=17.6),
            Target("rpi4", "Raspberry Pi 4", 1024, 4),
            Target("rpi3", "Raspberry Pi 3", 1024, 4, gflops=2.9),
            Target("rpi-zero2w", "Raspberry Pi Zero 2 W", 512, 4, gflops=2.4),
            Target("jetson-orin-nano", "NVIDIA Jetson Orin Nano", 4096, 6, gflops=12.0),
            Target("generic-aarch64", "64-bit ARM board", 1024, 4, gflops=2.9),
            Target("x86-64", "PC", 2048, 2, platforms=X86_64, known_bad=NOTHING, gflops=50.0),
        )
    }
)


def find_target(name: str) -> Target:
    """A row of ``TARGETS``.

    Raises:
        SettingsError: There is no such board.
    """
    if name not in TARGETS:
        near = get_close_matches(name, TARGETS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of: {', '.join(TARGETS)}"
        raise SettingsError(f"there is no target {name!r}", hint)
    return TARGETS[name]
