"""Benchmarks, the doctor and what the machine says of itself."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import replace

import pytest

from edgeser_device import machine
from edgeser_device.bench.bench import Bench, check_budget, file_of, run_bench, with_recommendation
from edgeser_device.errors import GateFailed
from edgeser_device.install import doctor
from edgeser_device.install.doctor import Check, Diagnosis, diagnose, importing
from edgeser_device.machine import (
    describe_machine,
    machine_words,
    memory_available_mb,
    memory_total_mb,
    peak_rss_mb,
    seconds_since_start,
)
from edgeser_device.model.model import Model
from edgeser_export.utilities.errors import EdgeserError

KEYS = {
    "format", "precision", "runtime", "threads", "frontend_ms_p50", "model_ms_p50", "p95", "p99", "rtf", "peak_rss_mb",
    "bytes", "uar", "load_ms", "warm_up", "repeat",
}  # fmt: skip


@pytest.fixture(scope="module")
def bench(model: Model) -> Bench:
    return run_bench(model, None, (1,), repeat=20)


def test_every_file_is_measured(bench: Bench, model: Model) -> None:
    assert [(row["format"], row["precision"], row["runtime"]) for row in bench.results] == [
        ("onnx", "float32", "onnxruntime"),
        ("tflite", "float32", "litert"),
        ("onnx", "int8", "onnxruntime"),
        ("tflite", "int8", "litert"),
    ]
    assert bench.skipped == ()
    for row in bench.results:
        assert set(row) >= KEYS
        assert row["uar"] is None
        assert row["bytes"] == len(model.file(file_of(row)[0]))
        assert 0 < row["model_ms_p50"] <= row["p95"] <= row["p99"]
        assert row["frontend_ms_p50"] > 0
        assert 0 < row["rtf"] < 1
        assert 10 < row["peak_rss_mb"] < 400
    assert bench.machine["packages"]["onnxruntime"]


def test_the_fastest_that_loses_little_is_recommended(bench: Bench, model: Model) -> None:
    found = with_recommendation(bench, model)
    assert all(0.9 <= row["agreement"] <= 1 for row in found.results)
    assert found.results[0]["agreement"] == 1.0
    times = {file_of(row): row["frontend_ms_p50"] + row["model_ms_p50"] for row in found.results}
    good = {file_of(row) for row in found.results if row["agreement"] >= 0.98}
    assert found.recommended is not None
    assert file_of(found.recommended) == min(good, key=times.__getitem__)


def test_recommendation_by_recordings(bench: Bench, model: Model) -> None:
    scores = {"onnx": 0.50, "tflite": 0.51, "onnx-int8": 0.40, "tflite-int8": 0.495}
    times = {"onnx": 3.0, "tflite": 2.0, "onnx-int8": 0.1, "tflite-int8": 1.0}
    rows = tuple(
        {**row, "uar": scores[file_of(row)[0]], "model_ms_p50": times[file_of(row)[0]], "frontend_ms_p50": 1.0}
        for row in bench.results
    )
    found = with_recommendation(replace(bench, results=rows), model)
    assert found.recommended is not None
    assert (file_of(found.recommended)[0], found.recommended["uar"]) == ("tflite-int8", 0.495)
    assert "agreement" not in found.results[0]


def test_conditions_before_and_after(bench: Bench) -> None:
    for when in ("before", "after"):
        assert set(bench.conditions[when]) == {"governor", "temperature_c", "throttled", "load_average"}


def test_the_childs_memory_is_its_own(bench: Bench) -> None:
    """This process holds torch and librosa; what it holds must not be counted."""
    ballast = bytearray(300 << 20)
    assert len(ballast) > 0
    assert all(row["peak_rss_mb"] < 200 for row in bench.results)


def test_one_runtime(model: Model) -> None:
    found = run_bench(model, "litert", (1, 2), repeat=3)
    pairs = [(*file_of(row), row["threads"]) for row in found.results]
    assert pairs == [(name, "litert", threads) for name in ("tflite", "tflite-int8") for threads in (1, 2)]


def test_a_runtime_that_is_not_there(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EdgeserError, match="no runtime"):
        run_bench(model, "tensorflow", (1,), repeat=1)
    monkeypatch.setattr("edgeser_export.runtimes.find_spec", lambda _: None)
    with pytest.raises(EdgeserError, match="litert is not installed"):
        run_bench(model, "litert", (1,), repeat=1)


def test_budgets(bench: Bench) -> None:
    check_budget(bench, None, None)
    check_budget(bench, 1000.0, 1000.0)
    with pytest.raises(GateFailed, match="no file keeps the budget of 1e-06 ms"):
        check_budget(bench, 1e-6, None)
    with pytest.raises(GateFailed, match="and 1 MB"):
        check_budget(bench, 1000.0, 1.0)


def test_one_file_must_keep_both_budgets(bench: Bench) -> None:
    fast, small = ({**bench.results[0], "p95": p95, "peak_rss_mb": mb} for p95, mb in ((1.0, 100.0), (9.0, 20.0)))
    both = replace(bench, results=(fast, small))
    check_budget(both, 1.0, 100.0)
    with pytest.raises(GateFailed):
        check_budget(both, 1.0, 20.0)


# The machine ---------------------------------------------------------------------------------------------------------


def test_the_machine_is_described() -> None:
    found = describe_machine()
    assert found["architecture"] == platform.machine()
    assert found["cores"] >= 1
    assert found["bits"] == 64
    assert memory_total_mb() > memory_available_mb() > 0
    assert seconds_since_start() > 0.1


def test_the_host_name_is_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"/sys/class/dmi/id/product_name": "Some Laptop 3000"}
    monkeypatch.setattr(machine, "_text", files.get)
    assert describe_machine()["model"] == "Some Laptop 3000"
    files.clear()
    assert describe_machine()["model"] == "unknown"
    assert machine_words(describe_machine() | {"cpu": "AMD EPYC", "cores": 1}) == "AMD EPYC, 1 core"
    assert machine_words({}) == ""
    files["/proc/device-tree/model"] = "Raspberry Pi 4 Model B Rev 1.4\0"
    assert describe_machine()["model"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert describe_machine()["is_raspberry_pi"]


@pytest.mark.parametrize(
    ("names", "field"),
    [
        (("memory.max", "memory.current", "memory.stat"), "inactive_file"),
        (
            ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
            "total_inactive_file",
        ),
    ],
)
def test_cached_files_are_free_memory(monkeypatch: pytest.MonkeyPatch, names: tuple[str, str, str], field: str) -> None:
    limit, used, statistics = (f"/sys/fs/cgroup/{name}" for name in names)
    files = {"/proc/meminfo": "MemAvailable: 8000000 kB", limit: str(512 << 20), used: str(500 << 20)}
    monkeypatch.setattr(machine, "_text", files.get)
    assert memory_available_mb() == 12
    files[statistics] = f"anon {100 << 20}\n{field} {390 << 20}\nother x"
    assert memory_available_mb() == 402


def test_a_childs_peak_does_not_begin_at_its_parents() -> None:
    ballast = bytearray(200 << 20)
    program = "from edgeser_device.machine import peak_rss_mb; print(peak_rss_mb())"
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(child.stdout) < 100 < peak_rss_mb()
    assert len(ballast) > 0


def test_the_doctor_finds_this_machine_well() -> None:
    diagnosis = diagnose()
    assert diagnosis.ok, diagnosis.to_json()
    assert {"python", "64-bit", "onnxruntime", "tflite runtime", "memory", "disk"} <= {c.name for c in diagnosis.checks}
    assert all(bool(check.hint) != check.ok for check in diagnosis.checks)


def test_a_module_that_is_missing_or_kills_the_process(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deadly.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    deadly = importing("deadly", "deadly", True, "deadly")()
    assert not deadly.ok
    assert "SIGILL" in deadly.found
    missing = importing("gone", "no_such_module", False, "gone")()
    assert "No module named" in missing.found
    assert "pip install" in missing.hint
    assert importing("there", "json", True, "json")().ok
    assert not Diagnosis((deadly,), {}).ok
    assert Diagnosis((missing,), {}).ok


def test_a_processor_without_the_runtimes_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_processor().ok
    monkeypatch.setattr(doctor.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(doctor, "_features", lambda: frozenset({"fp", "evtstrm"}))
    check = doctor.check_processor()
    assert (check.ok, check.required, check.found) == (False, True, "lacks asimd")


def test_heat_and_weak_power_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "temperature", lambda: 84.2)
    monkeypatch.setattr(doctor, "throttled", lambda: 0x50005)
    check = doctor.check_temperature()
    assert not check.ok
    assert check.found.startswith("84 °C, too little voltage now, slowed down now")
    assert "fan" in check.hint
    monkeypatch.setattr(doctor, "temperature", lambda: 60.0)
    monkeypatch.setattr(doctor, "throttled", lambda: 0x50000)
    assert doctor.check_temperature().ok, "what was is said, and is no fault now"


def test_a_clock_that_stands_before_the_program_was_made(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_clock().ok
    newer = tmp_path / "doctor.py"
    newer.write_text("")
    os.utime(newer, (2**31, 2**31))
    monkeypatch.setattr(doctor, "__file__", str(newer))
    check = doctor.check_clock()
    assert not check.ok
    assert "date -s" in check.hint


def test_a_key_that_cannot_be_read_is_a_fault(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESER_TRUST", str(tmp_path / "none.pub"))
    check = doctor.check_trust()
    assert (check.ok, check.required) == (False, True)
    assert "cannot be read" in check.found


def test_a_known_bad_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(doctor, "installed_versions", lambda: {"onnxruntime": "1.21.0"})
    check: Check = doctor.check_known_bad()
    assert not check.ok
    assert "23957" in check.found
    assert "onnxruntime!=1.21.0" in check.hint
