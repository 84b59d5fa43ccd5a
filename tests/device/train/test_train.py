"""Training from a kit: it learns, goes on bit for bit after a kill, and refuses what would train another student."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device.kits import LABELS, synthetic_items, synthetic_set, write_kit

from edgeser_device.errors import GateFailed, KitError, ModelError, TrainingError
from edgeser_device.kit.golden import Golden, check_inference, check_losses
from edgeser_device.kit.kit import GOLDEN, Kit, read_kit
from edgeser_device.model.calibration import recalls, unweighted_average_recall
from edgeser_device.model.model import DESCRIPTION, load_model, only_writer, previous_path, rollback
from edgeser_device.model.predict import Recogniser
from edgeser_device.train.steps import SMALLEST_BATCH, WRITING_MB, least_memory_mb, require_memory
from edgeser_device.train.train import Settings, train
from edgeser_device.train.trainer import (
    Checkpoint,
    TrainingSession,
    TrainingState,
    begin,
    checkpoint_path,
    load_checkpoint,
    running_statistics,
)
from edgeser_export.utilities.errors import OutputTaken

ONE = Settings(threads=1)


def recognised(folder: Path, seed: int = 99) -> float:
    """UAR on synthetic items that were not trained on."""
    model = load_model(folder)
    items, classes = synthetic_items(10, seed)
    spec = model.frontend
    found = Recogniser.open(model)(items * np.float32(spec.std) + np.float32(spec.mean)).argmax(1)
    return unweighted_average_recall([LABELS[number] for number in classes], [LABELS[number] for number in found])


def test_uar_is_the_mean_of_the_recalls() -> None:
    truth, guesses = ["a", "a", "a", "b"], ["a", "a", "b", "c"]
    assert recalls(truth, guesses) == {"a": pytest.approx(2 / 3), "b": 0.0}
    assert unweighted_average_recall(truth, guesses) == pytest.approx(1 / 3)


def test_it_learns(kit: Kit, tmp_path: Path) -> None:
    said: list[str] = []
    report = train(kit, tmp_path / "model", ONE, lambda done, words: said.append(words))
    losses = [float(words.removeprefix("loss ")) for words in said if words.startswith("loss ")]
    assert len(losses) == report.steps == 40
    assert (said[0], said[41], said[-1]) == ("checking the kit", "statistics", "comparing the files")
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    assert recognised(tmp_path / "model") > 0.9
    assert report.peak_rss_mb is None or report.peak_rss_mb > 20
    assert report.first_step_s > 0
    assert report.backend.startswith("onnxruntime ")


def test_it_learns_by_gradient_descent_too(plain_kit: Kit, tmp_path: Path) -> None:
    train(plain_kit, tmp_path / "model", ONE)
    assert recognised(tmp_path / "model") > 0.9


def test_the_model_folder_is_complete(kit: Kit, tmp_path: Path) -> None:
    train(kit, tmp_path / "model", replace(ONE, steps=3))
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert names == {
        "model.json", "weights.safetensors", "distilled.safetensors", "student.onnx", "student.tflite", "parity.json",
        "student.int8.onnx", "student.int8.tflite", "card.md",
    }  # fmt: skip
    description = json.loads((tmp_path / "model" / DESCRIPTION).read_text())
    assert description["training"]["steps"] == 3
    assert description["training"]["kit_sha256"] == kit.sha256
    assert description["machine"]["packages"]["numpy"] == np.__version__
    assert json.loads((tmp_path / "model" / "parity.json").read_text())["passed"] is True
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_same_training_gives_the_same_bytes(kit: Kit, tmp_path: Path) -> None:
    for name in ("one", "two"):
        train(kit, tmp_path / name, replace(ONE, steps=5))
    for name in ("weights.safetensors", "student.onnx", "student.tflite"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    train(kit, tmp_path / "other", replace(ONE, steps=5, seed=1))
    assert (tmp_path / "one" / "student.onnx").read_bytes() != (tmp_path / "other" / "student.onnx").read_bytes()


def test_the_statistics_are_the_averages_of_the_batches(kit: Kit) -> None:
    """Against torch, which the board does not have."""
    import torch

    from edgeser_device.data.schedule import statistics_batches
    from edgeser_device.data.views import render

    found = running_statistics(kit.statistics_step, 1, kit.graph, kit.weights, kit.distilled)
    total = []
    conv = torch.from_numpy(kit.weights["conv1.weight"])
    for indices in statistics_batches(len(kit.distilled.recipes), kit.distilled.schedule.batch):
        x = torch.from_numpy(render(kit.distilled.items(), kit.distilled.recipes, indices))
        y = torch.nn.functional.conv2d(x, conv, stride=2, padding=2)
        total.append((y.mean((0, 2, 3)).numpy(), y.var((0, 2, 3)).numpy()))
    np.testing.assert_allclose(
        found["norm1.running_mean"], np.mean([mean for mean, _ in total], axis=0), rtol=1e-3, atol=1e-5
    )
    np.testing.assert_allclose(found["norm1.running_var"], np.mean([var for _, var in total], axis=0), rtol=1e-3)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the steps that are made, in their order."""
    numbers: list[int] = []
    step = TrainingSession.step

    def counted(session: TrainingSession, state: TrainingState, *given: Any) -> tuple[TrainingState, float]:
        numbers.append(state.done)
        return step(session, state, *given)

    monkeypatch.setattr(TrainingSession, "step", counted)
    return numbers


def test_the_compared_steps_are_not_made_twice(
    kit: Kit, tmp_path: Path, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are those of a training that makes every step itself, and every step is told."""
    told: list[tuple[int, str]] = []
    report = train(kit, tmp_path / "one", ONE, lambda done, words: told.append((done, words)))
    assert made == list(range(40))
    monkeypatch.setattr("edgeser_device.train.train._begins_with", lambda *given: False)
    again: list[tuple[int, str]] = []
    train(kit, tmp_path / "two", ONE, lambda done, words: again.append((done, words)))
    assert made == [*range(40), *range(3), *range(40)]
    assert told == again
    assert report.resumed_at == 0
    assert (tmp_path / "one" / "weights.safetensors").read_bytes() == (
        tmp_path / "two" / "weights.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("other", [{"seed": 1}, {"steps": 41}, {"steps": 2}])
def test_another_training_makes_all_its_steps_itself(
    kit: Kit, tmp_path: Path, made: list[int], other: dict[str, int]
) -> None:
    report = train(kit, tmp_path / "model", replace(ONE, **other))
    assert made == [*range(3), *range(report.steps)]


# Interruption --------------------------------------------------------------------------------------------------------

PROGRAM = """
import sys
from pathlib import Path
from edgeser_device.kit.kit import read_kit
from edgeser_device.train.train import Settings, train
from edgeser_export.utilities.errors import OutputTaken
settings = Settings(steps=int(sys.argv[3]), threads=1, checkpoint_seconds=0, resume=len(sys.argv) > 4)
train(read_kit(Path(sys.argv[1])), Path(sys.argv[2]), settings)
"""


def start(kit: Kit, model: Path, steps: int, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(kit.path), str(model), str(steps), *more]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for_step(path: Path, step: int) -> None:
    for _ in range(3000):
        if path.exists() and load_checkpoint(path).state.done >= step:
            return
        time.sleep(0.01)
    pytest.fail("no checkpoint within 30 s")


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_an_interrupted_training_ends_bit_identical(kit: Kit, tmp_path: Path, how: signal.Signals) -> None:
    steps = 120
    train(kit, tmp_path / "whole", replace(ONE, steps=steps))
    child = start(kit, tmp_path / "model", steps)
    wait_for_step(checkpoint_path(tmp_path / "model"), 10)
    child.send_signal(how)
    child.communicate(timeout=60)
    assert child.returncode != 0
    assert not (tmp_path / "model").exists()
    made = load_checkpoint(checkpoint_path(tmp_path / "model")).state.done
    assert 10 <= made < steps
    child = start(kit, tmp_path / "model", steps, "resume")
    _, stderr = child.communicate(timeout=60)
    assert child.returncode == 0, stderr
    assert not checkpoint_path(tmp_path / "model").exists()
    model = load_model(tmp_path / "model")
    assert model.description["training"]["resumed_at"] >= made
    for name in ("weights.safetensors", "student.onnx", "student.tflite"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()


@pytest.fixture
def interrupted(kit: Kit, tmp_path: Path) -> Path:
    """A model folder that does not exist yet, with a checkpoint beside it."""

    def stop(done: int, words: str) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(kit, tmp_path / "model", ONE, stop)
    assert load_checkpoint(checkpoint_path(tmp_path / "model")).state.done == 5
    return tmp_path / "model"


@pytest.mark.parametrize("other", [{"seed": 3}, {"steps": 41}, {"threads": 2}])
def test_a_checkpoint_of_another_training_is_refused(kit: Kit, interrupted: Path, other: dict[str, int]) -> None:
    with pytest.raises(TrainingError, match=f"another training: {next(iter(other))}"):
        train(kit, interrupted, replace(ONE, resume=True, **other))


def test_a_checkpoint_of_another_kit_is_refused(plain_kit: Kit, interrupted: Path) -> None:
    with pytest.raises(TrainingError, match="another training: kit"):
        train(plain_kit, interrupted, replace(ONE, resume=True))


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x02\0\0\0\0\0\0\0{}"])
def test_a_damaged_checkpoint_is_refused_and_says_what_to_do(kit: Kit, interrupted: Path, content: bytes) -> None:
    checkpoint_path(interrupted).write_bytes(content)
    with pytest.raises(TrainingError, match="cannot be read") as caught:
        train(kit, interrupted, replace(ONE, resume=True))
    assert "rm " in caught.value.hint


def test_resume_without_a_checkpoint_starts_from_the_beginning(kit: Kit, tmp_path: Path) -> None:
    assert train(kit, tmp_path / "model", replace(ONE, steps=2, resume=True)).resumed_at == 0


# What must stop a training -------------------------------------------------------------------------------------------


def check_golden(golden: Golden, kit: Kit) -> None:
    """All that is compared before a training."""
    check_inference(golden, kit.graph, kit.weights, kit.distilled)
    start = Checkpoint(begin(kit.graph, kit.weights, kit.distilled.schedule.optimiser))
    check_losses(golden, TrainingSession(kit.step, threads=1), kit.distilled, start)


@pytest.mark.parametrize("what", ["views", "logits", "losses"])
def test_other_golden_values_stop_the_training(kit: Kit, what: str) -> None:
    check_golden(kit.golden, kit)
    wrong = getattr(kit.golden, what).copy()
    wrong.flat[-1] += 1
    named = {"logits": "outputs"}.get(what, what)
    with pytest.raises(TrainingError, match=f"golden check.*{named}"):
        check_golden(replace(kit.golden, **{what: wrong}), kit)


def test_a_kit_with_other_golden_values_is_not_trained(kit: Kit, tmp_path: Path) -> None:
    other = replace(kit.golden, losses=kit.golden.losses + 1).to_bytes()
    with pytest.raises(TrainingError, match="golden check"):
        train(replace(kit, members={**kit.members, GOLDEN: other}), tmp_path / "model", ONE)
    assert not (tmp_path / "model").exists()


def test_golden_values_that_are_no_numbers_stop_the_training(kit: Kit) -> None:
    golden = replace(kit.golden, losses=np.full_like(kit.golden.losses, np.nan))
    with pytest.raises(TrainingError, match="golden check"):
        check_golden(golden, kit)


def test_a_loss_that_is_no_number_stops_the_training(tmp_path: Path) -> None:
    wild = synthetic_set(views=1, optimiser="sgd", batch=8, peak_rate=100.0, steps=60)
    made = read_kit(write_kit(tmp_path, wild).path)
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) in step|cannot be used"):
        train(made, tmp_path / "model", ONE)
    assert not (tmp_path / "model").exists()


def test_a_state_with_nan_is_caught_in_the_next_step(kit: Kit) -> None:
    state = begin(kit.graph, kit.weights, "adamw")
    poisoned = replace(
        state, values={**state.values, "conv1.weight": state.values["conv1.weight"] * np.float32(np.nan)}
    )
    with pytest.raises(TrainingError, match="the loss is nan in step 1 of 40"):
        TrainingSession(kit.step, 1).step(poisoned, kit.distilled, kit.distilled.items(), kit.distilled.schedule, 0)


def test_a_step_that_is_no_model_is_refused() -> None:
    with pytest.raises(KitError, match="onnxruntime refuses"):
        TrainingSession(b"garbage", threads=1)


def test_memory_that_cannot_suffice_is_refused(kit: Kit, tmp_path: Path) -> None:
    least = least_memory_mb(kit.graph, kit.distilled.schedule.batch)
    require_memory("training needs", 1, least, "use less")
    with pytest.raises(TrainingError, match=f"training needs at least {least} MB, {least - 1} MB are allowed"):
        require_memory("training needs", 1, least - 1, "use less")
    smallest = least_memory_mb(kit.graph, SMALLEST_BATCH)
    with pytest.raises(TrainingError, match=f"needs at least {smallest} MB, {smallest - 1} MB are allowed"):
        train(kit, tmp_path / "model", replace(ONE, memory_mb=smallest - 1))


def held_mb(process: int) -> float:
    """What a process and those that it started hold now."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:  # it has ended
        return 0.0
    own = re.search(r"VmRSS:\s+(\d+)", status)
    return (int(own[1]) / 1024 if own else 0.0) + sum(held_mb(int(child)) for child in children)


def test_the_memory_of_children_is_counted(kit: Kit, tmp_path: Path) -> None:
    """In a process of its own, looked at from outside; and a refusal must never hit what would have fitted."""
    most = 0.0
    with start(kit, tmp_path / "model", 3) as child:
        while child.poll() is None:
            most = max(most, held_mb(child.pid))
            time.sleep(0.01)
    assert child.returncode == 0
    used = load_model(tmp_path / "model").description["training"]["peak_rss_mb"]
    assert 0.97 * most <= used <= 1.2 * most  # a look from outside may miss the very peak
    assert least_memory_mb(kit.graph, kit.distilled.schedule.batch) < used


def test_a_training_beyond_its_bound_replaces_nothing(kit: Kit, tmp_path: Path) -> None:
    bound = least_memory_mb(kit.graph, kit.distilled.schedule.batch) + 1  # this process already holds more
    with pytest.raises(GateFailed, match="no model was written"):
        train(kit, tmp_path / "model", replace(ONE, steps=1, memory_mb=bound))
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("reason", "hint"), [("Failed to allocate memory for requested buffer", "--width"), ("bad node", "doctor")]
)
def test_what_onnxruntime_raises_becomes_an_error_with_a_hint(kit: Kit, reason: str, hint: str) -> None:
    class Fails:
        def run(self, names: object, feeds: object) -> None:
            raise RuntimeError(f"{reason}\nsecond line")

    session = TrainingSession(kit.step, threads=1)
    session._session = Fails()
    state = begin(kit.graph, kit.weights, "adamw")
    with pytest.raises(TrainingError, match=reason) as caught:
        session.step(state, kit.distilled, kit.distilled.items(), kit.distilled.schedule, 0)
    assert hint in caught.value.hint
    assert "second" not in caught.value.message


def test_memory_that_numpy_does_not_get_is_an_error_with_a_hint(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: object) -> None:
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.setattr("edgeser_device.train.trainer.batch_of", fails)
    with pytest.raises(TrainingError, match="9 GiB") as caught:
        train(kit, tmp_path / "model", ONE)
    assert "memory did not suffice" in caught.value.message


# What must not be replaced -------------------------------------------------------------------------------------------


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("content", [{"notes.txt": "mine"}, {"model.json": "{}"}, {"model.json": '{"schema": 1}'}])
def test_a_folder_that_is_no_model_is_never_replaced(kit: Kit, tmp_path: Path, content: dict[str, str]) -> None:
    folder = tmp_path / "thesis"
    folder.mkdir()
    for name, text in content.items():
        (folder / name).write_text(text)
    before = files_below(tmp_path)
    with pytest.raises(OutputTaken, match="is no model") as caught:
        train(kit, folder, ONE, lambda done, words: pytest.fail("it began to train"))
    assert "another name" in caught.value.hint
    assert files_below(tmp_path) == before


def test_the_folder_where_one_stands_is_never_replaced(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kit.edgeser").write_bytes(b"kit")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputTaken, match="is no model"):
        train(kit, Path(), ONE)
    assert (tmp_path / "kit.edgeser").exists()


def test_a_file_is_never_replaced(kit: Kit, tmp_path: Path) -> None:
    (tmp_path / "model").write_text("mine")
    with pytest.raises(OutputTaken, match="is no model"):
        train(kit, tmp_path / "model", ONE)
    assert (tmp_path / "model").read_text() == "mine"


def test_what_somebody_put_into_a_model_is_not_removed(kit: Kit, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()  # an empty folder is fine
    train(kit, tmp_path / "model", replace(ONE, steps=1))
    (tmp_path / "model" / "clips").mkdir()
    with pytest.raises(OutputTaken, match="'clips', which training did not write"):
        train(kit, tmp_path / "model", replace(ONE, steps=1))
    (tmp_path / "model" / "clips").rmdir()
    train(kit, tmp_path / "model", replace(ONE, steps=1))


def test_another_folder_with_the_name_of_the_older_model_is_kept(kit: Kit, tmp_path: Path) -> None:
    (tmp_path / "model.previous").mkdir()
    (tmp_path / "model.previous" / "mine.txt").write_text("mine")
    with pytest.raises(OutputTaken, match=r"model\.previous exists and is no model"):
        train(kit, tmp_path / "model", ONE)
    assert (tmp_path / "model.previous" / "mine.txt").exists()


def test_two_trainings_of_one_model_do_not_mix(kit: Kit, tmp_path: Path) -> None:
    child = start(kit, tmp_path / "model", 3000)
    wait_for_step(checkpoint_path(tmp_path / "model"), 1)
    with pytest.raises(ModelError, match="another process is writing") as caught:
        train(kit, tmp_path / "model", ONE)
    assert "wait" in caught.value.hint
    child.kill()
    child.communicate(timeout=60)
    train(kit, tmp_path / "model", replace(ONE, steps=1))  # the lock went with the process
    assert {path.name for path in tmp_path.iterdir()} == {"model"}


def test_going_back_waits_for_nobody_who_writes(kit: Kit, tmp_path: Path) -> None:
    for steps in (1, 2):
        train(kit, tmp_path / "model", replace(ONE, steps=steps))
    with only_writer(tmp_path / "model"), pytest.raises(ModelError, match="another process is writing"):
        rollback(tmp_path / "model")
    assert steps_of(tmp_path / "model") == 2


# The model before ----------------------------------------------------------------------------------------------------


def steps_of(folder: Path) -> int:
    return int(load_model(folder).description["training"]["steps"])


def test_the_model_before_is_kept_and_comes_back(kit: Kit, tmp_path: Path) -> None:
    model = tmp_path / "model"
    for steps in (1, 2, 3):
        train(kit, model, replace(ONE, steps=steps))
    assert (steps_of(model), steps_of(previous_path(model))) == (3, 2)
    rollback(model)
    assert (steps_of(model), steps_of(previous_path(model))) == (2, 3)
    rollback(model)
    assert (steps_of(model), steps_of(previous_path(model))) == (3, 2)
    assert load_model(model).weights


def test_without_a_model_before_there_is_no_way_back(kit: Kit, tmp_path: Path) -> None:
    train(kit, tmp_path / "model", replace(ONE, steps=1))
    with pytest.raises(ModelError, match="no earlier model"):
        rollback(tmp_path / "model")


def test_a_failed_training_leaves_the_model_alone(kit: Kit, tmp_path: Path) -> None:
    train(kit, tmp_path / "model", replace(ONE, steps=1))
    with pytest.raises(GateFailed):
        train(kit, tmp_path / "model", replace(ONE, steps=2, memory_mb=WRITING_MB + 1))
    assert steps_of(tmp_path / "model") == 1
    assert not previous_path(tmp_path / "model").exists()


def test_a_damaged_model_is_refused(kit: Kit, tmp_path: Path) -> None:
    train(kit, tmp_path / "model", replace(ONE, steps=1))
    file = tmp_path / "model" / "student.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelError, match="not the file that was written"):
        Recogniser.open(load_model(tmp_path / "model"), "onnx")
    (tmp_path / "model" / DESCRIPTION).write_text("{}")
    with pytest.raises(ModelError, match="another version"):
        load_model(tmp_path / "model")
    with pytest.raises(ModelError, match="not a model folder"):
        load_model(tmp_path)
