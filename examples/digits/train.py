"""Make ``digits.onnx``, ``test.npz`` and ``calibration.npz`` from nothing, with fixed seeds.

Data: scikit-learn's ``load_digits`` (1,797 gray 8x8 images of handwritten digits), which is the
test part of "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, UCI Machine
Learning Repository, 1998, https://doi.org/10.24432/C50P49, CC BY 4.0. The package ships it:
nothing is downloaded.

Needs: pip install "torch==2.13.0" scikit-learn onnx
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

SEED = 0
THREADS = 2  # part of the recipe: sums are split by thread, so another number rounds differently
IMAGE_SIZE = 32
CLASSES = 10
TEST_IMAGES = 540
CALIBRATION_IMAGES = 200
CHANNELS = (128, 256, 384, 512)
HIDDEN = 256
EPOCHS = 4
BATCH = 32
PEAK_LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.01
LABEL_SMOOTHING = 0.05
OPSET = 17


@dataclass(frozen=True, eq=False)
class Split:
    """Training, test and calibration data.

    Images are float32 ``(N, 1, 32, 32)`` in [0, 1], labels int64 ``(N,)``.

    Attributes:
        train_images: what the weights are fitted to.
        train_labels: their classes.
        test_images: what no step before the final accuracy looks at.
        test_labels: their classes.
        calibration_images: a stratified part of ``train_images``.
    """

    train_images: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.float32]
    test_labels: NDArray[np.int64]
    calibration_images: NDArray[np.float32]


def upsample(pixels: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return images ``(N, 8, 8)`` of 0..16 as float32 ``(N, 1, 32, 32)`` in [0, 1], bilinearly."""
    images = torch.from_numpy((pixels / 16.0).astype(np.float32)).unsqueeze(1)
    size = (IMAGE_SIZE, IMAGE_SIZE)
    larger = nn.functional.interpolate(images, size=size, mode="bilinear", align_corners=False)
    return np.asarray(larger.numpy(), dtype=np.float32)


def load_split() -> Split:
    """Split the images by class into training and test part, and choose the calibration images.

    Raises:
        RuntimeError: if a test image also stands in the training part, byte for byte.
    """
    bunch = load_digits()
    images, labels = upsample(bunch.images), bunch.target.astype(np.int64)
    train, test = train_test_split(
        np.arange(len(images)), test_size=TEST_IMAGES, stratify=labels, random_state=SEED
    )
    calibration, _ = train_test_split(
        train, train_size=CALIBRATION_IMAGES, stratify=labels[train], random_state=SEED
    )
    shared = {images[i].tobytes() for i in train} & {images[i].tobytes() for i in test}
    if shared:
        raise RuntimeError(f"{len(shared)} test images also stand in the training part")
    return Split(images[train], labels[train], images[test], labels[test], images[calibration])


class DigitsNet(nn.Module):  # type: ignore[misc]  # mypy does not look into torch
    """Four 3x3 convolutions (batch norm, ReLU), pooling after three, two dense layers."""

    def __init__(self) -> None:
        """Build the layers; the weights come from torch's global generator."""
        super().__init__()
        layers: list[nn.Module] = []
        size, previous = IMAGE_SIZE, 1
        for stage, channels in enumerate(CHANNELS):
            layers += [
                nn.Conv2d(previous, channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            ]
            if stage < 3:
                layers.append(nn.MaxPool2d(2))
                size //= 2
            previous = channels
        dense = [nn.Linear(previous * size * size, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES)]
        self.layers = nn.Sequential(*layers, nn.Flatten(), *dense)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits ``(N, 10)`` for images ``(N, 1, 32, 32)`` in [0, 1]."""
        logits: Tensor = self.layers(image)
        return logits


def train(split: Split) -> DigitsNet:
    """Fit a network to the training part; progress on stdout; returned in evaluation mode."""
    torch.manual_seed(SEED)
    model = DigitsNet()
    images, labels = torch.from_numpy(split.train_images), torch.from_numpy(split.train_labels)
    steps_per_epoch = -(-len(images) // BATCH)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=PEAK_LEARNING_RATE, weight_decay=WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=PEAK_LEARNING_RATE, total_steps=EPOCHS * steps_per_epoch
    )
    criterion = nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING)
    started = time.monotonic()
    for epoch in range(1, EPOCHS + 1):
        model.train()
        for step, chosen in enumerate(torch.randperm(len(images)).split(BATCH), start=1):
            optimizer.zero_grad()
            loss = criterion(model(images[chosen]), labels[chosen])
            loss.backward()
            optimizer.step()
            schedule.step()
            if step % 10 == 0 or step == steps_per_epoch:
                print(
                    f"epoch {epoch}/{EPOCHS}  step {step:2d}/{steps_per_epoch}  "
                    f"loss {loss.item():.4f}  {time.monotonic() - started:5.1f} s",
                    flush=True,
                )
    model.eval()
    return model


def accuracy(model: nn.Module, images: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the share of ``images`` whose largest logit is their label."""
    with torch.no_grad():
        logits = torch.cat([model(batch) for batch in torch.from_numpy(images).split(90)])
    return float((logits.argmax(dim=1).numpy() == labels).mean())


def export(model: nn.Module, path: Path) -> None:
    """Write ``model`` as ONNX with a free batch axis, batch norm folded into the convolutions."""
    with warnings.catch_warnings():
        # The exporter that torch recommends instead (dynamo=True) needs onnxscript.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model,
            (torch.zeros(1, 1, IMAGE_SIZE, IMAGE_SIZE),),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        )
    onnx.checker.check_model(str(path), full_check=True)


def main(arguments: list[str] | None = None) -> int:
    """Train, export, write the data and print what was reached; returns the exit status."""
    parser = argparse.ArgumentParser(description="Reproduce the digits example from nothing.")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).resolve().parent,
        metavar="DIR",
        help="where the three files are written (default: beside this script)",
    )
    output: Path = parser.parse_args(arguments).output
    output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)

    split = load_split()
    model = train(split)
    export(model, output / "digits.onnx")
    np.savez_compressed(output / "test.npz", image=split.test_images, labels=split.test_labels)
    np.savez_compressed(output / "calibration.npz", image=split.calibration_images)

    reached = accuracy(model, split.test_images, split.test_labels)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{parameters:,} parameters; accuracy on {len(split.test_labels)} images: {reached:.4f}")
    for name in ("digits.onnx", "test.npz", "calibration.npz"):
        content = (output / name).read_bytes()
        print(f"{hashlib.sha256(content).hexdigest()}  {name}  {len(content):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
