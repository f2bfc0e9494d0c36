"""The cached generator, mostly with an alphabet for a vocabulary."""

import functools
import itertools
import logging
import math
import os
import pathlib
import subprocess
import sys
import warnings

import keras
import keras_hub
import numpy as np
import pytest
import scipy.stats
from keras import ops

from kerasllm.generation import (
    TextGenerator,
    TokenizedPrompt,
    compiled_generate,
    families,
    generate,
)
from kerasllm.generation import _decoding as decoding
from kerasllm.generation._arguments import tokenize_prompts
from kerasllm.models import MiniGPTBackbone, MiniGPTCausalLM
from kerasllm.samplers import (
    apply_penalties,
    as_chain,
    chain,
    filter_logits,
    greedy_search,
    min_p,
    random_sample,
    to_keras_hub,
    top_k,
    top_p,
)
from tests.alphabet import (
    END,
    LETTERS,
    VOCABULARY_SIZE,
    Alphabet,
    AlphabetPreprocessor,
    BigramLM,
    babbling_table,
    reciting_table,
)

PROMPTS = ["abc", "x", "hello", "zzzzzzzzz"]
SAMPLERS = {
    "greedy": greedy_search,
    "random": random_sample,
    "top-k": functools.partial(top_k, k=5),
    "top-p": functools.partial(top_p, p=0.8, temperature=1.5),
    "min-p": functools.partial(min_p, p=0.1),
    "chain": chain(0.9, top_k=10, top_p=0.9, frequency_penalty=0.3),
}


@pytest.fixture(scope="module")
def reciter():
    return BigramLM(reciting_table())


@pytest.fixture(scope="module")
def babbler():
    return BigramLM(babbling_table(), sequence_length=64)


def randomize(model, seed=0):
    """Give a model weights whose argmax depends on the whole text."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if "norm" not in weight.path:
            weight.assign(rng.normal(0, 0.3, weight.shape))
    return model


def make_mini_gpt():
    backbone = MiniGPTBackbone(VOCABULARY_SIZE, 40, 16, 32, 2, 2)
    return MiniGPTCausalLM(randomize(backbone))


def make_gpt2():
    backbone = keras_hub.models.GPT2Backbone(
        VOCABULARY_SIZE, 2, 2, 16, 32, max_sequence_length=40
    )
    return keras_hub.models.GPT2CausalLM(randomize(backbone))


def make_gemma3():
    """With a sliding window of 4, in the first 5 of 6 layers."""
    backbone = keras_hub.models.Gemma3Backbone(
        vocabulary_size=VOCABULARY_SIZE,
        image_size=16,
        num_layers=6,
        num_query_heads=4,
        num_key_value_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        head_dim=8,
        use_sliding_window_attention=True,
        sliding_window_size=4,
        vision_encoder=None,
    )
    return keras_hub.models.Gemma3CausalLM(
        preprocessor=None, backbone=randomize(backbone)
    )


def make_llama3():
    backbone = keras_hub.models.Llama3Backbone(
        vocabulary_size=VOCABULARY_SIZE,
        num_layers=2,
        num_query_heads=4,
        num_key_value_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
    )
    return keras_hub.models.Llama3CausalLM(randomize(backbone))


MAKERS = {
    "mini-gpt": make_mini_gpt,
    "gpt2": make_gpt2,
    "gemma3": make_gemma3,
    "llama3": make_llama3,
}


@functools.cache
def causal_lm(name):
    model = MAKERS[name]()
    # Set later: KerasHub's own `generate` gets token ids in these tests.
    model.preprocessor = AlphabetPreprocessor(sequence_length=40)
    return model


# JAX and TensorFlow take seconds to compile each of the others. What differs
# between backends shows with Mini-GPT and Gemma.
MARKS = {
    "mini-gpt": [],
    "gpt2": [pytest.mark.slow, pytest.mark.any_backend],
    "gemma3": [pytest.mark.slow],
    "llama3": [pytest.mark.slow, pytest.mark.any_backend],
}
every_model = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=MARKS[name]) for name in MAKERS]
)
# Where a backend's part is in what all models share.
mini_gpt_on_each = pytest.mark.parametrize(
    "name",
    [
        "mini-gpt",
        *(
            pytest.param(
                name, marks=[pytest.mark.slow, pytest.mark.any_backend]
            )
            for name in MAKERS
            if name != "mini-gpt"
        ),
    ],
)


def full_logits(model, token_ids):
    inputs = {"token_ids": token_ids, "padding_mask": np.ones_like(token_ids)}
    return ops.convert_to_numpy(model(inputs))


# --- One position at a time equals all at once -------------------------------


@every_model
@pytest.mark.parametrize(
    "beginning", [1, pytest.param(12, marks=pytest.mark.any_backend)]
)
def test_cached_logits_equal_the_uncached_ones_at_every_position(
    name, beginning
):
    model = causal_lm(name)
    token_ids = np.random.default_rng(beginning).integers(
        0, VOCABULARY_SIZE, (2, 20), "int32"
    )
    expected = full_logits(model, token_ids)
    decoder = decoding.CachedDecoder.of(model)
    logits, cache = decoder.prefill(
        token_ids, beginning, decoder.cache_length(20)
    )
    step = decoder.bind_step()
    for index in range(beginning - 1, 20):
        if index >= beginning:
            logits, cache = step(token_ids[:, index], cache, index)
        np.testing.assert_allclose(
            ops.convert_to_numpy(logits), expected[:, index], atol=1e-4
        )


@mini_gpt_on_each
def test_greedy_text_follows_the_argmax_of_the_uncached_model(name):
    model = causal_lm(name)
    texts = TextGenerator(model).generate(
        PROMPTS, max_length=20, stop_token_ids=None
    )
    for prompt, text in zip(PROMPTS, texts, strict=True):
        assert text.startswith(prompt) and len(text) == 20
        token_ids = np.array([(LETTERS + ".").index(c) for c in text], "int32")
        # One pass is enough: no position sees what comes after it.
        best = np.argmax(full_logits(model, token_ids[None])[0], axis=-1)
        start = len(Alphabet()(prompt))
        assert token_ids[start:].tolist() == best[start - 1 : -1].tolist()


@mini_gpt_on_each
def test_keras_hub_generates_the_same_greedy_tokens(name):
    model = causal_lm(name)
    expected = TextGenerator(model).generate(
        PROMPTS, max_length=20, stop_token_ids=None
    )
    inputs = model.preprocessor.generate_preprocess(PROMPTS, 20)
    inputs = {key: value.astype("int32") for key, value in inputs.items()}
    inputs["padding_mask"] = inputs["padding_mask"].astype("bool")
    # Not `generate`: without a preprocessor that of Gemma 3 fails on the
    # images that are not there.
    model.compile(sampler="greedy")
    outputs = model.make_generate_function()(inputs, stop_token_ids=None)
    assert expected == [
        Alphabet().detokenize(row)
        for row in ops.convert_to_numpy(outputs["token_ids"])
    ]


@pytest.mark.any_backend
def test_gemma_reads_the_tokens_that_keras_hub_makes(tiny_untrained):
    """Without its preprocessor, which needs TensorFlow for this."""
    preprocessor = tiny_untrained.preprocessor
    texts = [
        "One.",
        "<start_of_image>Two\n\n<end_of_turn> <b>",
        " Ünïcode 日本",
    ]
    inputs = preprocessor.generate_preprocess(texts, sequence_length=64)
    ids, mask = map(np.array, (inputs["token_ids"], inputs["padding_mask"]))
    found = tokenize_prompts(texts, preprocessor, 64, 10**6)
    assert [list(row) for row in found] == [
        row[own].tolist()
        for row, own in zip(ids, mask.astype(bool), strict=True)
    ]


@pytest.mark.any_backend
@pytest.mark.slow  # JAX compiles each operation of each length
def test_all_three_generators_write_the_same_greedy_text():
    model = causal_lm("mini-gpt")
    plain = model.to_mini_gpt()
    prompts = PROMPTS[:2]
    texts = TextGenerator(model).generate(prompts, max_length=12)
    for prompt, text in zip(prompts, texts, strict=True):
        for function in (generate, compiled_generate):
            again = function(plain, Alphabet(), prompt, max_length=12)
            assert again == text


class RecurrentLM(BigramLM):
    """Its state has a place for the last tokens only."""

    def _build_cache(self, token_ids):
        return None, ops.zeros((token_ids.shape[0], 3))


# --- What the loop does ------------------------------------------------------


@pytest.mark.any_backend
def test_one_prompt_gives_a_text_and_a_list_gives_a_list(reciter):
    generator = TextGenerator(reciter)
    assert generator.generate("abc", max_length=8) == "abcdefgh"
    assert generator.generate(["k"], max_length=2) == ["kl"]
    assert generator.generate([], max_length=8) == []


def test_every_row_stops_by_itself(reciter):
    texts = TextGenerator(reciter).generate(["xy", "a", "lmn"], max_length=9)
    assert texts == ["xyz", "abcdefghi", "lmnopqrst"]


@pytest.mark.any_backend
def test_the_default_length_is_that_of_the_preprocessor(reciter):
    assert len(TextGenerator(reciter).generate("a")) == 16


@pytest.mark.any_backend
def test_the_prompt_can_be_stripped(reciter):
    texts = TextGenerator(reciter).generate(
        ["abc", "xyz"], max_length=8, strip_prompt=True
    )
    assert texts == ["defgh", ""]


@pytest.mark.any_backend
def test_stop_tokens_can_be_chosen(reciter):
    generator = TextGenerator(reciter)
    recite = functools.partial(generator.generate, "a", max_length=8)
    assert recite(stop_token_ids=LETTERS.index("f")) == "abcde"
    assert recite(stop_token_ids=[np.int32(3), 25]) == "abc"
    assert recite(stop_token_ids=iter([3, 25])) == "abc"
    assert recite(stop_token_ids=LETTERS.index("a")) == "abcdefgh"
    assert generator.generate("y", max_length=5, stop_token_ids=None) == "yz.ab"


@pytest.mark.any_backend
def test_stop_strings_end_a_text_and_may_span_tokens(reciter):
    generator = TextGenerator(reciter)
    texts = generator.generate(
        ["a", "xy", "k"], max_length=20, stop_strings=["fgh", "nop"]
    )
    assert texts == ["abcde", "xyz", "klm"]
    # One in the prompt is text like any other.
    assert generator.generate("ab", max_length=5, stop_strings="b") == "abcde"


class Words(Alphabet):
    """Writes words, and as SentencePiece may no space before the first."""

    special_token_ids = (END,)

    def detokenize(self, token_ids):
        return " ".join(super().detokenize(token_ids))


@pytest.mark.any_backend
@pytest.mark.parametrize("prompt", ["ab", "wxy"])
def test_a_continuation_begins_as_it_stands_in_the_text(prompt):
    generator = TextGenerator(BigramLM(reciting_table(), tokenizer=Words()))
    recite = functools.partial(
        generator.generate, prompt, max_length=8, stop_token_ids=None
    )
    text = recite()
    expected = text.removeprefix(" ".join(prompt))
    assert expected.startswith(" ")
    assert recite(strip_prompt=True) == expected
    assert recite(strip_prompt=True, stop_strings="never") == expected
    pieces = generator.stream(prompt, 8, stop_token_ids=None)
    assert "".join(pieces) == expected


@pytest.mark.any_backend
def test_no_token_of_a_prompt_is_cut_off():
    """Where a letter is more tokens than bytes."""

    class Spelled(Alphabet):
        def __call__(self, text):
            return np.repeat(super().__call__(text), 50)

    generator = TextGenerator(BigramLM(reciting_table(), tokenizer=Spelled()))
    text = generator.generate(["a", "bc"], 103, stop_token_ids=None)
    assert [len(row) for row in text] == [103, 103]
    assert text[0].startswith("a" * 50 + "bcd")
    assert text[1] == "b" * 50 + "c" * 50 + "def"
    with pytest.raises(ValueError, match="a prompt of 100 tokens"):
        generator.generate("bc", 100)


def test_only_tokens_that_were_waiting_for_nothing_else_count_as_speed():
    model = make_mini_gpt()
    model.preprocessor = AlphabetPreprocessor(sequence_length=40)
    generator = TextGenerator(model)
    # The first token comes from the prompt, the second one compiles.
    generator.generate("abc", 5, stop_token_ids=None)
    if keras.backend.backend() != "torch":
        assert generator.tokens_per_second is None
    generator.generate("abc", 5, stop_token_ids=None)
    assert generator.tokens_per_second > 0


@pytest.mark.any_backend
def test_reading_a_longer_prompt_is_no_speed(reciter):
    generator = TextGenerator(reciter)
    for _ in range(2):
        # "z" is at its end while the other is still being read.
        texts = generator.generate(["z", "abcdefgh"], 9)
    assert texts == ["z", "abcdefghi"]
    assert generator._latest._steps == 1


@pytest.mark.any_backend
def test_the_pieces_of_a_stream_are_the_text_as_it_comes(reciter):
    stream = TextGenerator(reciter).stream("w", max_length=9)
    assert list(stream) == ["x", "y", "z"]


@pytest.mark.any_backend
def test_a_stream_computes_no_further_than_it_is_read(reciter):
    seen = []

    def spy(logits):
        seen.append(len(seen))
        return ops.argmax(logits)

    stream = TextGenerator(reciter, spy).stream("a", max_length=20)
    assert next(stream) == "b"
    assert len(seen) == 1


@pytest.mark.any_backend
@pytest.mark.parametrize("stop", ["hij", "e"])
def test_a_stream_ends_before_a_stop_string(reciter, stop):
    stream = TextGenerator(reciter).stream("a", 20, stop_strings=stop)
    assert "a" + "".join(stream) == LETTERS[: LETTERS.index(stop)]


# --- Samplers, seeds and batches ---------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        name
        if name in ("greedy", "chain")
        else pytest.param(
            name, marks=[pytest.mark.slow, pytest.mark.any_backend]
        )
        for name in SAMPLERS
    ],
)
def test_a_text_depends_on_its_prompt_and_seed_alone(name):
    generator = TextGenerator(causal_lm("mini-gpt"), SAMPLERS[name])
    texts = generator.generate(PROMPTS, max_length=24, seed=7)
    for prompt, text in zip(PROMPTS, texts, strict=True):
        alone = generator.generate(prompt, max_length=24, seed=7)
        streamed = generator.stream(prompt, max_length=24, seed=7)
        assert alone == text == prompt + "".join(streamed)
    again = generator.generate(PROMPTS[::-1], max_length=24, seed=7)
    assert again[::-1] == texts


def test_seeds_differ_and_no_seed_draws_anew(babbler):
    generator = TextGenerator(babbler, random_sample)
    texts = {generator.generate("a", 20, seed=seed) for seed in range(5)}
    assert len(texts) == 5
    # Equal prompts without a seed are drawn for separately: that two of them
    # agree has probability 26 ** -19.
    assert len(set(generator.generate(["a"] * 4, 20))) == 4


def test_a_seed_generator_moves_on(babbler):
    generator = TextGenerator(babbler, random_sample)

    def two_texts():
        seed = keras.random.SeedGenerator(5)
        return [generator.generate("a", 20, seed=seed) for _ in range(2)]

    first, second = two_texts()
    assert first != second
    assert two_texts() == [first, second]


def test_without_a_seed_keras_decides(babbler):
    generator = TextGenerator(babbler, random_sample)

    def texts(seed):
        keras.utils.set_random_seed(seed)
        return [generator.generate(["a", "a"], 20) for _ in range(2)]

    first = texts(0)
    assert len({text for pair in first for text in pair}) == 4
    assert texts(0) == first != texts(1)


@pytest.mark.any_backend
def test_a_seed_bound_to_the_sampler_is_used(babbler):
    bound = functools.partial(random_sample, seed=3)
    text = TextGenerator(babbler, bound).generate("a", 20)
    assert text == TextGenerator(babbler, random_sample).generate(
        "a", 20, seed=3
    )


def test_samples_of_a_prompt_differ_and_the_first_is_the_only_one(babbler):
    generator = TextGenerator(babbler, random_sample)
    samples = generator.generate(["ab", "c"], 20, seed=1, num_samples=3)
    assert [len(group) for group in samples] == [3, 3]
    for prompt, group in zip(["ab", "c"], samples, strict=True):
        assert len(set(group)) == 3
        assert all(text.startswith(prompt) for text in group)
        assert group[0] == generator.generate(prompt, 20, seed=1)
    assert generator.generate("c", 20, seed=1, num_samples=3) == samples[1]


def test_each_prompt_may_have_draws_of_its_own(babbler):
    """A single seed gives all prompts the same luck."""
    generator = TextGenerator(babbler, random_sample)
    options = {"max_length": 20, "num_samples": 2, "strip_prompt": True}
    same = generator.generate(["a", "b"], seed=3, **options)
    assert same[0] == same[1]
    own = generator.generate(["a", "b"], seed=np.array([3, 4]), **options)
    assert own == [same[0], generator.generate("b", seed=4, **options)]
    assert own[1] != same[1]
    for wrong in ([3], [3, -1], [3, 1.5]):
        with pytest.raises(ValueError, match="list `seed` must have an int"):
            generator.generate(["a", "b"], seed=wrong, **options)


class OtherGPT2(keras_hub.models.GPT2CausalLM):
    """A model of a family that we do not know."""

    def call_with_cache(self, *arguments):
        return super().call_with_cache(*arguments)


def make_other_gpt2():
    return OtherGPT2(make_gpt2().backbone)


@pytest.mark.parametrize(
    "make",
    [
        make_mini_gpt,
        pytest.param(make_other_gpt2, marks=pytest.mark.any_backend),
    ],
)
def test_reading_a_prompt_scores_its_last_position_only(make, monkeypatch):
    model = make()
    spec = families.Plain(model).cache_spec(1, 40)  # asks for shapes of all
    monkeypatch.setattr(families.Plain, "cache_spec", lambda *_: spec)
    backbone = model.backbone
    embedding = getattr(backbone, "token_embedding", None) or backbone.embedding
    score, scored = type(embedding).call, []

    def spy(self, inputs, *arguments, reverse=False, **keywords):
        if reverse:
            scored.append(tuple(inputs.shape))
        return score(self, inputs, *arguments, reverse=reverse, **keywords)

    monkeypatch.setattr(type(embedding), "call", spy)
    token_ids = np.arange(23, dtype="int32")[None]
    logits, _ = decoding.CachedDecoder(model).prefill(token_ids, 23, 40)
    assert set(scored) == {(1, 1, 16)}
    expected = full_logits(model, token_ids)[:, -1]
    np.testing.assert_allclose(
        ops.convert_to_numpy(logits), expected, atol=1e-4
    )


@pytest.mark.any_backend
def test_samples_share_one_prefill():
    model = make_mini_gpt()
    model.preprocessor = AlphabetPreprocessor(sequence_length=40)
    rows = []
    call_with_cache = model.call_with_cache

    def spy(token_ids, cache, index):
        if token_ids.shape[1] > 1:
            rows.append(token_ids.shape[0])
        return call_with_cache(token_ids, cache, index)

    model.call_with_cache = spy
    TextGenerator(model).generate("hello", 20, num_samples=4)
    assert set(rows) == {1}


def test_the_first_token_takes_one_pass_over_the_weights():
    model = make_mini_gpt()
    model.preprocessor = AlphabetPreprocessor(sequence_length=40)
    passes = []
    call_with_cache = model.call_with_cache

    def spy(*arguments):
        passes.append(arguments)
        return call_with_cache(*arguments)

    model.call_with_cache = spy
    generator = TextGenerator(model)
    for prompt in ("hello", "help", "h"):  # of one padded size
        text = generator.generate(prompt, len(prompt) + 1, stop_token_ids=None)
        assert len(text) == len(prompt) + 1
    assert generator.num_compilations["model"] == len(passes) == 1


@pytest.mark.parametrize(
    "name",
    [
        "top-k",
        *(
            # test_samplers.py has their frequencies on each backend.
            pytest.param(
                name, marks=[pytest.mark.slow, pytest.mark.any_backend]
            )
            for name in ("random", "top-p", "min-p")
        ),
    ],
)
def test_tokens_come_as_often_as_their_probability_says(name):
    """A chi-square test that fails wrongly once in 10,000 runs."""
    rng = np.random.default_rng(1)
    table = rng.normal(0, 2, (VOCABULARY_SIZE, VOCABULARY_SIZE))
    generator = TextGenerator(BigramLM(table), SAMPLERS[name])
    count = 512
    texts = generator.generate(
        "q", 2, seed=0, num_samples=count, strip_prompt=True,
        stop_token_ids=None,
    )  # fmt: skip
    # What may come is told by filters that other tests compare with others'.
    logits = ops.convert_to_tensor(table[LETTERS.index("q")])
    filtered = filter_logits(logits, **as_chain(SAMPLERS[name]).keywords)
    expected = ops.convert_to_numpy(ops.softmax(filtered)).astype("float64")
    expected *= count
    tokens = [(LETTERS + ".").index(text) for text in texts]
    observed = np.bincount(tokens, minlength=VOCABULARY_SIZE)
    assert not observed[expected == 0].any()
    frequent = expected >= 5
    rest = observed[~frequent].sum(), count - expected[frequent].sum()
    observed, expected = observed[frequent], expected[frequent]
    if rest[1] >= 1:
        observed = np.append(observed, rest[0])
        expected = np.append(expected, rest[1])
    expected *= observed.sum() / expected.sum()
    assert scipy.stats.chisquare(observed, expected).pvalue > 1e-4


@pytest.mark.parametrize(
    "numbers",
    [
        {"top_k": np.int64(5), "top_p": 1},
        {"temperature": 0, "frequency_penalty": np.float64(1)},
        *(
            pytest.param(numbers, marks=pytest.mark.any_backend)
            for numbers in (
                {"temperature": 1},
                {"temperature": 2, "top_k": 5},
                {"min_p": 0, "presence_penalty": 1},
            )
        ),
    ],
)
def test_whole_numbers_are_numbers_like_any_other(numbers, babbler):
    generator = TextGenerator(babbler)
    floats = {
        name: value if name == "top_k" else float(value)
        for name, value in numbers.items()
    }
    text = generator.generate("a", 12, seed=0, sampler=chain(**floats))
    count = generator.num_compilations
    again = generator.generate("a", 12, seed=0, sampler=chain(**numbers))
    assert (again, generator.num_compilations) == (text, count)


def books_random_sample(preds, temperature=1.0):
    """The chapter's sampler: one row, no seed."""
    preds = preds / temperature
    return keras.random.categorical(preds[None, :], num_samples=1)[0]


@pytest.mark.parametrize(
    "sampler",
    [
        lambda logits: ops.argmax(logits),
        lambda logits: int(np.argmax(ops.convert_to_numpy(logits))),
        pytest.param(
            lambda logits, seed=None: ops.argmax(logits),
            marks=pytest.mark.any_backend,
        ),
        functools.partial(books_random_sample, temperature=1e-3),
        lambda logits: ops.argmax(logits)[None],
    ],
)
def test_any_callable_of_a_row_of_logits_is_a_sampler(sampler, reciter):
    texts = TextGenerator(reciter, sampler).generate(["ab", "y"], max_length=6)
    assert texts == ["abcdef", "yz"]


@pytest.mark.parametrize(
    "ours",
    [
        greedy_search,
        *(
            pytest.param(sampler, marks=pytest.mark.any_backend)
            for sampler in (functools.partial(top_k, k=1), chain(top_p=1e-6))
        ),
    ],
)
def test_wrapping_a_sampler_of_ours_costs_speed_and_says_so(ours, reciter):
    generator = TextGenerator(reciter)
    with pytest.warns(UserWarning, match="passed directly is compiled"):
        wrapped = generator.generate("abc", sampler=lambda logits: ours(logits))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert generator.generate("abc", sampler=ours) == wrapped
        # A sampler of somebody else's is welcome.
        generator.generate("abc", sampler=lambda logits: ops.argmax(logits))


@pytest.mark.any_backend
def test_a_foreign_sampler_sees_the_tokens_so_far(babbler):
    def next_letter(logits, token_ids):
        token_ids = ops.convert_to_numpy(token_ids)
        newest = token_ids[token_ids >= 0][-1]
        return (int(newest) + 2) % 26

    generator = TextGenerator(babbler, next_letter)
    assert generator.generate(["a", "bd"], 5) == ["acegi", "bdfhj"]


# --- Logit processors --------------------------------------------------------


def test_a_processor_may_return_logits_or_a_mask(reciter):
    vowels = np.array([letter in "aeiou" for letter in LETTERS] + [False])

    def only_vowels(logits):
        return ops.convert_to_tensor(vowels)[None]

    def no_vowels(logits):
        return ops.where(ops.convert_to_tensor(vowels), -math.inf, logits)

    text = TextGenerator(reciter, logit_processors=[only_vowels]).generate(
        "d", 4
    )
    assert text == "deaa"
    text = TextGenerator(reciter, logit_processors=[no_vowels]).generate("a", 3)
    assert text == "abc"
    with pytest.raises(ValueError, match="at least one of them above -inf"):
        TextGenerator(
            reciter, logit_processors=[only_vowels, no_vowels]
        ).generate("a", 3)


@pytest.mark.parametrize(
    "sampler",
    [pytest.param("greedy", marks=pytest.mark.any_backend), "top-k"],
)
def test_penalties_as_a_processor_equal_those_of_chain(sampler):
    model = causal_lm("mini-gpt")
    numbers = {
        "greedy": {"temperature": 0.0},
        "top-k": {"top_k": 5},
    }[sampler]
    penalty = functools.partial(apply_penalties, frequency=0.7, presence=0.2)
    by_processor = TextGenerator(
        model, chain(**numbers), logit_processors=[penalty]
    )
    by_chain = TextGenerator(
        model,
        chain(**numbers, frequency_penalty=0.7, presence_penalty=0.2),
    )
    texts = [g.generate(PROMPTS, 24, seed=2) for g in (by_processor, by_chain)]
    assert texts[0] == texts[1]
    plain = TextGenerator(model, chain(**numbers))
    assert texts[0] != plain.generate(PROMPTS, 24, seed=2)


# --- Log-probabilities -------------------------------------------------------


def test_logprobs_are_those_of_the_uncached_model():
    model = causal_lm("mini-gpt")
    generator = TextGenerator(model, functools.partial(top_k, k=3))
    results = generator.generate(
        PROMPTS, 20, None, seed=0, return_logprobs=True
    )
    for prompt, result in zip(PROMPTS, results, strict=True):
        start = len(prompt)
        assert result.finish_reason == "max_length"
        token_ids = Alphabet()(prompt).tolist() + list(result.token_ids)
        logits = full_logits(model, np.array([token_ids], "int32"))[0]
        logprobs = np.array(ops.log_softmax(logits.astype("float64")))
        for step, token_id in enumerate(result.token_ids):
            row = logprobs[start + step - 1]
            assert abs(result.logprobs[step] - row[token_id]) < 1e-4
            # Of three tokens the probabilities are divided by their sum.
            best = np.sort(row)[-3:]
            expected = row[token_id] - np.log(np.exp(best).sum())
            assert abs(result.sampler_logprobs[step] - expected) < 1e-4


def test_greedy_is_certain_and_a_foreign_sampler_does_not_tell(reciter):
    result = TextGenerator(reciter).generate("a", 4, return_logprobs=True)
    assert result.sampler_logprobs == (0.0, 0.0, 0.0)
    assert (result.text, result.token_ids) == ("abcd", (1, 2, 3))
    foreign = TextGenerator(reciter, lambda logits: ops.argmax(logits))
    again = foreign.generate("a", 4, return_logprobs=True)
    assert again.sampler_logprobs is None
    np.testing.assert_allclose(again.logprobs, result.logprobs, atol=1e-5)


@pytest.mark.any_backend
def test_the_reason_of_the_end_is_told(reciter):
    generator = TextGenerator(reciter)
    reasons = [
        generator.generate(
            prompt, 9, stop_strings=stop, return_logprobs=True
        ).finish_reason
        for prompt, stop in (("x", ()), ("a", ()), ("a", "c"))
    ]
    assert reasons == ["stop_token", "max_length", "stop_string"]


# --- Compilations ------------------------------------------------------------


def test_numbers_and_prompts_do_not_compile_again():
    model = make_mini_gpt()
    model.preprocessor = AlphabetPreprocessor(sequence_length=40)
    generator = TextGenerator(model)

    def run(prompt, **numbers):
        generator.generate(prompt, 24, sampler=chain(**numbers), seed=0)
        return generator.num_compilations

    first = run("abc", temperature=0.5, top_k=3, top_p=0.9)
    assert first["model"] == 2  # to read the prompt and to read a token
    assert first == run("hello", temperature=1.3, top_k=9, top_p=0.5)
    # Other lengths up to the same bucket, and greedy search: the model stays.
    generator.generate("hello", 20)
    assert generator.num_compilations["model"] == 2
    # A prompt of another padded length is read by a function of its own.
    for prompt in ("abcdefghi", "abcdefghijkl"):
        generator.generate(prompt, 24)
        assert generator.num_compilations["model"] == 3
    # Three rows and four are four.
    for count in (3, 4):
        generator.generate(PROMPTS[:count], 24)
    assert generator.num_compilations["model"] == 5
    # Another generator of this model finds all that compiled.
    assert TextGenerator(model, random_sample).generate("abc", 24, seed=0)
    assert generator.num_compilations["model"] == 5


@pytest.mark.slow
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="only TensorFlow's XLA compiles without tracing, for each value",
)
def test_xla_compiles_no_more_than_is_counted():
    """XLA tells of each compilation, if asked before TensorFlow starts."""
    program = """if True:
        import sys
        from kerasllm.generation import TextGenerator
        from kerasllm.samplers import chain
        from tests.generation.test_text_generator import causal_lm
        for name in ("mini-gpt", "gemma3"):
            generator = TextGenerator(causal_lm(name))
            for k, prompt in ((3, "abc"), (9, "hello")):
                print("BEGIN", file=sys.stderr, flush=True)
                sampler = chain(0.5 + k / 10, top_k=k)
                generator.generate(prompt, 20, sampler=sampler, seed=0)
        """
    verbose = {
        "TF_CPP_MIN_LOG_LEVEL": "0",
        "TF_CPP_VMODULE": "device_compilation_profiler=1",
    }
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | verbose,
        cwd=pathlib.Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    _, *said = result.stderr.split("BEGIN")
    compiled = [part.count("] Compiled __inference") for part in said]
    # To read a token, and to sample one. A prompt is read without XLA.
    assert compiled == [2, 0, 2, 0]


def test_many_lengths_are_no_reason_to_warn(reciter, caplog, monkeypatch):
    """TensorFlow warns where one function was traced five times."""
    logger = logging.getLogger("tensorflow")
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    generator = TextGenerator(reciter)
    for prompt in (LETTERS[:n] for n in (1, 5, 9, 13, 17, 21, 25)):
        assert generator.generate(prompt, max_length=26) == LETTERS
    assert not caplog.records


def test_new_weights_are_seen_without_compiling():
    model = make_mini_gpt()
    model.preprocessor = AlphabetPreprocessor(sequence_length=40)
    generator = TextGenerator(model)
    before = generator.generate("abc", 20)
    randomize(model.backbone, seed=1)
    after = generator.generate("abc", 20)
    assert before != after
    assert after == TextGenerator(model).generate("abc", 20)
    assert generator.num_compilations["model"] == 2


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(
            lambda generator: generator.generate("abc", 20), id="generate"
        ),
        pytest.param(
            lambda generator: generator.beam_search("abc", 2, max_length=20),
            id="beam_search",
            marks=pytest.mark.any_backend,
        ),
    ],
)
def test_new_variables_are_seen(write):
    model = make_mini_gpt()
    model.preprocessor = AlphabetPreprocessor(sequence_length=40)
    generator = TextGenerator(model)
    before = write(generator)
    model.backbone.enable_lora(2)
    assert write(generator) == before  # beta starts at zero
    for weight in model.backbone.trainable_weights:
        weight.assign(np.full(weight.shape, 0.5))
    assert write(generator) != before


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("length", "bucket"),
    [(1, 8), (8, 8), (9, 12), (17, 24), (25, 32), (97, 128), (256, 256)],
)
def test_lengths_are_rounded_up_to_buckets(length, bucket):
    assert decoding.length_bucket(length) == bucket
    assert decoding.length_bucket(length, longest=bucket - 1) == bucket - 1
    assert [decoding.batch_bucket(n) for n in (1, 2, 3, 8, 9)] == [
        1, 2, 4, 8, 16,
    ]  # fmt: skip


class HalfLM(BigramLM):
    """As KerasHub's models are in half precision."""

    def call_with_cache(self, *arguments):
        logits, _, cache = super().call_with_cache(*arguments)
        logits = ops.cast(logits, "bfloat16")
        return logits, logits, cache


def test_samplers_and_processors_get_float32():
    dtypes = []

    def look(logits):
        dtypes.append(keras.backend.standardize_dtype(logits.dtype))
        return ops.cast(logits, "float16")

    def best(logits):
        dtypes.append(keras.backend.standardize_dtype(logits.dtype))
        return ops.argmax(logits)

    model = HalfLM(np.random.default_rng(0).normal(size=(27, 27)))
    results = [
        TextGenerator(model, sampler, [look]).generate(
            "abc", 6, stop_token_ids=None, return_logprobs=True
        )
        for sampler in (best, greedy_search)
    ]
    assert set(dtypes) == {"float32"}
    assert results[0].token_ids == results[1].token_ids
    np.testing.assert_allclose(
        results[0].logprobs, results[1].logprobs, atol=1e-6
    )


def ban_b(logits):
    if keras.backend.backend() != "torch":
        return ops.where(ops.arange(logits.shape[-1]) == 1, -np.inf, logits)
    logits[..., 1] = -np.inf  # as Hugging Face's processors may
    return logits


def cold(logits):
    if keras.backend.backend() == "torch":
        logits /= 0.1
    return ops.argmax(logits)


def test_logprobs_under_the_model_are_the_models():
    """Whatever processors, samplers and beams make of the logits."""
    table = np.random.default_rng(2).normal(size=(27, 27)).astype("float32")
    table[0, 1] = 9.0  # after "a" comes "b", unless it is banned
    generator = TextGenerator(BigramLM(table), cold, [ban_b])
    results = [
        generator.generate("a", 2, None, return_logprobs=True),
        generator.generate(
            "a", 2, None, return_logprobs=True, sampler=greedy_search
        ),
        generator.beam_search("a", 1, 1.0, 2, None, return_logprobs=True),
    ]
    allowed = np.where(np.arange(27) == 1, -np.inf, table[0])
    token_id = int(allowed.argmax())
    model = table[0] - np.logaddexp.reduce(table[0])
    beams = allowed - np.logaddexp.reduce(allowed)
    for result in results:
        assert result.token_ids == (token_id,)
        np.testing.assert_allclose(result.logprobs, model[token_id], atol=1e-5)
    np.testing.assert_allclose(
        results[2].sampler_logprobs, beams[token_id], atol=1e-5
    )


# --- Beam search -------------------------------------------------------------


def exhaustive_search(table, start, steps, stop, length_penalty):
    """Try every continuation."""
    table = np.array(table, "float64")
    table = table - np.log(np.exp(table).sum(axis=1, keepdims=True))
    best, best_score = None, -np.inf
    for length in range(1, steps + 1):
        for tokens in itertools.product(range(len(table)), repeat=length):
            stopped = tokens[-1] == stop
            if stop in tokens[:-1] or (length < steps and not stopped):
                continue
            logprob = sum(
                table[a][b] for a, b in itertools.pairwise((start, *tokens))
            )
            if logprob / length**length_penalty > best_score:
                best_score = logprob / length**length_penalty
                best = tokens[:-1] if stopped else tokens
    return best


class FewLetters(Alphabet):
    def __init__(self, size):
        super().__init__(end_token_id=size - 1)
        self.size = size

    def vocabulary_size(self):
        return self.size


@pytest.mark.parametrize(
    "length_penalty",
    [
        0.0,
        1.0,
        *(pytest.param(n, marks=pytest.mark.any_backend) for n in (-1.0, 2.0)),
    ],
)
@pytest.mark.parametrize(
    "seed", [0, pytest.param(1, marks=pytest.mark.any_backend)]
)
def test_wide_beams_find_what_an_exhaustive_search_finds(seed, length_penalty):
    size, steps = 4, 4
    table = np.random.default_rng(seed).normal(0, 1.5, (size, size))
    model = BigramLM(table, tokenizer=FewLetters(size))
    expected = exhaustive_search(table, 1, steps, size - 1, length_penalty)
    result = TextGenerator(model).beam_search(
        "b", size**steps, length_penalty, steps + 1, return_logprobs=True
    )
    assert result.token_ids == expected


@mini_gpt_on_each
def test_one_beam_is_greedy_search(name):
    generator = TextGenerator(causal_lm(name))
    assert generator.beam_search(
        "abc", 1, max_length=20, stop_token_ids=None
    ) == generator.generate("abc", 20, stop_token_ids=None)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("first", "later", "expected"),
    [
        # The end comes second in rank, and is better than all that follows.
        ([0.6, 0.0, 0.0, 0.4], [0.31, 0.3, 0.29, 0.1], "baaaaaaa"),
        # The end comes first, and what follows the other is better still.
        ([0.4, 0.0, 0.0, 0.6], [0.97, 0.01, 0.01, 0.01], "b"),
    ],
)
def test_one_beam_stops_where_greedy_search_does(first, later, expected):
    with np.errstate(divide="ignore"):
        table = np.maximum(np.log([later, first, later, later]), -1e9)
    generator = TextGenerator(BigramLM(table, tokenizer=FewLetters(4)))
    assert generator.generate("b", 8) == expected
    assert generator.beam_search("b", 1, max_length=8) == expected


def test_beams_carry_their_own_cache():
    """The log-probabilities of the best beam are those of its own text."""
    model = causal_lm("mini-gpt")
    result = TextGenerator(model).beam_search(
        "abc", 3, max_length=20, stop_token_ids=None, return_logprobs=True
    )
    token_ids = [0, 1, 2, *result.token_ids]
    logits = full_logits(model, np.array([token_ids], "int32"))[0]
    logprobs = np.array(ops.log_softmax(logits.astype("float64")))
    expected = [logprobs[place, token_ids[place + 1]] for place in range(2, 19)]
    np.testing.assert_allclose(result.logprobs, expected, atol=1e-4)


# --- KerasHub's own loop -----------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["mini-gpt", pytest.param("gpt2", marks=pytest.mark.any_backend)]
)
def test_our_samplers_run_in_keras_hubs_loop(name):
    model = causal_lm(name)

    def tokens(sampler):
        inputs = {
            "token_ids": np.array([[0, 1, 2] + [0] * 17] * 2, "int32"),
            "padding_mask": np.array([[True] * 3 + [False] * 17] * 2),
        }
        model.compile(sampler=sampler)
        outputs = model.make_generate_function()(inputs, stop_token_ids=None)
        return ops.convert_to_numpy(outputs["token_ids"])

    greedy = tokens("greedy")
    ours = to_keras_hub(greedy_search)
    np.testing.assert_array_equal(tokens(ours), greedy)
    np.testing.assert_array_equal(tokens(to_keras_hub(chain(top_k=1))), greedy)
    drawn = chain(temperature=2.0, top_k=20)
    once = tokens(to_keras_hub(drawn, seed=1))
    np.testing.assert_array_equal(tokens(to_keras_hub(drawn, seed=1)), once)
    assert (tokens(to_keras_hub(drawn, seed=2)) != once).any()
    assert (once[:, 3:] != once[:, 3:4]).any()  # a new draw at each step
    # So heavy a penalty never lets a token come twice.
    distinct = tokens(to_keras_hub(chain(0.0, presence_penalty=1e6)))
    assert all(len(set(row)) == len(row) for row in distinct.tolist())


@pytest.mark.any_backend
def test_a_sampler_for_keras_hub_must_return_one_token_a_row():
    with pytest.raises(ValueError, match="`sampler` must be callable"):
        to_keras_hub("greedy")
    sampler = to_keras_hub(lambda logits: ops.argmax(logits, axis=0))
    with pytest.raises(ValueError, match="one token id for each row"):
        sampler.get_next_token(ops.zeros((2, 5)))


# --- What is refused, and when ------------------------------------------------


@pytest.fixture
def untouchable(reciter, monkeypatch):
    """A generator whose model must not be called."""

    def fail(*arguments):
        raise AssertionError("The model was called.")

    generator = TextGenerator(causal_lm("mini-gpt"))
    for name in ("prefill", "bind_step"):
        monkeypatch.setattr(generator._decoder, name, fail)
    return generator


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": ""}, "at least one token"),
        ({"prompts": ["a", ""]}, "at least one token"),
        ({"prompts": 3}, "must be a string"),
        ({"prompts": ["a", 3]}, "must be a string"),
        ({"prompts": "abcde", "max_length": 5}, "fewer than `max_length`"),
        ({"prompts": ["a", "abcdef"], "max_length": 5}, "fewer than `max_len"),
        ({"max_length": 41}, "at most 40, the length of the model's position"),
        ({"max_length": 1}, "at least 2"),
        ({"max_length": 7.5}, "must be an int"),
        ({"stop_token_ids": 27}, "token ids in"),
        ({"stop_token_ids": "the end"}, "token ids in"),
        ({"stop_token_ids": 2.5}, "token ids in"),
        ({"prompts": TokenizedPrompt((0, 27))}, "tokens from 0 to 27"),
        ({"prompts": TokenizedPrompt(np.zeros(0))}, "at least one token"),
        ({"stop_strings": ["x", ""]}, "not empty"),
        ({"stop_strings": 3}, "must be strings"),
        ({"num_samples": 0}, "`num_samples` must be a positive int"),
        ({"seed": "x"}, "`seed` must be an int"),
        ({"seed": -1, "sampler": random_sample}, "from 0 to 2147483647"),
        ({"seed": 2**31, "sampler": random_sample}, "from 0 to 2147483647"),
        ({"seed": np.array(3), "sampler": random_sample}, "must be an int"),
        ({"seed": [[1]], "sampler": random_sample}, "an int for each prompt"),
        ({"stop_event": True}, "`stop_event` must be a `threading.Event`"),
        ({"sampler": "greedy"}, "`sampler` must be a callable"),
        ({"sampler": functools.partial(top_k, k=28)}, "`k` must be an int in"),
        ({"sampler": chain(top_k=99)}, "`top_k` must be an int in"),
        ({"sampler": lambda logits: 0, "seed": 1}, "with a parameter `seed`"),
    ],
)
def test_bad_arguments_are_refused_before_the_model_runs(
    untouchable, arguments, message
):
    arguments = {"prompts": "abc", "max_length": 20} | arguments
    with pytest.raises(ValueError, match=message):
        untouchable.generate(**arguments)
    prompt = arguments.pop("prompts")
    if (
        isinstance(prompt, str | TokenizedPrompt)
        and "num_samples" not in arguments
    ):
        with pytest.raises(ValueError, match=message):
            untouchable.stream(prompt, **arguments)


@pytest.mark.any_backend
def test_images_need_a_model_that_takes_them(reciter):
    prompt = TokenizedPrompt([0], np.zeros((4, 4, 3), "uint8"))
    with pytest.raises(ValueError, match="a model that takes them"):
        TextGenerator(reciter).generate(prompt)


@pytest.mark.any_backend
def test_gpt2s_position_table_is_a_limit_too():
    with pytest.raises(ValueError, match="at most 40"):
        TextGenerator(causal_lm("gpt2")).generate("abc", 41)


@pytest.mark.any_backend
def test_a_generator_needs_a_model_with_a_cache_and_a_preprocessor(reciter):
    with pytest.raises(ValueError, match="`call_with_cache`"):
        TextGenerator(keras.Sequential())
    with pytest.raises(ValueError, match="`preprocessor`"):
        TextGenerator(make_mini_gpt())
    with pytest.raises(ValueError, match="`k` must be an int in"):
        TextGenerator(reciter, functools.partial(top_k, k=28))
    with pytest.raises(ValueError, match="`sampler` must be a callable"):
        TextGenerator(reciter, "greedy")
    with pytest.raises(ValueError, match="an entry for each token"):
        TextGenerator(RecurrentLM(reciting_table())).generate("a", 9)


@pytest.mark.parametrize(
    "sampler",
    [
        greedy_search,
        pytest.param(
            lambda logits: ops.argmax(logits), marks=pytest.mark.any_backend
        ),
    ],
)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_diverged_model_is_refused_at_the_first_token(bad, sampler):
    table = np.full((VOCABULARY_SIZE, VOCABULARY_SIZE), bad)
    with pytest.raises(ValueError, match="probably diverged"):
        TextGenerator(BigramLM(table), sampler).generate("a", 9)


@pytest.mark.any_backend
def test_a_processor_must_leave_a_token():
    def ban_all(logits, token_ids):
        is_third = (token_ids >= 0).sum(-1)[..., None] == 3
        return (logits > -1) & ~is_third

    for sampler in (greedy_search, lambda logits: ops.argmax(logits)):
        generator = TextGenerator(
            BigramLM(reciting_table()), sampler, logit_processors=[ban_all]
        )
        for write in (generator.generate, generator.beam_search):
            with pytest.raises(ValueError, match="of token 3.*must leave one"):
                write("a", max_length=9)


@pytest.mark.any_backend
@pytest.mark.parametrize("returned", [27, -1, [1, 2], 1.5, [[1], [2]], []])
def test_a_sampler_must_return_one_token_id(babbler, returned):
    generator = TextGenerator(babbler, lambda logits: np.array(returned))
    with pytest.raises(ValueError, match="must return one int token id"):
        generator.generate("a", 9)


@pytest.mark.any_backend
def test_a_processor_must_keep_the_shape(reciter):
    generator = TextGenerator(
        reciter, logit_processors=[lambda logits: logits[:, :3]]
    )
    with pytest.raises(ValueError, match="logits or a mask of shape"):
        generator.generate("a", 9)


@pytest.mark.any_backend
@pytest.mark.parametrize("num_beams", [0, -1, 2.5, True])
def test_the_number_of_beams_must_be_positive(reciter, num_beams):
    with pytest.raises(ValueError, match="`num_beams` must be a positive int"):
        TextGenerator(reciter).beam_search("a", num_beams)


@pytest.mark.any_backend
@pytest.mark.parametrize("length_penalty", [None, "1", np.nan, 1e38])
def test_the_length_penalty_must_be_a_number(reciter, length_penalty):
    with pytest.raises(ValueError, match="`length_penalty` must be a finite"):
        TextGenerator(reciter).beam_search("a", 2, length_penalty)


@pytest.mark.any_backend
def test_the_end_token_is_the_alphabets(reciter):
    """The premise of the tests above."""
    assert END == 26
    assert TextGenerator(reciter).generate("z", 9) == "z"


@pytest.mark.any_backend
def test_finished_sequences_leave_a_large_batch(monkeypatch):
    """The rest is what each would be alone, in whatever order they end."""
    sizes = []
    take = decoding.CachedDecoder.take

    def record(self, arrays, indices, old_batch_size):
        sizes.append((old_batch_size, len(indices)))
        return take(self, arrays, indices, old_batch_size)

    monkeypatch.setattr(decoding.CachedDecoder, "take", record)
    generator = TextGenerator(BigramLM(reciting_table(), sequence_length=32))
    # They end after up to ten letters, but for a few.
    prompts = list("zyxwvutsrq" * 7)
    for place, letter in ((3, "b"), (40, "k"), (41, "k"), (69, "n")):
        prompts[place] = letter
    results = generator.generate(prompts, return_logprobs=True)
    for prompt, result in zip(prompts, results, strict=True):
        rest = LETTERS[LETTERS.index(prompt) :]
        assert result.text == rest
        assert len(result.logprobs) == len(rest) - 1
        assert result.finish_reason == "stop_token"
    assert sizes == [(128, 32)]


@pytest.mark.any_backend
def test_a_sequence_keeps_its_stop_token_and_has_its_own_length():
    table = reciting_table()
    generator = TextGenerator(BigramLM(table), random_sample)
    ending, cut = generator.make_sequences(["y", "a"], 16, seed=0)
    ending.max_length, cut.max_length = 9, 3
    for _ in generator.run([ending, cut], with_logprobs=True):
        pass
    assert generator.detokenize(cut.token_ids) == "bc"
    assert (cut.finish_reason, cut.stop_token) == ("max_length", None)
    assert generator.detokenize(ending.token_ids) == "z"
    logprob = 9 - math.log(26 + math.exp(9))
    token_id, *both = ending.stop_token
    assert token_id == END
    assert both == pytest.approx([logprob, logprob], abs=1e-4)
