"""The verbs that hear: ``listen``, ``serve`` and ``record``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeser.cli.kits import HOME, Folder, device_app
from edgeser.cli.options import Json, add_verbs, option, print_json, refuse_ignored, say, show
from edgeser_device.machine import require_64_bit
from edgeser_export.utilities.errors import choice_hint
from edgeser_export.utilities.outside import expand

GATE_NAMES = "silero, level or off"
BACKEND_NAMES = "portaudio or arecord"
"""As in the tables of gates and backends, which import numpy: too slow for --help. A test compares them."""

Wav = Annotated[Path | None, option("--wav", "Listen to this recording.", "FILE")]
MICROPHONE = "Microphone: name, part of it, or number; edgeser doctor lists them."
Device = Annotated[str | None, option("--device", MICROPHONE, "NAME", "the system's")]
Backend = Annotated[str | None, option("--backend", f"{BACKEND_NAMES}.", "NAME", "the first that is there")]
Gate = Annotated[str | None, option("--gate", f"What finds speech: {GATE_NAMES}.", "NAME", "the first installed")]
Threshold = Annotated[float, option("--speech", "Probability of speech, above 0 to 1, with which it begins.", "P")]
Pause = Annotated[float, option("--pause", "Seconds of silence that end an utterance.", "S")]
Realtime = Annotated[bool, option("--realtime", "Play the recording at its own pace.")]
Loop = Annotated[bool, option("--loop", "Play the recording again and again.")]
Longest = Annotated[float, option("--longest", "Seconds after which speech without a pause is judged.", "S")]
MinConfidence = Annotated[float, option("--min-confidence", "Less probable emotions are called uncertain.", "P")]
Gain = Annotated[float | None, option("--gain", "Gain added to the level.", "DB", "learnt from what is heard")]
AsJson = Annotated[bool, option("--json", "Print one JSON object an event on stdout.")]
Web = Annotated[bool, option("--web", "Show a page; also /metrics for Prometheus.")]
ADDRESS = "Address of the page; implies --web. Any host but this one needs the token that is then printed."
WebAddress = Annotated[str | None, option("--web-address", ADDRESS, "HOST:PORT", "127.0.0.1:8765")]
SERVED = "Address to answer at. Any host but this one needs the token that is then printed."
MQTT = (
    "Publish to mqtt://USER@HOST/TOPIC (mqtts:// for TLS, HOST:PORT for a port); EDGESER_MQTT_PASSWORD is the password."
)
Mqtt = Annotated[str | None, option("--mqtt", MQTT, "URL")]
MqttCa = Annotated[Path | None, option("--mqtt-ca", "Certificate authority of the broker, for TLS.", "FILE")]
SaveClips = Annotated[Path | None, option("--save-clips", "Store what is said; every sink shows it.", "DIR")]
ClipsMb = Annotated[
    float, option("--clips-mb", "The oldest stored clips go beyond this size.", "MB", min=0.001, max=1e9)
]
ADAPT = "Adapt an encoder's model to your own voice: on, off, or reset, which forgets what was learnt and goes on."
Adapt = Annotated[str, option("--adapt", ADAPT, "NAME")]
PrintUnit = Annotated[bool, option("--print-unit", "Print a systemd unit that does this at every start of the board.")]
ADAPTATIONS = ("on", "off", "reset")


SOURCES = {"device": "wav", "backend": "wav"}
"""These settings concern a microphone, which a recording replaces."""


def _thresholds(gate: str | None) -> dict[str, str]:
    """``--speech`` beside a gate that knows no probabilities."""
    return {"speech": "gate"} if gate in ("level", "off") else {}


def add_to(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    add_verbs(
        app,
        ("listen", listen, "edgeser listen model --web"),
        ("serve", serve, "edgeser serve model --web-address 0.0.0.0:8765"),
        ("record", record, "edgeser record --label anger --out clips --count 5"),
    )
    add_verbs(device_app, ("service", service, "edgeser device service --flags '--web-address 0.0.0.0:8765'"))


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
    adapt: Adapt = "off",
    print_unit: PrintUnit = False,
) -> None:
    """Follow the emotion of speech twice a second, from a microphone or a recording."""
    require_64_bit()
    refuse_ignored(
        context,
        needs={"realtime": "wav", "loop": "wav", "mqtt_ca": "mqtt", "clips_mb": "save_clips"},
        excludes=SOURCES | _thresholds(gate),
    )
    from edgeser_device.errors import ListenError
    from edgeser_device.listen.live import ListenSettings
    from edgeser_device.listen.program import Plan, listen_to
    from edgeser_device.listen.speech import SpeechSettings

    if adapt not in ADAPTATIONS:
        raise ListenError(f"--adapt is {adapt!r}", choice_hint(adapt, ADAPTATIONS))
    settings = ListenSettings(SpeechSettings(speech, pause=pause, longest=longest), min_confidence, gain)
    plan = Plan(
        model=model, wav=wav, realtime=realtime, loop=loop, device=device, backend=backend, gate=gate,
        settings=settings, as_json=as_json, web=web, web_address=web_address, mqtt=mqtt, mqtt_ca=mqtt_ca,
        save_clips=save_clips, clips_mb=clips_mb, adapt=adapt,
    )  # fmt: skip
    if print_unit:
        import sys

        from edgeser_device.listen.unit import unit_text

        words = [word for word in sys.argv[1:] if word != "--print-unit"]
        typer.echo(unit_text(words, model, save_clips, adapts=adapt != "off"), nl=False)
        return
    listen_to(plan)


def serve(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The folder that train-on-device wrote.")],
    web_address: Annotated[str | None, option("--web-address", SERVED, "HOST:PORT", "127.0.0.1:8765")] = None,
) -> None:
    """Answer recordings that other programs send: POST /classify takes a WAV, and the page shows the answers."""
    require_64_bit()
    from edgeser_device.listen.serve import serve_model

    serve_model(model, web_address)


def record(
    context: typer.Context,
    label: Annotated[str, option("--label", "The emotion that is spoken.", "L")],
    out: Annotated[Path, option("--out", "Clips are written to DIR/L.", "DIR")],
    model: Annotated[Path | None, option("--model", "Refuse a label that this model does not know.", "MODEL")] = None,
    count: Annotated[int, option("--count", "Utterances to record.", "N", min=1, max=10_000)] = 5,
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
    show(report.to_json(), report.words, as_json)


def service(
    folder: Folder = HOME,
    flags: Annotated[str, option("--flags", "Flags of edgeser listen, in one word for the shell.")] = "--web",
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
