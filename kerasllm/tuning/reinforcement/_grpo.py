"""Group relative policy optimization: learning from rewards of samples.

`grpo` is longer than other functions because of its arguments, all of which
are described where a user looks for them.
"""

import dataclasses
import hashlib
import json

import keras

from kerasllm import distribution as devices
from kerasllm import lora, training
from kerasllm.checks import UserError, check_int, check_lists, is_real, shown
from kerasllm.generation import TextGenerator, find_stop_tokens
from kerasllm.prompts import get_template
from kerasllm.schedules import check_learning_rate
from kerasllm.tuning._identity import describe_model, noting_the_end
from kerasllm.tuning._model import frozen_encoder
from kerasllm.tuning.reinforcement._completions import (
    longest_text,
    tokenize_prompts,
)
from kerasllm.tuning.reinforcement._learner import Learner, Questions
from kerasllm.tuning.reinforcement._policy_model import PolicyModel
from kerasllm.tuning.reinforcement._rewards import Rewards
from kerasllm.tuning.reinforcement._run import HeldOut, Run
from kerasllm.tuning.reinforcement._settings import Floors, Settings
from kerasllm.tuning.reinforcement._snapshot import Snapshot
from kerasllm.tuning.rounds._sampling import check_held_out

START_FILE, BEST_FILE = "start.npz", "best.npz"
# As in other libraries: a batch of rare rewards must not throw a policy over.
LARGEST_GRADIENT = 1.0


def grpo(
    causal_lm,
    prompts,
    reward_fn,
    validation_prompts=None,
    *,
    num_generations=8,
    beta=0.0,
    epsilon=0.2,
    epsilon_high=None,
    scale_rewards="group",
    loss_type="grpo",
    num_iterations=1,
    temperature=1.0,
    mask_truncated_completions=True,
    reward_weights=None,
    steps=100,
    batch_size=8,
    minibatch_size=None,
    learning_rate=1e-4,
    max_completion_length=256,
    stop_token_ids="auto",
    template="auto",
    validation_steps=10,
    min_entropy=None,
    min_completion_length=None,
    min_reward=None,
    seed=0,
    directory=None,
    checkpoint_steps=10,
    callbacks=(),
    verbose="auto",
):
    """Tune a model on rewards of its own samples, with GRPO.

    In each step, the model writes `num_generations` completions of each of
    `batch_size` prompts, and all of them get rewards. The completions of one
    prompt are a group. Those with a reward above the mean of their group
    become more likely, the others less likely. This trains all trainable
    weights: the adapters after `kerasllm.enable_lora`, and otherwise the
    whole model. There is no dropout.

    The log-probabilities from the time of sampling are the sampler's own, so
    that nothing is computed twice. (In half precision, they differ from those
    of training by rounding, which the ratios make up for.) The stop token
    that ends a completion is one of the tokens that were chosen, and is
    learned, too.

    Older methods are settings of this function. A single update of each
    sample, which is the default, is plain policy gradient, because all ratios
    are 1. Then `scale_rewards="none"` and `loss_type="dr_grpo"` give
    REINFORCE with the mean reward of the group as its baseline. RLOO takes
    the mean of the others as the baseline. That multiplies all advantages by
    the same `num_generations / (num_generations - 1)`, which belongs to the
    learning rate. With `num_iterations` above 1 or a `minibatch_size`, there
    are several updates of a sample, and the clipping of PPO keeps them from
    going too far.

    Args:
        causal_lm: any `keras_hub.models.CausalLM` with a preprocessor.
        prompts: list of str. They are used in a new order each time that all
            of them have been used.
        reward_fn: callable `(prompts, responses) -> (batch_size,)` floats, of
            two lists of str of equal length: a checker, a reward model, a
            length. Or a list of such callables, whose weighted sum is the
            reward. A response is the text without the delimiters that end it.
        validation_prompts: held-out prompts, list of str. Their mean reward,
            with the most likely answers, decides which weights are best.
        num_generations: int, at least 2. Completions in a group.
        beta: float, at least 0. Weight of the KL divergence from the model as
            it is when the run begins; see `grpo_loss`.
        epsilon: float in `[0, 1]`. The largest relative decrease of a token's
            probability that pays.
        epsilon_high: float, at least 0: the largest increase. `None` for
            `epsilon`.
        scale_rewards: `"group"`, `"batch"` or `"none"`; see
            `group_advantages`.
        loss_type: `"grpo"`, `"dr_grpo"` or `"dapo"`; see `grpo_loss`.
        num_iterations: int. How often each completion is used.
        temperature: float, positive. Log-probabilities are those of the
            distribution that is sampled from, with this temperature, both
            when tokens are sampled and when they are learned.
        mask_truncated_completions: bool. Whether nothing is learned from
            completions that were cut off at `max_completion_length`. Their
            rewards still count in the mean of the group.
        reward_weights: list of floats, one for each of several rewards.
        steps: int. Batches of samples.
        batch_size: int. Prompts in a step.
        minibatch_size: int. Completions in an update, a divisor of
            `batch_size * num_generations`. It decides how much memory an
            update takes. `None` for all of them.
        learning_rate: float or schedule, a tenth of what `finetune` takes or
            less. A schedule counts updates.
        max_completion_length: int. Tokens at which a completion is cut off.
        stop_token_ids: see `TextGenerator.generate`.
        template: `PromptTemplate`, the name of one, or `"auto"` for the one
            whose special tokens the model has; see `prompts.get_template`.
            `None` if the prompts are complete as they are.
        validation_steps: int. Steps between measurements of the held-out
            reward. There are also one at the start and one at the end.
        min_entropy: float or `None`. If the entropy is below it in three
            steps in a row, the policy has collapsed. The run stops with a
            warning.
        min_completion_length: the same for `completion_length`.
        min_reward: the same for `reward`.
        seed: int. The order of the prompts and all random draws.
        directory: str or path. The folder for checkpoints, and for the
            weights of the start and the best ones. After an interruption, the
            same call with the same directory continues the run, and it may
            ask for more steps. `None` writes nothing.
        checkpoint_steps: int. Steps between checkpoints.
        callbacks: more Keras callbacks. A step is a batch to them.
        verbose: 0 to print no logs, 2 to print those of each step; otherwise
            they are printed every ten seconds.

    Returns:
        A list of dicts, one per step: `step`; `loss`; the mean of the rewards,
        `reward`, their standard deviation, `reward_std`, and with several
        functions the mean of each, `reward_` and its name; `equal_groups`, the
        share of groups without variance, which teach nothing; `ratio`, the
        mean of the tokens' probabilities over those when they were sampled;
        `clip_share`, the share of tokens whose gradient was clipped; `kl`, the
        divergence of the sampler from the model at the start, in nats per
        token, where a single completion of each group is looked at unless
        `beta` needs all; `entropy` of the sampler in nats per token;
        `completion_length` in tokens; the share of them that was `truncated`;
        `sampled_tokens`; and `sampling_seconds`, `training_seconds` of the
        updates, and `seconds` in all. With `validation_prompts`, some have
        `val_reward`, and before them comes a dict of the start, with the
        `step` 0 and `val_reward` alone. The model then has the weights of the
        step with the highest `val_reward`, the first of equal ones.

    Raises:
        UserError: prompts, numbers or rewards do not fit, or none of the
            weights can be trained.
        RunError: `directory` holds a run of another model, of other prompts
            or of other arguments; says what differs. Or it has had more steps
            already, or another process is at work there.
        DivergedError: loss or weights are no longer finite.
        TrainingInterrupted: there was a Ctrl-C. The step was finished.

    Source: chapter 16, section 16.4.4; Shao et al., 2024, arXiv:2402.03300
    (GRPO); Schulman et al., 2017, arXiv:1707.06347 (clipping); Williams,
    1992 (REINFORCE); Ahmadian et al., 2024, arXiv:2402.14740 (RLOO); for the
    loss types see `grpo_loss`.
    """
    directory, callbacks = training.check_run(directory, callbacks, verbose)
    settings = Settings(
        num_generations, beta, epsilon, epsilon_high, scale_rewards, loss_type,
        num_iterations, temperature, bool(mask_truncated_completions),
        max_completion_length, batch_size, minibatch_size, seed,
    )  # fmt: skip
    floors = Floors(min_entropy, min_completion_length, min_reward)
    steps = check_int("steps", steps, 1)
    validation_steps = check_int("validation_steps", validation_steps, 1)
    check_int("checkpoint_steps", checkpoint_steps, 1)
    check_learning_rate(learning_rate, "1e-4 is a good start with adapters.")
    if is_real(learning_rate):
        learning_rate = float(learning_rate)  # NumPy's, too, for the file
    rewards = Rewards(reward_fn, reward_weights)
    prompts, validation_prompts = check_lists(
        prompts=prompts, validation_prompts=validation_prompts
    )
    generator = TextGenerator(causal_lm)
    if template is not None:
        template = get_template(template, causal_lm.preprocessor.tokenizer)
    sampling = {
        "stop_token_ids": _stop_tokens(stop_token_ids, causal_lm, settings),
        "end_of_answer": template.end_of_turn if template else "",
    }
    questions, validation = _questions(
        generator, prompts, validation_prompts, template, max_completion_length
    )
    identity = None
    if directory is not None:
        identity = {
            **_describe_prompts(prompts, validation_prompts),
            "reward_fn": rewards.names,
            "reward_weights": rewards.weights,
            **dataclasses.asdict(settings),
            "learning_rate": keras.saving.serialize_keras_object(learning_rate),
            "stop_token_ids": sampling["stop_token_ids"],
            "template": template and dataclasses.asdict(template),
            "validation_steps": validation_steps,
            **describe_model(causal_lm, directory),
        }
    with (
        noting_the_end(causal_lm),
        frozen_encoder(causal_lm.backbone),  # there are no images
        devices.only_run_in(directory),
    ):
        policy = _compiled(PolicyModel(causal_lm, settings), learning_rate)
        if directory is not None:
            training.claim_for_model(directory, identity)
        checkpoint = training.Checkpoint(
            directory, 1, checkpoint_steps, variables=lora.changing_variables
        )
        start, best = _snapshots(policy, checkpoint, directory, validation)
        learner = Learner(
            policy, generator, questions, rewards, start, **sampling
        )
        held_out = HeldOut(validation, validation_steps, best)
        run = Run(learner, checkpoint, held_out, floors, verbose)
        callbacks = keras.callbacks.CallbackList(callbacks, model=policy)
        return run.learn(steps, callbacks)


def _compiled(policy, learning_rate):
    policy.compile(
        keras.optimizers.Adam(learning_rate, global_clipnorm=LARGEST_GRADIENT)
    )
    policy.optimizer.build(policy.trainable_variables)
    return policy


def _stop_tokens(stop_token_ids, causal_lm, settings):
    """Return the tokens that end a completion: a sorted list of ints."""
    tokenizer = causal_lm.preprocessor.tokenizer
    found = find_stop_tokens(
        stop_token_ids, tokenizer, tokenizer.vocabulary_size()
    )
    if not found and settings.mask_truncated_completions:
        raise UserError(
            "There must be a stop token if truncated completions are masked, "
            f"as all are truncated without. Received: "
            f"stop_token_ids={shown(stop_token_ids)}. Name one, or pass "
            "`mask_truncated_completions=False`."
        )
    return sorted(found)


def _questions(
    generator, prompts, validation_prompts, template, max_completion_length
):
    """Return both lists of prompts as `Questions`, the second or `None`."""
    parts = []
    longest = longest_text(generator.causal_lm)
    for name, texts in (
        ("prompts", prompts),
        ("validation_prompts", validation_prompts),
    ):
        if texts is None and name == "validation_prompts":
            parts.append(None)
            continue
        tokens = tokenize_prompts(generator, texts, template, name)
        lengths = [len(prompt.token_ids) for prompt in tokens]
        if max(lengths) + max_completion_length > longest:
            raise UserError(
                f"A prompt and its completion must fit in {longest} tokens, "
                "the length of the model's position table. Received: "
                f"`{name}` of up to {max(lengths)} tokens and "
                f"max_completion_length={max_completion_length}. Lower "
                "`max_completion_length`, or drop long prompts."
            )
        parts.append(Questions(list(texts), tokens))
    check_held_out("validation_prompts", validation_prompts or (), prompts)
    return parts


def _snapshots(policy, checkpoint, directory, validation):
    """Restore a run; return the weights of its start and the best ones.

    Args:
        policy: compiled `PolicyModel`, with the weights of the start if the
            run is new.
        checkpoint: `training.Checkpoint`.
        directory: `pathlib.Path` or `None`.
        validation: `Questions` or `None`.
    """
    start, best = (
        Snapshot(
            policy.trainable_variables,
            None if directory is None else directory / name,
        )
        for name in (START_FILE, BEST_FILE)
    )
    goes_on = checkpoint.path is not None and checkpoint.path.is_file()
    if not goes_on:
        start.take()
    checkpoint.set_model(policy)
    checkpoint.restore(policy)
    if goes_on:
        start.read()
        if validation is not None:
            best.read()
    return start, best


def _describe_prompts(prompts, validation_prompts):
    """Return hashes of the prompts of a run: a dict."""
    return {
        name: hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()
        for name, texts in (
            ("prompts", prompts),
            ("validation_prompts", validation_prompts or ()),
        )
    }
