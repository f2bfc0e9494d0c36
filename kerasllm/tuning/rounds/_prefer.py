"""The loop of listing 16.15: sample, score, keep the best, tune, repeat.

`prefer` is longer than other functions because of its arguments, all of which
are described where a user looks for them.
"""

import numpy as np

from kerasllm import distribution as devices
from kerasllm import training
from kerasllm.checks import check_int
from kerasllm.generation import scores_of
from kerasllm.prompts import get_template
from kerasllm.tuning._identity import describe_model, noting_the_end
from kerasllm.tuning._model import check_causal_lm
from kerasllm.tuning.rounds._keeping import check_kept, choose
from kerasllm.tuning.rounds._measuring import Measurement, log_ratios
from kerasllm.tuning.rounds._plan import Plan
from kerasllm.tuning.rounds._run import Clock, Run, Tuning
from kerasllm.tuning.rounds._sampling import ResponseSampler, seeds_of

REWARDS_FILE = "rewards.jsonl"
VALIDATION_FILE = "validation.jsonl"


def prefer(
    causal_lm,
    prompts,
    reward_fn,
    validation_prompts=None,
    *,
    rounds=3,
    num_generations=4,
    keep=None,
    prompts_per_round=None,
    tune_from="last",
    true_score=None,
    renew_reward=None,
    watch=None,
    restore_best=False,
    temperature=1.0,
    template="auto",
    epochs=1,
    batch_size=8,
    learning_rate=1e-4,
    sequence_length=256,
    sampling_batch_size=256,
    seed=0,
    directory=None,
    callbacks=(),
    verbose="auto",
):
    """Tune a model on those of its own responses that are scored highest.

    In each round, the model responds to prompts several times, a reward scores
    the responses, and the model is tuned with `finetune` on the ones that are
    kept. No preferences are needed beyond those that the reward was learned
    from, and the model sees no text but its own.

    The reward is a proxy for what people want. The more a model is tuned for
    it, the more it exploits what the reward gets wrong. So measure something
    else, too: `true_score`, and the divergence from the start.

    Args:
        causal_lm: any `keras_hub.models.CausalLM` with a cache and a
            preprocessor. All trainable weights are tuned: the adapters after
            `kerasllm.enable_lora`, and otherwise the whole model.
        prompts: list of str, without any template.
        reward_fn: callable `(prompts, responses) -> (batch_size,)` floats,
            such as a `RewardModel`, of two lists of str of equal length. The
            prompts are those of `prompts`, and responses have no white space
            around them.
        validation_prompts: list of str, held-out prompts. The model responds
            to each of them once before the first round and after each, always
            with the same draws.
        rounds: int.
        num_generations: int. Responses to each prompt in a round.
        keep: which responses are kept: `Cutoff(value)`, as in the chapter,
            `TopShare(share)`, `BestOfEach(count)`, of which `None` keeps one
            for each prompt, or any callable from float rewards
            `(num_prompts, num_generations)` to bools of that shape.
            Those that must not be kept have the reward -inf: a response that
            was cut off, and one that repeats another to the same prompt.
        prompts_per_round: int. Each round gets so many prompts that no other
            round has had. `None` for all prompts in each round.
        tune_from: `"last"` tunes the model of the round before, `"start"` in
            each round the model of the beginning.
        true_score: callable as `reward_fn`, what the reward stands for. It is
            only measured, on `validation_prompts`.
        renew_reward: callable `(round, prompts, responses) -> reward_fn`, such
            as one that has responses of the round labelled and trains a reward
            model on them. It is called in each round after sampling, with each
            prompt repeated for each of its responses, side by side. When an
            interrupted run goes on, it is called again for the round that was
            interrupted.
        watch: `RewardWatch`, which ends the run when the reward is exploited.
            Needs `validation_prompts` and `true_score`.
        restore_best: bool. Whether the model gets back the weights of the
            round with the highest mean true score in the end.
        temperature: float, positive. With 1, responses are those of the model
            itself, as `val_kl` supposes.
        template: `PromptTemplate`, the name of one, or `"auto"` for the one
            whose special tokens the model has; see `prompts.get_template`. It
            is put around each prompt that the model reads.
        epochs: int. How often each round learns from what was kept.
        batch_size: int. See `finetune`, as for the next two.
        learning_rate: float or schedule, which begins anew in each round.
        sequence_length: int. Tokens of a prompt with its response and the
            delimiters. A response is cut off where it would be longer.
        sampling_batch_size: int. Sequences that are sampled together.
        seed: int. It determines all draws, and the order of the examples.
        directory: str or path. The folder for samples, rewards, weights and
            the history. After an interruption, the same call with the same
            directory continues the run, and it may ask for more rounds. `None`
            writes nothing.
        callbacks: more Keras callbacks for `finetune`.
        verbose: as for `fit`.

    Returns:
        A list of dicts, one a round, with `round`, from 1; `num_prompts`;
        `num_responses`; `reward`, the mean of all responses; `kept_reward`,
        that of the kept ones; `share_ended`, the share that was not cut off;
        `share_kept`; `tokens_sampled`; `tokens_trained`, those of prompts and
        responses times `epochs`; `loss`, of the last epoch; and
        `sampling_seconds` (with scoring) and `training_seconds`, of the call
        that finished the round. With `validation_prompts` also `val_reward`,
        `val_true_score`, `val_length` in tokens, and `val_kl`, the mean over
        responses of their log-probability minus that under the start, in nats;
        and the standard error of each, `val_reward_error` and so on. The list
        then begins with a dict of the start, round 0. With a `watch`,
        `is_hacked` says whether it ended the run.

    Raises:
        UserError: an argument does not fit the others or the model; or nothing
            was kept in a round, and what to do about it.
        RunError: `directory` holds a run of another model, of other prompts or
            of other arguments; says what differs. Or it has had more rounds
            already, or another process is at work there.

    Source: chapter 16, section 16.4.1, listing 16.15; Dong et al., 2023,
    arXiv:2304.06767 (best of each prompt); Gulcehre et al., 2023,
    arXiv:2308.08998 (cutoff); Gao et al., 2022, arXiv:2210.10760 (what a proxy
    does to the true score).

    Example:
    ```python
    history = prefer(
        causal_lm,
        prompts,
        reward_model,
        held_out_prompts,
        keep=TopShare(0.25),
        true_score=TrueScore(world),
        watch=RewardWatch(),
        directory="runs/prefer",
    )
    ```
    """
    directory, callbacks = training.check_run(directory, callbacks, verbose)
    check_causal_lm(causal_lm)
    template = get_template(template, causal_lm.preprocessor.tokenizer)
    tuning = Tuning(
        template, epochs, batch_size, learning_rate, sequence_length, seed,
        tune_from, tuple(callbacks), verbose,
    )  # fmt: skip
    plan = Plan(
        prompts, reward_fn, validation_prompts, rounds, num_generations, keep,
        prompts_per_round, true_score, renew_reward, watch, bool(restore_best),
        temperature,
    )  # fmt: skip
    check_int("sampling_batch_size", sampling_batch_size, 1)
    sampler = ResponseSampler(
        causal_lm, template, tuning.sequence_length, plan.temperature,
        int(sampling_batch_size),
    )  # fmt: skip
    run = Run(causal_lm, sampler, tuning, directory)
    sampler.encode(plan.prompts)  # each must leave room for a response
    if plan.validation_prompts is not None:
        sampler.encode(plan.validation_prompts)
    with noting_the_end(causal_lm), devices.only_run_in(directory):
        identity = None
        if directory is not None:
            model = describe_model(causal_lm, directory)
            identity = plan.identity() | tuning.identity() | model
        run.open(identity, plan.rounds)
        _run_rounds(run, plan)
        return run.history


def _run_rounds(run, plan):
    """Run the rounds that are not finished, and measure after each."""
    reward_fn, best, highest = plan.reward_fn, 0, -np.inf
    if plan.watch is not None:
        plan.watch.reset()
    for number in range(plan.rounds + 1):
        logs = {}
        if number > 0 and not run.is_finished(number):
            logs, reward_fn = _learn(run, plan, number)
        if plan.validation_prompts is not None:
            measurement = _measure(run, plan, number, reward_fn)
            logs |= measurement.logs()
            if logs.get("val_true_score", -np.inf) > highest:
                best, highest = number, logs["val_true_score"]
                if plan.restore_best:
                    run.keep(number)
        if plan.watch is not None:
            logs["is_hacked"] = plan.watch.observe(
                measurement.rewards, measurement.true_scores
            )
        if logs and not run.is_finished(number):
            run.finish(number, logs)
            run.say(_line(run.history[-1], plan))
        if logs.get("is_hacked"):
            run.say(f"The reward is exploited. {plan.watch.describe()}")
            break
    if plan.restore_best:
        run.load(best)
        run.say(f"The weights are those of round {best}, the best one.")


def _learn(run, plan, number):
    """Sample, score, keep and tune; return the logs and the reward."""
    clock = Clock()
    samples = run.sample(number, plan.prompts_of(number), plan.num_generations)
    reward_fn = plan.reward_fn
    if plan.renew_reward is not None:
        reward_fn = plan.renew_reward(
            number, list(samples.prompts), list(samples.responses)
        )

    def make():
        with run.working(f"Round {number}: scoring"):
            rewards = scores_of(
                reward_fn, samples.prompts, samples.responses, "reward_fn"
            )
        return [{"reward": reward} for reward in rewards.tolist()]

    records = run.once(number, REWARDS_FILE, make)
    rewards = np.array([record["reward"] for record in records])
    sampling_seconds = clock.lap()
    kept = choose(samples, rewards, plan.keep)
    check_kept(kept, samples, rewards, plan.keep, number)
    tuned = run.tune(number, samples, kept)
    return {
        "num_prompts": len(samples) // samples.num_generations,
        "num_responses": len(samples),
        "reward": float(rewards.mean()),
        "kept_reward": float(rewards[kept].mean()),
        "share_ended": float(np.mean(samples.ended)),
        "share_kept": float(kept.mean()),
        "tokens_sampled": sum(samples.num_tokens),
        **tuned,
        "sampling_seconds": sampling_seconds,
        "training_seconds": clock.lap(),
    }, reward_fn


def _measure(run, plan, number, reward_fn):
    """Return the `Measurement` after a round, 0 for the start."""

    def make():
        prompts = plan.validation_prompts
        with run.working(f"Round {number}: measuring"):
            samples = run.sampler.sample(
                prompts, 1, seeds_of(run.tuning.seed, 0, len(prompts))
            )
            asked = samples.prompts, samples.responses
            true_scores = None
            if plan.true_score is not None:
                true_scores = scores_of(plan.true_score, *asked, "true_score")
            return Measurement(
                scores_of(reward_fn, *asked, "reward_fn"),
                true_scores,
                log_ratios(
                    run.causal_lm, samples, run.start if number else None
                ),
                np.array(samples.num_tokens),
            ).records(samples)

    return Measurement.of_records(run.once(number, VALIDATION_FILE, make))


def _line(logs, plan):
    """Return what a round has done as a line of text."""
    parts = []
    if logs["round"]:
        parts.append(
            f"kept {logs['share_kept']:.0%} of {logs['num_responses']} "
            f"responses, reward {logs['reward']:.4g}, of those kept "
            f"{logs['kept_reward']:.4g}"
        )
    for name, words in (
        ("val_reward", "held-out reward"),
        ("val_true_score", "true score"),
        ("val_kl", "KL"),
    ):
        if name in logs:
            parts.append(f"{words} {logs[name]:.4g}")
    where = f"Round {logs['round']} of {plan.rounds}"
    return f"{where if logs['round'] else 'Start'}: {', '.join(parts)}"
