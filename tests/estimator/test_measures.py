"""Log-loss and AUC."""

from __future__ import annotations

from math import log

import pytest

from llm_tiered.estimator.measures import Scored, auc, log_loss, logistic


def test_auc() -> None:
    """The AUC is 1 if all failures have higher scores, 0 if lower, and 0.5 for ties."""
    failed = (1.0, 1.0, 0.0, 0.0)
    assert auc(map(Scored, (4.0, 3.0, 2.0, 1.0), failed)) == 1.0
    assert auc(map(Scored, (1.0, 2.0, 3.0, 4.0), failed)) == 0.0
    assert auc(map(Scored, (0.0,) * 4, failed)) == 0.5


def test_auc_of_one_kind() -> None:
    """With only failures, only successes or nothing, the AUC is 0.5."""
    assert auc([Scored(1, 1), Scored(2, 1)]) == auc([Scored(1, 0)]) == auc([]) == 0.5


def test_auc_of_shares_and_weights() -> None:
    """An answer that failed by half counts as both, and one of double weight as two."""
    halves = [Scored(2, 0.5), Scored(1, 0)]
    assert auc(halves) == auc([Scored(2, 1), Scored(2, 0), Scored(1, 0), Scored(1, 0)]) == 5 / 6
    doubled = [Scored(3, 0, 2.0), Scored(2, 1), Scored(1, 0)]
    assert auc(doubled) == auc([Scored(3, 0), Scored(3, 0), Scored(2, 1), Scored(1, 0)])


def test_log_loss() -> None:
    """The log-loss is the surprise at the outcome, and is limited for a single answer."""
    assert log_loss(0.0, 1.0) == log_loss(0.0, 0.0) == pytest.approx(log(2))
    assert log_loss(1.0, 0.5) == pytest.approx((log_loss(1.0, 0.0) + log_loss(1.0, 1.0)) / 2)
    assert log_loss(-1000.0, 1.0) == pytest.approx(-log(1e-6))
    assert log_loss(1000.0, 0.0) == pytest.approx(-log(1e-6))


def test_logistic() -> None:
    """Log-odds of any size are a probability."""
    assert logistic(0.0) == 0.5
    assert (logistic(-1000.0), logistic(1000.0)) == (0.0, 1.0)
