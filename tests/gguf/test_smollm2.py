"""The real file: the same tokens, logits and answers as of its makers."""

import gguf as library
import keras
import numpy as np
import pytest
from keras import ops

from kerasllm import gguf
from kerasllm.chat import ChatModel
from kerasllm.checks import EnvironmentFailure
from kerasllm.instructions import Instruction
from kerasllm.prompts import encode
from tests.gguf.oracles import library_tokenizer, logits_of, transformers_llama
from tests.gguf.small_files import hard_texts

pytestmark = [pytest.mark.once, pytest.mark.any_backend]


@pytest.fixture(scope="module")
def path():
    try:
        return gguf.find_smollm2()
    except EnvironmentFailure as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def metadata(path):
    return gguf.GGUFFile(path).metadata


@pytest.fixture(scope="module")
def model(path, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("home")))
        return ChatModel.from_preset("smollm2")


@pytest.fixture(scope="module")
def reference(path, metadata):
    """Transformers' model, with what the format's own package reads."""
    reader = library.GGUFReader(path)
    stored = {
        tensor.name: library.dequantize(tensor.data, tensor.tensor_type)
        for tensor in reader.tensors
    }
    names = library.get_tensor_name_map(library.MODEL_ARCH.LLAMA, 30)
    weights, layers = {}, metadata["llama.block_count"]
    inner = ("self_attn.q_proj self_attn.k_proj self_attn.v_proj "
             "self_attn.o_proj mlp.gate_proj mlp.up_proj mlp.down_proj "
             "input_layernorm post_attention_layernorm").split()  # fmt: skip
    wanted = ["model.embed_tokens", "model.norm"] + [
        f"model.layers.{i}.{name}" for i in range(layers) for name in inner
    ]
    for name in wanted:
        array = stored.pop(names.get_name(name) + ".weight")
        heads = {"q_proj": 9, "k_proj": 3}.get(name.rpartition(".")[2])
        if heads:
            array = array.reshape(heads, 32, 2, 576).swapaxes(1, 2)
            array = array.reshape(-1, 576)
        weights[f"{name}.weight"] = np.ascontiguousarray(array)
    assert not stored
    return transformers_llama(weights, metadata)


def test_tokens_are_those_of_the_library(model, metadata):
    tokenizer = model.causal_lm.preprocessor.tokenizer
    texts = hard_texts(2000)
    fast = library_tokenizer(metadata)
    ids = tokenizer(texts)
    assert ids == [encoded.ids for encoded in fast.encode_batch(texts)]
    assert tokenizer.detokenize(ids) == texts
    control = set(tokenizer.special_token_ids)
    assert len(control) == 17
    for text in texts:
        ids = encode(tokenizer, [(text, False)])
        assert not control.intersection(ids)
        assert tokenizer.detokenize(ids) == text
    # The example that KerasHub's own tokenizer gets wrong.
    text = "apples.\n\n  ok"
    assert tokenizer(text).tolist() == fast.encode(text).ids


def test_logits_are_those_of_transformers(model, reference):
    ids = np.array([model.prompt("What is the capital of France?").token_ids])
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    found = ops.convert_to_numpy(model.causal_lm(inputs))
    np.testing.assert_allclose(found, logits_of(reference, ids), atol=1e-3)


def test_answers_are_those_of_transformers(model, reference):
    import torch

    questions = [
        "What is the capital of France?",
        "What is 2 + 2?\n\n  Say the number.",
    ]
    answers = model.ask(questions, max_length=64)
    assert answers[0] == "The capital of France is Paris."
    tokenizer = model.causal_lm.preprocessor.tokenizer
    for question, answer in zip(questions, answers, strict=True):
        ids = torch.as_tensor([model.prompt(question).token_ids])
        written = reference.generate(
            ids, max_length=64, do_sample=False, eos_token_id=2
        )[0, ids.shape[1] :].tolist()
        expected = tokenizer.detokenize([i for i in written if i != 2])
        assert answer == expected.strip()
        assert model.ask(question, max_length=64) == answer


def test_adapters_are_tuned_on_it(model):
    report = model.enable_lora(rank=4)
    examples = [("Say hello.", "Ahoy!"), ("Say yes.", "Aye!")]
    keras.utils.set_random_seed(0)
    history = model.finetune(
        [Instruction(*example) for example in examples],
        epochs=6, batch_size=2, learning_rate=1e-2, sequence_length=64,
        verbose=0,
    )  # fmt: skip
    assert report.total_parameters == 134_515_008
    assert history[-1]["loss"] < history[0]["loss"] / 2
