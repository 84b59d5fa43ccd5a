"""The loop that runs for months: sound in, events out to every sink, the watchdog fed.

run(source, listener, sinks, counters)

systemd learns that the program is alive by the protocol of sd_notify(3): one datagram to a socket.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from edgeser_device.listen.capture.sources import Source
from edgeser_device.listen.events import Counters, Event, Status
from edgeser_device.listen.loop import Listener
from edgeser_device.listen.sinks.sink import Sink

STATUS_SECONDS = 2.0
"""From one status to the next where nothing changes; also how often the watchdog is fed."""


def notify(message: str) -> None:
    """Send ``message`` (``READY=1``, ``WATCHDOG=1``, ...); does nothing where systemd did not start us."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = f"\0{address[1:]}"  # Linux's abstract names
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
        connection.sendto(message.encode(errors="replace"), address)


def run(
    source: Source,
    listener: Listener,
    sink: Sink,
    counters: Counters,
    storing: str | None = None,
    rate: int = 16000,
    notify: Callable[[str], None] = notify,
) -> None:
    """Listen until the source ends.

    Args:
        source: Where sound comes from; closed at the end.
        listener: Turns it into events.
        sink: Told everything.
        counters: What is counted.
        storing: The folder in which speech is stored, if it is.
        rate: The model's, in Hz.
        notify: Tells systemd.

    Raises:
        AudioError: A recording cannot be read.
    """
    reporter = _Reporter(source, sink, counters, storing, notify)
    notify("READY=1")
    try:
        reporter.report()
        for sound in source.sounds():
            if sound is not None:
                sink.sound(sound.samples)
                counters.seconds_heard += len(sound.samples) / rate
                for event in listener.push(sound.samples, sound.arrived, sound.behind):
                    _tell(event, sink, counters)
                counters.correction_db = listener.correction_db
            reporter.report_when_due()
        for event in listener.finish():
            _tell(event, sink, counters)
        reporter.report()
    finally:
        source.close()


def _tell(event: Event, sink: Sink, counters: Counters) -> None:
    counters.events += 1
    counters.latency_ms, counters.level_db = event.latency_ms, event.level_db
    if event.final:
        counters.utterances += 1
        counters.uncertain += event.state == "uncertain"
        counters.clips_stored += event.clip is not None
    sink.event(event)


class _Reporter:
    """Says how the listening is: when that changes, and every few seconds."""

    def __init__(
        self, source: Source, sink: Sink, counters: Counters, storing: str | None, notify: Callable[[str], None]
    ) -> None:
        self._source, self._sink, self._counters = source, sink, counters
        self._storing, self._notify = storing, notify
        self._said, self._due = "", 0.0

    def report_when_due(self) -> None:
        if self._source.words != self._said or time.monotonic() >= self._due:
            self.report()

    def report(self) -> None:
        source = self._source
        self._said, self._due = source.words, time.monotonic() + STATUS_SECONDS
        self._notify(f"WATCHDOG=1\nSTATUS={source.words}")
        values = self._counters.to_json()
        self._sink.status(Status(source.condition, source.words, source.source, self._storing, values))
