"""A model that is read from a file computes what Transformers computes."""

import keras_hub
import numpy as np
import pytest
from keras import ops

import kerasllm
from kerasllm import lora
from kerasllm.checks import MissingFileError, UserError
from kerasllm.generation import TextGenerator
from kerasllm.gguf import GGUFFile, read_gguf
from kerasllm.samplers import greedy_search
from tests.gguf import small_files
from tests.gguf.oracles import logits_of, transformers_llama
from tests.gguf.small_files import HEADS, HIDDEN, Types, write

QUANTIZED = (Types.Q8_0, Types.F16, Types.Q4_0, Types.Q4_1, Types.Q5_0,
             Types.Q5_1, Types.BF16)  # fmt: skip


def logits(model, token_ids):
    token_ids = np.asarray(token_ids, "int32")
    inputs = {"token_ids": token_ids, "padding_mask": np.ones_like(token_ids)}
    return ops.convert_to_numpy(model(inputs))


def some_ids(model, shape=(2, 20)):
    size = model.backbone.vocabulary_size
    return np.random.default_rng(0).integers(0, size, shape)


def llama3_divisors():
    """By the rules of Llama 3.1, a frequency at a time."""
    head_dim, divisors = HIDDEN // HEADS, []
    for i in range(0, head_dim, 2):
        wavelength = 2 * np.pi * 50000.0 ** (i / head_dim)
        if wavelength < 8192 / 4:
            divisors.append(1.0)
        elif wavelength > 8192 / 1:
            divisors.append(32.0)
        else:
            smooth = (8192 / wavelength - 1) / (4 - 1)
            divisors.append(1 / ((1 - smooth) / 32 + smooth))
    return np.array(divisors, "float32")


LLAMA_3 = {
    "rope_parameters": {
        "rope_type": "llama3", "rope_theta": 50000.0, "factor": 32.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({}, {}),
        ({"types": QUANTIZED}, {}),
        ({"tied": False, "types": QUANTIZED[::-1]}, {}),
        ({"rope": llama3_divisors()}, LLAMA_3),
    ],
)
def test_logits_are_those_of_transformers(tmp_path, changes, options):
    path = tmp_path / "llama.gguf"
    weights = write(path, **changes)
    model = read_gguf(path)
    reference = transformers_llama(weights, GGUFFile(path).metadata, **options)
    ids = some_ids(model)
    expected = logits_of(reference, ids)
    np.testing.assert_allclose(logits(model, ids), expected, atol=1e-3)
    assert np.abs(expected).max() > 1  # 1e-3 would be seen


def test_the_cached_generator_answers_as_transformers_does(small):
    import torch

    path, weights = small
    model = read_gguf(path)
    reference = transformers_llama(weights, GGUFFile(path).metadata)
    prompts = ["the cat", "def say(it):\n    return", "12 apples.\n\n  ok"]
    generator = TextGenerator(model, greedy_search)
    answers = generator.generate(prompts, 40, None, return_logprobs=True)
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.as_tensor(model.preprocessor.tokenizer(prompt))[None]
        expected = reference.generate(
            ids, max_length=40, do_sample=False, eos_token_id=None
        )
        written = ids[0].tolist() + list(answer.token_ids)
        assert written == expected[0].tolist()


@pytest.mark.any_backend
def test_a_model_is_tuned_merged_and_saved_like_any_other(small, tmp_path):
    model = read_gguf(small[0])
    report = kerasllm.enable_lora(model, rank=2)
    assert report.trainable_parameters > 0
    for _, layer in lora.adapted_layers(model):
        layer.lora_kernel_b.assign(np.full(layer.lora_kernel_b.shape, 0.01))
    ids = some_ids(model)
    adapted = logits(model, ids)
    kerasllm.merge_lora(model)
    model.save_to_preset(str(tmp_path))
    loaded = kerasllm.presets.load_causal_lm(tmp_path)
    assert type(loaded) is type(model)
    np.testing.assert_allclose(logits(loaded, ids), adapted, atol=1e-4)
    assert loaded.backbone.get_config() == model.backbone.get_config()
    # KerasHub itself knows it as well, once the package is imported.
    model = keras_hub.models.CausalLM.from_preset(str(tmp_path))
    np.testing.assert_allclose(logits(model, ids), adapted, atol=1e-4)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"general__architecture": "qwen2"}, "of the Llama family"),
        ({"llama__block_count": None}, "tell the number llama.block_count"),
        ({"llama__block_count": 3}, "blk.2.attn_k.weight is None"),
        ({"llama__block_count": "two"}, "with 'two'"),
        ({"llama__feed_forward_length": 100}, "and must be"),
        ({"llama__attention__head_count": 3}, "must fit one another"),
        ({"llama__attention__head_count": 0}, "must fit one another"),
        ({"llama__rope__dimension_count": 8}, "all of a head is rotated"),
        ({"llama__attention__key_length": 32}, "all of a head is rotated"),
        ({"llama__expert_count": 4}, "no experts"),
        ({"llama__rope__scaling__type": "yarn"}, "'yarn'"),
        ({"rope": np.full(8, 2.0, "float32")}, "as in Llama 3.1"),
        ({"types": (Types.F64,)}, "read. Received.*F64"),
    ],
)
def test_what_is_no_plain_llama_is_refused(tmp_path, changes, message):
    path = tmp_path / "other.gguf"
    if changes.get("types") == (Types.F64,):
        write(path)
        whole = bytearray(path.read_bytes())
        at = whole.index(b"output_norm.weight") + len(b"output_norm.weight")
        at += 4 + 8  # the number of dimensions, and the only one
        assert whole[at] == Types.F32
        whole[at] = Types.F64
        path.write_bytes(whole + bytes(4 * HIDDEN))
    else:
        write(path, **changes)
    with pytest.raises(UserError, match=message):
        read_gguf(path)


@pytest.mark.any_backend
def test_a_file_that_is_not_whole_is_refused_wherever_it_ends(small, tmp_path):
    whole, path = small[0].read_bytes(), tmp_path / "part.gguf"
    lengths = [*range(4, 1200, 7), *range(1200, len(whole), 1999)]
    for length in [*lengths, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="must be whole") as refused:
            GGUFFile(path)
        assert str(refused.value).count("Received") == 1, length


@pytest.mark.any_backend
def test_a_file_with_wrong_bytes_gives_one_sentence(small, tmp_path):
    """Not a traceback of the system's, nor all memory."""
    whole, path = small[0].read_bytes(), tmp_path / "wrong.gguf"
    rng = np.random.default_rng(0)
    header = whole.index(b"blk.1.attn_q") + 100
    refused = 0
    for _ in range(300):
        wrong = bytearray(whole)
        for place in rng.integers(4, header, 3):
            wrong[place] = rng.integers(256)
        path.write_bytes(wrong)
        try:
            GGUFFile(path)
        except UserError as error:
            refused += 1
            assert "must be whole" in str(error)
    assert refused > 10


@pytest.mark.any_backend
def test_what_is_no_gguf_file_is_refused(tmp_path):
    path = tmp_path / "foreign.gguf"
    with pytest.raises(MissingFileError, match="is no file"):
        GGUFFile(path)
    for content in (b"", b"GG", b"PK\x03\x04 and so on", b"gguf" * 9):
        path.write_bytes(content)
        with pytest.raises(UserError, match="begin with the letters GGUF"):
            GGUFFile(path)
    for version in (1, 4, 3 << 24):
        path.write_bytes(b"GGUF" + version.to_bytes(4, "little") + bytes(99))
        with pytest.raises(UserError, match="its version is"):
            GGUFFile(path)


@pytest.mark.any_backend
def test_metadata_and_tensors_are_those_of_the_gguf_package(tmp_path):
    import gguf

    path = tmp_path / "all.gguf"
    write(path, types=QUANTIZED, general__alignment=64, a__list=[1, 2, 3])
    file, reader = GGUFFile(path), gguf.GGUFReader(path)
    for name, field in reader.fields.items():
        if not name.startswith("GGUF."):
            found = file.metadata[name]
            found = found.tolist() if hasattr(found, "tolist") else found
            assert found == field.contents(), name
    assert file.tensors.keys() == {tensor.name for tensor in reader.tensors}
    for tensor in reader.tensors:
        floats = gguf.dequantize(tensor.data, tensor.tensor_type)
        np.testing.assert_array_equal(
            file.tensor(tensor.name), floats.reshape(tensor.shape[::-1])
        )
    assert small_files.LAYERS == file.metadata["llama.block_count"]
