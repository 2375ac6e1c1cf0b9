"""The one way in which noisy curves are smoothed."""

import numpy as np
from numpy.typing import NDArray


def smooth(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Mean over the `window` values around each one, over fewer at the ends; float64 (n,) -> (n,)."""
    window = min(window, len(values))
    if window < 2:
        return values
    sums, counts = (np.convolve(x, np.ones(window), "same") for x in (values, np.ones_like(values)))
    means: NDArray[np.float64] = sums / counts
    return means
