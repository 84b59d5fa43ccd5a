"""What a backend is, and at which rates one is asked to record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from edgeser_device.errors import MicrophoneError
from edgeser_device.listen.capture.blocks import BlockQueue

USUAL_RATES = (48_000, 44_100, 32_000, 96_000)
"""Hz that nearly every device knows, tried after its own."""
NARROW_RATES = (8_000, 11_025)
"""Hz of telephones and headsets: too few for the models, and worth a sentence of their own."""


@dataclass(frozen=True)
class Attempt:
    """One way to open a device."""

    rate: int
    channels: int


class Stream(Protocol):
    """An open device that puts blocks into the queue."""

    @property
    def name(self) -> str:
        """The device's name."""

    @property
    def rate(self) -> int:
        """Its sampling rate in Hz."""

    @property
    def ended(self) -> bool:
        """Whether it is known to have stopped; a device may also fall silent without a word."""

    def close(self) -> None:
        """Stop recording."""


Try: TypeAlias = Callable[[Attempt], Stream]
"""Opens the device in one way; raises OSError or a subclass of it where the device refuses."""
Open: TypeAlias = Callable[[str | None, int, BlockQueue, frozenset[int]], Stream]
"""(device's name or number, wanted rate in Hz, queue, rates that are known to be wrong) -> stream."""


def attempts(wanted: int, own: int | None, wrong: frozenset[int] = frozenset()) -> Iterator[Attempt]:
    """The ways to open a device, best first: the model's rate, the device's own, the usual ones; mono before stereo.

    Args:
        wanted: The model's rate in Hz. No lower one is tried: the upper bands would be empty.
        own: What the device names as its own rate; None if it is not known.
        wrong: Rates that the device accepted and did not keep.
    """
    rates = [wanted, *((own,) if own else ()), *USUAL_RATES]
    for rate in dict.fromkeys(rates):
        if rate >= wanted and rate not in wrong:
            yield Attempt(rate, 1)
            yield Attempt(rate, 2)


def open_first(name: str, wanted: int, own: int | None, wrong: frozenset[int], opener: Try) -> Stream:
    """The stream of the first attempt that the device accepts.

    Raises:
        MicrophoneError: It accepts none.
    """
    refusal = "it accepts no rate"
    for attempt in attempts(wanted, own, wrong):
        try:
            return opener(attempt)
        except OSError as error:
            refusal = refusal if refusal != "it accepts no rate" else str(error)
    for rate in NARROW_RATES:
        try:
            opener(Attempt(rate, 1)).close()
        except OSError:
            continue
        raise MicrophoneError(
            f"the microphone {name} records at {rate} Hz only, the model needs {wanted}",
            "use another microphone; edgeser doctor lists those that are here",
        )
    raise MicrophoneError(
        f"the microphone {name} cannot be opened: {' '.join(refusal.split())}",
        "close the program that uses it, or choose another one: edgeser doctor lists them",
    )
