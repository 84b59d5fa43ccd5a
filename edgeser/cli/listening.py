"""The verbs that hear: ``listen`` and ``record``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeser.cli.kits import HOME, Folder, device_app
from edgeser.cli.options import Json, option, print_json, refuse_ignored, say
from edgeser_device.machine import require_64_bit
from edgeser_export.utilities.outside import expand

GATE_NAMES = "silero, level or off"
BACKEND_NAMES = "portaudio or arecord"
"""As in the tables of gates and backends, which import numpy: too slow for --help. A test compares them."""

Wav = Annotated[Path | None, typer.Option("--wav", metavar="FILE", help="Listen to this recording.")]
MICROPHONE = "Microphone: name, part of it, or number; edgeser doctor lists them."
Device = Annotated[str | None, option("--device", MICROPHONE, "NAME", "the system's")]
Backend = Annotated[str | None, option("--backend", f"{BACKEND_NAMES}.", "NAME", "the first that is there")]
Gate = Annotated[str | None, option("--gate", f"What finds speech: {GATE_NAMES}.", "NAME", "the first installed")]
Threshold = Annotated[
    float, typer.Option("--speech", metavar="P", help="Probability of speech, above 0 to 1, with which it begins.")
]
Pause = Annotated[float, typer.Option("--pause", metavar="S", help="Seconds of silence that end an utterance.")]
Realtime = Annotated[bool, typer.Option("--realtime", help="Play the recording at its own pace.")]
Loop = Annotated[bool, typer.Option("--loop", help="Play the recording again and again.")]
Longest = Annotated[
    float, typer.Option("--longest", metavar="S", help="Seconds after which speech without a pause is judged.")
]
MinConfidence = Annotated[
    float, typer.Option("--min-confidence", metavar="P", help="Less probable emotions are called uncertain.")
]
Gain = Annotated[float | None, option("--gain", "Gain added to the level.", "DB", "learnt from what is heard")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object an event on stdout.")]
Web = Annotated[bool, typer.Option("--web", help="Show a page; also /metrics for Prometheus.")]
ADDRESS = "Address of the page; implies --web. Any host but this one needs the token that is then printed."
WebAddress = Annotated[str | None, option("--web-address", ADDRESS, "HOST:PORT", "127.0.0.1:8765")]
Mqtt = Annotated[
    str | None,
    typer.Option(
        "--mqtt",
        metavar="URL",
        help="Publish to mqtt://USER@HOST:PORT/TOPIC (mqtts:// for TLS); the password is read from "
        "EDGESER_MQTT_PASSWORD.",
    ),
]
MqttCa = Annotated[
    Path | None, typer.Option("--mqtt-ca", metavar="FILE", help="Certificate authority of the broker, for TLS.")
]
SaveClips = Annotated[
    Path | None, typer.Option("--save-clips", metavar="DIR", help="Store what is said; every sink shows it.")
]
ClipsMb = Annotated[
    float, typer.Option("--clips-mb", min=0.001, max=1e9, help="The oldest stored clips go beyond this size.")
]
PrintUnit = Annotated[
    bool, typer.Option("--print-unit", help="Print a systemd unit that does this at every start of the board.")
]


SOURCES = {"device": "wav", "backend": "wav"}
"""These settings concern a microphone, which a recording replaces."""


def _thresholds(gate: str | None) -> dict[str, str]:
    """``--speech`` beside a gate that knows no probabilities."""
    return {"speech": "gate"} if gate in ("level", "off") else {}


def add_to(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    for name, verb, example in (
        ("listen", listen, "edgeser listen model --web"),
        ("record", record, "edgeser record --label anger --out clips --count 5"),
    ):
        app.command(name, epilog=f"Example: {example}")(verb)
    device_app.command("service", epilog="Example: edgeser device service --flags '--web-address 0.0.0.0:8765'")(
        service
    )


def listen(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The folder that train-on-device wrote.")],
    wav: Wav = None,
    realtime: Realtime = False,
    loop: Loop = False,
    device: Device = None,
    backend: Backend = None,
    gate: Gate = None,
    speech: Threshold = 0.5,
    pause: Pause = 0.448,
    longest: Longest = 10.0,
    min_confidence: MinConfidence = 0.5,
    gain: Gain = None,
    as_json: AsJson = False,
    web: Web = False,
    web_address: WebAddress = None,
    mqtt: Mqtt = None,
    mqtt_ca: MqttCa = None,
    save_clips: SaveClips = None,
    clips_mb: ClipsMb = 200.0,
    print_unit: PrintUnit = False,
) -> None:
    """Follow the emotion of speech twice a second, from a microphone or a recording."""
    require_64_bit()
    refuse_ignored(
        context,
        needs={"realtime": "wav", "loop": "wav", "mqtt_ca": "mqtt", "clips_mb": "save_clips"},
        excludes=SOURCES | _thresholds(gate),
    )
    from edgeser_device.listen.live import ListenSettings
    from edgeser_device.listen.program import Plan, listen_to
    from edgeser_device.listen.speech import SpeechSettings

    settings = ListenSettings(SpeechSettings(speech, pause=pause, longest=longest), min_confidence, gain)
    plan = Plan(
        model=model, wav=wav, realtime=realtime, loop=loop, device=device, backend=backend, gate=gate,
        settings=settings, as_json=as_json, web=web, web_address=web_address, mqtt=mqtt, mqtt_ca=mqtt_ca,
        save_clips=save_clips, clips_mb=clips_mb,
    )  # fmt: skip
    if print_unit:
        import sys

        from edgeser_device.listen.unit import unit_text

        typer.echo(unit_text([word for word in sys.argv[1:] if word != "--print-unit"], model, save_clips), nl=False)
        return
    listen_to(plan)


def record(
    context: typer.Context,
    label: Annotated[str, typer.Option("--label", metavar="L", help="The emotion that is spoken.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Clips are written to DIR/L.")],
    model: Annotated[
        Path | None, typer.Option("--model", metavar="MODEL", help="Refuse a label that this model does not know.")
    ] = None,
    count: Annotated[int, typer.Option("--count", min=1, max=10_000, help="Utterances to record.")] = 5,
    wav: Wav = None,
    device: Device = None,
    backend: Backend = None,
    gate: Gate = None,
    speech: Threshold = 0.5,
    pause: Pause = 0.448,
    as_json: Json = False,
) -> None:
    """Record clips of your own for train-on-device --clips: one file an utterance, cut at the pauses."""
    refuse_ignored(context, excludes=SOURCES | _thresholds(gate))
    from edgeser.corpora.emotions import plain_name
    from edgeser_device.listen.record import find_label, record_clips
    from edgeser_device.listen.speech import SpeechSettings
    from edgeser_device.model.model import load_model
    from edgeser_export.utilities.progress import note

    settings = SpeechSettings(speech, pause=pause)
    label, near = find_label(label, out, load_model(model).labels if model else ())
    usual = near or plain_name(label)
    if model is None and usual != label.lower():
        say(f"note: {label!r} is another emotion than {usual!r} for a model; --label {usual} if you mean that")
    report = record_clips(label, out, count, wav, device, backend, gate, settings, note)
    if as_json:
        print_json(report.to_json())
    else:
        typer.echo(report.words())


def service(
    folder: Folder = HOME,
    flags: Annotated[str, typer.Option("--flags", help="Of edgeser listen, in one word for the shell.")] = "--web",
    as_json: Json = False,
) -> None:
    """Start listening now, and with the board: writes a systemd unit and installs it, which takes sudo."""
    import shlex
    import subprocess

    from edgeser_device.listen.unit import waits_for, write_service

    script = write_service(expand(folder), shlex.split(flags))
    lacking = waits_for()
    done = subprocess.run(["sh", str(script), "install"], check=False, capture_output=True, text=True)
    reason = (done.stderr.strip().splitlines() or ["it failed"])[-1]
    if lacking is not None:
        say(f"note: it cannot hear yet, and begins when it can: {lacking}")
    if done.returncode:
        say(f"note: it does not start with the board yet ({reason}); as a user who may: sh {script} install")
    if as_json:
        problem = reason if done.returncode else None
        print_json({"script": str(script), "started": problem is None, "problem": problem, "waits_for": lacking})
    elif not done.returncode:
        typer.echo(f"listening now, and with the board; sh {script} remove ends that")
