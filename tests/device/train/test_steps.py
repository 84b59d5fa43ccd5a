"""Which files a training computes with: smaller batches where memory is short, plain operators for wrong ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgeser.models.students import build
from edgeser_device.data.schedule import Schedule
from edgeser_device.errors import TrainingError
from edgeser_device.kit.kit import Kit, step_name
from edgeser_device.machine import peak_rss_mb
from edgeser_device.model.model import load_model
from edgeser_device.train.steps import (
    SMALLEST_BATCH,
    WRITING_MB,
    StepPlan,
    choose_plan,
    give_back_memory,
    least_memory_mb,
    likely_memory_mb,
    open_checked,
    step_files,
    with_batch,
)
from edgeser_device.train.train import Settings, train


def test_the_kits_batch_where_it_fits(kit: Kit) -> None:
    assert choose_plan(kit, None) == StepPlan(16)
    assert choose_plan(kit, 4000) == StepPlan(16)


def test_a_smaller_batch_where_memory_is_short(kit: Kit) -> None:
    large = replace(kit)
    large.__dict__["graph"] = build("vgg15", 3)
    assert WRITING_MB < likely_memory_mb(large.graph, 8) < likely_memory_mb(large.graph, 16)
    assert choose_plan(large, likely_memory_mb(large.graph, 16) - 1) == StepPlan(8)
    assert choose_plan(large, least_memory_mb(large.graph, SMALLEST_BATCH)) == StepPlan(SMALLEST_BATCH)
    for each in (kit, large):
        with pytest.raises(TrainingError, match="training needs at least"):
            choose_plan(each, least_memory_mb(each.graph, SMALLEST_BATCH) - 1)


def test_the_files_of_the_smallest_student_take_memory_too(kit: Kit) -> None:
    assert least_memory_mb(kit.graph, 1) == WRITING_MB
    assert choose_plan(kit, WRITING_MB) == StepPlan(16)


def test_a_schedule_for_another_batch() -> None:
    schedule = Schedule(batch=32, peak_rate=0.01)
    assert with_batch(schedule, 32) is schedule
    quarter = with_batch(replace(schedule, rates=(0.02, 0.01)), 8)
    assert (quarter.batch, quarter.peak_rate, quarter.rates) == (8, 0.005, (0.01, 0.005))
    assert quarter.steps == schedule.steps


def test_the_kits_own_files_are_taken_as_they_are(kit: Kit) -> None:
    files = step_files(kit, StepPlan(16))
    assert files == {"step": kit.step, "statistics": kit.statistics_step}
    plain = step_files(kit, StepPlan(16, plain=True))
    assert plain["statistics"] == kit.statistics_step
    kinds = {node.op_type for node in onnx.load_from_string(plain["step"]).graph.node}
    assert "BatchNormalization" not in kinds
    assert step_files(kit, StepPlan(8)).keys() == {"step", "statistics"}


def test_files_of_a_smaller_batch(kit: Kit) -> None:
    plan = StepPlan(8)
    opened = open_checked(kit, plan, threads=1)
    assert opened.plan == plan
    assert opened.made is None
    shape = next(entry for entry in onnx.load_from_string(opened.files["step"]).graph.input if entry.name == "labels")
    assert [size.dim_value for size in shape.type.tensor_type.shape.dim] == [8, 3]


def _spoilt(kit: Kit) -> Kit:
    """The kit on a machine that computes the step wrongly: every constant of it is off by a tenth."""
    name = step_name(kit.distilled.schedule.optimiser, kit.distilled.schedule.batch)
    model = onnx.load_from_string(kit.members[name])
    for constant in model.graph.initializer:
        value = numpy_helper.to_array(constant)
        if value.dtype == np.float32:
            constant.CopyFrom(numpy_helper.from_array((value * np.float32(1.1)), constant.name))
    return replace(kit, members={**kit.members, name: model.SerializeToString()})


def test_plain_operators_stand_in_for_a_step_that_computes_something_else(kit: Kit, tmp_path: Path) -> None:
    settings = Settings(threads=1, steps=6)
    good, other = (train(each, tmp_path / name, settings) for name, each in (("good", kit), ("other", _spoilt(kit))))
    assert (good.plain, other.plain) == (False, True)
    one, two = (load_model(tmp_path / name).weights for name in ("good", "other"))
    for name, value in one.items():
        # AdamW turns a last bit of a gradient near zero into a whole step of the learning rate.
        assert np.median(np.abs(two[name] - value)) < 1e-3, name


def test_a_machine_that_computes_nothing_right_is_told_so(kit: Kit, tmp_path: Path) -> None:
    from edgeser_device.kit.kit import GOLDEN

    other = replace(kit.golden, losses=kit.golden.losses + 1).to_bytes()
    with pytest.raises(TrainingError, match="golden check: the first losses differ"):
        train(replace(kit, members={**kit.members, GOLDEN: other}), tmp_path / "model", Settings(threads=1))


def test_memory_is_given_back() -> None:
    blocks = [np.ones(200_000) for _ in range(40)]
    del blocks
    give_back_memory()
    assert (peak_rss_mb() or 1) > 0
