"""Whole notices, simulated: the real core over random and typical machines, and an oracle.

The same simulation with thousands of notices is benchmarks/budget.py.
"""

from __future__ import annotations

import statistics

import pytest

from tests.core.simulation import cases, driven, fixed, oracle

SEEDS = 15


@pytest.mark.parametrize("first", [0, 500, 100_000, 200_000])
def test_with_exact_figures_it_saves_what_can_be_saved(first: int) -> None:
    """Never less than any fixed order, the sealed first, or all at once; 97 % of the oracle."""
    for seed in range(first, first + SEEDS):
        case = cases.at_random(seed)
        best, ours = oracle.best(case), driven.run(case)
        simpler = max(fixed.fixed_orders(case).values())
        simpler = max(simpler, fixed.sealed_first(case), fixed.all_at_once(case))
        assert ours <= best * (1 + 1e-6), f"seed {seed}: more than is possible"
        assert ours >= simpler * (1 - 1e-6), f"seed {seed}: {ours} < {simpler}"
        assert ours >= 0.97 * best, f"seed {seed}: {ours} of {best}"


def test_with_noisy_figures_it_is_better_on_average_than_any_simpler_way() -> None:
    """Past rates and flush times 20 % off as a whole and 25 % each: the means of the shares."""
    shares: dict[str, list[float]] = {}
    for seed in range(2 * SEEDS):
        case = cases.at_random(seed, cases.NOISY)
        best = oracle.best(case)
        if best <= 0:
            continue
        ways = fixed.fixed_orders(case)
        ways["sealed first"] = fixed.sealed_first(case)
        ways["all at once"] = fixed.all_at_once(case)
        ways["ours"] = driven.run(case)
        for name, got in ways.items():
            shares.setdefault(name, []).append(got / best)
    means = {name: statistics.mean(found) for name, found in shares.items()}
    assert means["ours"] == max(means.values()), means
    assert means["ours"] > 0.95, means


@pytest.mark.parametrize("mix", range(len(cases.MIXES)))
def test_typical_machines_save_what_can_be_saved(mix: int) -> None:
    """Checkpoints of known models on instances of known bandwidth."""
    case = cases.recorded(mix)
    best, ours = oracle.best(case), driven.run(case)
    assert 0.97 * best <= ours <= best * (1 + 1e-6)


def test_the_simulation_repeats_itself() -> None:
    """A failure names its seed, and the seed is enough."""
    case = cases.at_random(11, cases.NOISY)
    one, two = driven.Driven(case), driven.Driven(case)
    assert one.run() == two.run()
    assert one.actions == two.actions


def test_the_oracle_is_out_of_reach_of_simpler_ways() -> None:
    """It is an upper bound."""
    for seed in range(200, 260):
        case = cases.at_random(seed)
        ways = [*fixed.fixed_orders(case).values(), fixed.new_only(case)]
        assert max(*ways, fixed.all_at_once(case)) <= oracle.best(case) * (1 + 1e-6)
