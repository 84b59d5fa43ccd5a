"""The generative distiller: what its networks learn, that iterations are pure, and that it stops when it should."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.numpy import load

from edgeser.config.values import changed, settings_of
from edgeser.distill import starts
from edgeser.distill.label_bank import assemble
from edgeser.distill.loop import LARGEST_RISE, run_method
from edgeser.distill.method import Assignment, State
from edgeser.distill.methods import gan
from edgeser.distill.methods import generator_targets as gan_targets
from edgeser.distill.methods.gan import files, probe
from edgeser.distill.pipeline import require_enough_items
from edgeser.distill.registry import METHODS
from edgeser.errors import RunError, SettingsError
from edgeser.representation.vectors import Vectors
from edgeser.run import open_run, safetensors_bytes
from edgeser_device.data.generated import DESCRIPTION, GENERATOR, Points, latent_numbers
from edgeser_export.utilities.progress import ignore_progress

LOSSES = ("adversarial", "feature", "probability", "diversity")


@pytest.fixture
def given(assignment: Assignment) -> Assignment:
    own = settings_of(
        {
            "method": "gan",
            "corpus": "demo",
            "ipc": 2,
            "gan.codebook": 10,
            "gan.iterations": 20,
            "gan.pretraining": 0.5,
            "views": 4,
            "steps": 100,
        }
    )
    return replace(assignment, settings=own, method=METHODS["gan"])


def learn(given: Assignment, state: State, numbers: range) -> tuple[State, list[dict[str, float]]]:
    logged = []
    for number in numbers:
        state, values = gan.improve(given, state, number)
        logged.append(dict(values))
    return state, logged


def test_an_iteration_is_pure(given: Assignment) -> None:
    state = gan.begin(given)
    for number in (0, 15):  # one of the decoder, one of the game
        before = {name: value.copy() for name, value in state.items()}
        (one, logged), (other, again) = (gan.improve(given, state, number) for _ in range(2))
        assert all(np.array_equal(before[name], state[name]) for name in state)
        assert set(one) == set(state)
        assert all(np.array_equal(one[name], other[name]) and one[name].dtype == np.float32 for name in one)
        assert logged == again


def test_it_goes_on_from_a_checkpoint_with_the_same_bits(given: Assignment) -> None:
    state, _ = learn(given, gan.begin(given), range(8))
    whole, _ = learn(given, state, range(8, 13))
    resumed, _ = learn(given, load(safetensors_bytes(state)), range(8, 13))
    assert all(np.array_equal(whole[name], resumed[name]) for name in whole)
    assert np.array_equal(gan.items(given, whole), gan.items(given, resumed))


def test_what_it_makes_comes_to_look_like_the_clips(given: Assignment) -> None:
    longer = replace(given, settings=changed(given.settings, {"gan.iterations": 100, "gan.generator_rate": 5e-3}))
    _, logged = learn(longer, gan.begin(longer), range(100))
    decoding, game = logged[:50], logged[50:]
    first, last = (np.mean([values["loss"] for values in decoding[at]]) for at in (slice(3), slice(47, 50)))
    assert last < first
    early, late = (np.mean([values["feature"] for values in game[at]]) for at in (slice(5), slice(45, 50)))
    assert late < 0.9 * early  # the targets have come some of the way already


def test_bases_have_to_make_duets_of_their_class_and_no_clip(given: Assignment) -> None:
    wanted = gan_targets.sums(given)
    clips = given.task.clips[:, 0]
    assert wanted.shape == (30, *clips.shape[1:])
    assert np.array_equal(wanted, gan_targets.sums(given))
    flat = wanted.reshape(30, -1)
    apart = np.abs(flat[:, None] - flat[None]).mean(2)[~np.eye(30, dtype=bool)]
    assert apart.min() > 0.05  # ten of each class, from eight clips
    moved = np.stack([np.roll(clips, shift, axis=2) for shift in range(clips.shape[2])])
    assert min(np.abs(moved - item).mean((2, 3)).min() for item in wanted[:4]) > 0.05


def test_with_clips_for_every_basis_they_are_what_items_from_duets_begin_as(given: Assignment) -> None:
    few = replace(given, settings=changed(given.settings, {"gan.codebook": 4, "ipc": 4, "samples_per_item": 1}))
    assert np.array_equal(gan_targets.sums(few), starts.aligned(few))


def test_generators_of_vectors_begin_as_narrow_gaussians(given: Assignment) -> None:
    x = np.random.default_rng(0).standard_normal((24, 20, 1, 1)).astype(np.float32)
    vectors = replace(
        given.task, clips=x + given.task.labels[:, None, None, None].astype(np.float32), representation=Vectors()
    )
    free = replace(given, settings=changed(given.settings, {"gan.codebook": 0}), task=vectors)
    shape = gan_targets.shape_of(free)
    assert shape.latent == 20
    start = {
        name: torch.from_numpy(array)
        for name, array in {
            **gan.initial(shape.weights, np.random.default_rng(1)),
            **gan.tight_gaussian(free, shape),
        }.items()
    }
    z, labels = torch.randn(4000, 20, generator=torch.Generator().manual_seed(0)), gan.one_hot(np.full(4000, 2), 3)
    made, own = gan.generate(shape, start, z, labels)[:, :, 0].numpy(), x[given.task.labels == 2, :, 0, 0] + 2
    assert np.abs(made.mean(0) - own.mean(0)).max() < 0.1
    clips = vectors.maps[:, :, 0]
    within = clips - np.stack([clips[given.task.labels == each].mean(0) for each in range(3)])[given.task.labels]
    assert np.allclose(made.std(0), 0.5 * within.std(0), atol=0.03)


def test_numbers_of_a_class_have_no_mean() -> None:
    z = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32)
    found = gan.centred(z, np.array([0, 0, 0, 1, 1, 1, 1]))
    assert np.abs(found[:3].mean(0)).max() < 1e-6
    assert np.abs(found[3:].mean(0)).max() < 1e-6
    assert np.allclose(found[0] - found[1], z[0] - z[1], atol=1e-6)


def test_targets_are_duets_that_the_experts_doubt_less(given: Assignment) -> None:
    summed, wanted = gan_targets.sums(given), gan_targets.targets(given)
    classes = np.repeat(np.arange(3), 10)
    before, after = (
        given.ensemble.soft_labels(made[:, None], 1.0)[np.arange(30), classes].mean() for made in (summed, wanted)
    )
    assert after > before + 0.05
    assert np.array_equal(wanted, gan_targets.targets(given))


def test_the_first_generator_is_near_its_targets_already(given: Assignment) -> None:
    free = replace(given, settings=changed(given.settings, {"gan.codebook": 0}))
    state = gan.begin(free)
    weights = {name: torch.from_numpy(array) for name, array in gan.part(state, gan.KEPT).items()}
    shape, wanted = gan_targets.shape_of(free), state[gan.WANTED]
    apart = (gan.decode(shape, weights, weights["bases"]).numpy() - wanted) ** 2
    assert apart.mean() < 0.5 * wanted.var()  # the clips are noise, of which few components hold little
    for side, other in ((0, 0), (8, 16)):  # what linear patches of noise leave is spread evenly
        assert apart[:, side : side + 8, other : other + 8].mean() < 0.7 * wanted.var()
    assert np.std(weights["bases"].numpy()) == pytest.approx(0.5, rel=0.2)


def test_a_generator_of_many_classes_has_fewer_bases(given: Assignment) -> None:
    free = replace(given, settings=changed(given.settings, {"gan.codebook": 0}))
    assert gan_targets.shape_of(free).latent == 32
    many = gan_targets.shape_of(replace(free, task=replace(free.task, classes=30)))
    assert many.latent == 8
    numbers = {name: int(np.prod(size)) for name, size in many.weights.items()}
    assert 2 * sum(numbers.values()) - numbers["bases"] < 1_000_000


def test_a_checkpoint_of_a_generator_of_another_size_is_refused(given: Assignment) -> None:
    state = gan.begin(given)
    other = replace(given, settings=changed(given.settings, {"gan.codebook": 4}))
    with pytest.raises(RunError, match=r"bases of shape \(30, \d+\), this one \(12, \d+\)"):
        gan.improve(other, state, 0)


def test_the_rounded_generator_makes_the_items_on_host_and_board(given: Assignment) -> None:
    state, _ = learn(given, gan.begin(given), range(3))
    kept = files(given, state)
    session = onnxruntime.InferenceSession(kept[GENERATOR])
    labels = np.eye(3, dtype=np.float32)[given.classes]
    z = latent_numbers(given.settings.seed, 0, given.classes, 10)
    made = session.run(["items"], {"z": z, "labels": labels})[0]
    assert np.allclose(made, gan.items(given, state), atol=1e-4)
    points = Points(kept, 1)
    assert points.description.clips == (8, 8, 8)
    assert np.allclose(points.items(given.classes, given.settings.seed, 0), made, atol=1e-6)
    soft = given.ensemble.soft_labels(made[:, None], given.settings.experts.temperature)
    assert np.allclose(points.labels(made[:, None]), soft, atol=0.01)  # the experts' weights are rounded too
    assert kept[DESCRIPTION].endswith(b"\n")


def test_the_probe_has_an_item_of_each_class(given: Assignment) -> None:
    small = probe(given, gan.begin(given))
    assert small.classes.tolist() == [0, 1, 2]
    assert len(small.recipes) >= 128


@pytest.mark.parametrize(
    ("name", "factor"),
    [("critic-0.score.weight", 1e6), ("generator.last.weight", np.nan), ("second.generator.last.weight", -1e6)],
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_divergence_keeps_the_generator_before_it(given: Assignment, name: str, factor: float) -> None:
    state, _ = learn(given, gan.begin(given), range(12))
    broken = {**state, name: state[name] * np.float32(factor)}
    stopped, values = gan.improve(given, broken, 12)
    assert values["stopped"] == 13
    assert np.isfinite(values["loss"])
    kept = {key: array for key, array in state.items() if key.startswith("kept.")}
    assert kept
    assert all(np.array_equal(stopped[key], array) for key, array in kept.items())
    later, again = gan.improve(given, stopped, 13)
    assert later is stopped
    assert again["stopped"] == 13
    assert np.isfinite(gan.items(given, later)).all()


def test_weights_that_make_its_second_loss_large_are_no_divergence(given: Assignment, tmp_path: Path) -> None:
    """The decoder's loss comes first; what the game weighs is another sum."""
    heavy = replace(given, settings=changed(given.settings, {"gan.feature_weight": 1000.0, "gan.iterations": 8}))
    run = open_run(tmp_path / "run", heavy.settings, resume=False)
    state = run_method(run, heavy, ignore_progress)
    losses = [event["loss"] for event in run.events("iteration")]
    assert len(losses) == 8
    assert max(losses) > LARGEST_RISE * max(1, losses[0])
    assert gan.STOPPED not in state
    assert np.isfinite(gan.items(heavy, state)).all()


@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_can_be_off(given: Assignment, name: str) -> None:
    """The loss is the sum of what is on, and the generator changes in another way where the loss is not zero."""
    state = gan.begin(given)
    off = replace(given, settings=changed(given.settings, {f"gan.{name}_weight": 0.0}))
    (one, both), (other, values) = gan.improve(given, state, 15), gan.improve(off, state, 15)
    for settings, found in ((given.settings, both), (off.settings, values)):
        game = sum(getattr(settings.gan, f"{each}_weight") * found[each] for each in LOSSES)
        expected = gan.FIDELITY * found["apart"] + game
        assert found["loss"] == pytest.approx(expected, rel=1e-4)
    same = np.array_equal(one["generator.bases"], other["generator.bases"])
    assert same == (values[name] == 0)
    assert not np.array_equal(state["generator.bases"], other["generator.bases"])
    assert ("slope" in values) == (name != "adversarial")


def test_a_class_is_drawn_as_often_as_its_clips_are(given: Assignment) -> None:
    labels = np.array([0] * 12 + [1] * 8 + [2] * 4)
    uneven = replace(
        given,
        task=replace(given.task, labels=labels),
        settings=changed(given.settings, {"ipc": 4, "gan.ratio": "original"}),
    )
    assert np.bincount(uneven.classes).tolist() == [6, 4, 2]
    shipped = assemble(uneven, gan.begin(given))
    assert np.bincount(shipped.classes).tolist() == [6, 4, 2]


def test_more_items_than_clips_can_be_made(given: Assignment) -> None:
    many = replace(given.settings, ipc=50)
    require_enough_items(many, many, given.task, given.names)
    assert len(gan.items(replace(given, settings=many), gan.begin(given))) == 150


def test_a_class_with_too_few_clips_is_named(given: Assignment) -> None:
    few = replace(given.task, labels=np.array([0] * 9 + [1] * 8 + [2] * 7))
    with pytest.raises(SettingsError, match="'sadness' has 7 training items, fewer than the 8 that --method gan"):
        require_enough_items(given.settings, given.settings, few, given.names)
