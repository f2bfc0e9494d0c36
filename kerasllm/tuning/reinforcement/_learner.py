"""A step of `grpo`: sample completions, score them, learn from them."""

import dataclasses
import functools
import time

import numpy as np
from keras import ops

from kerasllm import backend
from kerasllm.tuning._logprobs import next_token_logprobs
from kerasllm.tuning.losses import group_advantages
from kerasllm.tuning.reinforcement._completions import (
    Batch,
    sample_completions,
)

# What the random numbers of a run are for.
ORDER, DRAWS, UPDATES = range(3)


@dataclasses.dataclass(frozen=True)
class Questions:
    """Prompts as they were given, and as the model reads them.

    Attributes:
        texts: list of str.
        tokens: list of `TokenizedPrompt`.
    """

    texts: list
    tokens: list

    def of_step(self, step, batch_size, seed):
        """Return the numbers of the prompts of a step, an int array.

        The prompts come in a new order each time that all have been used.

        Args:
            step: int, from 0.
            batch_size: int.
            seed: int.
        """
        count = len(self.texts)
        numbers = np.arange(step * batch_size, (step + 1) * batch_size)
        passes = {
            number: np.random.default_rng([seed, ORDER, number]).permutation(
                count
            )
            for number in np.unique(numbers // count).tolist()
        }
        return np.array([passes[n // count][n % count] for n in numbers])


class Learner:
    """Samples from a policy and updates it.

    Args:
        policy: compiled `PolicyModel`.
        generator: `TextGenerator` of the same model.
        questions: `Questions` to learn from.
        rewards: `Rewards`.
        start: `Snapshot` of the weights at the start of the run.
        **sampling: `stop_token_ids` and `end_of_answer` of
            `sample_completions`.
    """

    def __init__(
        self, policy, generator, questions, rewards, start, **sampling
    ):
        self._policy = policy
        self._questions, self._rewards = questions, rewards
        self._start = start
        self._settings = settings = policy.settings
        sampling["max_completion_length"] = settings.max_completion_length
        self._sample = functools.partial(
            sample_completions, generator, **sampling
        )
        causal_lm = policy.causal_lm
        self._score = backend.compiled(
            functools.partial(
                next_token_logprobs, causal_lm, temperature=settings.temperature
            ),
            causal_lm.variables,
            record=False,
        )

    @property
    def is_stopped(self):
        """Whether a callback has stopped the training: a bool."""
        return self._policy.stop_training

    def step(self, step):
        """Sample a batch of groups, and update the policy with them.

        Args:
            step: int, from 0. It decides the prompts and the random numbers.

        Returns:
            dict of numbers; see `grpo`.
        """
        settings = self._settings
        started = time.perf_counter()
        numbers = self._questions.of_step(
            step, settings.batch_size, settings.seed
        )
        completions = self._sample(
            [self._questions.tokens[i] for i in numbers],
            [[settings.seed, DRAWS, step, i] for i in range(len(numbers))],
            num_samples=settings.num_generations,
            temperature=settings.temperature,
        )
        sampled = time.perf_counter()
        prompts = [
            self._questions.texts[i]
            for i in numbers
            for _ in range(settings.num_generations)
        ]
        rewards, of_each = self._rewards(prompts, [c.text for c in completions])
        batch = Batch.of(
            completions,
            self._policy.causal_lm,
            settings.mask_truncated_completions,
        )
        reference = self._reference(batch)
        advantages = group_advantages(
            rewards, settings.num_generations, settings.scale_rewards
        )
        scored = time.perf_counter()
        logs = self._update(batch, advantages, reference, step)
        ended = time.perf_counter()
        logs |= self._measure(completions, batch, rewards, of_each, reference)
        logs["sampling_seconds"] = sampled - started
        logs["training_seconds"] = ended - scored
        logs["seconds"] = time.perf_counter() - started
        return logs

    def reward_of(self, questions):
        """Return the mean reward of the most likely answers: a float.

        Args:
            questions: `Questions`, held-out ones.
        """
        texts = []
        # No larger batch than in a step, so that nothing more is compiled.
        size = self._settings.num_completions
        for first in range(0, len(questions.tokens), size):
            some = questions.tokens[first : first + size]
            seeds = [[0]] * len(some)  # nothing is drawn
            texts += [c.text for c in self._sample(some, seeds, temperature=0)]
        rewards, _ = self._rewards(questions.texts, texts)
        return float(rewards.mean())

    def _reference(self, batch):
        """Return the log-probabilities of tokens under the first weights.

        The loss needs those of all completions if `beta` is not 0. If they
        are only for the log, one completion of each group is enough.

        Returns:
            float32 `(num_completions, length)`, with NaN for completions that
            were left out.
        """
        settings = self._settings
        every = 1 if settings.beta else settings.num_generations
        numbers = np.arange(0, settings.num_completions, every)
        result = np.full(batch.mask.shape, np.nan, "float32")
        size = min(settings.update_size, len(numbers))
        with self._start.in_place():
            for first in range(0, len(numbers), size):
                # The last part repeats some, to have the shape of the others.
                some = numbers[max(0, min(first, len(numbers) - size)) :][:size]
                inputs = batch.inputs(some)
                labels = inputs.pop("labels")
                result[some] = ops.convert_to_numpy(self._score(inputs, labels))
        return result

    def _update(self, batch, advantages, reference, step):
        """Update the policy, and return the means over the updates: a dict."""
        settings = self._settings
        count, size = settings.num_completions, settings.update_size
        draws = np.random.default_rng([settings.seed, UPDATES, step])
        updates, weights = [], []
        for _ in range(settings.num_iterations):
            order = np.arange(count)
            if size < count:
                order = draws.permutation(count)
            for first in range(0, count, size):
                numbers = order[first : first + size]
                y = {
                    "logprobs": batch.logprobs[numbers],
                    "advantages": advantages[numbers],
                    "mask": batch.mask[numbers],
                }
                if settings.beta:
                    y["reference_logprobs"] = reference[numbers]
                updates.append(
                    self._policy.train_on_batch(
                        batch.inputs(numbers), y, return_dict=True
                    )
                )
                weights.append(max(float(y["mask"].sum()), 1.0))
        means = {
            name: np.average([logs[name] for logs in updates], weights=weights)
            for name in ("ratio", "clip_share")
        }
        means["loss"] = np.mean([logs["loss"] for logs in updates])
        return {name: float(means[name]) for name in sorted(means)}

    def _measure(self, completions, batch, rewards, of_each, reference):
        """Return what the completions of a step were like: a dict."""
        groups = rewards.reshape(-1, self._settings.num_generations)
        lengths = [len(completion.token_ids) for completion in completions]
        surprise = -sum(sum(completion.logprobs) for completion in completions)
        d = reference.astype("float64") - batch.logprobs
        d = d[(batch.mask > 0) & np.isfinite(d)]
        logs = {
            "reward": float(rewards.mean()),
            "reward_std": float(rewards.std()),
            "equal_groups": float(np.mean(np.ptp(groups, axis=1) == 0)),
            "kl": float((np.exp(d) - d - 1).mean()) if d.size else 0.0,
            # Its mean is the entropy of what the tokens were drawn from.
            "entropy": surprise / sum(lengths),
            "completion_length": float(np.mean(lengths)),
            "truncated": float(np.mean([c.is_truncated for c in completions])),
            "sampled_tokens": sum(lengths),
        }
        if len(of_each) > 1:
            logs |= {
                f"reward_{name}": float(values.mean())
                for name, values in of_each.items()
            }
        return logs
