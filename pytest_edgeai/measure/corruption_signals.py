"""Corruptions of sound and of tables: noise and gain.

The severities are our own: signal-to-noise ratios from a quiet room to a street, gains that a
microphone's automatic control leaves over, and shares of each feature's own spread.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError

Array: TypeAlias = NDArray[Any]

SIGNAL_TO_NOISE_DB = (30.0, 20.0, 15.0, 10.0, 5.0)
GAIN_DB = (3.0, 6.0, 9.0, 12.0, 18.0)
FEATURE_NOISE = (0.05, 0.1, 0.2, 0.3, 0.5)
"""Standard deviation, as a share of the feature's."""
MOST_CODES = 20
"""A feature of whole numbers with so few different ones is a code, which noise would turn into
another one."""
_MOST_CHANNELS = 2


def is_waveform(array: Array) -> bool:
    """Return whether samples are sound pressure over time: one axis, or channels beside it."""
    return array.ndim == 2 or (array.ndim == 3 and min(array.shape[1:]) <= _MOST_CHANNELS)


def audio_noise(sample: Array, decibels: float, random: np.random.Generator) -> Array:
    """Add white noise at a signal-to-noise ratio; zeros at the end of a waveform are padding.

    Args:
        sample: one waveform or its features.
        decibels: power of the signal over that of the noise.
        random: its generator.
    """
    signal = sample.astype(np.float64)
    held = np.ones(signal.shape, dtype=bool)
    filled = np.flatnonzero(signal.reshape(-1))
    if signal.ndim == 1 and len(filled):
        held[filled[-1] + 1 :] = False
    spread = float(signal[held].std())
    noise = random.normal(size=signal.shape) * spread * 10 ** (-decibels / 20)
    return _like(signal + np.where(held, noise, 0.0), sample)


def gain(sample: Array, decibels: float, random: np.random.Generator) -> Array:
    """Amplify or attenuate a waveform, and clip it at full scale.

    Full scale is that of the type for integers, and 1 for floats that lie within it.
    """
    factor = 10 ** (float(random.choice((-decibels, decibels))) / 20)
    louder = sample.astype(np.float64) * factor
    if sample.dtype.kind == "f" and np.abs(sample).max(initial=0.0) <= 1:
        louder = np.clip(louder, -1, 1)
    return _like(louder, sample)


def _like(values: NDArray[np.float64], sample: Array) -> Array:
    """Return values in the type of a sample; integers are rounded and clipped."""
    if sample.dtype.kind in "iu":
        limits = np.iinfo(sample.dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return np.asarray(values, dtype=sample.dtype)


class Features:
    """What is known of the features of a table: each one's spread, and which ones are codes."""

    def __init__(self, array: Array, where: str) -> None:
        """Look at all samples.

        Args:
            array: shape ``(samples, ...)``; the last axis holds the features, or each element is
                one where a sample has a single axis or none.
            where: the input, for errors.

        Raises:
            ModelError: no feature varies, or all of them are codes.
        """
        values = array.astype(np.float64).reshape(-1, array.shape[-1] if array.ndim > 1 else 1)
        finite = np.where(np.isfinite(values), values, np.nan)
        self.low, self.high = np.nanmin(finite, axis=0), np.nanmax(finite, axis=0)
        self.spread = np.nanstd(finite, axis=0)
        for column in range(values.shape[1]):
            held = finite[:, column]
            held = held[~np.isnan(held)]
            if (held == np.rint(held)).all() and len(np.unique(held)) <= MOST_CODES:
                self.spread[column] = 0.0
        self.noisy = int((self.spread > 0).sum())
        if not self.noisy:
            raise ModelError(
                "every feature is constant or a code of a few whole numbers, which noise would "
                "turn into another one",
                where=where,
            )
        self.text = f"noise on {self.noisy:,} of {len(self.spread):,} features"

    def noise(self, sample: Array, share: float, random: np.random.Generator) -> Array:
        """Add noise of a share of each feature's spread; integers stay whole and within range."""
        values = sample.astype(np.float64).reshape(-1, len(self.spread))
        values = values + random.normal(size=values.shape) * self.spread * share
        if sample.dtype.kind in "iu":
            values = np.clip(np.rint(values), self.low, self.high)
        return np.asarray(values.reshape(sample.shape), dtype=sample.dtype)
