"""The table of boards, and the reports that it is made of, by the real program."""

from __future__ import annotations

import getpass
import json
import platform
from pathlib import Path

import boards
from device.kits import write_kit

from edgeser_device.bench.bench import run_bench, with_recommendation
from edgeser_device.bench.sent import MACHINE, RESULT, report_of, write_report
from edgeser_device.kit.kit import read_kit
from edgeser_device.model.model import load_model
from edgeser_device.train.train import Settings, train


def test_the_page_is_what_the_reports_make() -> None:
    assert boards.PAGE.read_text(encoding="utf-8") == boards.page_of(boards.read_reports(boards.REPORTS))
    assert "There is no report yet" in boards.page_of([])


def test_a_report_names_the_machine_and_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "names" / "model"
    train(read_kit(write_kit(tmp_path).path), folder, Settings(threads=1))
    model = load_model(folder)
    bench = with_recommendation(run_bench(model, "onnxruntime", (1,), 2), model)
    (tmp_path / "reports").mkdir()
    path = tmp_path / "reports" / "board.json"
    write_report(bench, model, path)
    text = path.read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    for word in (platform.node(), getpass.getuser()):
        assert f'"{word}"' not in text
    report = json.loads(text)
    assert set(report["machine"]) == set(MACHINE)
    assert set(report["results"][0]) == set(RESULT)
    secret = {**bench.results[0], "test": {"corpus": "mine"}}
    leaky = type(bench)((secret,), ({"reason": str(folder)},), {**bench.machine, "kernel": "6.1.0-anna"}, {})
    assert "anna" not in json.dumps(report_of(leaky, model))
    assert "mine" not in json.dumps(report_of(leaky, model))
    page = boards.page_of(boards.read_reports(path.parent))
    assert f"| onnx | float32 | onnxruntime | 1 | {report['results'][0]['frontend_ms_p50']} |" in page
