"""Tables at any width: nothing is wider than the terminal, and no word is broken that fits on a line."""

from __future__ import annotations

import ast
import io
import json
import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from device.kits import write_kit
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from edgeser.cli import board_tables as tables
from edgeser.cli import data, methods
from edgeser.corpora import load_corpus
from edgeser.corpora.check import check_corpus, render_check
from edgeser.demonstration import summary_table
from edgeser.privacy.attack_lines import audit_table
from edgeser.report.tables import Sheet, comparison_table, evaluation_tables
from edgeser_device.bench.bench import Bench
from edgeser_device.install.doctor import diagnose
from edgeser_device.kit.kit import read_kit
from edgeser_device.listen import devices
from edgeser_device.listen.segments import Segment
from edgeser_device.machine import describe_machine
from edgeser_device.model.predict import Prediction

HERE = Path(__file__).parent
DEMO = Path(str(files("edgeser.corpora").joinpath("demo_data")))
MACHINE = {**describe_machine(), "model": "Raspberry Pi 4 Model B Rev 1.4", "cpu": "Cortex-A72"}
WIDE = 4000


def printed(renderable: object, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, markup=False, emoji=False, highlight=False)
    console.print(renderable)
    return console.file.getvalue()


def words_of(text: str) -> set[str]:
    return {word.strip(",:;") for word in text.split()}


def titles_of(renderable: object) -> set[str]:
    """Words of columns' titles, which are left out where no cell stands below them."""
    if isinstance(renderable, Sheet):
        return words_of(" ".join(renderable.titles))
    return set().union(*(titles_of(each) for each in getattr(renderable, "renderables", ())))


def require_fit(renderable: object, width: int) -> None:
    """Look for all words that are printed where there is enough room in what is printed at this width."""
    text = printed(renderable, width)
    assert max(map(cell_len, text.splitlines())) <= width, text
    words = words_of(printed(renderable, WIDE)) - titles_of(renderable)
    broken = {word for word in words - words_of(text) if cell_len(word) <= width - 4}
    assert not broken, f"{broken} in\n{text}"


@settings(max_examples=50)
@given(
    rows=st.integers(1, 6).flatmap(
        lambda columns: st.lists(
            st.lists(st.text("abc 語ö1", max_size=30), min_size=columns, max_size=columns), min_size=1, max_size=4
        )
    ),
    width=st.integers(20, 120),
    data=st.data(),
)
def test_any_table_fits(rows: list[list[str]], width: int, data: st.DataObject) -> None:
    titles = data.draw(st.lists(st.text("xyz", min_size=1, max_size=9), min_size=len(rows[0]), max_size=len(rows[0])))
    right = data.draw(st.lists(st.sampled_from(["", ">"]), min_size=len(titles), max_size=len(titles)))
    columns = [sign + title for sign, title in zip(right, titles, strict=True)]
    sheet = Sheet(*columns, title="a title of words", caption="a caption")
    for cells in rows:
        sheet.add(*cells)
    require_fit(sheet, width)


def test_columns_stand_beside_each_other_where_they_fit_and_below_each_other_where_not() -> None:
    sheet = Sheet("", "file", "what was found", ">UAR", ">std")
    sheet.add("!", "a.wav", "nothing", "0.812", "")
    sheet.add("", "b.wav", "", "0.7", "0.01")
    assert [line.rstrip() for line in printed(sheet, 60).splitlines()] == [
        "   file   what was found    UAR   std",
        "!  a.wav  nothing         0.812",
        "   b.wav                    0.7  0.01",
    ]
    assert [line.rstrip() for line in printed(sheet, 24).splitlines()] == [
        "! a.wav",
        "  what was found:",
        "  nothing",
        "  UAR 0.812",
        "b.wav",
        "  UAR 0.7, std 0.01",
    ]


def test_brackets_are_no_markup() -> None:
    sheet = Sheet("file")
    sheet.add("clip[red]:smile:.wav")
    assert "clip[red]:smile:.wav" in printed(sheet, 80)


# Every table that the command line prints ----------------------------------------------------------------------------


def row(mean: float) -> dict[str, Any]:
    return {"uar_mean": mean, "uar_std": 0.012, "dev_uar_mean": mean + 0.05}


def evaluated(_: Path, __: pytest.MonkeyPatch) -> object:
    interval = {"low": 0.51, "high": 0.62}
    entry = {
        "corpus": "somewhere", "speakers": 12, "clips": 1234, "chance": 0.25, "ratio": 0.91,
        "labels": {"anger": "anger", "happiness": "joy"}, "difference": {"value": -0.05, **interval},
        "distilled": {"uar_mean": 0.56, **interval}, "full": {"uar_mean": 0.61, **interval},
    }  # fmt: skip
    full = {name: row(0.8) for name in ("full", "full_best", "full_soft")}
    points = [{"steps": 400, "seconds": 8.0, **row(0.4)}, {"steps": 7200, "seconds": 144.4, **row(0.72)}]
    reached = {"steps": 7200, "seconds": 144.4}
    curves = {
        "distilled": points, "full": points, "target": 0.71, "to_target": {"distilled": reached, "full": reached},
        "ratio": {"steps": 1.0, "seconds": 1.0}, "seeds": [0], "seconds_of": "one processor core",
    }  # fmt: skip
    result = {
        **full, "distilled": {**row(0.72), "ratio": 0.9, "share": 0.056, "ipc": 6, "bytes": 210_000},
        "init": {"uar": 0.25}, "experts": {"uar": 0.85, "members": 3}, "convergence": curves, "seeds": [0, 1],
        "baselines": {"random": row(0.6), "random_bank_bytes": {**row(0.66), "same_as": "random_bank"}},
        "transfer": {"cnn6:0.25": {**row(0.63), "width": 0.25, "parameters": 12_345}}, "machine": MACHINE,
        "student": {"architecture": "edgenet", "width": 1.0, "parameters": 24_696}, "split": {"name": "quick"},
    }  # fmt: skip
    corpora = {"ravdess": 0.72, "our own recordings": 0.5}
    result["distilled"] |= {"corpora": corpora}
    result["full"] |= {"corpora": corpora}
    level = {"uar": 0.61, "uar_std": 0.01, "unchanged": 0.8}
    codecs = {"MP3 64 kbit/s": level, "mu-law 8 kHz": level}
    robust = {"clean": {"uar": 0.7}, "room": {"0.5 s": level}, "codec": codecs, "mce": 0.39, "relative": 1.3}
    return evaluation_tables({**result, "on": [entry], "robust": robust})


def compared(_: Path, __: pytest.MonkeyPatch) -> object:
    one = {
        "run": "runs/ravdess-invert-6", "corpus": "ravdess", "method": "invert", "student": "edgenet", "ipc": 6,
        "share": 0.056, "bytes": 210_000, "ratio": 0.9, **row(0.72),
    }  # fmt: skip
    return comparison_table([one, {**one, "ratio": None, "uar_std": None}])


def audited(_: Path, __: pytest.MonkeyPatch) -> object:
    return audit_table(json.loads((HERE.parent / "privacy" / "example.json").read_text()))


def checked(folder: Path, _: pytest.MonkeyPatch) -> object:
    for label in ("anger", "neutral"):
        for clip in sorted(DEMO.glob(f"f1_{label}_0[12].ogg")):
            for name in (clip.name, f"again_{clip.name}"):
                (folder / label).mkdir(exist_ok=True)
                shutil.copy(clip, folder / label / name)
    return render_check(check_corpus(load_corpus("folder", folder), n_jobs=1))


def inspected(folder: Path, _: pytest.MonkeyPatch) -> object:
    return tables.kit_table(read_kit(write_kit(folder).path), "no")


def benched(_: Path, __: pytest.MonkeyPatch) -> object:
    return tables.bench_table(BENCH)


def diagnosed(_: Path, patch: pytest.MonkeyPatch) -> object:
    names = ("HDA Intel PCH: ALC257 Analog (hw:0,0)", "USB Audio Device: - (hw:1,0)", "sysdefault", "telephone")
    rates = ((44100, 48000, 96000), (16000, 48000), (), (8000,))
    levels = (-52.3, -60.0, None, -40.0)
    found = tuple(
        devices.DeviceInfo(number, name, rate, level, number == 1)
        for number, (name, rate, level) in enumerate(zip(names, rates, levels, strict=True))
    )
    patch.setattr(devices, "list_devices", lambda: found)
    return tables.doctor_table(diagnose())


def installed(_: Path, __: pytest.MonkeyPatch) -> object:
    state = {
        "folder": "/home/pi/edgeser", "slot": "a", "kit": "0123456789abcdef" * 3, "target": "rpi4", "steps": 600,
        "trained": "2025-11-30T18:41:00+00:00", "uar": 0.7, "uar_packed": 0.71, "edgeser": "0.1.0", "previous": None,
        "uar_on": {"corpus": "demo", "part": "test", "utterances": 64}, "trusted": None,
        "packages": {"onnxruntime": "1.23.0", "ai-edge-litert": "2.0.2"},
    }  # fmt: skip
    return tables.status_table(state)


def predicted(_: Path, patch: pytest.MonkeyPatch) -> object:
    labels = ("anger", "calm", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
    shares = dict(zip(labels, np.linspace(0.02, 0.23, 8).tolist(), strict=True))
    rows = [Prediction(Path(f"clips/actor_{number}.wav"), "surprise", shares, 2, 3.5, "sure") for number in range(3)]
    shown: list[object] = []
    patch.setattr("edgeser.cli.options.print_rich", shown.append)
    tables.print_predictions(rows, labels, as_csv=False)
    return shown[0]


def divided(_: Path, patch: pytest.MonkeyPatch) -> object:
    labels = ("anger", "calm", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
    shares = dict(zip(labels, np.linspace(0.02, 0.23, 8).tolist(), strict=True))
    rows = [Segment(Path("recordings/evening.wav"), 3599.5, 3602.25, "surprise", "sure", shares)]
    shown: list[object] = []
    patch.setattr("edgeser.cli.options.print_rich", shown.append)
    patch.setattr("edgeser_device.listen.segments.segments_of", lambda *_: rows)
    tables.show_segments(SimpleNamespace(labels=labels), [Path("recordings/evening.wav")], as_json=False, as_csv=False)
    return shown[0]


def listed(_: Path, patch: pytest.MonkeyPatch) -> object:
    shown: list[object] = []
    patch.setattr("edgeser.cli.options.print_rich", shown.append)
    data.list_corpora()
    return shown[0]


def set_up(_: Path, patch: pytest.MonkeyPatch) -> object:
    shown: list[object] = []
    patch.setattr("edgeser.cli.options.print_rich", shown.append)
    methods.methods("mtt")
    return shown[0]


def demonstrated(folder: Path, _: pytest.MonkeyPatch) -> object:
    uar = {"full": 0.8, "distilled": 0.79, "random": 0.6, "device": 0.78}
    training = {"seconds": 12.3, "peak_rss_mb": 160.0}
    names = {"folder": str(folder), "clip": str(folder / "clip.ogg"), "report": str(folder / "report.html")}
    sizes = {"corpus_bytes": 1_920_000, "kit_bytes": 278_000, "items": 24, "share": 0.125, "seconds": 170.0}
    made = {"uar": uar, "training": training, "bench": BENCH.to_json(), "events": [], "clip_emotion": "anger"}
    return summary_table({**names, **sizes, **made})


ROWS: list[dict[str, Any]] = [
    {
        "format": kind, "precision": precision, "runtime": runtime, "threads": threads, "frontend_ms_p50": 12.345,
        "model_ms_p50": 0.32, "p95": 0.4, "p99": 0.5, "rtf": 0.0123, "peak_rss_mb": 61.2, "bytes": 97_899, "uar": 0.823,
    }
    for precision in ("float32", "int8")
    for kind, runtime in (("onnx", "onnxruntime"), ("tflite", "litert"))
    for threads in (1, 4)
]  # fmt: skip
SKIPPED = {"format": "tflite", "precision": "int8", "runtime": "tflite_runtime", "threads": 1, "reason": "SIGILL"}
BENCH = Bench(tuple(ROWS), (SKIPPED,), MACHINE, {}, ROWS[0])

Make = Callable[[Path, pytest.MonkeyPatch], object]
TABLES: tuple[Make, ...] = (
    evaluated, compared, audited, checked, inspected, benched, diagnosed, installed, predicted, divided, listed,
    set_up, demonstrated,
)  # fmt: skip


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("make", TABLES, ids=lambda make: make.__name__)
def test_every_table_fits_a_narrow_terminal(
    make: Make, width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_fit(make(tmp_path, monkeypatch), width)


def test_no_other_function_makes_a_table() -> None:
    """A new table belongs among those above."""
    makers = set()
    for path in Path(tables.__file__).parents[1].rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                called = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
                if any(isinstance(name, ast.Name) and name.id in ("Sheet", "Table") for name in called):
                    makers.add(function.name)
    assert makers == {
        "evaluation_table", "transfer_table", "convergence_table", "across_table", "comparison_table", "audit_table",
        "render_check", "kit_table", "bench_table", "doctor_table", "status_table", "print_predictions",
        "sheet_of", "summary_table", "_beside_each_other", "robust_table", "corpora_table", "show_segments",
    }  # fmt: skip


def test_a_machine_is_named_by_what_is_known_of_it() -> None:
    assert "Raspberry Pi 4 Model B Rev 1.4, Cortex-A72" in printed(benched(HERE, pytest.MonkeyPatch()), 200)
    unknown = Bench(BENCH.results, (), {**MACHINE, "model": "unknown", "cores": 1}, {}, BENCH.results[0])
    text = printed(tables.bench_table(unknown), 200)
    assert "unknown" not in text
    assert "Cortex-A72, 1 core," in text
    assert "use onnx float32 in onnxruntime, 1 thread\n" in text.replace("  ", "") + "\n"


def test_a_microphone_that_cannot_be_opened_gets_no_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(diagnosed(HERE, monkeypatch), 200).splitlines()
    marks = {line[3:].split("  ")[0]: line[0] for line in lines if "microphone" in line[:30]}
    expected = {"microphone": "✓", "microphone 0": "✓", "microphone 1": "✓", "microphone 2": "!", "microphone 3": "!"}
    assert marks == expected
    assert any("2 of 4 devices can be used" in line for line in lines)
