"""What leaves is read by other programs, and means the same there."""

import json

import gguf as library
import numpy as np
import pytest
from keras import ops

import kerasllm
from kerasllm import export, lora
from kerasllm.checks import UserError
from kerasllm.gguf import GGUFFile, read_gguf
from tests.gemmas import copy_of
from tests.gguf.oracles import logits_of
from tests.gguf.small_files import CONTROL, hard_texts, write
from tests.gguf.test_reading import llama3_divisors, logits

pytestmark = pytest.mark.any_backend


@pytest.fixture
def llama(tmp_path):
    path = tmp_path / "llama.gguf"
    write(path)
    return read_gguf(path)


@pytest.fixture
def gemma(tiny_untrained):
    model = copy_of(tiny_untrained).causal_lm
    rng = np.random.default_rng(0)
    for variable in model.backbone.weights:
        if variable.path.endswith("scale"):  # no norm is one by accident
            variable.assign(rng.normal(0, 0.1, variable.shape))
    return model


def adapt(model, targets):
    """Give a model adapters that change what it says."""
    kerasllm.enable_lora(model, rank=2, targets=targets, lora_alpha=4)
    rng = np.random.default_rng(1)
    for _, layer in lora.adapted_layers(model):
        factor = layer.lora_kernel_b
        factor.assign(rng.normal(0, 0.1, factor.shape))


def ids_of(model, text="say the cat 12"):
    return np.array([model.preprocessor.tokenizer(text)])


def gemma_logits(model, ids):
    """Without images, by the path with a cache."""
    hidden_states, _ = model._build_cache(
        ops.convert_to_tensor(ids.astype("int32")), None, None,
        ops.ones(ids.shape, "int32"), None,
    )  # fmt: skip
    found = model.backbone.token_embedding(hidden_states, reverse=True)
    return ops.convert_to_numpy(found)


def test_transformers_reads_a_llama_and_its_tokenizer(llama, tmp_path):
    import transformers

    adapt(llama, "attention")
    with pytest.raises(UserError, match="merge_lora"):
        export.to_hugging_face(llama, tmp_path / "out")
    kerasllm.merge_lora(llama)
    export.to_hugging_face(llama, tmp_path / "out")
    ids = ids_of(llama)
    read = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert type(read) is transformers.LlamaForCausalLM
    np.testing.assert_allclose(
        logits_of(read, ids), logits(llama, ids), atol=1e-4
    )
    fast = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    tokenizer = llama.preprocessor.tokenizer
    for text in hard_texts(200):
        assert fast(text)["input_ids"] == list(tokenizer(text)), text
    messages = [{"role": "user", "content": "Why?"}]
    prompt = fast.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )
    template = kerasllm.prompts.template_for(tokenizer)
    assert prompt == template.prompt("Why?")
    assert (read.config.eos_token_id, fast.eos_token) == (2, CONTROL[2])


def test_transformers_reads_a_gemma(gemma, tmp_path):
    import transformers

    adapt(gemma, "attention")
    kerasllm.merge_lora(gemma)
    export.to_hugging_face(gemma, tmp_path / "out")
    read = transformers.AutoModelForImageTextToText.from_pretrained(
        tmp_path / "out"
    ).eval()
    ids = ids_of(gemma)
    np.testing.assert_allclose(
        logits_of(read, ids), gemma_logits(gemma, ids), atol=1e-4
    )
    tokenizer = gemma.preprocessor.tokenizer
    text = read.config.text_config
    assert text.bos_token_id == tokenizer.start_token_id
    assert text.eos_token_id == tokenizer.end_token_id


@pytest.mark.parametrize("weights", export.WEIGHT_TYPES)
def test_a_llama_comes_back_from_a_gguf_file(llama, tmp_path, weights):
    path = tmp_path / "out" / "tuned.gguf"
    export.to_gguf(llama, path, weights)
    assert [f.name for f in path.parent.iterdir()] == ["tuned.gguf"]
    back = read_gguf(path)
    ids = ids_of(llama)
    tolerance = {"f32": 1e-5, "f16": 0.05, "q8_0": 0.3}[weights]
    np.testing.assert_allclose(
        logits(back, ids), logits(llama, ids), atol=tolerance
    )
    config, before = (m.backbone.get_config() for m in (back, llama))
    assert {k: v for k, v in config.items() if k != "name"} == {
        k: v for k, v in before.items() if k != "name"
    }
    tokenizer, other = (m.preprocessor.tokenizer for m in (back, llama))
    texts = hard_texts(100)
    assert tokenizer(texts) == other(texts)
    for key in ("start_token", "end_token", "bos_token", "chat_template",
                "prompt_template", "pad_token_id"):  # fmt: skip
        assert getattr(tokenizer, key) == getattr(other, key), key
    kinds = {
        t.name: t.tensor_type.name for t in library.GGUFReader(path).tensors
    }
    assert kinds["blk.0.ffn_up.weight"] == weights.upper()
    assert kinds["output_norm.weight"] == "F32"


def test_a_stretched_rotary_embedding_comes_back(tmp_path):
    write(tmp_path / "a.gguf", rope=llama3_divisors(), tied=False)
    model = read_gguf(tmp_path / "a.gguf")
    export.to_gguf(model, tmp_path / "b.gguf", "f32")
    found = GGUFFile(tmp_path / "b.gguf").tensor("rope_freqs.weight")
    np.testing.assert_allclose(found, llama3_divisors(), rtol=1e-6)
    back = read_gguf(tmp_path / "b.gguf")
    ids = ids_of(model)
    np.testing.assert_allclose(logits(back, ids), logits(model, ids), atol=1e-5)


def test_a_gemma_in_a_gguf_file_has_what_the_format_asks_for(gemma, tmp_path):
    from safetensors.numpy import load_file

    export.to_gguf(gemma, tmp_path / "gemma.gguf", "f32")
    gemma.export_to_transformers(str(tmp_path / "reference"))
    expected = load_file(tmp_path / "reference" / "model.safetensors")
    file = GGUFFile(tmp_path / "gemma.gguf")
    backbone = gemma.backbone
    names = library.get_tensor_name_map(
        library.MODEL_ARCH.GEMMA3, backbone.num_layers
    )
    seen = set()
    for name, array in expected.items():
        if "language_model" in name and "lm_head" not in name:
            plain = name.replace(".language_model", "")
            stored = names.get_name(plain, try_suffixes=(".weight",))
            more = array.ndim == 1  # llama.cpp adds no one to norms
            np.testing.assert_allclose(
                file.tensor(stored), array + more, atol=1e-6
            )
            seen.add(stored)
    assert seen == file.tensors.keys()
    get = {
        name.removeprefix("gemma3."): value
        for name, value in file.metadata.items()
    }.get
    assert get("general.architecture") == "gemma3"
    assert get("block_count") == backbone.num_layers
    assert get("embedding_length") == backbone.hidden_dim
    assert get("attention.head_count_kv") == backbone.num_key_value_heads
    assert get("attention.key_length") == backbone.head_dim
    assert get("attention.sliding_window") == backbone.sliding_window_size
    tokenizer = gemma.preprocessor.tokenizer
    tokens = get("tokenizer.ggml.tokens")
    assert len(tokens) == tokenizer.vocabulary_size()
    assert get("tokenizer.ggml.bos_token_id") == tokenizer.start_token_id
    kinds = get("tokenizer.ggml.token_type")
    kind_of = dict(zip(tokens, kinds, strict=True))
    assert kind_of["<unk>"] == 2 and kind_of["<bos>"] == 3
    assert kind_of["<0x0A>"] == 6 and kind_of["▁"] == 1


@pytest.mark.parametrize("family", ["llama", "gemma"])
def test_peft_reads_adapters(family, request, tmp_path):
    import peft
    import transformers

    model = request.getfixturevalue(family)
    export.to_hugging_face(model, tmp_path / "base")
    targets = ("attention", "feed_forward") if family == "llama" else (
        "query", "value"
    )  # fmt: skip
    adapt(model, targets)
    export.to_peft(model, tmp_path / "adapters", tmp_path / "base")
    auto = {"llama": transformers.AutoModelForCausalLM,
            "gemma": transformers.AutoModelForImageTextToText}  # fmt: skip
    base = auto[family].from_pretrained(tmp_path / "base").eval()
    ids = ids_of(model)
    before = logits_of(base, ids)
    read = peft.PeftModel.from_pretrained(base, tmp_path / "adapters").eval()
    compute = {"llama": logits, "gemma": gemma_logits}[family]
    after = compute(model, ids)
    np.testing.assert_allclose(logits_of(read, ids), after, atol=1e-3)
    assert np.abs(after - before).max() > 0.01  # they do change something
    config = json.loads(
        (tmp_path / "adapters" / "adapter_config.json").read_text()
    )
    assert config["base_model_name_or_path"] == str(tmp_path / "base")


def test_nothing_is_written_over_and_no_other_model(llama, tmp_path):
    (tmp_path / "there").mkdir()
    for write_it in (export.to_hugging_face, export.to_gguf, export.to_peft):
        with pytest.raises(UserError, match="must be a new path"):
            write_it(llama, tmp_path / "there")
    with pytest.raises(UserError, match="must have adapters"):
        export.to_peft(llama, tmp_path / "new")
    with pytest.raises(UserError, match="`weights` must be one of"):
        export.to_gguf(llama, tmp_path / "new", "q2_k")
    other = kerasllm.MiniGPTCausalLM.from_mini_gpt(
        kerasllm.mini_gpt(50, 8, 16, 16, 2, num_layers=1)
    )
    for write_it in (export.to_hugging_face, export.to_gguf):
        with pytest.raises(UserError, match="or a Gemma 3"):
            write_it(other, tmp_path / "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["llama.gguf", "there"]


@pytest.mark.parametrize("family", ["llama", "gemma"])
def test_a_merged_model_is_a_preset_that_says_the_same(
    request, tmp_path, family
):
    model = request.getfixturevalue(family)
    adapt(model, ["query", "value"])
    with pytest.raises(UserError, match="without adapters beside its weights"):
        export.to_keras_hub(model, tmp_path / "new")
    lora.merge_lora(model)
    export.to_keras_hub(model, tmp_path / "new")
    loaded = kerasllm.ChatModel.from_preset(tmp_path / "new").causal_lm
    ids = ids_of(model)
    score = gemma_logits if family == "gemma" else logits
    np.testing.assert_allclose(score(loaded, ids), score(model, ids), atol=1e-5)
    with pytest.raises(UserError, match="`out` must be a new path"):
        export.to_keras_hub(model, tmp_path / "new")
