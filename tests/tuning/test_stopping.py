"""The callback that ends a run whose reward is exploited."""

import keras
import numpy as np
import pytest

from kerasllm.checks import UserError
from kerasllm.instructions import Instruction
from kerasllm.preferences import Preference
from kerasllm.tuning import (
    RewardWatch,
    StopAtRewardHacking,
    dpo,
    finetune,
)
from tests.several_models import LENGTH, make_mini_gpt
from tests.tuning import scripted
from tests.tuning.scripted import HELD_OUT, number
from tests.tuning.test_dpo import copy_of

EXAMPLES = [Instruction(f"Say number {i}.", "red") for i in range(8)]
OPTIONS = {
    "batch_size": 4, "learning_rate": 1e-2, "sequence_length": LENGTH,
    "verbose": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A model that nobody tunes: take copies."""
    return make_mini_gpt(tmp_path_factory.mktemp("vocabulary"), None)


@pytest.fixture
def sampled(monkeypatch):
    """Responses that cost nothing."""
    scripted.install(monkeypatch)


class Script:
    """Scores that turn round at the third evaluation, whatever is said."""

    TRUES = [0.0, 0.5, 1.0, 0.6, 0.2, -0.2]

    def __init__(self, rises=True):
        self.count, self.rises = 0, rises

    def proxy(self, prompts, responses):
        rise = self.count if self.rises else -self.count
        return rise + 0.001 * number(prompts, responses)

    def true(self, prompts, responses):
        self.count += 1
        luck = 0.001 * number(prompts, responses)
        return self.TRUES[min(self.count, 6) - 1] + luck


class Levels(keras.callbacks.Callback):
    """Notes what the model knows after each step."""

    def on_train_begin(self, logs=None):
        self.found = [scripted.level_of(self.model.causal_lm)]

    def on_train_batch_end(self, batch, logs=None):
        self.found.append(scripted.level_of(self.model.causal_lm))


def stopping(script, **options):
    return StopAtRewardHacking(
        HELD_OUT, script.proxy, script.true, sequence_length=LENGTH,
        verbose=False, **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("every", "restore_best"),
    [
        (3, True),
        pytest.param(3, False, marks=pytest.mark.any_backend),
        pytest.param(None, True, marks=pytest.mark.any_backend),
    ],
)
def test_a_run_stops_after_the_peak(start, sampled, every, restore_best):
    """Evaluations are numbered from 0, before the first step; 2 is best."""
    model = copy_of(start)
    levels = Levels()
    stop = stopping(Script(), every=every, restore_best=restore_best)
    history = finetune(
        model, EXAMPLES, epochs=9, callbacks=[levels, stop], **OPTIONS
    )
    steps = every or 2  # in an epoch
    assert [logs["step"] for logs in stop.history] == [
        steps * i for i in range(4)
    ]
    assert [logs["is_hacked"] for logs in stop.history] == [False] * 3 + [True]
    assert stop.watch.best == 2
    assert stop.history[-1]["change"] == pytest.approx(-0.4, abs=0.05)
    assert stop.history[-1]["high"] < 0
    assert len(levels.found) == 1 + 3 * steps and len(history) < 9
    expected = levels.found[2 * steps if restore_best else 3 * steps]
    assert scripted.level_of(model) == pytest.approx(expected, abs=1e-6)
    assert len(set(levels.found)) == len(levels.found)


@pytest.mark.any_backend
def test_a_run_that_fails_otherwise_is_not_stopped(start, sampled):
    stop = stopping(Script(rises=False))
    model = copy_of(start)
    assert len(finetune(model, EXAMPLES, epochs=5, callbacks=[stop],
                        **OPTIONS)) == 5  # fmt: skip
    assert len(stop.history) == 6 and not stop.watch.is_hacked


@pytest.mark.any_backend
def test_it_says_what_it_sees(start, sampled, capsys):
    script, seen = Script(), []

    class Logs(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(dict(logs))

    stop = StopAtRewardHacking(
        HELD_OUT, script.proxy, script.true, RewardWatch(patience=2),
        sequence_length=LENGTH, num_generations=2,
    )  # fmt: skip
    finetune(
        copy_of(start), EXAMPLES, epochs=9, callbacks=[stop, Logs()], **OPTIONS
    )
    printed = capsys.readouterr().out
    assert "Step 4: proxy reward" in printed
    assert "The true score is the best so far." in printed
    assert "The reward is exploited, so the training stops." in printed
    assert len(stop.history) == 5 and len(seen) == 4
    for logs, found in zip(seen, stop.history[1:], strict=True):
        assert logs["true_score"] == found["true_score"]
        assert logs["proxy_reward"] == found["reward"]


def test_it_watches_preference_tuning_and_really_samples(start):
    pairs = [Preference(f"Say number {i}.", "red", "blue") for i in range(4)]
    stop = stopping(
        Script(rises=False), num_generations=2, sampling_batch_size=60
    )
    # Sampled texts are no numbers.
    stop.reward_fn = lambda prompts, responses: [
        len(response) / 100 for response in responses
    ]
    stop.true_score = stop.reward_fn
    dpo(copy_of(start), pairs, epochs=1, callbacks=[stop], **OPTIONS)
    assert [logs["step"] for logs in stop.history] == [0, 1]
    assert all(logs["reward"] > 0 for logs in stop.history)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": HELD_OUT[:19]}, "`prompts` must have at least 20"),
        ({"prompts": "red"}, "`prompts` must be a list"),
        ({"reward_fn": 1}, "`reward_fn` must be callable"),
        ({"true_score": None}, "`true_score` must be callable"),
        ({"watch": 0.95}, "`watch` must be a `RewardWatch`"),
        ({"every": 0}, "`every` must be a positive int"),
        ({"num_generations": 0}, "`num_generations` must be"),
        ({"sequence_length": 1}, "`sequence_length` must be"),
        ({"sampling_batch_size": 0}, "`sampling_batch_size` must be"),
        ({"seed": -1}, "`seed` must be"),
        ({"temperature": -1}, "`temperature` must be"),
        ({"template": "no such"}, "`template` must be one of"),
    ],
)
def test_arguments(arguments, message):
    arguments = {
        "prompts": HELD_OUT,
        "reward_fn": number,
        "true_score": number,
    } | arguments
    with pytest.raises(UserError, match=message):
        StopAtRewardHacking(**arguments)


@pytest.mark.any_backend
def test_means_of_each_prompt_are_compared(start, sampled):
    seen = []
    stop = stopping(Script(rises=False), num_generations=3)
    stop.watch.observe = lambda proxy, true: seen.append((proxy, true))
    stop.true_score = number
    with pytest.raises(AttributeError):  # nothing was observed
        finetune(copy_of(start), EXAMPLES, callbacks=[stop], **OPTIONS)
    seeds = np.array(stop.seeds)
    level = round(1000 * scripted.level_of(start))
    numbers = (seeds[:, None] + 31 * np.arange(3) + level) % 100
    np.testing.assert_allclose(seen[0][1], numbers.mean(axis=1))
