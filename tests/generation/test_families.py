"""How each family reads tokens equals KerasHub's own pass, without a cache."""

import keras_hub
import numpy as np
import pytest
from keras import ops

from kerasllm import backend, models
from kerasllm.generation import CachedDecoder, _batches, families
from kerasllm.generation.families import _blockwise

VOCABULARY_SIZE, LENGTH = 61, 18


def llama(num_layers=2, **options):
    return keras_hub.models.Llama3CausalLM(
        keras_hub.models.Llama3Backbone(
            vocabulary_size=VOCABULARY_SIZE,
            num_layers=num_layers,
            num_query_heads=6,
            num_key_value_heads=2,
            hidden_dim=24,
            intermediate_dim=40,
            **options,
        ),
        None,
    )


def gpt2(**options):
    return keras_hub.models.GPT2CausalLM(
        keras_hub.models.GPT2Backbone(
            VOCABULARY_SIZE,
            2,
            3,
            24,
            40,
            dropout=0.0,
            max_sequence_length=40,
            **options,
        )
    )


def gemma3(**options):
    """Five layers with a window of four positions, and one without."""
    return keras_hub.models.Gemma3CausalLM(
        None,
        keras_hub.models.Gemma3Backbone(
            VOCABULARY_SIZE,
            16,
            num_layers=6,
            num_query_heads=4,
            num_key_value_heads=2,
            hidden_dim=24,
            intermediate_dim=40,
            head_dim=8,
            use_sliding_window_attention=True,
            sliding_window_size=4,
            **options,
        ),
    )


def mini_gpt():
    own = models.mini_gpt(VOCABULARY_SIZE, 24, 24, 40, 3, 2)
    return models.MiniGPTCausalLM.from_mini_gpt(own, None)


LLAMA_31 = {
    "rope_frequency_adjustment_factor": 8.0,
    "rope_low_freq_factor": 1.0,
    "rope_high_freq_factor": 4.0,
    "rope_pretraining_sequence_length": 16,
    "rope_max_wavelength": 50.0,
}
CASES = {
    "llama": (llama, {}),
    "llama with its embedding shared": (llama, {"tie_word_embeddings": True}),
    "llama with a longer rotation": (llama, LLAMA_31),
    "gpt2": (gpt2, {}),
    "mini_gpt": (mini_gpt, {}),
    "gemma3": (gemma3, {}),
    "gemma3 with more norms and capped scores": (
        gemma3,
        {
            "use_post_ffw_norm": True,
            "use_post_attention_norm": True,
            "attention_logit_soft_cap": 3.0,
            "final_logit_soft_cap": 2.0,
            "query_head_dim_normalize": False,
        },
    ),
}
MAKERS = {"llama": llama, "gpt2": gpt2, "gemma3": gemma3}
every_case = pytest.mark.parametrize(
    "case", [case for case in CASES if case != "mini_gpt"]
)


def make(case, **options):
    maker, own = CASES[case]
    model = maker(**own | options)
    rng = np.random.default_rng(7)
    for weight in model.weights:
        value = ops.convert_to_numpy(ops.cast(weight.value, "float32"))
        weight.assign(value + rng.normal(0, 0.2, weight.shape))
    return model


def some_tokens(batch_size, seed=1):
    rng = np.random.default_rng(seed)
    return rng.integers(1, VOCABULARY_SIZE, (batch_size, LENGTH), "int32")


def full_logits(model, token_ids):
    inputs = {"token_ids": token_ids, "padding_mask": np.ones_like(token_ids)}
    return to_numpy(model(inputs))


def to_numpy(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


def largest_difference(model, token_ids, start):
    """Read a prompt, then one token after the other, all at one position."""
    decoder = CachedDecoder(model)
    assert not isinstance(decoder._family, families.Plain)
    expected = full_logits(model, token_ids)
    logits, cache = decoder.prefill(token_ids, start, 24)
    differences = [to_numpy(logits) - expected[:, start - 1]]
    step = decoder.bind_step()
    for index in range(start, LENGTH):
        logits, cache = step(token_ids[:, index], cache, index)
        differences.append(to_numpy(logits) - expected[:, index])
    return np.abs(differences).max()


@pytest.mark.any_backend  # what prompts share is read by each on each
@pytest.mark.slow
@every_case
@pytest.mark.parametrize("batch_size, start", [(1, 1), (3, 7)])
def test_logits_are_those_of_a_pass_without_a_cache(case, batch_size, start):
    model = make(case)
    assert largest_difference(model, some_tokens(batch_size), start) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        "gemma3",
        *(
            pytest.param(case, marks=pytest.mark.any_backend)
            for case in ("llama", "gpt2")
        ),
    ],
)
def test_sequences_of_a_batch_may_be_at_different_positions(case):
    """What an earlier and longer sequence left in the cache is not seen."""
    model, token_ids = make(case), some_tokens(3)
    decoder = CachedDecoder(model)
    assert decoder.takes_positions
    expected = full_logits(model, token_ids)
    positions = np.array([3, 11, 6])
    _, cache = decoder.prefill(some_tokens(3, seed=2), LENGTH, 24)
    for number, length in enumerate(positions):
        _, alone = decoder.prefill(token_ids[number, None], int(length), 24)
        cache = decoder.insert(cache, alone, number)
    step = decoder.bind_step(apart=True)
    for _ in range(LENGTH - positions.max()):
        tokens = token_ids[np.arange(3), positions]
        logits, cache = step(tokens, cache, positions)
        difference = to_numpy(logits) - expected[np.arange(3), positions]
        assert np.abs(difference).max() < 1e-4
        positions = positions + 1


@pytest.mark.any_backend  # the next one has each family on each
@pytest.mark.slow
@pytest.mark.parametrize("case", ["llama", "gpt2", "gemma3", "mini_gpt"])
def test_a_text_goes_on_after_what_was_read(case):
    """The rest of another text, which was longer, is not seen."""
    model, token_ids = make(case), some_tokens(1)
    decoder = CachedDecoder(model)
    assert decoder.extends
    expected = full_logits(model, token_ids)
    for start in (3, 11, 17):  # the last token is read again
        padded = np.zeros((1, 24), "int32")
        padded[:, :LENGTH] = some_tokens(1, seed=2)
        padded[:, :start] = token_ids[:, :start]
        _, cache = decoder.prefill(padded, LENGTH, 24)
        padded[:, :LENGTH] = token_ids
        logits, cache = decoder.extend(cache, padded, start, LENGTH - 1)
        assert np.abs(to_numpy(logits) - expected[:, -2]).max() < 1e-4
        logits, _ = decoder.bind_step()(token_ids[:, -1], cache, LENGTH - 1)
        assert np.abs(to_numpy(logits) - expected[:, -1]).max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        *("gpt2", "gemma3", "mini_gpt"),
        # Tests of GGUF files generate with it on each.
        pytest.param("llama", marks=pytest.mark.any_backend),
    ],
)
def test_what_prompts_share_is_read_once(case, monkeypatch):
    monkeypatch.setattr(_batches, "FEWEST_SHARED", 5)
    model, token_ids = make(case), some_tokens(4)
    token_ids[:, :7] = token_ids[0, :7]
    padded = np.zeros((4, 24), "int32")
    padded[:, :LENGTH] = token_ids
    decoder = CachedDecoder(model)
    cache, length = _batches._read_once(decoder, padded, LENGTH - 1)
    assert length == 7
    expected = full_logits(model, token_ids)
    logits, cache = decoder.extend(cache, padded, length, LENGTH - 1)
    assert np.abs(to_numpy(logits) - expected[:, -2]).max() < 1e-4
    logits, _ = decoder.bind_step()(token_ids[:, -1], cache, LENGTH - 1)
    assert np.abs(to_numpy(logits) - expected[:, -1]).max() < 1e-4


@pytest.mark.slow
def test_blocks_of_one_kind_share_what_reads_a_prompt():
    """Also beside a block that has an adapter, and when weights have changed.

    Eight blocks are three, three and two, so that two kinds are compiled, and
    the first three are a kind of their own with the adapter.
    """
    model, token_ids = make("llama", num_layers=8), some_tokens(2)
    for num_kinds in (2, 3):
        decoder = CachedDecoder(model)
        for change in (1.0, 1.1):
            for weight in model.weights:
                weight.assign(weight.value * change)
            logits, _ = decoder.prefill(token_ids, LENGTH, 24)
            expected = full_logits(model, token_ids)[:, -1]
            assert np.abs(to_numpy(logits) - expected).max() < 1e-4
            if backend.name() == "tensorflow" and change == 1.0:
                # Nothing is compiled for a length that occurs once.
                assert decoder.num_compilations == 0
        if backend.shares_compiled():
            # And what is before and behind the blocks.
            assert decoder.num_compilations == num_kinds + 2
        block = model.backbone.transformer_layers[1]
        query = block._self_attention_layer._query_dense
        if num_kinds == 2:
            query.enable_lora(2)
            query.lora_kernel_b.assign(query.lora_kernel_b.value + 0.1)


@pytest.mark.slow
def test_blocks_that_differ_in_a_number_share_nothing():
    """Windows of Gemma's blocks: the last of six sees everything."""
    model = make("gemma3")
    kinds = [
        str(_blockwise._kind_of(block))
        for block in model.backbone.transformer_layers
    ]
    assert [kinds.index(kind) for kind in kinds] == [0, 0, 0, 0, 0, 5]


@pytest.mark.any_backend
@pytest.mark.slow
@pytest.mark.parametrize("case", ["llama", "gemma3"])
def test_adapters_are_used(case):
    model = make(case)
    before = full_logits(model, some_tokens(1))
    model.backbone.enable_lora(2)
    rng = np.random.default_rng(3)
    for weight in model.trainable_weights:
        if "lora" in weight.path:
            weight.assign(rng.normal(0, 0.3, weight.shape))
    assert np.abs(full_logits(model, some_tokens(1)) - before).max() > 0.1
    assert largest_difference(model, some_tokens(1), 5) < 1e-4


@pytest.mark.any_backend
@pytest.mark.usefixtures("quick_to_quantize")
@pytest.mark.parametrize("case", ["llama", "gpt2", "gemma3"])
def test_a_quantized_model_is_read_as_quantized(case):
    model = make(case)
    before = full_logits(model, some_tokens(1))
    model.quantize("int8")
    change = np.abs(full_logits(model, some_tokens(1)) - before).max()
    # Activations are rounded one row at a time, so the paths differ a little
    # where a value lies between two steps: by less than what rounding does.
    difference = largest_difference(model, some_tokens(1), 5)
    assert 0 < change and difference < change


@pytest.mark.any_backend
@pytest.mark.slow
@pytest.mark.parametrize("case", ["llama", "gpt2", "gemma3"])
@pytest.mark.parametrize("dtype", ["bfloat16", "mixed_bfloat16"])
def test_half_precision_rounds_as_keras_hub_does(case, dtype):
    model, exact = make(case, dtype=dtype), make(case)
    token_ids = some_tokens(2)
    rounding = np.abs(
        full_logits(model, token_ids) - full_logits(exact, token_ids)
    ).max()
    assert largest_difference(model, token_ids, 5) < 2 * rounding


@pytest.mark.any_backend
@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
def test_a_model_with_a_pass_of_its_own_keeps_it(maker):
    model = maker()

    class Other(type(model)):
        def call_with_cache(self, *arguments, **keywords):
            return super().call_with_cache(*arguments, **keywords)

    kind = type(families.family_of(model))
    assert kind is not families.Plain
    model.__class__ = Other
    with pytest.warns(UserWarning, match="its own `call_with_cache`"):
        assert type(families.family_of(model)) is families.Plain


@pytest.mark.any_backend
def test_gemma_in_float16_is_read_by_keras_hub_which_clips():
    model = gemma3(dtype="float16")
    with pytest.warns(UserWarning, match="Gemma3CausalLM"):
        assert type(families.family_of(model)) is families.Plain


@pytest.mark.any_backend
@pytest.mark.slow
def test_new_weights_are_seen():
    model, token_ids = make("llama"), some_tokens(1)
    decoder = CachedDecoder.of(model)
    decoder.prefill(token_ids, 4, 24)
    _, cache = decoder.prefill(token_ids, 4, 24)
    decoder.bind_step()(token_ids[:, 4], cache, 4)
    for weight in model.weights:
        weight.assign(weight.value * 1.1)
    _, cache = decoder.prefill(token_ids, 4, 24)
    logits, _ = decoder.bind_step()(token_ids[:, 4], cache, 4)
    expected = full_logits(model, token_ids)[:, 4]
    assert CachedDecoder.of(model) is decoder
    np.testing.assert_allclose(to_numpy(logits), expected, atol=1e-4)
