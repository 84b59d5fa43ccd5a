"""Every example runs, and gives the probabilities of predict on ten recordings: Python, Node.js, and a real browser."""

from __future__ import annotations

import base64
import functools
import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import soundfile
from device.kits import write_kit
from e2e.chromium import Page, chromium
from sources import ROOT

from edgeser_device import open_model
from edgeser_device.kit.kit import read_kit
from edgeser_device.model.model import load_model
from edgeser_device.model.reexport import export_model
from edgeser_device.train.train import Settings, train

EXAMPLES = ROOT / "examples"
DEMO = Path(str(files("edgeser.corpora"))) / "demo_data"
NO_NETWORK = re.compile("ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ENETUNREACH|ETIMEDOUT")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, its export with the front-end, and ten clips as WAV files of several kinds."""
    folder = tmp_path_factory.mktemp("place")
    train(read_kit(write_kit(folder / "kit").path), folder / "model", Settings(threads=1))
    export_model(load_model(folder / "model"), "onnx", folder / "files", front_end=True)
    (folder / "clips").mkdir()
    kinds = ["PCM_16", "PCM_24", "FLOAT"]
    for number, path in enumerate(sorted(DEMO.glob("*.ogg"))[::32]):
        samples, rate = soundfile.read(path, dtype="float32")
        two = np.stack([samples, samples], axis=1) if number % 2 else samples
        soundfile.write(folder / "clips" / f"{path.stem}.wav", two, rate, subtype=kinds[number % 3])
    return folder


@pytest.fixture(scope="module")
def expected(place: Path) -> dict[str, dict[str, float]]:
    """The probabilities of predict for each clip."""
    model = open_model(place / "model")
    found = {path.name: dict(model.predict(path).probabilities) for path in sorted((place / "clips").iterdir())}
    assert len(found) == 10
    return found


def require_equal(lines: str, expected: dict[str, dict[str, float]]) -> None:
    rows = [json.loads(line) for line in lines.splitlines()]
    assert [Path(row["file"]).name for row in rows] == list(expected)
    for row, probabilities in zip(rows, expected.values(), strict=True):
        assert row["probabilities"] == pytest.approx(probabilities, abs=1e-3)
        assert probabilities[row["emotion"]] == pytest.approx(max(probabilities.values()), abs=1e-3)


def test_python(place: Path, expected: dict[str, dict[str, float]]) -> None:
    program = EXAMPLES / "python" / "recognise.py"
    assert len(program.read_text(encoding="utf-8").splitlines()) <= 20
    clips = sorted((place / "clips").iterdir())
    done = subprocess.run(
        [sys.executable, program, place / "model", *clips], capture_output=True, text=True, check=True
    )
    require_equal(done.stdout, expected)
    broken = [sys.executable, program, place / "model", place / "none.wav"]
    done = subprocess.run(broken, capture_output=True, text=True)
    assert done.returncode == 2
    assert "none.wav is not a file; check the path" in done.stderr


@pytest.mark.parametrize("name", ["node", "browser"])
def test_lock_files_pin_everything_and_name_no_host(name: str) -> None:
    text = (EXAMPLES / name / "package-lock.json").read_text(encoding="utf-8")
    packages = json.loads(text)["packages"]
    del packages[""]
    assert all(each["integrity"].startswith("sha512-") for each in packages.values())
    assert "resolved" not in text


def installed(name: str, folder: Path) -> Path:
    """A copy of an example with what its lock file names; the test is skipped, and counted, where npm gives nothing."""
    if shutil.which("npm") is None:
        pytest.skip("needs the Debian package npm")
    place = shutil.copytree(EXAMPLES / name, folder / name, ignore=shutil.ignore_patterns("node_modules", "site"))
    words = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    done = subprocess.run(words, cwd=place, capture_output=True, text=True, timeout=300)
    if done.returncode and NO_NETWORK.search(done.stderr):
        pytest.skip("npm reaches no registry")
    assert done.returncode == 0, done.stderr
    return place


@pytest.mark.slow
@pytest.mark.system
def test_node(place: Path, expected: dict[str, dict[str, float]], tmp_path: Path) -> None:
    example = installed("node", tmp_path)
    clips, golden = sorted((place / "clips").iterdir()), place / "files" / "recogniser.golden.json"

    def recognise(*words: Path) -> subprocess.CompletedProcess[str]:
        command = ["node", "recognise.mjs", *words]
        return subprocess.run(command, cwd=example, capture_output=True, text=True, timeout=120)

    done = recognise(golden, *clips)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "4 golden cases are right\n"
    require_equal(done.stdout, expected)
    soundfile.write(tmp_path / "other.wav", np.zeros(800), 8000)
    (tmp_path / "text.wav").write_text("no recording at all")
    done = recognise(golden, tmp_path / "other.wav", tmp_path / "text.wav")
    assert done.returncode == 2
    assert "it has 8000 Hz: resample it to 16000 Hz first" in done.stderr
    assert "it is no WAV file" in done.stderr
    wrong = shutil.copytree(place / "files", tmp_path / "wrong") / golden.name
    cases = json.loads(wrong.read_text())
    cases["cases"][2]["probabilities"] = dict.fromkeys(cases["labels"], 0.0)
    wrong.write_text(json.dumps(cases))
    assert 'the golden case "silent edges" is off by' in recognise(wrong, *clips).stderr


class Site(http.server.SimpleHTTPRequestHandler):
    """Hands out files, and remembers what it was asked."""

    asked: list[str]

    def log_request(self, code: object = "-", size: object = "-") -> None:
        self.asked.append(f"{self.command} {self.path} {int(str(getattr(code, 'value', code)))}")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    """The address of the built page, and what was asked of its server."""
    example = installed("browser", tmp_path_factory.mktemp("example"))
    build = ["npm", "run", "--silent", "build", "--", str(place / "files")]
    done = subprocess.run(build, cwd=example, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    asked: list[str] = []
    handler = functools.partial(type("Asked", (Site,), {"asked": asked}), directory=str(example / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", asked
        server.shutdown()


def give(page: Page, path: Path, how: str) -> None:
    """Drop a file on the page, or choose it."""
    content = base64.b64encode(path.read_bytes()).decode()
    page.ask(f"""(() => {{
        const given = new DataTransfer();
        const bytes = Uint8Array.from(atob("{content}"), (letter) => letter.charCodeAt(0));
        given.items.add(new File([bytes], "{path.name}"));
        const file = document.getElementById("file"), drop = document.getElementById("drop");
        if ("{how}" === "drop") drop.dispatchEvent(new DragEvent("drop", {{ dataTransfer: given }}));
        else {{ file.files = given.files; file.dispatchEvent(new Event("change")); }}
    }})()""")


ANSWER = "document.getElementById('answer').dataset"


@pytest.mark.slow
@pytest.mark.system
def test_a_file_in_the_browser(site: tuple[str, list[str]], place: Path, expected: dict[str, dict[str, float]]) -> None:
    url, asked = site
    with chromium() as page:
        page.open(url)
        page.wait_for("document.body && document.body.dataset.ready === 'yes'")
        for number, (name, probabilities) in enumerate(expected.items()):
            give(page, place / "clips" / name, "drop" if number % 2 else "choose")
            page.wait_for(f"{ANSWER}.source === '{name}'")
            found = json.loads(page.ask(f"{ANSWER}.probabilities"))
            assert found == pytest.approx(probabilities, abs=1e-3)
            best = max(found, key=lambda label: found[label])
            assert page.ask("document.querySelector('#answer strong').textContent") == best
            assert page.ask("document.querySelector('tr.most th').textContent") == best
        page.ask("document.getElementById('answer').dataset.source = ''")
        (place / "text.wav").write_text("no recording at all")
        give(page, place / "text.wav", "drop")
        page.wait_for("document.getElementById('status').textContent.startsWith('text.wav cannot be read')")
        elsewhere = "performance.getEntriesByType('resource').map((one) => one.name)"
        assert all(name.startswith(url) for name in page.ask(elsewhere))
        # The page itself may not send anything to another machine.
        page.ask("fetch('http://127.0.0.2:9/').catch((error) => { window.refused = error.name; })")
        page.wait_for("window.refused === 'TypeError'", timeout=10)
    assert {line.split()[0] for line in asked} == {"GET"}
    assert {line.split()[2] for line in asked} <= {"200", "304"}, asked


@pytest.mark.slow
@pytest.mark.system
def test_the_microphone_in_the_browser(site: tuple[str, list[str]], place: Path, tmp_path: Path) -> None:
    """The browser plays a WAV file again and again as if it were its microphone."""
    url, _ = site
    samples, rate = soundfile.read(DEMO / "m1_anger_01.ogg", dtype="float32")
    soundfile.write(tmp_path / "spoken.wav", np.pad(samples, 8000), rate, subtype="PCM_16")
    fake = f"--use-file-for-fake-audio-capture={tmp_path / 'spoken.wav'}"
    with chromium("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream", fake) as page:
        page.open(url)
        page.wait_for("document.body && document.body.dataset.ready === 'yes'")
        page.ask("document.getElementById('microphone').click()")
        page.wait_for(f"{ANSWER}.source === 'microphone'")
        assert set(json.loads(page.ask(f"{ANSWER}.probabilities"))) == set(open_model(place / "model").labels)
        assert page.ask("document.getElementById('status').textContent").startswith("Listening")
        before = page.ask(f"{ANSWER}.probabilities")
        page.wait_for(f"{ANSWER}.probabilities !== {json.dumps(before)}")
        page.screenshot(tmp_path / "page.png")
        page.ask("document.getElementById('microphone').click()")
        page.wait_for("document.getElementById('status').textContent === 'Stopped.'")


@pytest.mark.slow
@pytest.mark.system
def test_without_a_microphone_the_page_says_so(site: tuple[str, list[str]]) -> None:
    with chromium("--deny-permission-prompts") as page:
        page.open(site[0])
        page.wait_for("document.body && document.body.dataset.ready === 'yes'")
        page.ask("document.getElementById('microphone').click()")
        page.wait_for("document.getElementById('status').textContent.startsWith('There is no microphone')")
