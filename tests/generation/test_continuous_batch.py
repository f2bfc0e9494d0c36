"""Sequences that join and leave a batch are what they would be alone."""

import functools
import threading

import numpy as np
import pytest
from keras import ops

from kerasllm.generation import ContinuousBatch, TextGenerator, TokenizedPrompt
from kerasllm.samplers import chain, greedy_search, random_sample, top_k
from tests.alphabet import (
    LETTERS,
    VOCABULARY_SIZE,
    AlphabetPreprocessor,
    BigramLM,
    babbling_table,
    reciting_table,
)
from tests.generation.test_text_generator import causal_lm, make_mini_gpt

PROMPTS = ["abc", "x", "hello", "zzzzzzzzz", "qwertyuiopasdfgh", "mn", "q"]
SAMPLERS = [
    greedy_search,
    random_sample,
    functools.partial(top_k, k=5),
    chain(0.9, top_k=10, top_p=0.9, frequency_penalty=0.3),
]


def serve(batch, requests):
    """Admit requests as soon as there is room.

    Returns their sequences, and the text that each has given piece by piece.
    """
    waiting, sequences, texts = list(requests), [], {}
    while waiting or batch.sequences:
        while waiting and batch.num_free:
            prompt, keywords = waiting.pop(0)
            sequences.append(batch.admit(prompt, **keywords))
            texts[sequences[-1]] = sequences[-1].take_text()
        for sequence in batch.step():
            texts[sequence] += sequence.take_text()
    return sequences, [texts[sequence] for sequence in sequences]


# All of them take positions.
@pytest.mark.parametrize(
    "name",
    [
        "mini-gpt",
        *(
            pytest.param(n, marks=[pytest.mark.slow, pytest.mark.any_backend])
            for n in ("gpt2", "gemma3")
        ),
    ],
)
def test_each_sequence_is_what_it_is_alone(name):
    generator = TextGenerator(causal_lm(name))
    requests = [
        (prompt, {"max_length": 18 + i, "seed": i, "sampler": SAMPLERS[i % 4]})
        if SAMPLERS[i % 4] is not greedy_search
        else (prompt, {"max_length": 18 + i})
        for i, prompt in enumerate(PROMPTS)
    ]
    batch = ContinuousBatch(generator, 3, max_length=24, with_logprobs=True)
    together, texts = serve(batch, requests)
    for (prompt, keywords), sequence, text in zip(
        requests, together, texts, strict=True
    ):
        alone = generator.generate(
            prompt, strip_prompt=True, return_logprobs=True, **keywords
        )
        assert text == alone.text
        assert tuple(sequence.token_ids) == alone.token_ids
        assert sequence.finish_reason == alone.finish_reason
        np.testing.assert_allclose(sequence.logprobs, alone.logprobs, atol=1e-4)
        np.testing.assert_allclose(
            sequence.sampler_logprobs, alone.sampler_logprobs, atol=1e-4
        )


@pytest.fixture(scope="module")
def reciter():
    return TextGenerator(BigramLM(reciting_table(), sequence_length=40))


@pytest.mark.any_backend
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


@pytest.mark.any_backend
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


@pytest.mark.any_backend
def test_a_sequence_may_end_with_its_first_token(reciter):
    batch = ContinuousBatch(reciter, max_sequences=1)
    assert batch.admit("z").finish_reason == "stop_token"
    assert batch.admit("ab", max_length=3).finish_reason == "max_length"
    assert batch.num_free == 1


def test_one_compilation_serves_all_who_come():
    causal = causal_lm("mini-gpt")
    generator = TextGenerator(causal)
    batch = ContinuousBatch(generator, 3, max_length=40)
    serve(batch, [(prompt, {"max_length": 40}) for prompt in PROMPTS])
    compiled = generator.num_compilations
    again = ContinuousBatch(generator, 3, max_length=40)
    serve(again, [(prompt, {"max_length": 36}) for prompt in PROMPTS[::-1]])
    assert generator.num_compilations == compiled


def shifted_table(shift):
    """Logits that skip some letters each time."""
    return np.roll(np.eye(VOCABULARY_SIZE), shift, axis=1) * 9.0


def test_a_batch_sees_weights_that_were_assigned():
    model = BigramLM(shifted_table(1), sequence_length=40)
    batch = ContinuousBatch(TextGenerator(model), 2)
    first = batch.admit("a", max_length=4)
    while batch.step():
        pass
    model.table.assign(shifted_table(2))
    second = batch.admit("a", max_length=4)
    while batch.step():
        pass
    assert (first.take_text(), second.take_text()) == ("bcd", "ceg")


def test_a_batch_has_one_set_of_variables_at_a_time():
    generator = TextGenerator(causal_lm("mini-gpt"))
    model = make_mini_gpt()
    model.preprocessor = generator.causal_lm.preprocessor
    batch = ContinuousBatch(TextGenerator(model), 2, max_length=40)
    running = batch.admit("abc", stop_token_ids=None)
    model.backbone.enable_lora(2)
    with pytest.raises(ValueError, match="keep its variables while sequences"):
        batch.admit("x")
    batch.finish(running)
    alone = TextGenerator(model).generate("x", 40, return_logprobs=True)
    again = batch.admit("x")
    while batch.step():
        pass
    assert tuple(again.token_ids) == alone.token_ids


class Once:
    """Raises when it is called for the second time, and never again."""

    def __init__(self):
        self.calls = 0

    def __call__(self, logits):
        self.calls += 1
        if self.calls == 2:
            raise RuntimeError("once")
        return logits


@pytest.mark.any_backend
def test_a_step_whose_processor_failed_can_be_repeated():
    model = BigramLM(babbling_table(), sequence_length=40)
    keywords = {"seed": 1, "sampler": random_sample, "max_length": 12}
    alone = TextGenerator(model).generate("ab", **keywords)
    failing = TextGenerator(model, logit_processors=[Once()])
    batch = ContinuousBatch(failing, 2)
    sequence = batch.admit("ab", **keywords)
    with pytest.raises(RuntimeError, match="once"):
        batch.step()
    while batch.step():
        pass
    assert "ab" + sequence.take_text() == alone


@pytest.mark.any_backend
def test_an_error_of_one_sequence_is_its_own(reciter):
    batch = ContinuousBatch(reciter, 3)
    calls = []

    def failing(logits):
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("no more")
        return 3

    short = batch.admit("a", max_length=3)
    bad = batch.admit("b", sampler=failing)
    good = batch.admit("c", max_length=6)
    assert batch.step() == [short, bad, good]
    assert (short.finish_reason, bad.finish_reason) == ("max_length", "error")
    assert "no more" in str(bad.error)
    assert batch.sequences == [good]
    while batch.step():
        pass
    assert (short.take_text(), good.take_text()) == ("bc", "defgh")


def test_a_diverged_sequence_ends_alone():
    table = reciting_table()
    table[3] = np.nan  # after d
    batch = ContinuousBatch(
        TextGenerator(BigramLM(table, sequence_length=40)), 2
    )
    bad, good = batch.admit("b"), batch.admit("x")
    while batch.step():
        pass
    assert bad.finish_reason == "error"
    assert "Logits must be numbers" in str(bad.error)
    assert (bad.take_text(), good.take_text()) == ("cd", "yz")


@pytest.mark.any_backend
def test_processors_see_no_empty_rows():
    def newest_may_not_be_z(logits, token_ids):
        for tokens in ops.convert_to_numpy(token_ids):
            assert tokens[tokens >= 0][-1] >= 0
        return logits

    model = BigramLM(reciting_table(), sequence_length=40)
    generator = TextGenerator(model, logit_processors=[newest_may_not_be_z])
    batch = ContinuousBatch(generator, 3)
    sequence = batch.admit("w")
    while batch.step():
        pass
    assert sequence.take_text() == "xyz"


@pytest.mark.any_backend
def test_text_may_be_taken_by_another_thread(reciter):
    batch = ContinuousBatch(reciter, 1)
    sequence = batch.admit("a")
    taken = []

    def reader():
        while sequence.finish_reason is None:
            taken.append(sequence.take_text())
        taken.append(sequence.take_text())

    thread = threading.Thread(target=reader)
    thread.start()
    while batch.step():
        pass
    thread.join(60)
    assert "".join(taken) == LETTERS[1:]


@pytest.mark.any_backend
def test_logprobs_that_were_not_recorded_are_none(reciter):
    batch = ContinuousBatch(reciter, 1)
    sequence = batch.admit("x")
    while batch.step():
        pass
    result = batch.result(sequence)
    assert (result.text, result.logprobs) == ("xyz", None)


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
