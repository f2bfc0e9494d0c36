"""Supervised fine-tuning on requests and answers.

`finetune` is longer than other functions because of its arguments, all of
which are described where a user looks for them.
"""

import contextlib
import dataclasses
import math

import keras

from kerasllm import lora, training
from kerasllm.checks import (
    LARGEST_SEED,
    UserError,
    check_int,
    check_lists,
    check_positive_ints,
    is_real,
)
from kerasllm.generation import position_tables
from kerasllm.instructions import TokenizedInstructions
from kerasllm.prompts import get_template
from kerasllm.schedules import check_learning_rate, warn_of_long_warmup
from kerasllm.tuning._identity import (
    describe_examples,
    describe_model,
    noting_the_end,
)
from kerasllm.tuning._model import (
    check_causal_lm,
    frozen_encoder,
    token_model,
)

# What a run takes at least, where nobody says how many epochs.
FEWEST_EPOCHS = 3
FEWEST_STEPS = 100


def finetune(
    causal_lm,
    examples,
    validation_examples=None,
    *,
    template="auto",
    epochs=None,
    batch_size=8,
    learning_rate=1e-3,
    sequence_length=256,
    buckets=True,
    seed=0,
    directory=None,
    callbacks=(),
    verbose="auto",
):
    """Tune a model on requests and answers.

    This trains all trainable weights: the adapters after
    `kerasllm.enable_lora`, and otherwise the whole model (full fine-tuning).
    If no example has an image, the vision encoder is not trained. Only the
    tokens of responses count in the loss.

    Args:
        causal_lm: any `keras_hub.models.CausalLM` with a preprocessor, such as
            a `MiniGPTCausalLM`, a GPT-2, a Llama or a Gemma 3.
        examples: list of `Instruction`, see `kerasllm.instructions`.
        validation_examples: held-out examples, for measuring after each epoch.
        template: `PromptTemplate`, the name of one, or `"auto"` for the one
            whose special tokens the model has; see `prompts.get_template`.
        epochs: int. Defaults to 3, or to enough epochs for 100 steps, because
            three epochs of a dozen examples teach nothing.
        batch_size: int.
        learning_rate: float or schedule. For adapters, a rate ten times that
            of full fine-tuning is common.
        sequence_length: int. Examples with more tokens are left out and
            counted in a warning. At most the length of the model's position
            table, if it has one.
        buckets: bool. See `TokenizedInstructions.dataset`.
        seed: int. The order of the examples.
        directory: str or path. The folder for checkpoints. After an
            interruption, the same call with the same directory continues the
            run, and it may ask for more epochs. `None` writes no checkpoints.
        callbacks: more Keras callbacks. Their `model` is a `token_model`. At
            the end of an epoch, they may generate text with `model.causal_lm`.
        verbose: as for `fit`.

    Returns:
        A list of dicts, one per epoch; see `kerasllm.pretrain`. The accuracy
        is that of all tokens of responses. Losses are means over batches, as
        in every `fit`, so a batch with few such tokens counts as much as one
        with many. Compare only losses with equal batches.

    Raises:
        UserError: examples or numbers do not fit the model, or none of its
            weights can be trained.
        MissingFileError: there is no such file of an image.
        RunError: `directory` holds a run of another model, of other examples
            or of other arguments; says what differs. It has had more epochs
            already, or another process is at work there.

    Source: chapter 16, "Instruction fine-tuning"; Ouyang et al., 2022,
    arXiv:2203.02155 (supervised fine-tuning).
    """
    some = 1 if epochs is None else epochs
    check_tuning(some, batch_size, learning_rate, sequence_length, seed)
    directory, callbacks = training.check_run(directory, callbacks, verbose)
    check_causal_lm(causal_lm)
    check_positions(causal_lm, sequence_length)
    examples, validation_examples = check_lists(
        examples=examples, validation_examples=validation_examples
    )
    preprocessor = causal_lm.preprocessor
    template = get_template(template, preprocessor.tokenizer)
    if is_real(learning_rate):
        learning_rate = float(learning_rate)  # NumPy's, too, for the file
    train, validation = _tokenize(
        examples, validation_examples, preprocessor, template, sequence_length
    )
    identity = None
    if directory is not None:
        identity = {
            **describe_examples(examples, validation_examples, directory),
            "learning_rate": keras.saving.serialize_keras_object(learning_rate),
            "batch_size": int(batch_size),
            "sequence_length": int(sequence_length),
            "buckets": bool(buckets),
            "seed": int(seed),
            "template": dataclasses.asdict(template),
            **describe_model(causal_lm, directory),
        }
    if validation is not None:
        validation = validation.dataset(batch_size, buckets=buckets)
    steps = train.num_batches(batch_size, buckets)
    epochs = enough_epochs(epochs, FEWEST_EPOCHS, steps)
    frozen = contextlib.nullcontext()
    if not any(train.images):  # of the examples that were short enough
        frozen = frozen_encoder(causal_lm.backbone)
    warn_of_long_warmup(learning_rate, epochs * steps)
    with noting_the_end(causal_lm), frozen:
        return training.resumable_fit(
            _compiled(token_model(causal_lm), learning_rate),
            train.endless(batch_size, seed, buckets),
            validation,
            directory=directory,
            identity=identity,
            epochs=epochs,
            steps_per_epoch=steps,
            tokens_in_a_batch=train.num_tokens / steps,
            variables=lora.changing_variables,
            callbacks=callbacks,
            verbose=verbose,
        )


def enough_epochs(epochs, fewest, steps):
    """Return a number of epochs, or where it is `None`, one that suffices.

    Args:
        epochs: int or `None`.
        fewest: int, which are enough for many examples.
        steps: int, those of an epoch.
    """
    if epochs is not None:
        return epochs
    return max(fewest, math.ceil(FEWEST_STEPS / steps))


def check_tuning(
    epochs=1, batch_size=1, learning_rate=1e-3, sequence_length=1, seed=0
):
    """Refuse numbers that `finetune` cannot take.

    Args:
        epochs: int.
        batch_size: int.
        learning_rate: float, schedule or callable.
        sequence_length: int.
        seed: int.

    Raises:
        UserError: one of them is out of range.
    """
    check_int("seed", seed, 0, LARGEST_SEED)
    check_positive_ints(
        epochs=epochs,
        batch_size=batch_size,
        sequence_length=sequence_length,
    )
    check_learning_rate(
        learning_rate, "1e-3 is a good start with adapters, 1e-4 without."
    )


def check_positions(causal_lm, sequence_length):
    """Refuse sequences that are longer than the model's position table.

    Args:
        causal_lm: any `keras_hub.models.CausalLM`.
        sequence_length: int.

    Raises:
        UserError: they are.
    """
    positions = min(position_tables(causal_lm), default=sequence_length)
    if sequence_length > positions:
        raise UserError(
            f"`sequence_length` must be at most {positions}, the length of "
            "the model's position table. Received: sequence_length="
            f"{sequence_length}. Pass less: longer examples are left out."
        )


def _tokenize(
    examples, validation_examples, preprocessor, template, sequence_length
):
    """Return both parts as `TokenizedInstructions`, the second or `None`."""
    parts = []
    for name, part in (
        ("examples", examples),
        ("validation_examples", validation_examples),
    ):
        tokenized = None
        if part is not None or name == "examples":
            tokenized = TokenizedInstructions.of(
                part, preprocessor, template, sequence_length, name
            )
        parts.append(tokenized)
    for part in parts:
        if part is not None:
            part.warn_of_long_examples()
    return parts


def _compiled(model, learning_rate):
    """Compile a model so that a batch counts by the tokens of responses."""
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        # Not by their share of a sequence.
        loss=keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        ),
        weighted_metrics=[
            keras.metrics.SparseCategoricalAccuracy(name="accuracy")
        ],
    )
    return model
