"""Adapters in a file: they come back, or the file is refused."""

import functools

import h5py
import keras_hub
import numpy as np
import pytest
from keras import ops

from kerasllm import files, lora, prompts
from kerasllm.checks import UserError
from kerasllm.lora import LoraReport, enable_lora, load_lora, save_lora
from kerasllm.lora._layers import adaptable_layers
from kerasllm.models import MiniGPTCausalLM, mini_gpt
from tests.lora.small import (
    MAKERS,
    VOCABULARY_SIZE,
    disturb,
    every_model,
    logits,
    make_mini_gpt,
    make_task,
)


@pytest.mark.any_backend
def test_loading_refuses_what_save_lora_has_not_written(tmp_path):
    path = tmp_path / "adapters.lora.h5"
    path.write_text("adapters")
    with pytest.raises(ValueError, match="must be a file that `save_lora`"):
        load_lora(make_mini_gpt(), path)
    backbone = make_task().backbone
    backbone.enable_lora(2)
    backbone.save_lora_weights(path)
    with pytest.raises(ValueError, match="by its `load_lora_weights`"):
        load_lora(make_mini_gpt(), path)


@every_model
def test_adapters_come_back_alone(name, tmp_path):
    model = MAKERS[name]()
    weights = model.get_weights()
    enable_lora(model, 2, ("query", "key"), lora_alpha=3)
    disturb(model)
    path = tmp_path / "some" / "adapters.lora.h5"
    save_lora(model, path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    again = MAKERS[name]()
    again.set_weights(weights)
    load_lora(again, path)
    np.testing.assert_allclose(logits(again), logits(model), atol=1e-6)
    assert all("lora" in v.name for v in again.trainable_variables)
    load_lora(again, path)  # into adapters of the same kind
    # Only the adapters are in the file.
    report = LoraReport.of(model)
    assert path.stat().st_size < report.adapter_bytes + 20_000


def make_seeing_gemma(tiny):
    """Keras counts its vision encoder last in a task, first in a backbone."""
    backbone = tiny.backbone
    return keras_hub.models.Gemma3CausalLM(
        backbone=backbone.from_config(backbone.get_config()), preprocessor=None
    )


def _copy_kernels(model, other):
    """Let another model have the weights that adapters were trained on."""
    layers = dict(adaptable_layers(other))
    for key, layer in lora.adapted_layers(model):
        layers[key]._kernel.assign(layer._kernel)


@pytest.mark.any_backend
@pytest.mark.parametrize("name", ["task", "gemma", "seeing_gemma"])
@pytest.mark.parametrize("saved_from_task", [True, False])
def test_adapters_of_a_task_are_those_of_its_backbone(
    name, saved_from_task, tiny_untrained, tmp_path
):
    makers = MAKERS | {
        "seeing_gemma": functools.partial(make_seeing_gemma, tiny_untrained)
    }
    one, other = makers[name](), makers[name]()
    parts = [one, other.backbone] if saved_from_task else [one.backbone, other]
    enable_lora(one, 2)
    disturb(one)
    save_lora(parts[0], tmp_path / "adapters.lora.h5")
    _copy_kernels(one, other)
    load_lora(parts[1], tmp_path / "adapters.lora.h5")
    adapters = [
        {
            layer.path: ops.convert_to_numpy(layer.lora_kernel_b)
            for _, layer in lora.adapted_layers(model)
        }
        for model in (one, other)
    ]
    assert len(adapters[0]) == 4
    assert adapters[0].keys() == adapters[1].keys()
    for path, b in adapters[0].items():
        np.testing.assert_array_equal(b, adapters[1][path])


def test_the_blocks_of_a_mini_gpt_are_those_of_its_task(tmp_path):
    model = make_mini_gpt()
    task = MiniGPTCausalLM.from_mini_gpt(model)
    enable_lora(model, 2)
    disturb(model)
    save_lora(model, tmp_path / "adapters.lora.h5")
    load_lora(task, tmp_path / "adapters.lora.h5")
    np.testing.assert_allclose(logits(task), logits(model), atol=1e-5)


@pytest.mark.any_backend
def test_loading_refuses_another_model_and_changes_nothing(tmp_path):
    small = make_mini_gpt()
    enable_lora(small, 2)
    save_lora(small, tmp_path / "a.lora.h5")
    other = mini_gpt(VOCABULARY_SIZE, 8, 32, 24, 2, num_layers=2, dropout=0.0)
    with pytest.raises(ValueError, match="same layers.*a.lora.h5.*the model's"):
        load_lora(other, tmp_path / "a.lora.h5")
    assert not lora.adapted_layers(other)
    assert all(weight.trainable for weight in other.trainable_variables)
    again = make_mini_gpt()
    enable_lora(again, 3)
    with pytest.raises(ValueError, match="one kind.*2, 2.0.*3, 3.0"):
        load_lora(again, tmp_path / "a.lora.h5")
    elsewhere = make_mini_gpt()
    enable_lora(elsewhere, 2, ("query", "key"))
    with pytest.raises(ValueError, match="one kind.*_value is the first that"):
        load_lora(elsewhere, tmp_path / "a.lora.h5")
    with pytest.raises(FileNotFoundError, match="save_lora"):
        load_lora(other, tmp_path / "b.lora.h5")
    for function in (save_lora, load_lora):
        with pytest.raises(ValueError, match=r"end with \.lora\.h5"):
            function(small, tmp_path / "a.h5")


@pytest.mark.parametrize(
    "damage",
    [
        lambda h5, last: h5.clear(),
        lambda h5, last: h5.create_dataset("root", data=[1.0]),
        lambda h5, last: h5[last].pop("a"),
        lambda h5, last: h5[last].attrs.pop("rank"),
        lambda h5, last: h5[last].attrs.modify("rank", 3),
    ],
    ids=["empty", "a data set", "no A", "no rank", "another rank"],
)
@pytest.mark.any_backend
def test_loading_a_damaged_file_changes_nothing(tmp_path, damage):
    path = tmp_path / "a.lora.h5"
    model = make_mini_gpt()
    enable_lora(model, 2)
    save_lora(model, path)
    with h5py.File(path, "r+") as h5:
        damage(h5, list(h5)[-1])
    other = make_mini_gpt()
    with pytest.raises(ValueError, match="Received: .*a.lora.h5"):
        load_lora(other, path)
    assert not lora.adapted_layers(other)
    assert len(other.trainable_variables) == len(other.weights)


@pytest.mark.any_backend
@pytest.mark.parametrize("name", ["task", "gemma"])
def test_a_model_knows_where_its_adapters_are_from(name, tmp_path):
    """Its backbone says the same, whichever of them they were loaded into."""
    one, other, path = MAKERS[name](), MAKERS[name](), tmp_path / "a.lora.h5"
    assert lora.loaded_digest(one) is None
    enable_lora(one, 2)
    save_lora(one, path)
    assert lora.loaded_digest(one) is None
    _copy_kernels(one, other)
    load_lora(other.backbone, path)
    digest = files.sha256(path)
    assert lora.loaded_digest(other) == digest
    assert lora.loaded_digest(other.backbone) == digest
    lora.merge_lora(other)
    assert lora.loaded_digest(other) is None
    load_lora(other, path)
    assert lora.loaded_digest(other) == digest
    lora.merge_lora(other)
    enable_lora(other, 2)
    assert lora.loaded_digest(other) is None
    assert lora.loaded_digest(one) is None


@pytest.mark.any_backend
def test_adapters_know_the_weights_that_they_were_trained_on(tmp_path):
    path, former = tmp_path / "a.lora.h5", tmp_path / "former.lora.h5"
    model = make_task()
    weights = model.get_weights()
    enable_lora(model, 2)
    disturb(model)
    for file in (path, former):
        save_lora(model, file)
    # In half precision the weights are the same, but for rounding.
    same = make_task("bfloat16")
    same.set_weights(weights)
    load_lora(same, path)
    other = make_task()
    with pytest.raises(
        UserError, match="trained on.*a.lora.h5.*(100|9[0-9])% of.*Load"
    ):
        load_lora(other, path)
    assert not lora.adapted_layers(other)
    # The first version recorded nothing.
    with h5py.File(former, "r+") as h5:
        for group in h5.values():
            del group.attrs["base"]
    load_lora(other, former)


@pytest.mark.any_backend
def test_adapters_know_their_template(tmp_path):
    path = tmp_path / "a.lora.h5"
    model = make_mini_gpt()
    enable_lora(model, 2)
    save_lora(model, path, prompts.ALPACA)
    load_lora(model, path, prompts.ALPACA)
    load_lora(model, path)
    with pytest.raises(UserError, match="a.lora.h5.*'alpaca', and.*'gemma'"):
        load_lora(model, path, prompts.GEMMA)
    save_lora(model, path)
    load_lora(model, path, prompts.GEMMA)
