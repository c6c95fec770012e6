"""Train a small ResNet on real images: the 8x8 digits that scikit-learn ships.

Runs anywhere: alone, it saves to ./checkpoints/train_digits; under ``spotwatch run`` it is
saved when the machine goes and resumed on the next one, with the same final weights, bit for bit.

    python examples/train_digits.py --weights weights.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from spotwatchd.torch import Checkpointer

SEED = 20
EVALUATE_EVERY = 200


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the body to its input."""
        return torch.relu(x + self.body(x))


def make_model() -> nn.Sequential:
    """A ResNet for 1 x 8 x 8 images and ten classes; dropout, so that random numbers matter."""
    return nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1),
        *(Block(24) for _ in range(3)),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(24 * 4, 10),
    )


def make_data() -> tuple[Dataset[Any], Dataset[Any]]:
    """(training, test): 1,500 and 297 images."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16.0
    labels = torch.tensor(digits.target, dtype=torch.int64)
    split = 1500
    return (
        TensorDataset(images[:split], labels[:split]),
        TensorDataset(images[split:], labels[split:]),
    )


class Ballast:
    """Makes the state as large as a real model's, to see what saving it costs."""

    def __init__(self, megabytes: int) -> None:
        generator = torch.Generator().manual_seed(SEED)
        size = (megabytes * 1_000_000 // 8,)
        self.values = torch.randint(2**62, size, generator=generator)

    def state_dict(self) -> dict[str, Tensor]:
        """The weight that is carried."""
        return {"values": self.values}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take it back."""
        self.values = state["values"]


class StepLog:
    """One line per completed step, appended in one write: what was computed, seen from outside."""

    def __init__(self, path: Path | None) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._fd = os.open(path, flags, 0o644) if path is not None else None

    def note(self, step: int) -> None:
        """Step ``step`` was computed by this process, now."""
        if self._fd is not None:
            line = json.dumps({"step": step, "pid": os.getpid(), "t": round(time.time(), 3)})
            os.write(self._fd, line.encode() + b"\n")


@torch.no_grad()
def accuracy(model: nn.Module, batches: Iterable[list[Tensor]]) -> float:
    """Share of images that ``model`` names right."""
    model.eval()
    right = seen = 0
    for images, labels in batches:
        right += int((model(images).argmax(1) == labels).sum())
        seen += len(labels)
    model.train()
    return right / seen


def fingerprint(model: nn.Module) -> str:
    """SHA-256 over all weights and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def train(options: argparse.Namespace) -> None:
    """The training: the lines with ``ckpt`` are all that spotwatchd needs."""
    train_set, test_set = make_data()
    loader = DataLoader(train_set, batch_size=64, shuffle=True, drop_last=True)
    tests = DataLoader(test_set, batch_size=99)
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
    log = StepLog(options.log)

    ckpt = Checkpointer(
        model=model,
        optimizer=optimizer,
        scheduler=scheduler,
        ballast=Ballast(options.state_mb),
        every_steps=options.every_steps,
    )
    batches = ckpt.batches(loader)
    for step in ckpt.steps(options.steps):
        began = time.monotonic()
        images, labels = next(batches)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        scheduler.step()
        time.sleep(max(0.0, options.step_seconds - (time.monotonic() - began)))
        log.note(step)
        if step % EVALUATE_EVERY == 0:
            share = accuracy(model, ckpt.interruptible(tests))
            print(f"step {step}: {share:.1%} of the test images", file=sys.stderr)

    report = {
        "weights_sha256": fingerprint(model),
        "accuracy": round(accuracy(model, tests), 4),
        "steps": options.steps,
    }
    if options.weights is not None:
        options.weights.write_text(json.dumps(report) + "\n")
    print(json.dumps(report))


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--every-steps", type=int, help="save also every so many steps")
    parser.add_argument("--log", type=Path, help="append one JSON line per completed step")
    parser.add_argument("--weights", type=Path, help="write sha256 and accuracy as JSON")
    parser.add_argument("--state-mb", type=int, default=0, help="size of the state to add")
    parser.add_argument("--step-seconds", type=float, default=0.0, help="least time of a step")
    return parser.parse_args(arguments)


def main() -> None:
    """Fix everything that could differ from run to run, then train."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    torch.manual_seed(SEED)
    train(parse(sys.argv[1:]))


if __name__ == "__main__":
    main()
