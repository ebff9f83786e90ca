"""Corruptions of images: what an array's axes and numbers mean, and what is done to them.

Severities are those of Hendrycks and Dietterich (2019), "Benchmarking Neural Network Robustness to
Common Corruptions and Perturbations": of ImageNet-C, and of CIFAR-10-C for small images, as their
``make_imagenet_c.py`` and ``make_cifar_c.py`` state them. ``shift`` is not among theirs.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError, NotCertified

Array: TypeAlias = NDArray[Any]
Images: TypeAlias = NDArray[np.float32]
"""Shape ``(images, rows, columns, channels)``, 0 to 1."""

SMALL_PIXELS = 64
"""Shorter side up to which the severities of CIFAR-10-C are taken."""
CHANNELS = (1, 3, 4)
SMALLEST_SIDE = 4
_RANGES = ((0.0, 1.0), (0.0, 255.0), (-1.0, 1.0))
_SAMPLED = 512

NOISE = ((0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38))
"""Standard deviation, as a share of the range; for small and for large images."""
BLUR = ((0.4, 0.6, 0.7, 0.8, 1.0), (1.0, 2.0, 3.0, 4.0, 6.0))
"""Standard deviation of the kernel, in pixels."""
BRIGHTNESS = ((0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5))
"""What is added to the value of HSV."""
QUALITY = ((80, 65, 58, 50, 40), (25, 18, 15, 10, 7))
"""Quality of the JPEG encoder."""
SHIFT = (0.02, 0.04, 0.06, 0.08, 0.10)
"""Share of the shorter side."""


@dataclass(frozen=True, eq=False)
class ImageFormat:
    """What the axes and the numbers of an array of images mean.

    Attributes:
        channel_axis: axis of the channels in the whole array; ``None`` for gray images without one.
        low: what black is, float64, shape ``(channels,)`` or ``(1,)``.
        high: what white is, likewise.
        pixels: the shorter side.
        channels: number of channels.
        text: the layout and the range in words, and where they come from.
    """

    channel_axis: int | None
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    pixels: int
    channels: int
    text: str


def image_format(
    array: Array, channel_axis: int | None, low: float | None, high: float | None, where: str
) -> ImageFormat:
    """Return what an array's axes and numbers mean.

    The axis of the channels is the first or the last one of a sample, whichever has 1, 3 or 4
    elements. The range is that of the type for integers; for floats 0 to 1, 0 to 255 or -1 to 1
    where the data lie within, and otherwise what each channel's values span.

    Args:
        array: shape ``(samples, ...)``.
        channel_axis: stated axis of the channels in it; ``None`` to infer it.
        low: stated value of black; ``None`` to infer it.
        high: stated value of white, likewise.
        where: the input, for errors.

    Raises:
        ModelError: the array holds no images, or which axis is which cannot be told.
    """
    axis = _channel_axis(array, channel_axis, where)
    sides = [size for number, size in enumerate(array.shape[1:], 1) if number != axis][-2:]
    if len(sides) < 2 or min(sides) < SMALLEST_SIDE:
        raise ModelError(
            f"samples of shape {array.shape[1:]} are no images of {SMALLEST_SIDE} pixels and more",
            where=where,
        )
    channels = 1 if axis is None else array.shape[axis]
    layout = "gray" if axis is None else ("NHWC" if axis == array.ndim - 1 else "NCHW")
    origin = "inferred" if channel_axis is None else "stated"
    bottom, top, how = _range(array, axis, low, high, where)
    span = f"{bottom.min():.4g} to {top.max():.4g}"
    if len(bottom) > 1 and how == "inferred":
        span = f"each channel's own, {span} in all"
    return ImageFormat(
        axis,
        bottom,
        top,
        min(sides),
        channels,
        f"layout {layout} ({origin}), range {span} ({how})",
    )


def _channel_axis(array: Array, stated: int | None, where: str) -> int | None:
    if stated is not None:
        if not 1 <= stated < array.ndim or array.ndim < 4:
            raise ModelError(
                f"channel axis {stated} of an array of shape {array.shape}",
                where=where,
                allowed=f"1 to {array.ndim - 1}" if array.ndim > 3 else "arrays of 4 axes and more",
            )
        return stated
    if array.ndim == 3:
        return None
    found = [axis for axis in (array.ndim - 3, array.ndim - 1) if array.shape[axis] in CHANNELS]
    if len(found) == 2:
        first, last = (array.shape[axis] for axis in found)
        found = found[:1] if first < last else found[1:] if last < first else found
    if array.ndim not in (4, 5) or len(found) != 1:
        raise ModelError(
            f"samples of shape {array.shape[1:]} do not tell which axis holds the channels",
            where=where,
            allowed="robustness_channel_axis in [gates], 1 for NCHW or 3 for NHWC",
        )
    return found[0]


def _range(
    array: Array, axis: int | None, low: float | None, high: float | None, where: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], str]:
    if low is not None or high is not None:
        if low is None or high is None or low >= high:
            raise ModelError(
                f"a range from {low} to {high}",
                where=where,
                allowed="robustness_lowest_value below robustness_highest_value, both of them",
            )
        return np.array([low]), np.array([high]), "stated"
    if array.dtype.kind in "iu":
        limits = np.iinfo(array.dtype)
        if array.dtype.itemsize > 1:
            is_byte = array.min() >= 0 and array.max() <= 255
            return np.zeros(1), np.array([255.0 if is_byte else float(limits.max)]), "inferred"
        return np.array([float(limits.min)]), np.array([float(limits.max)]), "of its type"
    part = array[:_SAMPLED].astype(np.float64)
    if not np.isfinite(part).all():
        raise ModelError("the images hold NaN or infinity", where=where, allowed="finite numbers")
    least, most = float(part.min()), float(part.max())
    for bottom, top in _RANGES:
        if bottom <= least and most <= top:
            return np.array([bottom]), np.array([top]), "inferred"
    others = tuple(number for number in range(part.ndim) if number != axis)
    bottoms, tops = np.atleast_1d(part.min(others)), np.atleast_1d(part.max(others))
    return bottoms, np.where(tops > bottoms, tops, bottoms + 1), "inferred"


def to_images(array: Array, form: ImageFormat) -> Images:
    """Return samples as images from 0 to 1; videos become their frames."""
    moved = (
        array[..., np.newaxis]
        if form.channel_axis is None
        else np.moveaxis(array, form.channel_axis, -1)
    )
    scaled = (moved.astype(np.float64) - form.low) / (form.high - form.low)
    return scaled.reshape(-1, *moved.shape[-3:]).astype(np.float32)


def from_images(images: Images, like: Array, form: ImageFormat) -> Array:
    """Return images in the layout, range and dtype of ``like``; what lies outside is clipped."""
    moved_shape = (
        (*like.shape, 1)
        if form.channel_axis is None
        else np.moveaxis(like, form.channel_axis, -1).shape
    )
    values = np.clip(images.astype(np.float64), 0, 1) * (form.high - form.low) + form.low
    values = values.reshape(moved_shape)
    values = values[..., 0] if form.channel_axis is None else values
    if form.channel_axis is not None:
        values = np.moveaxis(values, -1, form.channel_axis)
    if like.dtype.kind in "iu":
        values = np.rint(values)
    return np.ascontiguousarray(values.astype(like.dtype))


def strength(table: Sequence[Sequence[float]], form: ImageFormat, severity: int) -> float:
    """Return the constant of a severity from 1 to 5 for images of this size."""
    return table[0 if form.pixels <= SMALL_PIXELS else 1][severity - 1]


Random: TypeAlias = Sequence[np.random.Generator]
"""One generator per image."""


def gaussian_noise(images: Images, deviation: float, random: Random) -> Images:
    """Add noise of a standard deviation."""
    noise = [each.normal(scale=deviation, size=images.shape[1:]) for each in random]
    return (images + np.asarray(noise, dtype=np.float32)).astype(np.float32)


def gaussian_blur(images: Images, deviation: float, random: Random) -> Images:
    """Convolve rows and columns with a Gaussian; edges are repeated."""
    filters = importlib.import_module("scipy.ndimage")
    sigma = (0.0, deviation, deviation, 0.0)
    blurred: Images = filters.gaussian_filter(images, sigma=sigma, mode="nearest")
    return blurred


def brightness(images: Images, amount: float, random: Random) -> Images:
    """Add to the value of HSV, the largest of red, green and blue; hue and saturation stay."""
    value = images[..., :3].max(axis=-1, keepdims=True)
    brighter = np.clip(value + amount, 0, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = images * (brighter / value)
    lit: Images = np.where(value > 0, scaled, brighter).astype(np.float32)
    if images.shape[-1] == CHANNELS[-1]:
        lit[..., 3] = images[..., 3]  # the fourth channel is opacity
    return lit


def jpeg(images: Images, quality: float, random: Random) -> Images:
    """Encode and decode each image with Pillow.

    Raises:
        NotCertified: Pillow is not installed.
    """
    pillow = load_pillow()
    decoded = []
    for image in np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8):
        buffer = io.BytesIO()
        pillow.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(
            buffer, "JPEG", quality=int(quality)
        )
        decoded.append(np.asarray(pillow.open(buffer)).reshape(image.shape))
    return np.asarray(decoded, dtype=np.float32) / np.float32(255)


def load_pillow() -> Any:
    """Return ``PIL.Image``.

    Raises:
        NotCertified: Pillow is not installed.
    """
    try:
        return importlib.import_module("PIL.Image")
    except ModuleNotFoundError:
        raise NotCertified(
            'the corruption "jpeg" needs Pillow', advice='run: pip install "pytest-edgeai[images]"'
        ) from None


def shift(images: Images, share: float, random: Random) -> Images:
    """Move each image by a share of its shorter side in a random direction; edges are repeated."""
    rows, columns = images.shape[1:3]
    pixels = max(1, round(share * min(rows, columns)))
    moved = np.empty_like(images)
    for number, (image, each) in enumerate(zip(images, random, strict=True)):
        down, right = (int(each.choice((-pixels, pixels))) for _ in range(2))
        row = np.clip(np.arange(rows) - down, 0, rows - 1)
        column = np.clip(np.arange(columns) - right, 0, columns - 1)
        moved[number] = image[row][:, column]
    return moved


Effect: TypeAlias = Callable[[Images, float, Random], Images]
EFFECTS: Mapping[str, tuple[Effect, Sequence[Sequence[float]], str]] = {
    "gaussian_noise": (gaussian_noise, NOISE, "Gaussian noise of {:g} of the range"),
    "gaussian_blur": (gaussian_blur, BLUR, "Gaussian blur of {:g} pixels"),
    "brightness": (brightness, BRIGHTNESS, "brightness raised by {:g} of the range"),
    "jpeg": (jpeg, QUALITY, "JPEG of quality {:g}"),
    "shift": (shift, (SHIFT, SHIFT), "a shift by {:g} of the shorter side"),
}
"""Name to what is done, its severities and how they are put into words."""
