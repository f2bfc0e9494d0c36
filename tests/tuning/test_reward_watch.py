"""When a run should stop: scripted scores, no model."""

import numpy as np
import pytest
import scipy.stats

from kerasllm.checks import UserError
from kerasllm.tuning import RewardWatch, compare_with_best
from kerasllm.tuning.rounds._watching import student_quantile

pytestmark = pytest.mark.any_backend


def scripted(trues, proxies, num_prompts=100, noise=0.3, seed=0):
    """Yield the scores of each evaluation, around these means.

    Prompts differ from each other far more than evaluations do.
    """
    rng = np.random.default_rng(seed)
    levels = rng.normal(0, 3, num_prompts)
    for true, proxy in zip(trues, proxies, strict=True):
        yield (
            levels + proxy + rng.normal(0, noise, num_prompts),
            levels + true + rng.normal(0, noise, num_prompts),
        )


def stop_of(watch, *script, **options):
    """Return the evaluation at which a watch stops, or `None`."""
    for number, scores in enumerate(scripted(*script, **options)):
        if watch.observe(*scores):
            return number
    return None


RISING = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
PEAK_AT_3 = [0.0, 0.4, 0.7, 0.9, 0.6, 0.2, -0.5]


@pytest.mark.parametrize("seed", range(20))
def test_a_run_stops_right_after_the_peak(seed):
    watch = RewardWatch()
    assert stop_of(watch, PEAK_AT_3, RISING, seed=seed) == 4
    assert watch.best == 3 and watch.is_hacked
    assert watch.evidence.high < 0 < watch.evidence.proxy_change


def test_patience_waits_for_as_many_evaluations_in_a_row():
    assert stop_of(RewardWatch(patience=2), PEAK_AT_3, RISING) == 5
    # A single bad evaluation is forgiven, and has to come again.
    trues = [0.0, 0.9, 0.3, 0.9, 0.3, 0.3, 0.3]
    assert stop_of(RewardWatch(patience=1), trues, RISING) == 2
    assert stop_of(RewardWatch(patience=2), trues, RISING) == 5


def test_what_is_no_hacking_does_not_stop():
    falling = RISING[::-1]
    # The proxy falls, too: the run fails otherwise.
    assert stop_of(RewardWatch(), PEAK_AT_3, falling) is None
    # The true score rises all the way.
    assert stop_of(RewardWatch(), RISING, RISING) is None


def test_noise_alone_rarely_stops_a_run():
    """The best of many evaluations is a lucky one, and that is considered.

    Without it, most of these runs would be stopped.
    """
    stopped = {0.95: 0, 0.5: 0}
    runs, evaluations = 150, 15
    for confidence in stopped:
        for seed in range(runs):
            found = stop_of(
                RewardWatch(confidence),
                [0.0] * evaluations,
                list(range(evaluations)),
                num_prompts=25,
                seed=seed,
            )
            stopped[confidence] += found is not None
    for confidence, count in stopped.items():
        assert count <= scipy.stats.binom.ppf(0.999, runs, 1 - confidence)
    assert stopped[0.5] > stopped[0.95]


def test_the_first_comparison_is_a_paired_t_test():
    rng = np.random.default_rng(0)
    trues = rng.normal(0, 1, (2, 30)) - np.array([[0.0], [1.5]])
    proxies = np.array([[0.0] * 30, [1.0] * 30])
    found = compare_with_best(list(proxies), list(trues), 0.9)
    expected = scipy.stats.ttest_rel(trues[1], trues[0])
    low, high = expected.confidence_interval(0.9)
    assert found.low == pytest.approx(low, rel=1e-3)
    assert found.high == pytest.approx(high, rel=1e-3)
    assert found.change == pytest.approx(np.mean(trues[1] - trues[0]))
    assert found.best == 0 and found.is_hacked and found.proxy_change == 1


def test_errors_sum_up_to_what_is_allowed():
    """Over all pairs of evaluations, however long the run is."""
    total = sum((t - 1) * 1 / (t * (t - 1) ** 2) for t in range(2, 100_000))
    assert total == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("degrees", [19, 40, 300])
def test_the_quantiles_are_those_of_student(degrees):
    for error in (0.025, 1e-3, 1e-6):
        assert student_quantile(1 - error, degrees) == pytest.approx(
            scipy.stats.t.ppf(1 - error, degrees), rel=0.005
        )


def test_a_watch_can_begin_again():
    watch = RewardWatch()
    assert watch.best is None and "no evaluation" in watch.describe()
    for _ in range(2):
        assert stop_of(watch, PEAK_AT_3, RISING) == 4
        assert "since evaluation 3, the best one" in watch.describe()
        watch.reset()
        assert not watch.is_hacked


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (([1.0] * 19, [1.0] * 19), "needs at least 20 prompts.*19"),
        (([1.0] * 30, [1.0] * 29), "must have a number for each prompt"),
        (([[1.0]] * 30, [[1.0]] * 30), "must have a number for each prompt"),
        (([np.nan] * 30, [1.0] * 30), "must be finite"),
        (([1.0] * 30, [np.inf] * 30), "must be finite"),
    ],
)
def test_scores_are_checked(scores, message):
    with pytest.raises(UserError, match=message):
        RewardWatch().observe(*scores)


def test_the_prompts_stay_the_same():
    watch = RewardWatch()
    watch.observe(np.zeros(30), np.zeros(30))
    with pytest.raises(UserError, match=r"shapes \(31,\).*\(30,\) is expected"):
        watch.observe(np.zeros(31), np.zeros(31))
    for wrong in ({"confidence": 1}, {"confidence": 0}, {"patience": 0}):
        with pytest.raises(UserError, match=f"`{next(iter(wrong))}` must be"):
            RewardWatch(**wrong)
