"""Supervised fine-tuning: what it learns, what it moves, what it refuses."""

import dataclasses
import json

import h5py
import keras
import keras_hub
import numpy as np
import pytest

from kerasllm import training, tuning
from kerasllm.gemma import Gemma
from kerasllm.instructions import Instruction
from tests.gemmas import (
    EXAMPLES,
    copy_of,
    fail_with,
    logits_of,
)


@pytest.mark.any_backend
@pytest.mark.slow
def test_tuning_learns_from_text_and_images(tiny_untrained):
    gemma = copy_of(tiny_untrained)
    heard = {}

    def ask(epoch, logs):  # callbacks may ask the model
        if epoch in (9, 24):
            heard[epoch] = gemma.ask(questions, images)

    questions = [example.instruction for example in EXAMPLES]
    images = [example.images for example in EXAMPLES]
    history = gemma.finetune(
        EXAMPLES * 4, EXAMPLES, epochs=25, batch_size=4, learning_rate=3e-3,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=ask)],
    )  # fmt: skip
    assert history[-1]["loss"] < 0.3 < 3 < history[0]["loss"]
    assert history[-1]["val_accuracy"] == 1
    assert len(history) == 25 and history[-1]["step"] == 100
    assert gemma.ask(questions, images) == ["red", "blue", "red", "blue"]
    assert sorted(heard) == [9, 24]
    assert heard[24] == ["red", "blue", "red", "blue"]
    # The other picture, the other answer.
    assert gemma.ask(EXAMPLES[0].instruction, EXAMPLES[1].images) == "blue"


@pytest.mark.slow
@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="chapter 5 tunes text on JAX"
)
def test_text_alone_is_no_matter_for_the_vision_encoder(tiny_untrained):
    """TensorFlow has no gradient of a convolution over no images at all."""
    gemma = copy_of(tiny_untrained)
    encoder = gemma.causal_lm.backbone.vision_encoder
    weights, seeing = (
        {weight.path: weight for weight in model.trainable_weights}
        for model in (gemma.causal_lm, encoder)
    )
    kept = encoder.trainable_weights[-1]
    kept.trainable = False  # somebody's choice, which stays

    def moved(examples):
        before = {
            path: np.array(keras.ops.convert_to_numpy(weight))
            for path, weight in weights.items()
        }
        gemma.finetune(examples, epochs=1, batch_size=2, verbose=0)
        return {
            path
            for path, weight in weights.items()
            if (keras.ops.convert_to_numpy(weight) != before[path]).any()
        }

    assert moved(EXAMPLES[2:]) == weights.keys() - seeing.keys()
    with_pictures = moved(EXAMPLES)
    assert kept.path not in with_pictures
    assert with_pictures & seeing.keys()


@pytest.mark.slow
def test_adapters_travel_alone(gemma, tmp_path):
    tuned, other = copy_of(gemma.causal_lm), copy_of(gemma.causal_lm)
    report = tuned.enable_lora(rank=2)
    assert report.trainable_share < 0.05
    frozen = [
        keras.ops.convert_to_numpy(w)
        for w in tuned.causal_lm.non_trainable_weights
    ]
    tuned.finetune(
        EXAMPLES, epochs=3, batch_size=2, learning_rate=0.1, verbose=0
    )
    for before, after in zip(
        frozen, tuned.causal_lm.non_trainable_weights, strict=True
    ):
        np.testing.assert_array_equal(before, keras.ops.convert_to_numpy(after))
    tuned.save_lora(tmp_path / "adapters.lora.h5")
    other.load_lora(tmp_path / "adapters.lora.h5")
    prompt = gemma.prompt(EXAMPLES[0].instruction, EXAMPLES[0].images)

    def logits(gemma):
        return logits_of(gemma, prompt.token_ids, prompt.images)

    expected = logits(tuned)
    assert abs(expected - logits(gemma)).max() > 1
    np.testing.assert_allclose(logits(other), expected, atol=1e-4)
    other.merge_lora()
    np.testing.assert_allclose(logits(other), expected, atol=1e-3)


@pytest.mark.any_backend
def test_what_is_frozen_is_not_trained_in_silence(tiny_untrained):
    gemma = copy_of(tiny_untrained)
    gemma.causal_lm.backbone.trainable = False
    for block in gemma.causal_lm.backbone.transformer_layers:
        block.attention.query_dense.enable_lora(2)  # too late to be trained
    with pytest.raises(ValueError, match="trainable.*enable_lora"):
        gemma.finetune(EXAMPLES[2:], epochs=1, batch_size=2, verbose=0)


@pytest.mark.any_backend
def test_the_example_whose_images_do_not_fit_is_named(gemma):
    examples = [*EXAMPLES, Instruction("A stray <start_of_image>", "x")]
    with pytest.raises(ValueError, match="1 in the prompt and 0.*'A stray"):
        gemma.finetune(examples, epochs=1, verbose=0)


@pytest.mark.any_backend
@pytest.mark.parametrize("count", [1, 12, 1200])
def test_few_examples_are_seen_more_often(tiny_untrained, monkeypatch, count):
    """For a hundred steps, but never less than three times."""
    seen = {}
    monkeypatch.setattr(
        training, "resumable_fit", lambda *args, **kwargs: seen.update(kwargs)
    )
    model = tiny_untrained
    examples = [Instruction("Hi", "Yes" * (1 + i % 20)) for i in range(count)]
    tuning.finetune(model, examples, batch_size=32, sequence_length=64)
    steps = seen["steps_per_epoch"]
    assert seen["epochs"] == max(3, -(-100 // steps))
    assert steps >= count / 32
    tuning.finetune(model, examples, sequence_length=64, epochs=1)
    assert seen["epochs"] == 1


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be a positive int"),
        ({"batch_size": 2.5}, "Received: batch_size=2.5"),
        ({"callbacks": [3]}, "Each of `callbacks` must be"),
        ({"directory": 5}, "`directory` must be a str or a path"),
        ({"epochs": 0}, "`epochs` must be a positive int"),
        ({"epochs": -1}, "Received: epochs=-1"),
        ({"sequence_length": 0}, "`sequence_length` must be a positive int"),
        ({"learning_rate": 0.0}, "`learning_rate` must be positive"),
        ({"learning_rate": float("nan")}, "Received: learning_rate=nan"),
        ({"batch_size": True}, "Received: batch_size=True"),
        ({"learning_rate": True}, "Received: learning_rate=True"),
        ({"learning_rate": "fast"}, "Received: learning_rate='fast'"),
        ({"examples": None}, "`examples` must have at least one"),
        (
            {"examples": []},
            r"`examples` must have at least one.*Received: examples=\[\]",
        ),
        (
            {"validation_examples": []},
            "`validation_examples` must have at least one",
        ),
    ],
)
def test_numbers_are_checked_where_they_enter(
    gemma, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.setattr(training, "resumable_fit", fail_with(MemoryError()))
    arguments = {
        "examples": EXAMPLES,
        "directory": tmp_path / "run",
    } | arguments
    with pytest.raises(ValueError, match=message):
        gemma.finetune(**arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.any_backend
def test_long_examples_are_named_by_their_part(gemma, monkeypatch):
    monkeypatch.setattr(training, "resumable_fit", lambda *a, **k: [])
    long = Instruction("Say red " * 20, "red")
    with pytest.warns(UserWarning) as caught:
        gemma.finetune(
            [*EXAMPLES, long, long], [*EXAMPLES, long], sequence_length=64
        )
    said = [str(w.message) for w in caught if "longer" in str(w.message)]
    assert [text[: text.index(" are")] for text in said] == [
        "2 of 6 `examples`",
        "1 of 5 `validation_examples`",
    ]


@pytest.mark.any_backend
def test_only_images_that_are_seen_train_the_encoder(
    tiny_untrained, monkeypatch
):
    gemma = copy_of(tiny_untrained)
    encoder = gemma.causal_lm.backbone.vision_encoder
    trainable = []

    def fit(*args, **kwargs):
        trainable.append(bool(encoder.trainable_weights))

    monkeypatch.setattr(training, "resumable_fit", fit)
    long = dataclasses.replace(EXAMPLES[0], response="red " * 400)
    gemma.finetune(EXAMPLES)
    with pytest.warns(UserWarning, match="1 of 3 `examples`"):
        gemma.finetune([long, *EXAMPLES[2:]])
    assert trainable == [True, False]


def test_a_model_can_be_asked_while_it_is_tuned(tiny_untrained):
    """The task stays as it is; what is trained shares its weights."""
    gemma = copy_of(tiny_untrained)
    task = gemma.causal_lm
    tokenizer = task.preprocessor.tokenizer
    task.backbone.layer_norm.trainable = False  # somebody's choice
    heard = []

    def state():
        return {
            "attributes": set(vars(task)),
            "trainable": [weight.trainable for weight in task.weights],
            "layers": [layer.trainable for layer in task.layers],
            "optimizer": task.optimizer,
            "compiled": task.get_compile_config(),
            "variables": list(map(id, task.variables)),
        }

    class Ask(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            model = self.model
            assert model is not task and model.causal_lm is task
            assert model.backbone is task.backbone
            assert model.preprocessor.tokenizer is tokenizer
            for ours, theirs in zip(
                model.variables, task.variables, strict=True
            ):
                assert ours is theirs
            heard.append(model.generate("Say red.", max_length=12))
            heard.append(gemma.ask("Say red.", max_length=24))

    for ask in (task.generate, gemma.ask):  # build what they keep
        ask("Say red.", max_length=24)
    before = state()
    weight = task.trainable_weights[0]
    value = keras.ops.convert_to_numpy(weight).copy()
    gemma.finetune(
        EXAMPLES, epochs=1, batch_size=4, sequence_length=64, verbose=0,
        callbacks=[Ask()],
    )  # fmt: skip
    assert [type(text) for text in heard] == [str, str]
    assert state() == before
    assert not np.allclose(keras.ops.convert_to_numpy(weight), value), (
        "nothing was trained"
    )
    prepare = task.preprocess_samples
    assert prepare.__func__ is keras_hub.models.Task.preprocess_samples


@pytest.mark.any_backend
def test_what_is_trained_holds_and_saves_each_weight_once(
    tiny_untrained, tmp_path
):
    """As a plain model of the same layers does, which has no task."""
    task = copy_of(tiny_untrained).causal_lm
    plain = keras.Model(task.input, task.output, name="token_model")
    model = tuning.token_model(task)
    assert list(map(id, model.variables)) == list(map(id, plain.variables))
    assert model.layers == plain.layers
    assert model.count_params() == plain.count_params()
    names = []
    for number, saved in enumerate((model, plain)):
        path = tmp_path / f"{number}.weights.h5"
        saved.save_weights(path)
        with h5py.File(path) as file:
            names.append([])
            file.visit(names[-1].append)
    assert names[0] == names[1]
    plain.load_weights(tmp_path / "0.weights.h5")


@pytest.mark.any_backend
def test_the_former_names_of_examples_are_understood(
    tiny_untrained, monkeypatch
):
    seen = []
    monkeypatch.setattr(
        tuning, "finetune", lambda *args, **kwargs: seen.append((args, kwargs))
    )
    gemma = Gemma(tiny_untrained)
    gemma.finetune(rows=EXAMPLES, validation_rows=EXAMPLES[:1], epochs=2)
    gemma.finetune(EXAMPLES, EXAMPLES[:1], epochs=2)
    gemma.finetune(
        examples=EXAMPLES, validation_examples=EXAMPLES[:1], epochs=2
    )
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.any_backend
def test_numpy_numbers_are_numbers(tiny_untrained, tmp_path, monkeypatch):
    """Also in the file that tells one run from another."""

    def fit(model, *args, identity, **kwargs):
        return json.loads(json.dumps(identity))

    monkeypatch.setattr(training, "resumable_fit", fit)
    arguments = {"template": "gemma", "directory": tmp_path}
    numbers = {"epochs": 2, "batch_size": 4, "sequence_length": 64, "seed": 3}
    identity = tuning.finetune(
        tiny_untrained, EXAMPLES, learning_rate=0.5, **numbers, **arguments
    )
    numbers = {name: np.int64(number) for name, number in numbers.items()}
    assert identity == tuning.finetune(
        tiny_untrained,
        EXAMPLES,
        learning_rate=np.float32(0.5),
        **numbers,
        **arguments,
    )
