"""Sequences that join and leave a batch are what they would be alone."""

import functools

import numpy as np
import pytest

from kerasllm.generation import ContinuousBatch, TextGenerator, TokenizedPrompt
from kerasllm.samplers import chain, greedy_search, random_sample, top_k
from tests.alphabet import (
    LETTERS,
    AlphabetPreprocessor,
    BigramLM,
    reciting_table,
)
from tests.generation.test_text_generator import causal_lm

PROMPTS = ["abc", "x", "hello", "zzzzzzzzz", "qwertyuiopasdfgh", "mn", "q"]
SAMPLERS = [
    greedy_search,
    random_sample,
    functools.partial(top_k, k=5),
    chain(0.9, top_k=10, top_p=0.9, frequency_penalty=0.3),
]


def serve(batch, requests):
    """Admit requests as soon as there is room, and return their sequences."""
    waiting, sequences = list(requests), []
    texts = {}
    while waiting or batch.sequences:
        while waiting and batch.num_free:
            prompt, keywords = waiting.pop(0)
            sequences.append(batch.admit(prompt, **keywords))
        for sequence in batch.step():
            texts[id(sequence)] = (
                texts.get(id(sequence), "") + sequence.take_text()
            )
    return sequences


# Mini-GPT takes positions; the others are asked one after the other.
@pytest.mark.parametrize(
    "name",
    ["mini-gpt"]
    + [pytest.param(n, marks=pytest.mark.slow) for n in ("gpt2", "gemma3")],
)
def test_each_sequence_is_what_it_is_alone(name):
    generator = TextGenerator(causal_lm(name))
    requests = [
        (prompt, {"max_length": 34 + i, "seed": i, "sampler": SAMPLERS[i % 4]})
        if SAMPLERS[i % 4] is not greedy_search
        else (prompt, {"max_length": 34 + i})
        for i, prompt in enumerate(PROMPTS)
    ]
    batch = ContinuousBatch(generator, 3, max_length=40, with_logprobs=True)
    together = serve(batch, requests)
    assert [s.finish_reason is not None for s in together] == [True] * 7
    for (prompt, keywords), sequence in zip(requests, together, strict=True):
        alone = generator.generate(prompt, return_logprobs=True, **keywords)
        assert tuple(sequence.token_ids) == alone.token_ids
        assert sequence.finish_reason == alone.finish_reason
        np.testing.assert_allclose(sequence.logprobs, alone.logprobs, atol=1e-4)
        np.testing.assert_allclose(
            sequence.sampler_logprobs, alone.sampler_logprobs, atol=1e-4
        )


@pytest.fixture(scope="module")
def reciter():
    return TextGenerator(BigramLM(reciting_table(), sequence_length=40))


def test_text_comes_step_by_step(reciter):
    batch = ContinuousBatch(reciter, max_sequences=2)
    first = batch.admit("a")
    assert first.take_text() == "b"
    assert batch.step() == [first]
    second = batch.admit("w")
    assert batch.num_free == 0
    assert batch.step() == [first, second]
    assert (first.take_text(), second.take_text()) == ("cd", "xy")
    assert batch.step() == [first, second]
    assert second.finish_reason is None
    assert batch.step() == [first, second]  # the end after z
    assert second.finish_reason == "stop_token"
    assert batch.sequences == [first]
    assert (first.take_text(), second.take_text()) == ("ef", "z")


def test_a_sequence_can_be_ended_and_its_place_is_free(reciter):
    batch = ContinuousBatch(reciter, max_sequences=1)
    first = batch.admit("a")
    with pytest.raises(ValueError, match="at most 1 sequences"):
        batch.admit("b")
    batch.finish(first)
    assert first.finish_reason == "canceled"
    assert batch.step() == []
    second = batch.admit("c", stop_strings=["gh"])
    while batch.step():
        pass
    assert second.take_text() == LETTERS[3:6]
    assert second.finish_reason == "stop_string"
    batch.finish(second)
    assert second.finish_reason == "stop_string"


def test_a_sequence_may_end_with_its_first_token(reciter):
    batch = ContinuousBatch(reciter, max_sequences=1)
    assert batch.admit("z").finish_reason == "stop_token"
    assert batch.admit("ab", max_length=3).finish_reason == "max_length"
    assert batch.num_free == 1


def test_one_compilation_serves_all_who_come(reciter):
    causal = causal_lm("mini-gpt")
    generator = TextGenerator(causal)
    batch = ContinuousBatch(generator, 3, max_length=40)
    serve(batch, [(prompt, {"max_length": 40}) for prompt in PROMPTS])
    compiled = generator.num_compilations
    again = ContinuousBatch(generator, 3, max_length=40)
    serve(again, [(prompt, {"max_length": 36}) for prompt in PROMPTS[::-1]])
    assert generator.num_compilations == compiled


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": ""}, "at least one token"),
        ({"prompt": TokenizedPrompt((0, 27))}, "tokens from 0 to 27"),
        ({"prompt": "a", "max_length": 31}, r"in \[2, 30\]"),
        ({"prompt": "a", "sampler": "greedy"}, "must be a callable"),
        ({"prompt": "a", "stop_strings": [""]}, "not empty"),
    ],
)
def test_what_does_not_fit_is_refused_and_takes_no_place(
    reciter, arguments, message
):
    batch = ContinuousBatch(reciter, 1, max_length=30)
    with pytest.raises(ValueError, match=message):
        batch.admit(**arguments)
    assert batch.num_free == 1


@pytest.mark.any_backend
@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "2"])
def test_a_batch_holds_at_least_one_sequence(reciter, bad):
    with pytest.raises(ValueError, match="`max_sequences` must be a positive"):
        ContinuousBatch(reciter, bad)


@pytest.mark.any_backend
def test_the_default_length_is_that_of_the_preprocessor(reciter):
    assert ContinuousBatch(reciter, 1).max_length == 40
    assert AlphabetPreprocessor().sequence_length == 16
