"""The run folder: new, resumed, refused; and what is read from it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from device.kits import write_run

from edgeser.config.settings import Settings
from edgeser.config.values import changed
from edgeser.errors import RunError
from edgeser.run import Run, only_writer, open_run, require_usable, safetensors_bytes
from edgeser_device.errors import DistilledSetError
from edgeser_export.utilities.errors import EdgeserError

SETTINGS = Settings(corpus="demo", ipc=6)


def test_a_new_run_holds_its_settings(tmp_path: Path) -> None:
    run = open_run(tmp_path / "deep" / "run", SETTINGS, resume=False)
    assert run.settings() == SETTINGS
    assert not run.is_finished


def test_an_empty_folder_becomes_a_run(tmp_path: Path) -> None:
    assert open_run(tmp_path, SETTINGS, resume=False).settings() == SETTINGS


def test_a_run_is_not_begun_twice(tmp_path: Path) -> None:
    open_run(tmp_path / "run", SETTINGS, resume=False)
    with pytest.raises(RunError, match="already holds a run") as caught:
        open_run(tmp_path / "run", SETTINGS, resume=False)
    assert "--resume" in caught.value.hint


def test_a_run_goes_on_with_the_same_settings(tmp_path: Path) -> None:
    open_run(tmp_path / "run", SETTINGS, resume=False)
    assert open_run(tmp_path / "run", SETTINGS, resume=True).settings() == SETTINGS
    assert open_run(tmp_path / "not yet", SETTINGS, resume=True).settings() == SETTINGS


def test_a_run_does_not_go_on_with_other_settings(tmp_path: Path) -> None:
    open_run(tmp_path / "run", SETTINGS, resume=False)
    before = (tmp_path / "run" / "config.toml").read_bytes()
    with pytest.raises(RunError, match=r"seed: 0 in the run, 1 now; invert\.iterations: 0 in the run, 9 now"):
        open_run(tmp_path / "run", changed(SETTINGS, {"seed": 1, "invert.iterations": 9}), resume=True)
    assert (tmp_path / "run" / "config.toml").read_bytes() == before


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path, resume: bool) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RunError, match="is not a run"):
        open_run(tmp_path, SETTINGS, resume)
    with pytest.raises(RunError, match="is not a run"):
        open_run(tmp_path / "thesis.tex", SETTINGS, resume)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    run = Run(write_run(tmp_path / "run"))
    graph, init, distilled = run.graph(), run.init(), run.distilled()
    graph.check(init)
    assert run.is_finished
    assert run.description()["labels"] == list(distilled.names)
    assert run.metrics()["distilled"]["uar_mean"] == 0.9
    assert Run(write_run(tmp_path / "other", evaluated=False)).metrics() is None
    run.save_student(graph, init)
    assert run.graph() == graph
    assert all(np.array_equal(run.init()[name], init[name]) for name in init)


@pytest.mark.parametrize(
    ("name", "read", "kind"),
    [
        ("run.json", Run.description, RunError),
        ("student.json", Run.graph, EdgeserError),
        ("init.safetensors", Run.init, RunError),
        ("distilled.safetensors", Run.distilled, DistilledSetError),
        ("metrics.json", Run.metrics, RunError),
        ("config.toml", Run.settings, RunError),
    ],
)
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x01garbage", b"[1, 2]"])
def test_a_damaged_member_is_an_error_of_ours(tmp_path: Path, name: str, read, kind, content: bytes) -> None:
    run = Run(write_run(tmp_path / "run"))
    (run.folder / name).write_bytes(content)
    with pytest.raises(kind):
        read(run)


@pytest.mark.parametrize("read", [Run.description, Run.graph, Run.init, Run.distilled, Run.settings])
def test_a_missing_member_says_how_it_is_made(tmp_path: Path, read) -> None:
    with pytest.raises(RunError, match="is not there") as caught:
        read(Run(tmp_path / "nowhere"))
    assert "edgeser distill" in caught.value.hint
    with pytest.raises(RunError, match="holds no"):
        read(Run(tmp_path))


def test_the_log_is_one_json_object_a_line(tmp_path: Path) -> None:
    run = open_run(tmp_path, SETTINGS, resume=False)
    run.log("iteration", number=1, loss=0.5)
    run.log("finished", name="with\nnewline")
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["iteration", "finished"]
    assert lines[0]["loss"] == 0.5
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.log("iteration", loss=float("nan"))


def test_events_are_found_and_half_a_line_is_none(tmp_path: Path) -> None:
    run = open_run(tmp_path, SETTINGS, resume=False)
    assert run.events("check") == []
    for number in (1, 2):
        run.log("check", number=number)
        run.log("iteration", number=number)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('[1]\n{"event": "check", "num')
    assert [event["number"] for event in run.events("check")] == [1, 2]


def test_what_a_run_took_is_what_its_last_line_says(tmp_path: Path) -> None:
    run = open_run(tmp_path, SETTINGS, resume=False)
    assert set(run.took().values()) == {None}
    run.log("finished", items=4)  # as earlier versions wrote it
    assert set(run.took().values()) == {None}
    run.log("finished", seconds={"labels": 2.0}, total_seconds=2.0, peak_rss_mb=300.0)
    assert run.took() == {"seconds": {"labels": 2.0}, "total_seconds": 2.0, "peak_rss_mb": 300.0}


def test_arrays_are_stored_in_the_order_of_their_names() -> None:
    one, other = np.arange(3, dtype=np.float32), np.zeros((2, 2), np.float32)[:, ::-1]
    assert safetensors_bytes({"b": one, "a": other}) == safetensors_bytes({"a": other, "b": one})


def test_a_run_has_one_writer(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run", SETTINGS, resume=False)
    with only_writer(run), pytest.raises(RunError, match="another process writes"), only_writer(run):
        pass
    with only_writer(run):  # the lock ends with its block
        pass


def test_a_run_keeps_what_was_decided_and_what_was_given(tmp_path: Path) -> None:
    resolved = changed(SETTINGS, {"views": 64, "start": "mix", "invert.iterations": 40})
    run = open_run(tmp_path / "run", resolved, resume=False, given=SETTINGS)
    assert (run.settings(), run.given()) == (resolved, SETTINGS)
    elsewhere = changed(SETTINGS, {"folder": "/moved"})
    assert require_usable(run.folder, elsewhere, resume=True) == changed(resolved, {"folder": "/moved"})
    assert require_usable(tmp_path / "new", SETTINGS, resume=True) == SETTINGS


def test_a_run_with_a_setting_that_is_gone_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('corpus = "demo"\nipc = 6\ncandidates = 3\n')
    with pytest.raises(RunError, match="candidates 3 was removed") as caught:
        Run(tmp_path).settings()
    assert "another --out" in caught.value.hint
