"""Direct preference optimization: learning from pairs without a reward model.

`dpo` is longer than other functions because of its arguments, all of which
are described where a user looks for them.
"""

import contextlib
import dataclasses
import zipfile

import keras
import numpy as np

from kerasllm import distribution as devices
from kerasllm import files, lora, training
from kerasllm.backend import tf
from kerasllm.checks import (
    RunError,
    UserError,
    check_lists,
    is_real,
    shown,
)
from kerasllm.preferences import TokenizedPairs
from kerasllm.progress import working
from kerasllm.prompts import get_template
from kerasllm.schedules import warn_of_long_warmup
from kerasllm.tuning._finetuning import (
    check_positions,
    check_tuning,
    enough_epochs,
)
from kerasllm.tuning._identity import (
    describe_model,
    describe_preferences,
    noting_the_end,
)
from kerasllm.tuning._logprobs import score_responses
from kerasllm.tuning._model import check_causal_lm, frozen_encoder
from kerasllm.tuning._pair_model import (
    DPOLoss,
    Objective,
    PairModel,
    metrics_of,
)

REFERENCE_FILE = "reference.npz"


def dpo(
    causal_lm,
    preferences,
    validation_preferences=None,
    *,
    beta=0.1,
    loss_type="sigmoid",
    label_smoothing=0.0,
    sft_weight=0.0,
    reference=None,
    template="auto",
    epochs=None,
    batch_size=8,
    learning_rate=1e-4,
    sequence_length=256,
    buckets=True,
    seed=0,
    directory=None,
    callbacks=(),
    verbose="auto",
):
    """Tune a model on preferences, with direct preference optimization.

    This trains all trainable weights: the adapters after
    `kerasllm.enable_lora`, and otherwise the whole model. The loss is
    `dpo_loss` of the log-probabilities that `response_logprobs` returns. There
    is no dropout, which would add noise to them.

    The reference does not change, so its log-probabilities are computed once,
    before the first update, and no second copy of the weights is needed.

    Both log-probabilities usually fall, that of the chosen response less than
    that of the rejected one: the loss sees their difference alone. The
    history shows it. `sft_weight` and the loss type `"ipo"` help against it.

    Args:
        causal_lm: any `keras_hub.models.CausalLM` with a preprocessor.
        preferences: list of `kerasllm.preferences.Preference`.
        validation_preferences: held-out preferences, for measuring after each
            epoch. They should have other prompts.
        beta: float, positive. A large one keeps the model close to the
            reference. For `"sigmoid_norm"`, whose log-probabilities are means,
            it is larger, such as 5.
        loss_type: `"sigmoid"`, `"hinge"`, `"ipo"` or `"sigmoid_norm"`; see
            `dpo_loss`. Log-probabilities are sums over the tokens of a
            response, with its end token; for `"sigmoid_norm"` they are means.
        label_smoothing: float in `[0, 0.5)`; see `dpo_loss`.
        sft_weight: float, at least 0. Weight of a second term, the negative
            log-probability of the chosen response per token, as in supervised
            fine-tuning (`rpo_alpha` in TRL).
        reference: `None` for the model with its adapters off or, if it has
            none, as it is when the run begins. `"precomputed"` for the model
            as it is when the run begins, adapters included, such as adapters
            of `load_lora` that are trained further.
        template: `PromptTemplate`, the name of one, or `"auto"` for the one
            whose special tokens the model has; see `prompts.get_template`.
        epochs: int. Defaults to 1, or to enough epochs for 100 steps, because
            one epoch of a dozen pairs teaches nothing.
        batch_size: int. Pairs in a batch, so twice as many sequences.
        learning_rate: float or schedule, a tenth of what `finetune` takes or
            less. Without adapters, a tenth again.
        sequence_length: int. Pairs of which one response, with the prompt,
            has more tokens are left out and counted in a warning. At most the
            length of the model's position table, if it has one.
        buckets: bool. See `kerasllm.preferences.TokenizedPairs.dataset`.
        seed: int. The order of the pairs.
        directory: str or path. The folder for checkpoints and the reference.
            After an interruption, the same call with the same directory
            continues the run, and it may ask for more epochs. `None` writes
            nothing.
        callbacks: more Keras callbacks. They may generate text with
            `model.causal_lm`.
        verbose: as for `fit`.

    Returns:
        A list of dicts, one per epoch, with `epoch`, `step`, `loss`,
        `tokens_per_second`, and means over the pairs: `chosen_reward` and
        `rejected_reward`, which are `beta` times the log-ratio to the
        reference; their difference, the `margin`; `accuracy`, the share of
        pairs with a positive margin, where a tie counts as wrong; and
        `chosen_logprob` and `rejected_logprob`, in nats, always sums. With
        held-out preferences also all of these with the prefix `val_`. They are
        what `fit` reports of each step, too, where they are means since the
        epoch began.

    Raises:
        UserError: preferences or numbers do not fit the model, or none of its
            weights can be trained.
        RunError: `directory` holds a run of another model, of other
            preferences or of other arguments; says what differs. Or it has
            had more epochs already, or another process is at work there.

    Source: chapter 16, section 16.4.1; Rafailov et al., 2023,
    arXiv:2305.18290; Pang et al., 2024, arXiv:2404.19733 (`sft_weight`); for
    the loss types see `dpo_loss`.
    """
    some = 1 if epochs is None else epochs
    check_tuning(some, batch_size, learning_rate, sequence_length, seed)
    directory, callbacks = training.check_run(directory, callbacks, verbose)
    objective = Objective(beta, loss_type, label_smoothing, sft_weight)
    _check_reference(reference)
    check_causal_lm(causal_lm)
    # NumPy's ints have other ideas of their dtype in `tf.data`.
    batch_size, sequence_length = int(batch_size), int(sequence_length)
    check_positions(causal_lm, sequence_length)
    preferences, validation_preferences = check_lists(
        preferences=preferences, validation_preferences=validation_preferences
    )
    template = get_template(template, causal_lm.preprocessor.tokenizer)
    if is_real(learning_rate):
        learning_rate = float(learning_rate)  # NumPy's, too, for the file
    pairs = TokenizedPairs.of_both(
        preferences,
        validation_preferences,
        causal_lm.preprocessor,
        template,
        sequence_length,
    )
    if directory is not None:
        identity = {
            **describe_preferences(preferences, validation_preferences),
            **dataclasses.asdict(objective),
            "reference": reference,
            "learning_rate": keras.saving.serialize_keras_object(learning_rate),
            "batch_size": batch_size,
            "sequence_length": sequence_length,
            "buckets": bool(buckets),
            "seed": int(seed),
            "template": dataclasses.asdict(template),
            **describe_model(causal_lm, directory),
        }
    train = pairs["preferences"]
    steps = train.num_batches(batch_size, buckets)
    epochs = enough_epochs(epochs, 1, steps)
    warn_of_long_warmup(learning_rate, epochs * steps)
    with (
        noting_the_end(causal_lm),
        frozen_encoder(causal_lm.backbone),  # there are no images
        devices.only_run_in(directory),
    ):
        model = _pair_model(causal_lm, pairs, objective, learning_rate)
        if directory is not None:
            training.claim_for_model(directory, identity)
        references = _references(causal_lm, pairs, reference, directory)
        return training.resumable_fit(
            model,
            *_datasets(pairs, references, batch_size, buckets, seed),
            directory=directory,
            epochs=epochs,
            steps_per_epoch=steps,
            tokens_in_a_batch=train.num_tokens / steps,
            variables=lora.changing_variables,
            perplexity=False,
            callbacks=callbacks,
            verbose=verbose,
        )


def _check_reference(reference):
    if reference is not None and reference != "precomputed":
        raise UserError(
            "`reference` must be `None`, for the model without its adapters, "
            "or 'precomputed', for the model as it is at the start. Received: "
            f"reference={shown(reference)}. Leave it out if the adapters are "
            "new."
        )


def _pair_model(causal_lm, pairs, objective, learning_rate):
    shortest = min(min(part.prompt_lengths) for part in pairs.values())
    model = PairModel(causal_lm, shortest)
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=DPOLoss(objective),
        weighted_metrics=metrics_of(objective),
    )
    return model


def _datasets(pairs, references, batch_size, buckets, seed):
    """Return the dataset to train on and, if there is one, the held-out one."""
    datasets = []
    for name, part in pairs.items():
        if name == "preferences":
            dataset = part.endless(batch_size, seed, buckets)
        else:
            dataset = part.dataset(batch_size, buckets=buckets)
        datasets.append(dataset.map(_labeling(references[name])))
    return datasets


def _labeling(references):
    """Return a function that gives batches of pairs their references."""
    references = tf.constant(references)

    def label(x, margins, sample_weight):
        inputs = {name: x[name] for name in x if name != "numbers"}
        return inputs, tf.gather(references, x["numbers"]), sample_weight

    return label


def _references(causal_lm, pairs, reference, directory):
    """Return the log-probabilities under the reference of a run.

    They are those of the weights with which the run began. A run that goes on
    has other weights, so it reads them from its folder.

    Args:
        causal_lm: the model.
        pairs: dict of `TokenizedPairs`.
        reference: see `dpo`.
        directory: `pathlib.Path` or `None`.

    Returns:
        dict from the names of `pairs` to float32 arrays `(number of pairs, 2,
        2)`; see `PairModel`.
    """
    if directory is None:
        return _compute(causal_lm, pairs, reference)
    path = directory / REFERENCE_FILE
    if (directory / training.CHECKPOINT_FILE).is_file():
        return _read(path, pairs)
    references = _compute(causal_lm, pairs, reference)
    with devices.failing_together():
        if devices.process_index() == 0:
            with files.whole_file(path, "wb") as file:
                np.savez(file, **references)
    return references


def _compute(causal_lm, pairs, reference):
    """Compute what `_references` returns, with the weights of now."""
    adapters = contextlib.nullcontext()
    if reference is None and lora.adapted_layers(causal_lm):
        adapters = lora.adapters_off(causal_lm)
    references = {}
    with adapters, working("Scoring with the reference", at_once=False):
        for name, part in pairs.items():
            scores = score_responses(
                causal_lm,
                [*part.chosen, *part.rejected],
                [*part.prompt_lengths, *part.prompt_lengths],
            )
            # (2, number of pairs, 2): all chosen ones, all rejected ones.
            logprobs = np.array(
                [(s.sum(dtype="float64"), s.mean()) for s in scores], "float32"
            ).reshape(2, -1, 2)
            references[name] = logprobs.swapaxes(0, 1)
    return references


def _read(path, pairs):
    """Read what `_references` returns from the folder of a run."""
    try:
        with np.load(path) as saved:
            return {name: saved[name] for name in pairs}
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        zipfile.BadZipFile,
    ) as error:
        raise RunError(
            f"The folder of a run must hold its {REFERENCE_FILE}, the "
            "log-probabilities from before the first update. Received: "
            f"{path}, which cannot be read ({error}). Put back a copy of it, "
            "or use another `directory`."
        ) from error
