"""What Home Assistant and Node-RED are told, as fixtures, and the walkthroughs that quote it."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

from sources import ROOT

from edgeser_device.listen.events import Counters, Event, Status
from edgeser_device.listen.sinks.mqtt import Topics, discovery, parse_broker
from edgeser_device.model.model import Model

FIXTURE = Path(__file__).with_name("home_assistant.json")
"""The messages of one model at one broker, as Home Assistant's MQTT integration documents them."""
LABELS = ("anger", "happiness", "neutral", "sadness")
BROKER = parse_broker("mqtt://edgeser@192.168.1.20/edgeser/desk", {})


class Client:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.topics: dict[str, str] = {}

    def publish(self, topic: str, value: str, **_: object) -> None:
        self.topics[topic] = value


def blocks(name: str, language: str) -> list[str]:
    text = (ROOT / "docs" / "howto" / name).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_messages_of_discovery_stay_as_they_are() -> None:
    assert json.loads(FIXTURE.read_text(encoding="utf-8")) == discovery(BROKER, LABELS)


def test_every_topic_and_field_that_discovery_names_is_published() -> None:
    client, counters = Client(), Counters()
    topics = Topics(client, BROKER, LABELS, counters)
    topics.introduce()
    topics.status(Status("listening", "listening", "usb", None, counters.to_json()))
    topics.event(Event(1.0, "anger", {"anger": 0.9}, True, -20.0, 5.0, "sure", 0.9, True, 0.2, 0.9))
    for topic, row in json.loads(FIXTURE.read_text(encoding="utf-8")).items():
        assert json.loads(client.topics[topic]) == row
        assert client.topics.keys() >= {value for key, value in row.items() if key.endswith("_topic")}
        for field in re.findall(r"value_json\.(\w+)", row.get("value_template", "")):
            assert field in json.loads(client.topics[row["state_topic"]])


def test_the_walkthroughs_quote_what_is_sent() -> None:
    (quoted,) = blocks("home-assistant.md", "json")
    ours = discovery(BROKER, LABELS)
    (topic,) = (topic for topic, row in ours.items() if row["name"] == "Emotion")
    assert json.loads(quoted) == ours[topic]
    assert topic in (ROOT / "docs" / "howto" / "home-assistant.md").read_text(encoding="utf-8")
    (flow,) = blocks("node-red.md", "json")
    nodes = {node["id"]: node for node in json.loads(flow)}
    assert nodes["in"]["topic"] == f"{BROKER.topic}/utterance"
    assert nodes["in"]["broker"] in nodes
    assert {target for node in nodes.values() for wire in node.get("wires", ()) for target in wire} <= nodes.keys()


def test_a_broker_that_is_away_is_said_and_tried_again_with_a_recording_too(model: Model, recording: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # free from here on
    words = ["listen", str(model.folder), "--wav", str(recording), "--mqtt", f"mqtt://127.0.0.1:{port}/x", "--json"]
    done = subprocess.run([sys.executable, "-m", "edgeser", *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["probabilities"]
    notes = [line for line in done.stderr.splitlines() if "the broker" in line]
    assert notes == [
        f"note: the broker 127.0.0.1:{port} is away; it is tried again",
        f"note: the broker 127.0.0.1:{port} was away to the end; of what was heard last, up to 100 messages are lost",
    ]
