"""Adam on arrays, against torch's."""

from __future__ import annotations

import numpy as np
import torch

from edgeser.distill.optimise import adam_step, with_moments


def test_the_steps_are_those_of_torch() -> None:
    random = np.random.default_rng(0)
    state = with_moments({name: random.standard_normal((4, 3)).astype(np.float32) for name in "ab"}, "ab")
    theirs = {name: torch.from_numpy(state[name].copy()).requires_grad_(True) for name in "ab"}
    groups = [{"params": [theirs["a"]], "lr": 0.1}, {"params": [theirs["b"]], "lr": 0.01}]
    adam = torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-8)
    for count in range(1, 20):
        gradients = {name: random.standard_normal((4, 3)).astype(np.float32) for name in "ab"}
        for name in "ab":
            theirs[name].grad = torch.from_numpy(gradients[name])
        adam.step()
        state = {**state, **adam_step(state, gradients, {"a": 0.1, "b": 0.01}, count)}
        for name in "ab":
            np.testing.assert_allclose(state[name], theirs[name].detach().numpy(), rtol=2e-5, atol=1e-6)
            assert state[name].dtype == np.float32


def test_only_what_has_a_gradient_is_changed() -> None:
    state = with_moments({"a": np.ones(2, np.float32), "b": np.ones(2, np.float32)}, ["a"])
    changed = adam_step(state, {"a": np.ones(2, np.float32)}, {"a": 0.1}, 1)
    assert set(changed) == {"a", "first.a", "second.a"}
    assert np.array_equal(state["a"], np.ones(2))
