"""Events for home automation: one state topic, Home Assistant's discovery, a last will, reconnects.

    mqtt://USER@HOST:1883/TOPIC     mqtts://HOST/TOPIC         the password is read from EDGESER_MQTT_PASSWORD

Below TOPIC (``edgeser/HOSTNAME`` unless given): ``status`` is online or offline, retained, the latter by last will;
``state`` is what is heard now, sent when it changes and when an utterance ended; ``utterance`` is each of those. paho
keeps the connection in a thread of its own and tries again after 1 to 60 seconds for as long as the broker is away,
which is said on stderr; at the end of a recording it is waited for a moment.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from edgeser_device.errors import BrokerError, ListenError
from edgeser_device.listen.events import Counters, Event, Status
from edgeser_device.listen.sinks.sink import Sink
from edgeser_export.utilities.errors import MissingExtra
from edgeser_export.utilities.files import sha256

PASSWORD = "EDGESER_MQTT_PASSWORD"  # noqa: S105  the name of a variable
DISCOVERY = "homeassistant"
FIRST_ANSWER_SECONDS = 3.0
"""A broker that refuses says so at once; one that is away is waited for in the background."""
LAST_SECONDS = 5.0
"""A recording that has ended waits so long for a broker that is away."""
WAITING_MESSAGES = 100
"""Kept while the broker is away; older ones are of no use to a home."""
CREDENTIALS = frozenset({"Bad user name or password", "Not authorized", "Banned", "Bad authentication method"})
LONGEST_TOPIC = 200
"""Characters; below it stand further parts, and MQTT takes 65535 bytes in all."""
EXAMPLE = "give mqtt://USER@HOST:PORT/TOPIC or mqtts://HOST/TOPIC"


@dataclass(frozen=True)
class Broker:
    """The broker and topic to publish to.

    Attributes:
        host: Name or number.
        port: 1883, or 8883 with TLS, unless given.
        tls: Whether the connection is encrypted and the broker's certificate checked.
        user: None for none.
        password: None for none.
        topic: Below which everything is.
    """

    host: str
    port: int
    tls: bool
    user: str | None
    password: str | None
    topic: str

    @property
    def node(self) -> str:
        """The topic as an identifier."""
        return home_assistant_id(self.topic)


def home_assistant_id(name: str) -> str:
    """An id of ASCII letters, digits, ``_`` and ``-``, which is all that Home Assistant takes; it ignores others.

    A name that has other letters, or more than 40, gets a digest, so that no two names have one id.
    """
    plain = re.sub("[^a-zA-Z0-9_-]+", "_", name)[:40]
    if plain and plain == name:
        return name
    return f"{plain}-{sha256(name.encode(errors='surrogatepass')).hexdigest()[:12]}"


def parse_broker(url: str, environment: Mapping[str, str] = os.environ) -> Broker:
    """The parts of a broker's URL; a password in the environment goes before one in the URL, which others can see.

    Raises:
        ListenError: It is none.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")  # a name that no network takes would end paho's thread
    except ValueError as error:
        raise ListenError(f"the host or port of {_without_password(url)!r} is none", EXAMPLE) from error
    if parts.scheme not in ("mqtt", "mqtts") or not host or parts.query or "#" in url:
        raise ListenError(f"{_without_password(url)!r} is no broker", EXAMPLE)
    topic = unquote(parts.path).strip("/") or f"edgeser/{platform.node() or 'board'}"
    if re.search(r"[+#\0]", topic):
        raise ListenError(f"the topic {topic!r} holds a wildcard", "use letters, digits and slashes")
    if len(topic) > LONGEST_TOPIC or not topic.isprintable():
        raise ListenError(
            f"the topic {topic[:LONGEST_TOPIC]!r} is too long, or holds letters that cannot be printed",
            f"use up to {LONGEST_TOPIC} letters, digits and slashes",
        )
    tls = parts.scheme == "mqtts"
    password = environment.get(PASSWORD) or (unquote(parts.password) if parts.password else None)
    user = unquote(parts.username) if parts.username else None
    return Broker(host, port or (8883 if tls else 1883), tls, user, password, topic)


def discovery(broker: Broker, labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Home Assistant's configuration messages by topic: emotion, confidence, level, and whether sound arrives."""
    shared = {
        "availability_topic": f"{broker.topic}/status",
        "device": {"identifiers": [broker.node], "name": broker.topic, "manufacturer": "edgeser", "model": "listen"},
        "state_topic": f"{broker.topic}/state",
    }
    options = list(dict.fromkeys([*labels, "uncertain", "quiet"]))
    rows: dict[tuple[str, str], dict[str, Any]] = {
        ("sensor", "emotion"): {
            "name": "Emotion", "device_class": "enum", "options": options, "icon": "mdi:account-voice",
            "value_template": "{{ value_json.shown }}", "json_attributes_topic": f"{broker.topic}/utterance",
        },
        ("sensor", "confidence"): {
            "name": "Confidence", "unit_of_measurement": "%", "state_class": "measurement",
            "value_template": "{{ (value_json.confidence * 100) | round }}",
        },
        ("sensor", "level"): {
            "name": "Level", "unit_of_measurement": "dB", "state_class": "measurement",
            "value_template": "{{ value_json.level_db }}",
        },
        ("binary_sensor", "microphone"): {
            "name": "Microphone", "device_class": "connectivity", "entity_category": "diagnostic",
            "state_topic": f"{broker.topic}/microphone", "payload_on": "listening", "payload_off": "lost",
        },
        ("binary_sensor", "storing"): {
            "name": "Stores what is said", "device_class": "running", "entity_category": "diagnostic",
            "state_topic": f"{broker.topic}/storing", "payload_on": "yes", "payload_off": "no",
        },
    }  # fmt: skip
    return {
        f"{DISCOVERY}/{kind}/{broker.node}/{name}/config": {**shared, "unique_id": f"{broker.node}_{name}", **row}
        for (kind, name), row in rows.items()
    }


class Topics(Sink):
    """Publishes; paho's thread does the waiting."""

    def __init__(self, client: Any, broker: Broker, labels: Sequence[str], counters: Counters) -> None:
        self._client, self._broker, self._counters = client, broker, counters
        self._discovery = discovery(broker, labels)
        self._known: dict[str, str] = {}
        self._shown = ""

    def event(self, event: Event) -> None:
        """Publish what is heard, when it changes; every utterance that ended."""
        shown = event.emotion if event.state == "sure" else event.state
        if shown != self._shown or event.final:
            self._shown = shown
            self._publish("state", json.dumps({**event.to_json(), "shown": shown}, allow_nan=False))
        if event.final:
            self._publish("utterance", json.dumps({**event.to_json(), "shown": shown}, allow_nan=False))

    def status(self, status: Status) -> None:
        """Publish whether sound arrives, and whether it is stored."""
        wanted = {"microphone": "lost" if status.condition == "lost" else "listening"}
        wanted["storing"] = "yes" if status.storing else "no"
        for topic, value in wanted.items():
            if self._known.get(topic) != value:
                self._known[topic] = value
                self._publish(topic, value, retain=True)

    def introduce(self) -> None:
        """Say everything that a broker, or a Home Assistant, that was away does not know."""
        for topic, value in self._discovery.items():
            self._client.publish(topic, json.dumps(value), qos=1, retain=True)
        for topic, words in self._known.items():
            self._publish(topic, words, retain=True)
        self._publish("status", "online", retain=True)

    def _publish(self, topic: str, value: str, retain: bool = False) -> None:
        self._client.publish(f"{self._broker.topic}/{topic}", value, qos=1, retain=retain)


@contextmanager
def mqtt_topics(url: str, authority: Path | None, labels: Sequence[str], counters: Counters) -> Iterator[Sink]:
    """Publish while the block runs; say offline at its end.

    Raises:
        ListenError: The URL is none.
        MissingExtra: paho-mqtt is not installed.
        BrokerError: The broker refuses us, or its certificate cannot be checked. One that is away is no error.
    """
    broker = parse_broker(url)
    client = _new_client(broker, authority)
    topics = Topics(client, broker, labels, counters)
    answer = _Answer(broker, topics, counters)
    client.on_connect, client.on_disconnect = answer.connected, answer.disconnected
    client.on_message = lambda *_: topics.introduce()
    client.on_connect_fail = answer.failed
    try:
        client.connect_async(broker.host, broker.port, keepalive=30)
    except ValueError as error:
        raise ListenError(f"the broker {broker.host}:{broker.port} cannot be used: {error}", EXAMPLE) from error
    client.loop_start()
    try:
        answer.wait()
        yield topics
        answer.wait_at_the_end()
    finally:
        if client.is_connected():
            client.publish(f"{broker.topic}/status", "offline", qos=1, retain=True).wait_for_publish(2)
        client.disconnect()
        client.loop_stop()


class _Answer:
    """The broker's answers to the first attempt to connect, and to all later ones."""

    def __init__(self, broker: Broker, topics: Topics, counters: Counters) -> None:
        self._broker, self._topics, self._counters = broker, topics, counters
        self._came, self._here = threading.Event(), threading.Event()
        self._away = False
        self._refusal: str | None = None

    def connected(self, client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._refusal = str(reason)
        else:
            self._counters.broker_connects += 1
            self._here.set()
            if self._away:
                self._say("is there")
            self._away = False
            client.subscribe(f"{DISCOVERY}/status")
            self._topics.introduce()
        self._came.set()

    def disconnected(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure and self._refusal is None:
            self._counters.broker_losses += 1
            self.failed(_client, _data)

    def failed(self, _client: Any, _data: Any) -> None:
        self._here.clear()
        if not self._away:
            self._say("is away; it is tried again")
        self._away = True
        self._came.set()

    def wait_at_the_end(self) -> None:
        if not self._here.wait(LAST_SECONDS):
            self._say(f"was away to the end; of what was heard last, up to {WAITING_MESSAGES} messages are lost")

    def _say(self, words: str) -> None:
        sys.stderr.write(f"note: the broker {self._broker.host}:{self._broker.port} {words}\n")

    def wait(self) -> None:
        self._came.wait(FIRST_ANSWER_SECONDS)
        where = f"{self._broker.host}:{self._broker.port}"
        if self._refusal in CREDENTIALS:
            raise BrokerError(
                f"the broker {where} refuses user {self._broker.user!r}: {self._refusal}",
                f"check the user in the URL and the password in {PASSWORD}",
            )
        if self._refusal is not None:
            raise BrokerError(f"the broker {where} refuses: {self._refusal}", "look into the broker's log")


def _without_password(url: str) -> str:
    return re.sub(r":[^/@]*@", ":...@", url)


def _new_client(broker: Broker, authority: Path | None) -> Any:
    try:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion
    except ImportError as error:
        raise MissingExtra("paho-mqtt", "mqtt") from error
    client = Client(CallbackAPIVersion.VERSION2, client_id=f"edgeser-{broker.node}-{os.getpid()}")
    client.max_queued_messages_set(WAITING_MESSAGES)
    client.reconnect_delay_set(1, 60)
    client.will_set(f"{broker.topic}/status", "offline", qos=1, retain=True)
    if broker.user is not None:
        client.username_pw_set(broker.user, broker.password)
    if broker.tls:
        try:
            client.tls_set(str(authority) if authority else None)
        except (OSError, ValueError) as error:
            raise BrokerError(
                f"the certificate authority {authority} cannot be used: {error}", "give --mqtt-ca the broker's CA file"
            ) from error
    return client
