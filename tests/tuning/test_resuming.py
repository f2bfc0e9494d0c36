"""A run of tuning that goes on: the same run, or one that is refused."""

import dataclasses

import keras
import numpy as np
import pytest

from kerasllm import files, lora, prompts, training, tuning
from kerasllm.checks import RunError
from kerasllm.instructions import Instruction
from kerasllm.training import CHECKPOINT_FILE
from kerasllm.tuning._identity import describe_examples
from tests.gemmas import EXAMPLES, copy_of


@pytest.mark.any_backend  # training/test_resuming.py has it on each
@pytest.mark.slow
def test_an_interrupted_tuning_goes_on(tiny_untrained, tmp_path):
    """Two epochs, killed after one, end where two in one go end."""

    def tune(directory, epochs, callbacks=()):
        gemma_ = copy_of(tiny_untrained)
        model = gemma_.causal_lm
        rng = np.random.default_rng(0)
        gemma_.enable_lora(rank=2)
        for weight in model.trainable_weights:
            weight.assign(rng.normal(0, 0.1, weight.shape))
        gemma_.finetune(
            EXAMPLES * 3, epochs=epochs, batch_size=2, directory=directory,
            callbacks=callbacks, verbose=0,
        )  # fmt: skip
        return [keras.ops.convert_to_numpy(w) for w in model.trainable_weights]

    class Kill(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    whole = tune(tmp_path / "whole", 2)
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path / "parts", 2, [Kill()])
    size = sum(
        path.stat().st_size for path in (tmp_path / "parts").rglob("*.npz")
    )
    assert size < 100_000  # the frozen weights are not in it
    for a, b in zip(whole, tune(tmp_path / "parts", 2), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def move(model):
    for weight in model.trainable_weights:
        weight.assign_add(np.ones(weight.shape))


@pytest.fixture
def pretended(monkeypatch):
    """Training that takes no time, moves weights and leaves a checkpoint."""

    def fit(model, *args, directory, identity, **kwargs):
        directory.mkdir(exist_ok=True)
        training.claim_for_model(directory, identity)
        (directory / CHECKPOINT_FILE).touch()
        move(model)
        return ["trained"]

    monkeypatch.setattr(training, "resumable_fit", fit)


def pretend_to_tune(
    model, directory, rank=2, examples=EXAMPLES, weight=0.0, **kwargs
):
    gemma = copy_of(model)
    # A weight that adapters leave frozen.
    kernel = gemma.causal_lm.backbone.transformer_layers[0].gating_ffw.kernel
    kernel.assign_add(np.full(kernel.shape, weight))
    gemma.template = prompts.get_template(kwargs.pop("template", "gemma"))
    if rank is not None:
        gemma.enable_lora(rank=rank)
    kwargs = {"batch_size": 2, "directory": directory} | kwargs
    assert gemma.finetune(examples, **kwargs) == ["trained"]
    return gemma


@pytest.mark.any_backend
def test_a_directory_of_another_tuning_is_refused(
    tiny_untrained, tmp_path, pretended
):
    """What would give another model, and what differs is named."""
    pretend_to_tune(tiny_untrained, tmp_path)
    # Adapters begin at random; that is no other run, nor is a longer one.
    pretend_to_tune(tiny_untrained, tmp_path, epochs=5)
    for changed, named in (
        ({"learning_rate": 1e-2}, "learning_rate"),
        ({"seed": 1}, "seed"),
        ({"sequence_length": 128}, "sequence_length"),
        ({"batch_size": 3}, "batch_size"),
        ({"buckets": False}, "buckets"),
        ({"template": "book"}, "template"),
        ({"weight": 0.1}, "model"),
        ({"rank": 3}, "adapters"),
        ({"rank": None}, "adapters and trainable"),
        ({"examples": EXAMPLES[::-1]}, "examples"),
        ({"examples": [Instruction("Say red!", "red"), *EXAMPLES[1:]]},
         "examples"),
        ({"examples": [dataclasses.replace(
            EXAMPLES[0], images=EXAMPLES[1].images), *EXAMPLES[1:]]},
         "examples"),
        ({"validation_examples": EXAMPLES}, "validation_examples"),
        ({"seed": 1, "learning_rate": keras.optimizers.schedules.CosineDecay(
            1e-3, 10)}, "learning_rate and seed"),
    ):  # fmt: skip
        named = " and ".join(f"`{name}`" for name in named.split(" and "))
        message = rf"one run only.*another {named}\."
        with pytest.raises(RuntimeError, match=message):
            pretend_to_tune(tiny_untrained, tmp_path, **changed)
    pretend_to_tune(tiny_untrained, tmp_path)


@pytest.mark.any_backend
def test_a_tuning_goes_on_only_from_the_weights_that_it_began_with(
    tiny_untrained, tmp_path, pretended
):
    """In one session, in which weights and adapters come and go."""
    arguments = {"batch_size": 2, "directory": tmp_path}
    gemma = pretend_to_tune(tiny_untrained, tmp_path)
    assert gemma.finetune(EXAMPLES, **arguments) == ["trained"]
    for weight in gemma.causal_lm.trainable_weights:  # those of the adapters
        weight.assign_add(np.ones(weight.shape))
    assert gemma.finetune(EXAMPLES, **arguments) == ["trained"]
    gemma.save_lora(tmp_path / "a.lora.h5")
    gemma.merge_lora()
    gemma.enable_lora(2)
    with pytest.raises(RuntimeError, match=r"another `model`\."):
        gemma.finetune(EXAMPLES, **arguments)

    gemma = pretend_to_tune(tiny_untrained, tmp_path)
    path = tmp_path / "b.weights.h5"
    other = copy_of(tiny_untrained)
    other.causal_lm.backbone.layer_norm.scale.assign_add(np.ones(32))
    other.enable_lora(2)
    other.causal_lm.save_weights(path)
    gemma.causal_lm.load_weights(path)
    with pytest.raises(RuntimeError, match=r"another `model`\."):
        gemma.finetune(EXAMPLES, **arguments)

    gemma = copy_of(tiny_untrained)
    gemma.load_lora(tmp_path / "a.lora.h5")
    with pytest.raises(RuntimeError, match=r"another `loaded_adapters`\."):
        gemma.finetune(EXAMPLES, **arguments)
    arguments["directory"] = tmp_path / "from_adapters"
    for _ in range(2):
        gemma = copy_of(tiny_untrained)
        gemma.load_lora(tmp_path / "a.lora.h5")
        assert gemma.finetune(EXAMPLES, **arguments) == ["trained"]


@pytest.mark.any_backend
def test_after_adapters_all_weights_are_looked_at_anew(
    tiny_untrained, tmp_path, pretended
):
    arguments = {"batch_size": 2, "directory": tmp_path}
    gemma = pretend_to_tune(tiny_untrained, tmp_path, rank=None)
    gemma.enable_lora(2)
    for weight in gemma.causal_lm.trainable_weights:
        weight.assign_add(np.ones(weight.shape))
    gemma.merge_lora()
    with pytest.raises(RuntimeError, match=r"another `model`\."):
        gemma.finetune(EXAMPLES, **arguments)


@pytest.mark.any_backend
def test_a_tuning_of_all_weights_goes_on_with_trained_ones(
    tiny_untrained, tmp_path, pretended
):
    arguments = {"batch_size": 2, "directory": tmp_path}
    gemma = pretend_to_tune(tiny_untrained, tmp_path, rank=None)
    for epochs in (4, 5):
        gemma.finetune(EXAMPLES, epochs=epochs, **arguments)
    # The same folder by another name, and weights that came of other runs.
    arguments["directory"] = tmp_path / "other" / ".."
    (tmp_path / "other").mkdir()
    gemma.finetune(EXAMPLES, batch_size=2, directory=tmp_path / "other")
    gemma.finetune(EXAMPLES, **arguments)
    with pytest.raises(RuntimeError, match=r"another `model`\."):
        pretend_to_tune(tiny_untrained, tmp_path, rank=None, weight=0.1)


@pytest.mark.any_backend
def test_arguments_may_change_until_something_is_trained(
    tiny_untrained, tmp_path, pretended
):
    pretend_to_tune(tiny_untrained, tmp_path, batch_size=4)
    (tmp_path / CHECKPOINT_FILE).unlink()
    pretend_to_tune(tiny_untrained, tmp_path, batch_size=2)


@pytest.mark.any_backend
def test_who_is_refused_leaves_the_directory_as_it_was(
    tiny_untrained, tmp_path
):
    """Nothing is trained there yet, but somebody is about to."""
    mark = tmp_path / "run.json"
    mark.write_text("{}")
    with (
        files.locked(tmp_path),
        pytest.raises(RuntimeError, match="another process is at work"),
    ):
        copy_of(tiny_untrained).finetune(EXAMPLES, directory=tmp_path)
    assert mark.read_text() == "{}"


@pytest.mark.any_backend
def test_a_tuning_of_the_first_version_goes_on(
    tiny_untrained, tmp_path, pretended
):
    """Its file calls examples rows."""
    arguments = {"validation_examples": EXAMPLES[:1]}
    pretend_to_tune(tiny_untrained, tmp_path, **arguments)
    path = tmp_path / "run.json"
    text = path.read_text()
    assert '"examples"' in text and '"validation_examples"' in text
    path.write_text(text.replace("examples", "rows"))
    pretend_to_tune(tiny_untrained, tmp_path, **arguments)
    with pytest.raises(RuntimeError, match=r"another `validation_rows`\."):
        pretend_to_tune(tiny_untrained, tmp_path)


@pytest.mark.any_backend
def test_the_functions_alone_recognize_a_run(
    tiny_untrained, tmp_path, pretended
):
    """Without any wrapper: what was loaded and what was merged is known."""
    first, path = copy_of(tiny_untrained).causal_lm, tmp_path / "a.lora.h5"

    def add_adapters(model):
        lora.enable_lora(model, 2)
        for weight in model.trainable_weights:
            weight.assign_add(np.ones(weight.shape))

    add_adapters(first)
    lora.save_lora(first, path)
    arguments = {"directory": tmp_path / "run"}
    for _ in range(2):
        again = copy_of(tiny_untrained).causal_lm
        lora.load_lora(again, path)
        tuning.finetune(again, EXAMPLES, **arguments)
    with pytest.raises(RuntimeError, match=r"another `loaded_adapters`\."):
        tuning.finetune(first, EXAMPLES, **arguments)
    arguments["directory"] = tmp_path / "whole"
    tuning.finetune(copy_of(tiny_untrained).causal_lm, EXAMPLES, **arguments)
    plain = copy_of(tiny_untrained).causal_lm
    tuning.finetune(plain, EXAMPLES, **arguments)
    add_adapters(plain)
    lora.merge_lora(plain)
    with pytest.raises(RuntimeError, match=r"another `model`\."):
        tuning.finetune(plain, EXAMPLES, **arguments)


@pytest.mark.any_backend
def test_a_tuning_of_all_weights_refuses_weights_that_were_overwritten(
    tiny_untrained, tmp_path, pretended
):
    gemma = pretend_to_tune(tiny_untrained, tmp_path, rank=None)
    move(gemma.causal_lm)
    with pytest.raises(RuntimeError, match=r"another `model`\."):
        gemma.finetune(EXAMPLES, batch_size=2, directory=tmp_path, epochs=4)


@pytest.mark.any_backend
def test_each_tuning_of_all_weights_has_a_start_of_its_own(
    tiny_untrained, tmp_path, pretended
):
    """The second began with what the first made, in whatever process."""
    gemma = pretend_to_tune(tiny_untrained, tmp_path / "a", rank=None)
    arguments = {"batch_size": 2, "directory": tmp_path / "b"}
    gemma.finetune(EXAMPLES, **arguments)
    with pytest.raises(RuntimeError, match=r"another `model`\."):
        copy_of(tiny_untrained).finetune(EXAMPLES, **arguments)
    gemma.finetune(EXAMPLES, **arguments)
    # A new run in an emptied folder begins with what there is now.
    (tmp_path / "a" / CHECKPOINT_FILE).unlink()
    gemma.finetune(EXAMPLES, batch_size=2, directory=tmp_path / "a")
    with pytest.raises(RuntimeError, match=r"another `model`\."):
        pretend_to_tune(tiny_untrained, tmp_path / "a", rank=None)


@pytest.mark.any_backend
def test_after_an_error_a_tuning_of_all_weights_goes_on(
    tiny_untrained, tmp_path, monkeypatch, pretended
):
    fit = training.resumable_fit

    def fail(*args, **kwargs):
        fit(*args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "resumable_fit", fail)
    gemma = copy_of(tiny_untrained)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            gemma.finetune(EXAMPLES, directory=tmp_path)
    monkeypatch.setattr(training, "resumable_fit", fit)
    assert gemma.finetune(EXAMPLES, directory=tmp_path) == ["trained"]


@pytest.mark.any_backend
def test_a_record_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "run.json").write_text("no JSON")
    with pytest.raises(RunError, match="must be a JSON object"):
        describe_examples(EXAMPLES, None, tmp_path)
