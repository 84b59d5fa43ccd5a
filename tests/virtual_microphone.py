"""A real PulseAudio with a null sink whose monitor is a microphone: played into, unplugged and plugged in by a test."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = {"pulseaudio": "pulseaudio", "pactl": "pulseaudio-utils", "paplay": "pulseaudio-utils"}
ALSA = """
pcm.!default {{ type pulse device "{name}" hint.description "default" }}
ctl.!default {{ type pulse }}
pcm.vmic {{ type pulse device "vsink.monitor" hint {{ show on description "virtual microphone" }} }}
"""
PLAYING_SILENCE = 1.0
"""Seconds before every recording: the sink rewinds when a stream starts, and swallows the first 0.1 s."""


class MissingPackages(RuntimeError):
    """Debian packages without which there is no virtual microphone."""


class VirtualMicrophone:
    """Opened by ALSA and PortAudio as "vmic", and as the default."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.chmod(0o700)
        asound = folder / "asound.conf"
        asound.write_text(ALSA.format(name="vsink.monitor"))
        self.environment = {
            "XDG_RUNTIME_DIR": str(folder),
            "HOME": str(folder),
            "PULSE_SERVER": f"unix:{folder}/sock",
            "ALSA_CONFIG_PATH": f"/usr/share/alsa/alsa.conf:{asound}",
        }
        command = [
            "pulseaudio",
            "-n",
            "--daemonize=no",
            "--exit-idle-time=-1",
            "--use-pid-file=no",
            "--high-priority=no",
        ]
        module = f"module-native-protocol-unix socket={folder}/sock auth-anonymous=1"
        self._log = (folder / "pulse.log").open("wb")
        self._process = subprocess.Popen(
            [*command, "-L", module], env=os.environ | self.environment, stdout=self._log, stderr=self._log
        )
        until = time.monotonic() + 30
        while subprocess.run(["pactl", "info"], env=self.env, capture_output=True, check=False).returncode:
            if time.monotonic() > until:
                raise RuntimeError(f"pulseaudio does not start: {(folder / 'pulse.log').read_text()}")
            time.sleep(0.1)
        self.plug_in()

    @property
    def env(self) -> dict[str, str]:
        """The environment of a program that hears it."""
        return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | self.environment

    def plug_in(self, rate: int = 16000) -> None:
        """Let the microphone be there, recording at ``rate`` Hz."""
        sink = f"sink_name=vsink rate={rate} channels=1 format=s16le"
        done = subprocess.run(
            ["pactl", "load-module", "module-null-sink", *sink.split()],
            env=self.env, capture_output=True, text=True, check=True,
        )  # fmt: skip
        self._module = done.stdout.strip()

    def unplug(self) -> None:
        """Take it away."""
        subprocess.run(["pactl", "unload-module", self._module], env=self.env, check=True)

    def play(self, path: Path) -> None:
        """Play a file into it, a second of silence before; returns when it was heard."""
        subprocess.run(["paplay", "--device=vsink", str(path)], env=self.env, check=True)

    def wait_for_listener(self, timeout: float = 60) -> None:
        """Wait until a program records from it."""
        until = time.monotonic() + timeout
        while not self.listeners():
            if time.monotonic() > until:
                raise RuntimeError("nobody listens to the virtual microphone")
            time.sleep(0.05)

    def listeners(self) -> int:
        """How many programs record from it."""
        done = subprocess.run(
            ["pactl", "list", "short", "source-outputs"], env=self.env, capture_output=True, text=True, check=True
        )
        return len(re.findall(r"^\d+\t", done.stdout, re.MULTILINE))

    def close(self) -> None:
        """End it."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


@contextmanager
def virtual_microphone() -> Iterator[VirtualMicrophone]:
    """One for a block.

    Raises:
        MissingPackages: Something of it is not installed.
    """
    missing = sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})
    if not any(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so")):
        missing.append("libasound2-plugins")
    if missing:
        raise MissingPackages(f"needs the Debian packages {' '.join(missing)}")
    # Short: the path of a socket has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="vmic-") as folder:
        microphone = VirtualMicrophone(Path(folder))
        try:
            yield microphone
        finally:
            microphone.close()
