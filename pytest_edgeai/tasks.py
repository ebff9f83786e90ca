"""Hugging Face task names (https://huggingface.co/docs/hub/models-tasks)."""

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
