"""Learning rate and data order against hand-computed values and simple laws."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.config import Schedule
from detector.training.schedule import epoch_batches, learning_rate, steps_per_epoch


def test_cosine_with_warmup_by_hand():
    # 4 epochs x 5 steps, 1 epoch of warm-up: 5 rising steps, then 15 on half a cosine from 1 to the floor of 0.1.
    rates = [learning_rate(step, 20, 5, 1.0, Schedule(warmup_epochs=1.0, final_ratio=0.1)) for step in range(20)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5] == pytest.approx(1.0)  # progress 0
    assert rates[12] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 7 / 14)))  # half way: 0.55
    assert rates[19] == pytest.approx(0.1)  # the last step of the budget is the floor


def test_warmup_takes_at_most_half_of_a_short_budget():
    rates = [learning_rate(step, 4, 4, 1.0, Schedule(warmup_epochs=3.0)) for step in range(4)]
    assert rates[:2] == pytest.approx([0.5, 1.0])


def test_the_rate_follows_the_trials_own_budget():
    # The last step is the floor, whatever the budget: schedules are never cut in the middle.
    for total in (7, 40, 333):
        assert learning_rate(total - 1, total, 5, 2.0, Schedule(final_ratio=0.01)) == pytest.approx(0.02)


def test_steps_per_epoch_by_hand():
    # 3272 images, batch 4 on 2 workers, 2 accumulated: ceil(3272 / 8) = 409 micro-batches, ceil(409 / 2) = 205 steps.
    assert steps_per_epoch(3272, 4, 2, 2) == (409, 205)


@given(
    count=st.integers(1, 60),
    batch=st.integers(1, 7),
    workers=st.integers(1, 4),
    seed=st.integers(0, 9),
    epoch=st.integers(1, 9),
)
def test_ranks_share_an_epoch(count, batch, workers, seed, epoch):
    shares = [epoch_batches(count, batch, rank, workers, seed, epoch) for rank in range(workers)]
    micro, _ = steps_per_epoch(count, batch, workers, 1)
    assert all(len(share) == micro and all(len(b) == batch for b in share) for share in shares)
    seen = [index for share in shares for b in share for index in b]
    assert set(seen) == set(range(count))  # no image is left out
    most, least = max(map(seen.count, set(seen))), min(map(seen.count, set(seen)))
    assert most - least <= 1  # and the filling is fair


def test_orders_differ_by_epoch_and_seed_alone():
    assert epoch_batches(50, 5, 0, 1, 3, 1) == epoch_batches(50, 5, 0, 1, 3, 1)
    assert epoch_batches(50, 5, 0, 1, 3, 1) != epoch_batches(50, 5, 0, 1, 3, 2)
    assert epoch_batches(50, 5, 0, 1, 3, 1) != epoch_batches(50, 5, 0, 1, 4, 1)
