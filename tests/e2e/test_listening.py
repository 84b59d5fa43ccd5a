"""Live listening through the real program and a real sound server: the answers of predict, and what may go wrong."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from e2e.chromium import chromium
from e2e.conftest import DEMO, Listening
from virtual_microphone import VirtualMicrophone

from edgeser_device.listen.sinks.mqtt import home_assistant_id

Run = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Listening]

pytestmark = [pytest.mark.slow, pytest.mark.system]


def predicted(run_edgeser: Run, model: Path, clip: Path) -> dict[str, object]:
    return json.loads(run_edgeser("predict", model, clip, "--json", check=True).stdout)["predictions"][0]


@pytest.mark.parametrize("backend", ["portaudio", "arecord"])
def test_the_same_decision_by_predict_from_a_file_and_from_a_microphone(
    spoken_model: Path, clip: Path, to_play: Path, backend: str,
    microphone: VirtualMicrophone, listening: Start, run_edgeser: Run,
) -> None:  # fmt: skip
    expected = predicted(run_edgeser, spoken_model, clip)
    lines = run_edgeser("listen", spoken_model, "--wav", clip, "--json", check=True).stdout.splitlines()
    from_file = [event for event in map(json.loads, lines) if event["final"]]
    assert [event["probabilities"] for event in from_file] == [expected["probabilities"]]
    device = ("--backend", "arecord", "--device", "vmic") if backend == "arecord" else ("--backend", "portaudio")
    program = listening(spoken_model, *device, "--gain", 0)
    for _ in range(2):
        microphone.play(to_play)
    program.wait_until(lambda: len(program.finals) == 2)
    assert program.end() == 0
    assert [event["probabilities"] for event in program.finals] == [expected["probabilities"]] * 2
    assert {event["emotion"] for event in program.finals} == {expected["emotion"]}


@pytest.mark.parametrize("rate", [44100, 48000])
def test_the_same_label_from_a_microphone_of_another_rate(
    spoken_model: Path, clip: Path, to_play: Path, rate: int, microphone: VirtualMicrophone, run_edgeser: Run,
    tmp_path: Path,
) -> None:  # fmt: skip
    """The program itself records at that rate: the wrapper leaves it no other."""
    microphone.unplug()
    microphone.plug_in(rate)
    program = Listening(tmp_path, microphone.env, wrapped(f"""
        import edgeser_device.listen.capture.backends as backend
        backend.attempts = lambda *_: [backend.Attempt({rate}, 1)]
    """), [str(spoken_model), "--json"])  # fmt: skip
    try:
        program.wait_until(lambda: f"at {rate} Hz" in program.said and microphone.listeners())
        microphone.play(to_play)
        program.wait_until(lambda: program.finals)
        assert program.end() == 0
    finally:
        program.process.kill()
    expected = predicted(run_edgeser, spoken_model, clip)
    (final,) = program.finals
    assert final["emotion"] == expected["emotion"]
    for name, probability in expected["probabilities"].items():
        assert final["probabilities"][name] == pytest.approx(probability, abs=0.1)


def wrapped(change: str) -> list[str]:
    """The real program after ``change`` was made to a module."""
    lines = "\n".join(line.strip() for line in change.strip().splitlines())
    return [sys.executable, "-c", f"{lines}\nfrom edgeser.cli.entry import main\nmain()"]


SLOW = """
import time
from edgeser_device.model.predict import Recogniser
quick = Recogniser.__call__
Recogniser.__call__ = lambda self, levels: (time.sleep(1.2), quick(self, levels))[1]
"""
"""Inference that takes more than twice the time from one answer to the next."""


def test_slow_inference_never_keeps_the_microphone_waiting(
    spoken_model: Path, to_play: Path, microphone: VirtualMicrophone, listening: Start
) -> None:
    program = listening(spoken_model, "--web-address", "127.0.0.1:0", program=wrapped(SLOW))
    for _ in range(3):
        microphone.play(to_play)
    program.wait_until(lambda: len(program.finals) >= 3)
    counters = program.counters()
    # A callback that waited for inference would be late each second; a busy machine may stop any thread now and then.
    assert counters["late_callbacks"] <= counters["blocks"] / 200
    assert counters["dropped_blocks"] == 0
    assert counters["coalesced_blocks"] > 20  # sound piled up, and was taken at once
    assert program.end() == 0
    # Answers on the way were skipped, those to whole utterances were not.
    assert len(program.finals) == 3
    assert max(event["latency_ms"] for event in program.events) > 1000


def test_a_microphone_that_is_unplugged_and_plugged_in_again(
    spoken_model: Path, to_play: Path, microphone: VirtualMicrophone, listening: Start
) -> None:
    program = listening(spoken_model, "--web-address", "127.0.0.1:0", "--gain", 0)
    microphone.play(to_play)
    program.wait_until(lambda: len(program.finals) == 1)
    microphone.unplug()
    program.wait_until(lambda: "is gone" in program.said)
    assert program.counters()["lost"] == 1
    microphone.plug_in()
    program.wait_until(lambda: microphone.listeners() and program.counters()["reopened"] == 1)
    microphone.play(to_play)
    program.wait_until(lambda: len(program.finals) == 2)
    assert program.finals[0]["emotion"] == program.finals[1]["emotion"]
    assert program.said.count("listening to") == 2
    assert "Traceback" not in program.said
    assert program.end() == 0


# The broker ----------------------------------------------------------------------------------------------------------


class Broker:
    """A mosquitto with one user, started and killed by the test."""

    def __init__(self, folder: Path) -> None:
        self._program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        if self._program is None:
            pytest.skip("needs the Debian package mosquitto")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        passwords = folder / "passwords"
        passwords.write_text("desk:correct\n")
        subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True, timeout=60)
        passwords.chmod(0o644)
        self._settings = folder / "mosquitto.conf"
        self._settings.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\nuser root\n"
        )
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [str(self._program), "-c", str(self._settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.05)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Reader:
    """Another client, which keeps the last message of each topic."""

    def __init__(self, port: int) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.seen: dict[str, str] = {}
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.username_pw_set("desk", "correct")
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("#")
        self._client.on_message = lambda _client, _data, one: self.seen.update({one.topic: one.payload.decode()})
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    found = Broker(tmp_path)
    yield found
    found.kill()


def test_a_broker_that_goes_away_and_returns(
    spoken_model: Path, to_play: Path, microphone: VirtualMicrophone, listening: Start, broker: Broker
) -> None:
    url = f"mqtt://desk@127.0.0.1:{broker.port}/home/desk"
    program = listening(
        spoken_model, "--web-address", "127.0.0.1:0", "--mqtt", url, EDGESER_MQTT_PASSWORD="correct"
    )  # fmt: skip
    reader = Reader(broker.port)
    try:
        program.wait_until(lambda: reader.seen.get("home/desk/status") == "online")
        discovered = f"homeassistant/sensor/{home_assistant_id('home/desk')}/emotion/config"
        configured = json.loads(reader.seen[discovered])
        assert configured["availability_topic"] == "home/desk/status"
        microphone.play(to_play)
        program.wait_until(lambda: "home/desk/utterance" in reader.seen)
        first = json.loads(reader.seen["home/desk/utterance"])
        assert first["final"]
        broker.kill()
        reader.seen.clear()
        program.wait_until(lambda: program.counters()["broker_losses"] == 1)
        microphone.play(to_play)  # nobody to tell, and nothing stops
        program.wait_until(lambda: len(program.finals) == 2)
        broker.start()
        program.wait_until(lambda: reader.seen.get("home/desk/status") == "online")
        assert (
            f"homeassistant/sensor/{home_assistant_id('home/desk')}/emotion/config" in reader.seen
        )  # a broker that forgot is told again
        assert program.counters()["broker_connects"] == 2
        assert program.end() == 0
        until = time.monotonic() + 30
        while reader.seen.get("home/desk/status") != "offline":
            assert time.monotonic() < until
            time.sleep(0.1)
        assert "Traceback" not in program.said
    finally:
        reader.close()


def test_the_last_will_says_that_the_listener_died(spoken_model: Path, listening: Start, broker: Broker) -> None:
    program = listening(spoken_model, "--mqtt", f"mqtt://desk:correct@127.0.0.1:{broker.port}/d")
    reader = Reader(broker.port)
    try:
        program.wait_until(lambda: reader.seen.get("d/status") == "online")
        program.process.kill()
        program.process.wait()
        until = time.monotonic() + 90
        while reader.seen.get("d/status") != "offline":
            assert time.monotonic() < until
            time.sleep(0.1)
    finally:
        reader.close()


# The page ------------------------------------------------------------------------------------------------------------


def test_the_page_moves_while_somebody_speaks(
    spoken_model: Path, to_play: Path, microphone: VirtualMicrophone, listening: Start, tmp_path: Path
) -> None:
    program = listening(spoken_model, "--web-address", "127.0.0.1:0", "--save-clips", tmp_path / "clips")
    with chromium() as page:
        page.open(program.url)
        page.wait_for("document.querySelectorAll('#bars .row').length === 4")
        assert page.ask("document.getElementById('status').className") == "listening"
        assert "is stored in" in page.ask("document.getElementById('storing').textContent")
        before = page.ask("window.edgeser.events")
        bars = "JSON.stringify([...document.querySelectorAll('#bars i')].map((bar) => bar.style.transform))"
        still = page.ask(bars)
        player = subprocess.Popen(["paplay", "--device=vsink", str(to_play)], env=microphone.env)
        page.wait_for("['sure', 'uncertain'].includes(document.getElementById('now').className)")
        heard = time.monotonic()
        assert page.ask(bars) != still
        page.wait_for("document.querySelectorAll('#history li').length === 1")
        # The answer came within two seconds of speech and of its end: the clip's length is taken off.
        assert time.monotonic() - heard < 2 + soundfile.info(to_play).duration
        assert page.ask("window.edgeser.events") > before + 2
        assert page.ask("window.edgeser.columns") > 30
        assert page.ask("document.documentElement.scrollWidth <= window.innerWidth")
        assert "stored: " in page.ask("document.getElementById('history').textContent")
        page.screenshot(tmp_path / "page.png")
        player.wait(60)
        assert (tmp_path / "page.png").stat().st_size > 20_000
        assert program.end() == 0
        page.wait_for("document.getElementById('status').className === 'offline'")
    (stored,) = (tmp_path / "clips").iterdir()
    np.testing.assert_allclose(soundfile.info(stored).duration, soundfile.info(to_play).duration - 2, atol=0.15)


# The whole loop ------------------------------------------------------------------------------------------------------


def test_recorded_clips_teach_the_model_that_listens_next(
    spoken_model: Path, clip: Path, to_play: Path, microphone: VirtualMicrophone, listening: Start, run_edgeser: Run,
    tmp_path: Path,
) -> None:  # fmt: skip
    """record -> train-on-device --clips -> listen, each the real program, twice through the same microphone."""
    shutil.copytree(spoken_model, tmp_path / "model")
    for emotion in ("anger", "sadness"):
        spoken = speech_of("m1", emotion, 3, tmp_path / f"{emotion}.wav")
        words = ["record", "--label", emotion, "--out", "clips", "--count", "3", "--device", "vmic", "--json"]
        recorder = subprocess.Popen(
            [sys.executable, "-m", "edgeser", *words],
            cwd=tmp_path, env=microphone.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        microphone.wait_for_listener()
        microphone.play(spoken)
        out, err = recorder.communicate(timeout=120)
        assert recorder.returncode == 0, err
        report = json.loads(out)
        assert len(report["files"]) == 3
        length = soundfile.info(spoken).duration
        assert 0.4 * length < report["seconds"] < length
    kit = spoken_model.parent / "a.edgeser"
    done = run_edgeser(
        "train-on-device", kit, "--out", "model", "--clips", "clips", "--threads", "1", "--json", timeout=600
    )
    personal = json.loads(done.stdout)["personal"]
    assert personal["clips"] == 6
    assert done.returncode == (0 if personal["installed"] else 1), done.stderr
    before = json.loads((spoken_model / "model.json").read_text())
    after = json.loads((tmp_path / "model" / "model.json").read_text())
    assert (before != after) == personal["installed"]
    program = listening(tmp_path / "model", "--gain", 0)
    microphone.play(to_play)
    program.wait_until(lambda: program.finals)
    assert program.end() == 0
    expected = predicted(run_edgeser, tmp_path / "model", clip)
    assert program.finals[0]["probabilities"] == expected["probabilities"]


def speech_of(speaker: str, emotion: str, count: int, path: Path) -> Path:
    """Clips of the demo corpus one after the other, with a second of silence around each."""
    silence = np.zeros(16000, np.float32)
    parts = [silence]
    for number in range(1, count + 1):
        samples, _ = soundfile.read(DEMO / f"{speaker}_{emotion}_{number:02}.ogg", dtype="float32")
        parts += [samples, silence]
    soundfile.write(path, np.concatenate(parts), 16000, subtype="PCM_16")
    return path


# Bad input -----------------------------------------------------------------------------------------------------------


def refused(run_edgeser: Run, *words: object, **environment: str) -> str:
    """What a command that must fail says: one line, one hint, exit code 2."""
    done = run_edgeser(*words, timeout=120, **environment)
    assert done.returncode == 2, done.stderr
    *_, message, hint = done.stderr.splitlines()
    assert message.startswith("error: ")
    assert hint.startswith("hint: ")
    assert "Traceback" not in done.stderr
    return done.stderr


def test_no_microphone(spoken_model: Path, run_edgeser: Run, tmp_path: Path) -> None:
    cards = Path("/proc/asound/cards")
    if cards.is_file() and "no soundcards" not in cards.read_text():
        pytest.skip("this machine has a sound card")
    nowhere = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path), "PULSE_SERVER": f"unix:{tmp_path}/none"}
    assert "no microphone was found" in refused(run_edgeser, "listen", spoken_model, **nowhere)
    said = refused(run_edgeser, "listen", spoken_model, "--backend", "arecord", **nowhere)
    assert "the microphone default cannot be opened" in said
    said = refused(run_edgeser, "record", "--label", "joy", "--out", "clips", **nowhere)
    assert "no microphone was found" in said
    assert not (tmp_path / "clips").exists()


def test_a_name_that_no_microphone_has(spoken_model: Path, run_edgeser: Run, microphone: VirtualMicrophone) -> None:
    said = refused(run_edgeser, "listen", spoken_model, "--device", "usb", **microphone.environment)
    assert "there is no microphone 'usb', or more than one" in said
    assert "vmic" in said


def test_a_model_of_another_schema(spoken_model: Path, run_edgeser: Run, tmp_path: Path) -> None:
    shutil.copytree(spoken_model, tmp_path / "model")
    description = json.loads((tmp_path / "model" / "model.json").read_text())
    (tmp_path / "model" / "model.json").write_text(json.dumps({**description, "schema": 99}))
    assert "another version of edgeser" in refused(run_edgeser, "listen", "model")


def test_a_port_that_is_taken(spoken_model: Path, run_edgeser: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        place = f"127.0.0.1:{other.getsockname()[1]}"
        assert "another program has it" in refused(run_edgeser, "listen", spoken_model, "--web-address", place)


def test_a_wrong_password(spoken_model: Path, run_edgeser: Run, broker: Broker) -> None:
    url = f"mqtt://desk@127.0.0.1:{broker.port}/x"
    said = refused(run_edgeser, "listen", spoken_model, "--mqtt", url, EDGESER_MQTT_PASSWORD="wrong")
    assert "refuses user 'desk'" in said
    assert "EDGESER_MQTT_PASSWORD" in said


def test_a_microphone_that_delivers_silence(spoken_model: Path, listening: Start) -> None:
    program = listening(spoken_model)
    program.wait_until(lambda: "delivers digital silence" in program.said)
    assert program.end() == 0
    assert {event["state"] for event in program.events} == {"no_speech"}


def test_doctor_lists_the_microphone(run_edgeser: Run, microphone: VirtualMicrophone) -> None:
    done = run_edgeser("doctor", "--json", timeout=600, **microphone.environment)
    first, *devices = [row for row in json.loads(done.stdout)["checks"] if row["name"].startswith("microphone")]
    assert first["ok"]
    assert "can be used" in first["found"]
    (line,) = [row["found"] for row in devices if "vmic" in row["found"]]
    assert "16, " in line
    assert "[.........." in line
