"""Threads that share a model, or a generator, get what each would get alone."""

import concurrent.futures
import functools
import threading

import pytest

from kerasllm.generation import TextGenerator
from kerasllm.samplers import chain, greedy_search
from tests.alphabet import AlphabetPreprocessor, BigramLM, reciting_table
from tests.generation.test_text_generator import MAKERS

NUM_THREADS = 8
PROMPTS = ["abc", "x", "hello", "zzzz", "qwert", "mn", "asdf", "q"]


def make_model(name):
    model = MAKERS[name]()
    model.preprocessor = AlphabetPreprocessor(sequence_length=40)
    return model


def arguments_of(i):
    """Two lengths, so that one is compiled while the other is in use."""
    drawn = {"sampler": chain(0.9, top_k=10), "seed": i}
    return {
        "prompts": PROMPTS[i],
        "max_length": 8 if i % 4 < 2 else 12,
        "stop_token_ids": None,
        "return_logprobs": True,
        **({} if i % 2 else drawn),
    }


@functools.cache
def alone(name):
    """What a generator returns for each, and how often its model compiled."""
    generator = TextGenerator(make_model(name))
    results = [
        generator.generate(**arguments_of(i)) for i in range(NUM_THREADS)
    ]
    return results, generator.num_compilations["model"]


def together(calls):
    """Run functions in threads that begin at the same moment."""
    barrier = threading.Barrier(len(calls))

    def run(call):
        barrier.wait()
        return call()

    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


@pytest.mark.parametrize(
    ("name", "shared"),
    [
        ("mini-gpt", "model"),
        pytest.param("mini-gpt", "generator", marks=pytest.mark.any_backend),
        pytest.param(
            "gemma3", "model", marks=[pytest.mark.slow, pytest.mark.any_backend]
        ),
    ],
)
def test_eight_threads_get_what_each_would_get_alone(name, shared):
    expected, num_compilations = alone(name)
    fresh = make_model(name)  # nothing of it is compiled yet
    generators = [TextGenerator(fresh)] * NUM_THREADS
    if shared == "model":
        generators = [TextGenerator(fresh) for _ in range(NUM_THREADS)]

    def call(i):
        return lambda: generators[i].generate(**arguments_of(i))

    found = together([call(i) for i in range(NUM_THREADS)])
    for one, other in zip(expected, found, strict=True):
        assert other.token_ids == one.token_ids
        assert other.finish_reason == one.finish_reason
        assert other.logprobs == pytest.approx(one.logprobs, abs=1e-4)
    # What one thread has compiled the others use.
    assert generators[0].num_compilations["model"] == num_compilations


def test_no_attribute_of_a_live_layer_changes(monkeypatch):
    model = make_model("gpt2")

    def attributes():
        layers = [model, model.backbone, *model.backbone.layers]
        return [dict(vars(layer)) for layer in layers]

    seen = []
    method = type(model).call_with_cache

    def spy(self, *arguments, **keywords):
        seen.append(attributes())
        return method(self, *arguments, **keywords)

    monkeypatch.setattr(type(model), "call_with_cache", spy)
    generator = TextGenerator(model)
    with pytest.warns(UserWarning, match="its own `call_with_cache`"):
        assert generator.num_compilations["model"] == 0  # has its decoder now
    before = attributes()
    generator.generate("abc", 16)
    assert seen
    for during in seen:
        for one, other in zip(before, during, strict=True):
            assert one.keys() == other.keys()
            # Keras counts calls of a layer; nothing of it is replaced.
            assert all(
                one[key] is other[key]
                for key in one
                if callable(one[key]) or "embedding" in key
            )


class Gate:
    """A logit processor that waits at its third call for the test."""

    def __init__(self):
        self.calls = 0
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, logits):
        self.calls += 1
        if self.calls == 3:
            self.reached.set()
            assert self.opened.wait(60)
        return logits


@pytest.mark.any_backend
@pytest.mark.parametrize("by", ["generator", "event"])
def test_another_thread_can_stop_a_generator(by):
    gate, event = Gate(), threading.Event()
    model = BigramLM(reciting_table(), sequence_length=40)
    generator = TextGenerator(model, logit_processors=[gate])
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        future = pool.submit(
            generator.generate,
            ["a", "c"],
            return_logprobs=True,
            stop_event=event,
        )
        assert gate.reached.wait(60)
        event.set() if by == "event" else generator.stop()
        gate.opened.set()
        first, second = future.result()
    assert (first.text, second.text) == ("abcd", "cdef")
    assert first.finish_reason == second.finish_reason == "canceled"
    # Whoever comes later is not concerned.
    assert generator.generate("x", return_logprobs=True).text == "xyz"


@pytest.mark.any_backend
def test_another_thread_can_stop_a_stream():
    gate = Gate()
    model = BigramLM(reciting_table(), sequence_length=40)
    stream = TextGenerator(model, logit_processors=[gate]).stream("a")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        future = pool.submit(lambda: "".join(stream))
        assert gate.reached.wait(60)
        stream.cancel()
        gate.opened.set()
        assert future.result() == "bcd"
    assert stream.finish_reason == "canceled"
    assert len(stream.token_ids) == 3


@pytest.mark.any_backend
def test_a_canceled_stream_gives_what_it_held_back():
    """When it is canceled, `d` may still begin a stop string."""

    def cancel(logits, token_ids):
        if (token_ids[0] >= 0).sum() == 3:
            stream.cancel()
        return logits

    model = BigramLM(reciting_table(), sequence_length=40)
    generator = TextGenerator(model, logit_processors=[cancel])
    stream = generator.stream("a", stop_strings="dz")
    assert list(stream) == ["b", "c", "d"]
    assert stream.finish_reason == "canceled"


@pytest.mark.any_backend
def test_each_call_has_its_own_statistics():
    model = BigramLM(reciting_table(), sequence_length=40)
    generator = TextGenerator(model, greedy_search)
    generator.generate("a")  # compiled
    long, short = together(
        [
            lambda: generator.generate("a", return_logprobs=True),
            lambda: generator.generate("a", 2, return_logprobs=True),
        ]
    )
    assert long.tokens_per_second > 0
    assert short.tokens_per_second is None  # a single token is no speed
