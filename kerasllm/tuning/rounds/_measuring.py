"""What a policy is worth on held-out prompts, and how far it has moved."""

import dataclasses
import math

import numpy as np

from kerasllm.tuning._logprobs import score_responses
from kerasllm.tuning.rounds._weights import other_weights

# What a file of records calls the attributes of `Measurement`.
COLUMNS = {
    "reward": "rewards",
    "true_score": "true_scores",
    "log_ratio": "log_ratios",
    "num_tokens": "num_tokens",
}


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Scores of one response to each held-out prompt.

    Attributes:
        rewards: float64 `(num_prompts,)`, of the proxy.
        true_scores: float64 `(num_prompts,)`, or `None`.
        log_ratios: float64 `(num_prompts,)`. The log-probability of each
            response under the policy, minus that under the start.
        num_tokens: int array `(num_prompts,)`.
    """

    rewards: np.ndarray
    true_scores: np.ndarray | None
    log_ratios: np.ndarray
    num_tokens: np.ndarray

    def logs(self):
        """Return means and their standard errors: a dict of float."""
        logs = {}
        for name, values in (
            ("val_reward", self.rewards),
            ("val_true_score", self.true_scores),
            ("val_kl", self.log_ratios),
            ("val_length", self.num_tokens),
        ):
            if values is not None:
                logs[name] = float(np.mean(values))
                logs[f"{name}_error"] = standard_error(values)
        return logs

    def records(self, samples):
        """Return what a file keeps: a list of dicts, one for each prompt."""
        records = [
            {"prompt": prompt, "response": response}
            for prompt, response in zip(
                samples.prompts, samples.responses, strict=True
            )
        ]
        for key, name in COLUMNS.items():
            values = getattr(self, name)
            if values is not None:
                for record, value in zip(records, values, strict=True):
                    record[key] = value.item()
        return records

    @classmethod
    def of_records(cls, records):
        """Return the measurement that a file keeps."""
        columns = dict.fromkeys(COLUMNS.values())
        for key, name in COLUMNS.items():
            if key in records[0]:
                columns[name] = np.array([record[key] for record in records])
        return cls(**columns)


def standard_error(values):
    """Return the standard error of a mean: a float, NaN for one value."""
    if len(values) < 2:
        return math.nan
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))


def log_ratios(causal_lm, samples, start):
    """Return how much likelier responses are than they were at the start.

    Their mean over responses that were sampled from the policy estimates its
    Kullback-Leibler divergence from the start. A single one may be negative.

    Args:
        causal_lm: the policy.
        samples: `Samples` with tokens.
        start: list of arrays, the trainable weights of the start; `None` if
            the policy is the start.

    Returns:
        float64 `(len(samples),)`, in nats.
    """
    if start is None:
        return np.zeros(len(samples))
    policy = _logprobs(causal_lm, samples)
    with other_weights(causal_lm.trainable_variables, start):
        return policy - _logprobs(causal_lm, samples)


def _logprobs(causal_lm, samples):
    scores = score_responses(causal_lm, samples.token_ids, samples.starts)
    return np.array([each.sum(dtype="float64") for each in scores])
