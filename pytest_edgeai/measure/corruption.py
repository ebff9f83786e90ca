"""Which corruptions fit a task and its data, and corrupted copies of samples.

What happens to a sample follows from the corruption, its severity and the sample's number alone, so
that both models meet the same corrupted samples, however they are cut into parts.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError, NotCertified
from pytest_edgeai.measure import corruption_images as pictures
from pytest_edgeai.measure import corruption_signals as signals
from pytest_edgeai.measure import corruption_text as texts
from pytest_edgeai.measure.dataset import import_reference
from pytest_edgeai.tasks import CORRUPTIONS

Array: TypeAlias = NDArray[Any]
Indices: TypeAlias = NDArray[np.int64]
Apply: TypeAlias = Callable[[Mapping[str, Array], Indices, int], dict[str, Array]]
"""Called with the samples (input name to array, axis 0 counts them), their numbers and a severity
from 1 to 5; returns them corrupted."""

SEED = 0
SEVERITIES = (1, 2, 3, 4, 5)
OWN = ":"
"""What a corruption of the user's own has in its name, ``"package.module:callable"``."""


@dataclass(frozen=True)
class ImageSettings:
    """What the manifest states of an array of images; ``None`` for what is to be inferred.

    Attributes:
        channel_axis: axis of the channels, where axis 0 counts the samples.
        low: value of black.
        high: value of white.
    """

    channel_axis: int | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, eq=False)
class Corruption:
    """One corruption of one model's data.

    Attributes:
        name: as the manifest names it.
        apply: corrupts samples.
        describe: puts a severity into words.
    """

    name: str
    apply: Apply
    describe: Callable[[int], str]


@dataclass(frozen=True, eq=False)
class CorruptionPlan:
    """What is done to a model's data.

    Attributes:
        corruptions: those that fit.
        notes: what was inferred of the data, and what was left out and why, a sentence each.
        missing: name to what a corruption that fits lacks on this machine.
    """

    corruptions: tuple[Corruption, ...]
    notes: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)


def fitting_names(task: str, asked: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the corruptions for a task: those asked for, or all that fit it."""
    if asked is None:
        return tuple(name for name, tasks in CORRUPTIONS.items() if task in tasks)
    return tuple(name for name in asked if OWN in name or task in CORRUPTIONS[name])


def plan_corruptions(
    arrays: Mapping[str, Array],
    task: str,
    asked: Sequence[str] | None,
    settings: ImageSettings,
    directory: Path,
    where: str,
) -> CorruptionPlan:
    """Return the corruptions that fit a task and its data.

    Args:
        arrays: model input name to samples.
        task: the model's task.
        asked: names from the manifest; ``None`` for all that fit the task.
        settings: what the manifest states of images.
        directory: import path of callables.
        where: the data, for errors.

    Raises:
        ModelError: one that was asked for does not fit the data, or a callable cannot be had.
    """
    planned: list[Corruption] = []
    notes: list[str] = []
    missing: dict[str, str] = {}
    for name in fitting_names(task, asked):
        try:
            place = "[production] corruptions" if OWN in name else where
            corruption, note = _plan(name, arrays, settings, directory, place)
        except ModelError as error:
            if asked is not None or OWN in name:
                raise ModelError(
                    f'the corruption "{name}" does not fit: {error.what}',
                    where=error.where or where,
                    allowed=error.allowed,
                ) from None
            notes.append(f"{name} left out: {error.what}")
            continue
        except NotCertified as error:
            missing[name] = str(error)
            continue
        planned.append(corruption)
        if note and note not in notes:
            notes.append(note)
    return CorruptionPlan(tuple(planned), tuple(notes), missing)


def _plan(
    name: str,
    arrays: Mapping[str, Array],
    settings: ImageSettings,
    directory: Path,
    where: str,
) -> tuple[Corruption, str]:
    if OWN in name:
        return _own(name, directory, where), ""
    if name in pictures.EFFECTS:
        return _of_images(name, arrays, settings, where)
    if name in texts.EFFECTS:
        return _of_text(name, arrays, where), ""
    if name == "feature_noise":
        return _of_features(name, arrays, where)
    return _of_audio(name, arrays, where), ""


def generator(name: str, *numbers: int) -> np.random.Generator:
    """Return the generator of one sample of one corruption, always the same one."""
    return np.random.default_rng((SEED, zlib.crc32(name.encode()), *numbers))


def _of_images(
    name: str, arrays: Mapping[str, Array], settings: ImageSettings, where: str
) -> tuple[Corruption, str]:
    found = {key: array for key, array in arrays.items() if array.ndim >= 4}
    found = found or {key: array for key, array in arrays.items() if array.ndim == 3}
    found = {key: array for key, array in found.items() if array.dtype.kind in "iuf"}
    if not found:
        raise ModelError("no input of the model holds images", where=where)
    forms = {
        key: pictures.image_format(
            array, settings.channel_axis, settings.low, settings.high, f'{where} "{key}"'
        )
        for key, array in found.items()
    }
    effect, table, words = pictures.EFFECTS[name]
    form = next(iter(forms.values()))
    if name == "jpeg":
        if any(form.channels not in (1, 3) for form in forms.values()):
            raise ModelError(f"JPEG has 1 or 3 channels, the images {form.channels}", where=where)
        pictures.load_pillow()

    def apply(samples: Mapping[str, Array], indices: Indices, severity: int) -> dict[str, Array]:
        changed = dict(samples)
        for key, form in forms.items():
            images = pictures.to_images(samples[key], form)
            frames = len(images) // max(1, len(indices))
            random = [generator(name, int(i), frame) for i in indices for frame in range(frames)]
            amount = pictures.strength(table, form, severity)
            changed[key] = pictures.from_images(effect(images, amount, random), samples[key], form)
        return changed

    note = "; ".join(f'input "{key}": {form.text}' for key, form in forms.items())
    return (
        Corruption(
            name,
            apply,
            lambda severity: words.format(pictures.strength(table, form, severity)),
        ),
        note,
    )


def _of_audio(name: str, arrays: Mapping[str, Array], where: str) -> Corruption:
    found = {
        key: array
        for key, array in arrays.items()
        if array.ndim >= 2 and array.dtype.name in ("float16", "float32", "float64", "int16")
    }
    if name == "gain":
        found = {key: array for key, array in found.items() if signals.is_waveform(array)}
    if not found:
        kind = "a waveform" if name == "gain" else "sound"
        raise ModelError(f"no input of the model holds {kind}", where=where)
    effect, table, words = {
        "audio_noise": (
            signals.audio_noise,
            signals.SIGNAL_TO_NOISE_DB,
            "white noise at a signal-to-noise ratio of {:g} dB",
        ),
        "gain": (signals.gain, signals.GAIN_DB, "a gain of plus or minus {:g} dB"),
    }[name]

    def one(key: str, sample: Array, index: int, severity: int) -> Array:
        return effect(sample, table[severity - 1], generator(name, index))

    return _sample_by_sample(name, tuple(found), one, lambda s: words.format(table[s - 1]))


def _of_features(name: str, arrays: Mapping[str, Array], where: str) -> tuple[Corruption, str]:
    numeric = {key: array for key, array in arrays.items() if array.dtype.kind in "iuf"}
    features: dict[str, signals.Features] = {}
    fault = ModelError("no input of the model holds numbers", where=where)
    for key, array in numeric.items():
        try:
            features[key] = signals.Features(array, f'{where} "{key}"')
        except ModelError as error:
            fault = error
    if not features:
        raise fault

    def one(key: str, sample: Array, index: int, severity: int) -> Array:
        share = signals.FEATURE_NOISE[severity - 1]
        return features[key].noise(sample, share, generator(name, index))

    note = "; ".join(f'input "{key}": {known.text}' for key, known in features.items())
    return (
        _sample_by_sample(
            name,
            tuple(features),
            one,
            lambda s: f"noise of {signals.FEATURE_NOISE[s - 1]:g} of each feature's spread",
        ),
        note,
    )


def _of_text(name: str, arrays: Mapping[str, Array], where: str) -> Corruption:
    found = tuple(key for key, array in arrays.items() if array.dtype.kind == "U")
    if not found:
        raise ModelError(
            "the inputs are numbers, such as token ids, and no text that could be corrupted",
            where=where,
            allowed='a corruption of your own, "module:function", of [production] corruptions',
        )
    effect, table, words = texts.EFFECTS[name]

    def one(key: str, sample: Array, index: int, severity: int) -> Array:
        random = generator(name, index)
        changed = [effect(text, table[severity - 1], random) for text in sample.reshape(-1)]
        return np.array(changed, dtype=np.str_).reshape(sample.shape)

    return _sample_by_sample(name, found, one, lambda s: words.format(table[s - 1]))


def _sample_by_sample(
    name: str,
    keys: Sequence[str],
    one: Callable[[str, Array, int, int], Array],
    describe: Callable[[int], str],
) -> Corruption:
    def apply(samples: Mapping[str, Array], indices: Indices, severity: int) -> dict[str, Array]:
        changed = dict(samples)
        for key in keys:
            rows = [
                one(key, np.asarray(sample), int(index), severity)
                for sample, index in zip(samples[key], indices, strict=True)
            ]
            changed[key] = np.stack(rows)
        return changed

    return Corruption(name, apply, describe)


def _own(name: str, directory: Path, where: str) -> Corruption:
    function = import_reference(name, directory, where)
    if not callable(function):
        raise ModelError(f'"{name}" is not callable', where=where)

    def apply(samples: Mapping[str, Array], indices: Indices, severity: int) -> dict[str, Array]:
        copies = {key: np.array(array) for key, array in samples.items()}
        try:
            changed = function(copies, severity, int(generator(name, *indices[:1]).integers(2**31)))
        except (Exception, SystemExit) as error:
            raise ModelError(
                f'corruption "{name}" raised {type(error).__name__}: {error}', where=where
            ) from error
        if not isinstance(changed, Mapping) or set(changed) != set(samples):
            raise ModelError(
                f'corruption "{name}" returned other arrays',
                where=where,
                allowed=f"a mapping of {', '.join(samples)} to arrays",
            )
        for key, array in samples.items():
            new = changed[key]
            kinds = (array.dtype.kind, getattr(new, "dtype", np.dtype("O")).kind)
            same = kinds == ("U", "U") or getattr(new, "dtype", None) == array.dtype
            if not isinstance(new, np.ndarray) or new.shape != array.shape or not same:
                raise ModelError(
                    f'corruption "{name}" changed the shape or dtype of "{key}"',
                    where=where,
                    allowed=f"{array.dtype} of shape {array.shape}",
                )
        return dict(changed)

    return Corruption(name, apply, lambda severity: f'"{name}" at severity {severity}')
