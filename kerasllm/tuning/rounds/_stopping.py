"""A callback that ends a run in which the reward is exploited."""

import math

import keras
import numpy as np

from kerasllm import training
from kerasllm.checks import UserError, check_callable, check_int, shown
from kerasllm.generation import scores_of
from kerasllm.progress import working
from kerasllm.prompts import get_template
from kerasllm.samplers import chain
from kerasllm.tuning.rounds._sampling import (
    ResponseSampler,
    check_prompts,
    seeds_of,
)
from kerasllm.tuning.rounds._watching import FEWEST_PROMPTS, RewardWatch
from kerasllm.tuning.rounds._weights import copy_of


class StopAtRewardHacking(keras.callbacks.Callback):
    """Samples responses while a model is tuned, and stops when it gets worse.

    Before the first step and at each evaluation, the model responds to
    held-out prompts, always with the same draws. A `RewardWatch` compares the
    proxy reward and the true score of these responses, and ends the training
    when the reward is exploited. For `finetune`, `dpo` and other functions
    whose callbacks have `model.causal_lm`. `prefer` has an argument `watch`.

    Args:
        prompts: list of str, held-out prompts without any template, at least
            20; a few hundred show smaller changes.
        reward_fn: callable `(prompts, responses) -> (batch_size,)` floats, the
            proxy, such as a `RewardModel`.
        true_score: callable of the same kind, what the proxy stands for.
        watch: `RewardWatch`; `None` for one with its defaults. It forgets what
            it has observed before.
        every: int. Steps between evaluations. `None` evaluates after each
            epoch.
        restore_best: bool. Whether a run that is stopped gives the model back
            the weights of the best evaluation. The checkpoints of the run keep
            those of the last one. A run that goes on after an interruption
            begins its comparison anew.
        num_generations: int. Responses to each prompt, whose mean is compared.
        temperature: float, at least 0.
        template: `PromptTemplate`, the name of one, or `"auto"`.
        sequence_length: int. Tokens of a prompt with its response.
        sampling_batch_size: int. Sequences that are sampled together.
        seed: int.
        verbose: bool. Whether each evaluation prints a line.

    Attributes:
        history: list of dicts, one for each evaluation, with `step`, `reward`,
            `true_score`, and the `change`, `low`, `high` and `is_hacked` of
            `HackingEvidence`. At the end of an epoch, the two means are in the
            logs, too, as `proxy_reward` and `true_score`.
        watch: the `RewardWatch`.

    Raises:
        UserError: an argument is out of range.

    Source: Gao et al., 2022, arXiv:2210.10760.

    Example:
    ```python
    stop = StopAtRewardHacking(held_out, reward_model, true_score, every=20)
    dpo(causal_lm, preferences, epochs=5, callbacks=[stop])
    ```
    """

    def __init__(
        self,
        prompts,
        reward_fn,
        true_score,
        watch=None,
        *,
        every=None,
        restore_best=True,
        num_generations=1,
        temperature=1.0,
        template="auto",
        sequence_length=256,
        sampling_batch_size=256,
        seed=0,
        verbose=True,
    ):
        super().__init__()
        self.prompts = check_prompts("prompts", prompts)
        if len(self.prompts) < FEWEST_PROMPTS:
            raise UserError(
                f"`prompts` must have at least {FEWEST_PROMPTS}, to tell a "
                f"fall from noise. Received: {len(self.prompts)}. Hold out "
                "more."
            )
        _check_parts(reward_fn, true_score, watch)
        self.reward_fn, self.true_score = reward_fn, true_score
        self.watch = RewardWatch() if watch is None else watch
        self.watch.reset()
        self.every = None if every is None else check_int("every", every, 1)
        self.restore_best = bool(restore_best)
        self.num_generations = check_int("num_generations", num_generations, 1)
        self.temperature = chain(temperature).temperature
        if template != "auto":
            template = get_template(template)
        self.template = template
        self.sequence_length = check_int("sequence_length", sequence_length, 2)
        self.batch_size = check_int(
            "sampling_batch_size", sampling_batch_size, 1
        )
        seed = check_int("seed", seed, 0, math.inf)
        self.seeds = seeds_of(seed, 0, len(self.prompts))
        self.is_chatty = bool(verbose)
        self.history = []
        self._step = 0
        self._best_weights = None

    def on_train_begin(self, logs=None):
        if not self.history:  # a run that goes on calls `fit` twice
            self._evaluate()

    def on_train_batch_end(self, batch, logs=None):
        self._step += 1
        if self.every is not None and self._step % self.every == 0:
            self._evaluate()

    def on_epoch_end(self, epoch, logs=None):
        if self.every is None:
            self._evaluate()
        if logs is not None:
            logs["proxy_reward"] = self.history[-1]["reward"]
            logs["true_score"] = self.history[-1]["true_score"]

    def on_train_end(self, logs=None):
        if self.watch.is_hacked and self.restore_best:
            variables = self.model.causal_lm.trainable_variables
            training.assign(variables, self._best_weights)

    def _evaluate(self):
        """Measure the model; note the best weights, and stop if need be."""
        # On JAX, asking for the model brings its variables up to date.
        causal_lm = self.model.causal_lm
        with working("Sampling held-out responses", at_once=False):
            proxy, true = self._scores(causal_lm)
        is_hacked = self.watch.observe(proxy, true)
        found = self.watch.evidence
        if found.best == len(self.history) and self.restore_best:
            self._best_weights = copy_of(causal_lm.trainable_variables)
        self.history.append(
            {
                "step": self._step,
                "reward": float(proxy.mean()),
                "true_score": float(true.mean()),
                "change": found.change,
                "low": found.low,
                "high": found.high,
                "is_hacked": is_hacked,
            }
        )
        if self.is_chatty:
            print(
                f"\nStep {self._step}: proxy reward {proxy.mean():.4g}, true "
                f"score {true.mean():.4g}. {self.watch.describe()}",
                flush=True,
            )
        if is_hacked:
            self.model.stop_training = True
            if self.is_chatty:
                print("The reward is exploited, so the training stops.")

    def _scores(self, causal_lm):
        """Return the mean scores of each prompt: two arrays."""
        template = get_template(self.template, causal_lm.preprocessor.tokenizer)
        sampler = ResponseSampler(
            causal_lm,
            template,
            self.sequence_length,
            self.temperature,
            self.batch_size,
        )
        samples = sampler.sample(self.prompts, self.num_generations, self.seeds)
        return [
            np.mean(
                scores_of(
                    function, samples.prompts, samples.responses, name
                ).reshape(-1, self.num_generations),
                axis=1,
            )  # (num_prompts,)
            for function, name in (
                (self.reward_fn, "reward_fn"),
                (self.true_score, "true_score"),
            )
        ]


def _check_parts(reward_fn, true_score, watch):
    for name, value in (("reward_fn", reward_fn), ("true_score", true_score)):
        check_callable(name, value, "A `RewardModel` or a function is.")
    if watch is not None and not isinstance(watch, RewardWatch):
        raise UserError(
            f"`watch` must be a `RewardWatch`. Received: watch={shown(watch)}. "
            "Leave it out for one with its defaults."
        )
