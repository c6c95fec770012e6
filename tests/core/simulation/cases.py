"""Machines and notices for the budget: random ones, and mixes as people run them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

GB, GBIT = 1e9, 0.125e9  # bytes, bytes per second


@dataclass(frozen=True)
class Trained:
    """A job at the moment of the notice. What is true, whatever was measured before.

    Attributes:
        size: bytes of a checkpoint.
        flush: seconds from the ask to the seal.
        done: seconds of work since the newest committed checkpoint.
        sealed: seconds of work that the checkpoint under way holds, None when there is none.
        left: part of that checkpoint that is still to be sent.
        streams: its files are sent while they grow.
    """

    name: str
    size: float
    flush: float
    done: float
    sealed: float | None
    left: float
    streams: bool


@dataclass(frozen=True)
class Noise:
    """How wrong measurements are: standard deviations of the logarithm.

    Attributes:
        bias: of what one quantity was in the past against what it is today.
        each: of every single measurement beside that.
        size: the same for sizes, which are known far better.
    """

    bias: float = 0.0
    each: float = 0.0
    size: float = 0.0


EXACT = Noise()
NOISY = Noise(bias=0.2, each=0.25, size=0.05)


@dataclass(frozen=True)
class Case:
    """One notice.

    Attributes:
        rate: of the link, bytes per second.
        window: seconds from the notice to the deadline.
        commit: seconds from the last byte to the store's word.
    """

    seed: str
    jobs: tuple[Trained, ...]
    rate: float
    window: float
    commit: float = 0.3
    noise: Noise = field(default=EXACT)


def at_random(seed: int, noise: Noise = EXACT) -> Case:
    """1-8 jobs, 1-500 GB, 1-100 Gbit/s, 5-120 s."""
    rng = random.Random(seed)
    jobs = tuple(_job(rng, f"job{number}") for number in range(rng.randint(1, 8)))
    rate = GBIT * 10 ** rng.uniform(0, 2)
    return Case(str(seed), jobs, rate, rng.uniform(5, 120), noise=noise)


def _job(rng: random.Random, name: str) -> Trained:
    size = GB * 500 ** rng.random()
    # Written at 0.3 to 10 GB/s: a gp3 volume with bought throughput up to striped NVMe.
    flush = 0.5 + size / (GB * 0.3 * 33 ** rng.random())
    return _at_notice(rng, name, size, flush, interval=rng.uniform(60, 1800))


def _at_notice(
    rng: random.Random, name: str, size: float, flush: float, *, interval: float
) -> Trained:
    done = rng.uniform(0.05, 1) * interval
    under_way = rng.random() < 0.6
    sealed = done * rng.uniform(0.3, 1) if under_way else None
    return Trained(name, size, flush, done, sealed, rng.uniform(0.05, 1), rng.random() < 0.5)


# Checkpoints with optimizer state, as people run them: bytes, and bytes per second to disk.
KNOWN: dict[str, tuple[float, float]] = {
    "resnet50": (0.1 * GB, 1 * GB),
    "bert-large": (4.0 * GB, 1 * GB),
    "1.3b-adamw": (15.6 * GB, 1.5 * GB),
    "7b-lora": (0.2 * GB, 1 * GB),
    "7b-full": (84.0 * GB, 3 * GB),
    "13b-full": (156.0 * GB, 4 * GB),
    "diffusion-unet": (10.3 * GB, 1.5 * GB),
    "vit-h": (7.6 * GB, 1.5 * GB),
}
# Who shares a machine with whom, and its network in Gbit/s.
MIXES: tuple[tuple[tuple[str, ...], float], ...] = (
    (("resnet50",), 5),
    (("7b-full",), 50),
    (("13b-full",), 100),
    (("1.3b-adamw", "bert-large"), 10),
    (("7b-lora", "7b-lora", "7b-lora", "7b-lora"), 10),
    (("7b-lora", "7b-full"), 25),
    (("resnet50", "resnet50", "vit-h", "vit-h"), 10),
    (("1.3b-adamw", "1.3b-adamw", "diffusion-unet", "vit-h"), 25),
    (("bert-large",) * 8, 10),
    (("diffusion-unet",) * 4 + ("7b-lora",) * 4, 12.5),
    (("7b-full", "1.3b-adamw", "bert-large", "resnet50"), 25),
    (("1.3b-adamw",) * 8, 50),
)


def recorded(seed: int, noise: Noise = EXACT) -> Case:
    """A mix as people run it, at a random moment of its day."""
    rng = random.Random(f"recorded-{seed}")
    names, gbit = MIXES[seed % len(MIXES)]
    jobs = []
    for place, name in enumerate(names):
        size, speed = KNOWN[name]
        flush = 0.5 + size / speed
        jobs.append(_at_notice(rng, f"{name}-{place}", size, flush, interval=300 + 20 * flush))
    window = rng.choice([118.0, 110.0, 60.0, 30.0])  # spot, seen early or late, and shorter ones
    return Case(f"recorded-{seed}", tuple(jobs), GBIT * gbit, window, noise=noise)
