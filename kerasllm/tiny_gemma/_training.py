"""Pretraining the vision encoder and the model, then instruction tuning."""

import keras

from kerasllm.pretraining import pretrain
from kerasllm.tiny_gemma._data import (
    VISION_LABELS,
    pretraining_dataset,
    tuning_examples,
    vision_dataset,
)
from kerasllm.tiny_gemma._model import build, train_tokenizer
from kerasllm.tiny_gemma._recipe import SEQUENCE_LENGTH
from kerasllm.toyworld import PICTURE_SIZE


def pretrain_base(recipe, directory, verbose="auto"):
    """Train the base model, or continue an interrupted training.

    First the vision encoder is trained alone. Then it is frozen, as Gemma's
    was, and the model reads texts and looks at pictures. When everything was
    trained together from the start, the model learned colors within 600
    batches, but had not learned shapes after 1,800.

    Args:
        recipe: `TinyRecipe`.
        directory: str or path. Where checkpoints and logs go.
        verbose: as for `fit`.

    Returns:
        `(causal_lm, history)`: the task with its preprocessor, and what
        `kerasllm.pretrain` returns.
    """
    # Before there is a tokenizer: seeding TensorFlow clears its kernels.
    keras.utils.set_random_seed(recipe.seed)
    causal_lm = build(
        train_tokenizer(recipe.seed),
        recipe.hidden_dim,
        recipe.num_layers,
        recipe.vision_dim,
    )
    preprocessor, causal_lm.preprocessor = causal_lm.preprocessor, None
    vision_encoder = causal_lm.backbone.vision_encoder
    pretrain_vision(vision_encoder, recipe, preprocessor, verbose)
    vision_encoder.trainable = False
    warmup_steps = max(1, recipe.steps // 20)
    history = pretrain(
        causal_lm,
        pretraining_dataset(recipe, preprocessor),
        directory=directory,
        epochs=10,
        steps_per_epoch=recipe.steps // 10,
        learning_rate=keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0,
            warmup_target=recipe.learning_rate,
            warmup_steps=warmup_steps,
            decay_steps=recipe.steps - warmup_steps,
        ),
        verbose=verbose,
    )
    vision_encoder.trainable = True
    causal_lm.preprocessor = preprocessor
    return causal_lm, history


def pretrain_vision(vision_encoder, recipe, preprocessor, verbose="auto"):
    """Train a vision encoder to recognize the three words of a caption.

    A small head guesses number, color and shape from the encoder's soft
    tokens, and is discarded afterward. This takes less than a minute and
    is not resumed.

    Args:
        vision_encoder: a `keras_hub.models.Gemma3VisionEncoder`, trained in
            place.
        recipe: `TinyRecipe`.
        preprocessor: the `Gemma3CausalLMPreprocessor` of the model.
        verbose: as for `fit`.

    Returns:
        The history of `fit`: a dict from the name of a number to its values.
    """
    model = _vision_classifier(vision_encoder)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(1e-3, recipe.vision_steps)
        ),
        loss=dict.fromkeys(VISION_LABELS, loss),
        metrics=dict.fromkeys(VISION_LABELS, ["accuracy"]),
    )
    return model.fit(
        vision_dataset(recipe, preprocessor),
        steps_per_epoch=recipe.vision_steps // 4,
        epochs=4,
        shuffle=False,
        verbose=verbose,
    ).history


def _vision_classifier(vision_encoder):
    """Return a model from images to the logits of each label."""
    width = vision_encoder.output_dim
    # (batch_size, num_images=1, height, width, channels)
    image = keras.Input((1, PICTURE_SIZE, PICTURE_SIZE, 3))
    soft_tokens = keras.layers.Reshape((-1, width))(
        vision_encoder(image)
    )  # (batch_size, num_soft_tokens, output_dim)
    features = keras.layers.Dense(width, "gelu")(soft_tokens)
    features = keras.layers.GlobalAveragePooling1D()(
        features
    )  # (batch_size, output_dim)
    return keras.Model(
        image,
        {
            name: keras.layers.Dense(len(values), name=name)(features)
            for name, values in VISION_LABELS.items()
        },
    )


def tune_instruct(gemma, recipe, verbose="auto"):
    """Tune the base model into an instruction model, in place.

    It learns to answer questions about one half of the facts, to answer "I
    don't know." about names that do not exist, and to answer questions about
    pictures. This is full fine-tuning, because adapters of rank 8 did not
    learn all three as well.

    Args:
        gemma: a `Gemma` with the base model.
        recipe: `TinyRecipe`.
        verbose: as for `fit`.

    Returns:
        What `Gemma.finetune` returns.
    """
    return gemma.finetune(
        tuning_examples(recipe),
        epochs=3,
        batch_size=16,
        learning_rate=5e-4,
        sequence_length=SEQUENCE_LENGTH,
        seed=recipe.seed,
        verbose=verbose,
    )
