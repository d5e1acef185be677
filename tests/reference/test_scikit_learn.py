"""The same LASSO as scikit-learn's."""

import numpy as np
import pytest

from prunus.selectors.reconstruction.lasso import lasso

linear_model = pytest.importorskip("sklearn.linear_model")


@pytest.mark.parametrize("penalty", [0.003, 0.03, 0.3])
@pytest.mark.parametrize("seed", range(3))
def test_coefficients(seed, penalty):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(200, 24)) + 0.5 * draw.normal(size=(200, 1))
    y = x @ (draw.normal(size=24) * (draw.random(24) < 0.4)) + 0.1 * draw.normal(size=200)
    theirs = linear_model.Lasso(alpha=penalty, fit_intercept=False, tol=1e-12, max_iter=100_000)
    expected = theirs.fit(x, y).coef_
    found = lasso(x.T @ x / len(x), x.T @ y / len(x), penalty, np.zeros(24))
    assert np.allclose(found, expected, atol=1e-5)
    assert (np.flatnonzero(found) == np.flatnonzero(expected)).all()
