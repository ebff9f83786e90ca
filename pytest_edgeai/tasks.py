"""Hugging Face task names (https://huggingface.co/docs/hub/models-tasks)."""

from __future__ import annotations

from collections.abc import Mapping

TASKS: tuple[str, ...] = (
    "audio-classification",
    "automatic-speech-recognition",
    "depth-estimation",
    "feature-extraction",
    "fill-mask",
    "image-classification",
    "image-feature-extraction",
    "image-segmentation",
    "image-to-image",
    "image-to-text",
    "keypoint-detection",
    "object-detection",
    "question-answering",
    "reinforcement-learning",
    "sentence-similarity",
    "summarization",
    "tabular-classification",
    "tabular-regression",
    "text-classification",
    "text-generation",
    "text-ranking",
    "text-to-image",
    "text-to-speech",
    "time-series-forecasting",
    "token-classification",
    "translation",
    "video-classification",
    "voice-activity-detection",
    "zero-shot-classification",
    "zero-shot-image-classification",
)
CLASSIFICATION_TASKS: tuple[str, ...] = (
    "audio-classification",
    "image-classification",
    "tabular-classification",
    "text-classification",
    "video-classification",
)
GENERATION_TASKS: tuple[str, ...] = ("text-generation",)
"""Tasks of language models, which are fed tokens and judged on the text that they predict."""

_STILL_IMAGES: tuple[str, ...] = (
    "depth-estimation",
    "image-segmentation",
    "image-to-image",
    "keypoint-detection",
    "object-detection",
)
"""Image tasks whose labels have a place in the image, so that they would have to move with it."""
_IMAGES: tuple[str, ...] = (
    "image-classification",
    "image-feature-extraction",
    "image-to-text",
    "video-classification",
    "zero-shot-image-classification",
)
_AUDIO: tuple[str, ...] = (
    "audio-classification",
    "automatic-speech-recognition",
    "voice-activity-detection",
)
_TABLES: tuple[str, ...] = (
    "tabular-classification",
    "tabular-regression",
    "time-series-forecasting",
)
_TEXTS: tuple[str, ...] = (
    "feature-extraction",
    "fill-mask",
    "question-answering",
    "sentence-similarity",
    "summarization",
    "text-classification",
    "text-generation",
    "text-ranking",
    "token-classification",
    "translation",
    "zero-shot-classification",
)
CORRUPTIONS: Mapping[str, tuple[str, ...]] = {
    "gaussian_noise": (*_IMAGES, *_STILL_IMAGES),
    "gaussian_blur": (*_IMAGES, *_STILL_IMAGES),
    "brightness": (*_IMAGES, *_STILL_IMAGES),
    "jpeg": (*_IMAGES, *_STILL_IMAGES),
    "shift": _IMAGES,
    "typos": _TEXTS,
    "case": _TEXTS,
    "audio_noise": _AUDIO,
    "gain": _AUDIO,
    "feature_noise": _TABLES,
}
"""The corruptions of the gate ``robustness``, and the tasks that each of them fits."""
