from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeser_export.kernels.bilinear import fast_filter


@given(outputs=st.integers(1, 24), taps=st.integers(1, 9), seed=st.integers(0, 9))
def test_every_filter_gives_the_sums_that_define_it(outputs: int, taps: int, seed: int) -> None:
    found, random = fast_filter(outputs, taps), np.random.default_rng(seed)
    data, kernel = random.standard_normal(outputs + taps - 1), random.standard_normal(taps)
    expected = np.correlate(data, kernel, "valid")
    np.testing.assert_allclose(found.output @ ((found.kernel @ kernel) * (found.data @ data)), expected, atol=1e-9)
    assert found.kernel.shape == (found.products, taps)
    assert found.data.shape == (found.products, outputs + taps - 1)
    assert found.output.shape == (outputs, found.products)


@pytest.mark.parametrize(("outputs", "taps", "products"), [(2, 3, 4), (4, 3, 7), (8, 3, 13), (8, 5, 16), (16, 5, 28)])
def test_products_that_tiles_take(outputs: int, taps: int, products: int) -> None:
    assert fast_filter(outputs, taps).products == products < outputs * taps


def test_matrices_stay_as_small_as_those_of_a_fourier_transform() -> None:
    """What keeps float32 errors small: real points would need entries in the hundreds for sixteen outputs."""
    for outputs in range(2, 25):
        for taps in (3, 5):
            found = fast_filter(outputs, taps)
            assert max(np.abs(matrix).max() for matrix in (found.kernel, found.data, found.output)) <= 2.0
