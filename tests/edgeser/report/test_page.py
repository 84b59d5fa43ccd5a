"""The page as a file: it stands alone, says what was measured, and names nothing that it should not."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from edgeser.distill.pipeline import prepare
from edgeser.errors import RunError
from edgeser.packaging.pack import read_parts
from edgeser.privacy.audit_summary import largest_area
from edgeser.privacy.copies import shifted_distances
from edgeser.report.evidence import read_audit
from edgeser.report.page import ReportPlan, write_report
from edgeser.run import Run
from edgeser.workers import Workers

ALONE = Workers(1)
VOID = {"meta", "img", "br", "link", "input", "hr"}
SVG_LEAVES = {"path", "use"}


@dataclass
class Read(HTMLParser):
    """A page, read: tags, attributes, and text by section."""

    tags: Counter[str] = field(default_factory=Counter)
    attributes: list[tuple[str, str, str]] = field(default_factory=list)
    text: dict[str, str] = field(default_factory=dict)

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.text = Counter(), [], {}
        self._open: list[tuple[str, str]] = []
        self.feed(source)
        self.close()
        assert self._open == [], "tags that are not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self._open.append((tag, dict(attrs).get("id") or "" if tag == "section" else ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self._open.pop()
        assert opened == tag, f"</{tag}> closes <{opened}>"

    def handle_data(self, data: str) -> None:
        for _, section in self._open:
            if section:
                self.text[section] = self.text.get(section, "") + data

    def values(self, tag: str, name: str) -> list[str]:
        return [value for each, key, value in self.attributes if (each, key) == (tag, name)]


@pytest.fixture(scope="session")
def read(page: Path) -> Read:
    return Read(page.read_text(encoding="utf-8"))


def test_it_stands_alone(page: Path, read: Read) -> None:
    addresses = [
        (tag, value) for tag, name, value in read.attributes if name in ("src", "href", "xlink:href", "srcset")
    ]
    assert addresses
    assert {value.partition(":")[0] for _, value in addresses if not value.startswith("#")} == {"data"}
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(read.tags)
    assert not [name for _, name, _ in read.attributes if name.startswith("on")]
    outside_of_text = " ".join(value for tag, name, value in read.attributes if name == "style")
    style = re.search(r"<style>(.*?)</style>", page.read_text(encoding="utf-8"), re.DOTALL)
    assert style is not None
    assert not re.search(r"@import|url\((?!#)", style[1] + outside_of_text)
    assert "default-src 'none'" in "".join(read.values("meta", "content"))


def test_ids_are_unique_and_links_within_the_page_lead_somewhere(read: Read) -> None:
    ids = [value for _, name, value in read.attributes if name == "id"]
    assert [name for name, count in Counter(ids).items() if count > 1] == []
    targets = [value for _, name, value in read.attributes if name in ("href", "xlink:href") and value.startswith("#")]
    assert len(targets) > 20
    assert {target[1:] for target in targets} <= set(ids)


def test_every_section_holds_the_figures_that_were_measured(read: Read, evaluated_run: Run) -> None:
    metrics, text = evaluated_run.metrics(), read.text
    assert metrics is not None
    for row in (metrics["distilled"], metrics["full"], metrics["baselines"]["random_bank"]):
        assert f"{row['uar_mean']:.3f}" in text["results"]
        assert f"± {row['uar_std']:.3f}" in text["results"]
        assert all(f"{recall:.3f}" in text["classes"] for recall in row["recalls"].values())
    for speaker, found in metrics["details"]["distilled"]["speakers"].items():
        assert speaker in text["speakers"]
        assert f"{np.mean(found['uar']):.3f}" in text["speakers"]
    assert all(f"{point['uar_mean']:.3f}" in text["convergence"] for point in metrics["convergence"]["full"])
    for elsewhere in metrics["on"]:
        assert all(f"{elsewhere[row]['uar_mean']:.3f}" in text["corpora"] for row in ("distilled", "full"))
    for words in ("happiness = joy", "0.318 ± 0.021 (0.28 to 0.35)", "-0.035 (-0.06 to -0.01)", "0.500", "0.250"):
        assert words in text["corpora"]
    audit = json.loads((evaluated_run.folder / "audit.json").read_text())
    for line in audit["summary"]:
        assert line["attack"] in text["audit"]
        assert line["words"] in text["audit"]
    assert "did not find the planted leak, so they say nothing of the other sets: sex of an item's" in text["audit"]
    assert "membership (a model)" not in text["audit"]
    area = largest_area(audit, "distilled")
    assert area is not None
    assert f"AUC (chance 0.5){area['value']:.3f}" in "".join(text["summary"].split("\n"))
    assert "edgeser evaluate RUN --on DIR-emodb --corpus emodb --map happiness=joy" in text["repeat"]
    assert "DIR-NAME" in text["repeat"]


def test_the_highest_area_is_that_of_any_attack(evaluated_run: Run, tmp_path: Path) -> None:
    for name in ("config.toml", "audit.json"):
        shutil.copy(evaluated_run.folder / name, tmp_path)
    found = json.loads((tmp_path / "audit.json").read_text())
    found["membership"]["sets"]["distilled"]["model"]["utterance"]["threshold"]["auc"]["value"] = 0.93
    (tmp_path / "audit.json").write_text(json.dumps(found))
    audit = read_audit(Run(tmp_path))
    assert audit is not None
    assert audit.worst is not None
    assert (audit.worst["value"], audit.worst["attack"]) == (0.93, "threshold")


def test_confusion_is_in_percent_of_the_true_class(read: Read, evaluated_run: Run) -> None:
    metrics = evaluated_run.metrics()
    assert metrics is not None
    for row in ("distilled", "full", "random_bank"):
        table = np.array(metrics["details"][row]["confusion"])
        cells = [f"{100 * share:.0f}" for share in (table / table.sum(1, keepdims=True)).flat]
        assert "".join(cells) in re.sub(r"\s|[a-z]", "", read.text["classes"])


def test_pictures_and_sounds_are_whole(read: Read, evaluated_run: Run) -> None:
    pictures, sounds = read.values("img", "src"), read.values("audio", "src")
    assert len(pictures) == len(sounds) == 8  # four items, four recordings
    for uri in pictures:
        image = Image.open(io.BytesIO(base64.b64decode(uri.partition("base64,")[2])))
        assert image.size == (96, 64)
        assert len(image.convert("L").getcolors()) > 20
    for uri in sounds:
        sound, rate = soundfile.read(io.BytesIO(base64.b64decode(uri.partition("base64,")[2])))
        assert rate == 16000
        assert 3 < len(sound) / rate < 3.4
        assert np.abs(sound).max() > 0.1
    assert len(set(pictures)) == len(pictures)


def test_the_nearest_recording_is_the_nearest(read: Read, evaluated_run: Run) -> None:
    train = prepare(evaluated_run.settings(), ALONE).features.train
    items, spec = evaluated_run.distilled().items(), evaluated_run.distilled().frontend
    distances = spec.std * shifted_distances(items, train.crops[:, 0])
    shown = [int(number) for number in re.findall(r"item (\d+),", read.text["items"])]
    assert len(shown) == 4
    for place in shown:
        nearest = train.utterances[int(distances[place].argmin())]
        assert f"nearest, {distances[place].min():.1f} dB away" in read.text["items"]
        assert nearest.path.name in read.text["items"]


def test_what_files_say_is_text_and_not_markup(read: Read, page: Path, evaluated_run: Run) -> None:
    title = evaluated_run.description()["corpus"]["title"]
    assert title == "<b>Bold</b> & 'quoted'"
    assert title in read.text["provenance"]
    assert "<b>Bold" not in page.read_text(encoding="utf-8")


def test_no_folder_of_this_machine_is_in_it(page: Path, evaluated_run: Run) -> None:
    text = page.read_text(encoding="utf-8")
    for folder in (evaluated_run.folder, evaluated_run.description()["corpus"]["folder"], Path.home(), Path.cwd()):
        assert str(folder) not in text


def test_the_same_run_gives_the_same_bytes(page: Path, evaluated_run: Run, tmp_path: Path) -> None:
    again = tmp_path / "again.html"
    written = write_report(evaluated_run, ReportPlan(out=again, items=4), ALONE)
    assert again.read_bytes() == page.read_bytes()
    missing = {"robust": f"edgeser evaluate {evaluated_run.folder} --robust"}
    assert written == {"report": str(again), "bytes": again.stat().st_size, "missing": missing}


def test_a_page_to_pass_on_holds_no_recording(evaluated_run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(evaluated_run.folder, copy)
    description = evaluated_run.description()
    own = description["corpus"] | {"name": "folder", "folder": "/nowhere"}
    (copy / "run.json").write_text(json.dumps(description | {"corpus": own}))
    write_report(Run(copy), ReportPlan(items=3, recordings=False), ALONE)
    read = Read((copy / "report.html").read_text(encoding="utf-8"))
    assert len(read.values("img", "src")) == len(read.values("audio", "src")) == 3
    assert "nearest" not in read.text["items"].partition("Sounds")[0]
    assert ".ogg" not in "".join(read.text.values())
    assert "speaker 1" in read.text["speakers"]
    assert not re.search(r"\b[fm]5\b", read.text["speakers"])


def test_what_was_not_measured_names_its_command(tiny_run: Run, evaluated_run: Run, tmp_path: Path) -> None:
    """metrics.json as an earlier version wrote it, and no more than the distilled set in it."""
    copy = tmp_path / "run"
    shutil.copytree(tiny_run.folder, copy)
    metrics = evaluated_run.metrics()
    assert metrics is not None
    kept = {name: value for name, value in metrics.items() if name not in ("details", "on", "full")}
    kept |= {"full": None, "baselines": {}, "convergence": None}
    (copy / "metrics.json").write_text(json.dumps(kept))
    written = write_report(Run(copy), ReportPlan(items=1), ALONE)
    assert set(written["missing"]) == {"full", "baselines", "details", "convergence", "cross_corpus", "robust", "audit"}
    assert written["missing"]["audit"] == f"edgeser audit {copy}"
    read = Read((copy / "report.html").read_text(encoding="utf-8"))
    assert "edgeser evaluate RUN --full --convergence" in read.text["convergence"]
    assert "edgeser audit RUN" in read.text["audit"]
    assert "edgeser evaluate RUN --on DIR --corpus NAME" in read.text["corpora"]
    assert "edgeser evaluate RUN --full --baselines" in read.text["speakers"]


def test_a_run_without_its_evaluation_or_recordings_names_the_command(
    tiny_run: Run, evaluated_run: Run, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="was not evaluated") as missing:
        write_report(tiny_run, ReportPlan(out=tmp_path / "page.html"), ALONE)
    assert missing.value.hint == f"run: edgeser evaluate {tiny_run.folder} --full --baselines"
    copy = tmp_path / "run"
    shutil.copytree(evaluated_run.folder, copy)
    config = (copy / "config.toml").read_text()
    moved = config.replace('corpus = "demo"', 'corpus = "folder"').replace('folder = ""', 'folder = "/nowhere/at/all"')
    assert moved != config
    (copy / "config.toml").write_text(moved)
    with pytest.raises(RunError, match="cannot be computed again") as gone:
        write_report(Run(copy), ReportPlan(out=tmp_path / "page.html"), ALONE)
    assert f"edgeser report {copy} --folder DIR" in gone.value.hint
    assert not (tmp_path / "page.html").exists()


def test_a_kit_holds_no_details_of_speakers(evaluated_run: Run) -> None:
    metrics = evaluated_run.metrics()
    assert metrics is not None
    assert {"details", "on"} <= set(metrics)
    assert not {"details", "on"} & set(read_parts(evaluated_run.folder).results)


def test_a_damaged_audit_is_named(evaluated_run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(evaluated_run.folder, copy)
    for damaged in ("{", "[]", '{"sets": {}}'):
        (copy / "audit.json").write_text(damaged)
        with pytest.raises(RunError, match=r"audit\.json cannot be understood") as found:
            write_report(Run(copy), ReportPlan(items=1, recordings=False), ALONE)
        assert "edgeser audit" in found.value.hint
