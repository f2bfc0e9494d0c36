"""Drawing with filters from a large vocabulary, against the plain way."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasllm import backend
from kerasllm.generation import Sequence
from kerasllm.samplers import _drawing, draw_at, draw_filtered, filter_logits

SIZE = 5000  # more than `SMALLEST_VOCABULARY`
NUMBERS = [
    {"top_k": 50},
    {"top_k": 1024},  # candidates are not enough from here on
    {"top_p": 1e-6},
    {"top_p": 1e-46},  # zero in float32
    {"top_p": 0.9},
    {"top_p": 1.0},
    {"min_p": 0.1},
    {"temperature": 0.5, "top_k": 100, "top_p": 0.8, "min_p": 0.01},
    {"temperature": 0.0, "top_p": 0.9},
]
# They take the ways of those above, by comparing a number to another.
OF_ONE_WAY = [
    {"top_k": 1},
    {"top_k": 1023},
    {"top_k": SIZE},
    {"min_p": 0.0},
    {"min_p": 1.0},
    {"temperature": 1.7, "top_k": 900, "top_p": 0.95},
]


KINDS = ["sharp", "flat", "mixed", "tied", "equal", "banned"]


def logits_of(kind):
    """Return float32 `(4, SIZE)`."""
    logits = np.random.default_rng(0).normal(size=(4, SIZE)).astype("float32")
    if kind == "sharp":
        logits *= 5
    elif kind == "mixed":  # one sequence has flat logits
        logits[:3] *= 5
    elif kind == "tied":  # as in half precision
        logits = np.round(2 * logits) / 2
    elif kind == "equal":
        logits[:] = 1.0
    elif kind == "banned":
        logits = np.where(logits > 2, 3 * logits, -np.inf)
    return logits


def check(draw, logits, numbers, seed):
    """Compare drawn tokens, and their log-probabilities, to the plain way."""
    filtered = filter_logits(ops.convert_to_tensor(logits), **numbers)
    logprobs = ops.convert_to_numpy(ops.log_softmax(filtered))
    uniforms = np.random.default_rng(seed).uniform(size=4).astype("float32")
    expected = ops.convert_to_numpy(draw_at(filtered, uniforms))
    drawn, its_logprobs = map(ops.convert_to_numpy, draw(logits, uniforms))
    np.testing.assert_array_equal(drawn, expected)
    np.testing.assert_allclose(
        its_logprobs, logprobs[np.arange(4), drawn], atol=1e-4
    )


@pytest.mark.parametrize("size", [1, 2, 31, 32, 33, 100, 1000, SIZE])
def test_a_draw_finds_the_token_at_a_place_of_the_cumulative_sum(size):
    rng = np.random.default_rng(size)
    logits = rng.normal(scale=3, size=(300, size)).astype("float32")
    logits[:, 1:][rng.random((300, size - 1)) < 0.5] = -np.inf
    logits[100:200] -= 80  # a shift of all logits changes nothing
    logits[200:, : size // 2] = -np.inf  # whole groups are banned
    logits[:, size // 2] = 0
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True).astype(float))
    weights = weights / weights.sum(axis=-1, keepdims=True)
    ends = np.cumsum(weights, axis=-1)
    uniforms = rng.random(300, dtype="float32")
    uniforms[:3], uniforms[-3:] = 0, np.float32(1 - 2**-24)
    drawn = ops.convert_to_numpy(draw_at(logits, uniforms))
    rows = np.arange(300)
    assert (logits[rows, drawn] > -np.inf).all()
    # The place is in the segment of the token, up to rounding.
    assert (uniforms <= ends[rows, drawn] + 1e-5).all()
    assert (uniforms >= (ends - weights)[rows, drawn] - 1e-5).all()


def test_no_rounding_leads_to_a_token_that_was_removed():
    """What is left of a place within its group may be just below zero."""
    lengths = np.array([0, 3, 0, 0, 2, 0], "float32")
    places = np.array([-1e-7, 0, 2.99, 3, 4.99, 5, 5.01], "float32")
    lengths = np.tile(lengths, (len(places), 1))
    index, start = _drawing._segment_at(
        ops.convert_to_tensor(lengths), ops.convert_to_tensor(places[:, None])
    )
    index, start = map(ops.convert_to_numpy, (index, start))
    assert index[:, 0].tolist() == [1, 1, 1, 4, 4, 4, 4]
    assert start[:, 0].tolist() == [0, 0, 0, 3, 3, 3, 3]


@pytest.mark.any_backend
def test_a_sequence_draws_what_its_seed_gives_one_by_one():
    seed = [7, 0, 2]
    sequence = Sequence([1], (), 200, set(), None, seed)
    generator = np.random.default_rng(seed)
    for _ in range(100):
        expected = generator.random(dtype="float32")
        # A step that failed draws the same number again.
        assert sequence.draw() == sequence.draw() == expected
        sequence.add(1)


@pytest.mark.parametrize(
    "numbers",
    [
        *NUMBERS,
        *(pytest.param(n, marks=pytest.mark.any_backend) for n in OF_ONE_WAY),
    ],
    ids=str,
)
def test_candidates_give_the_tokens_that_the_whole_vocabulary_gives(numbers):
    for seed, kind in enumerate(KINDS):
        check(
            lambda *inputs: draw_filtered(*inputs, True, **numbers),
            logits_of(kind),
            numbers,
            seed,
        )


@pytest.mark.parametrize("kind", ["mixed", "tied", "banned"])
def test_one_compiled_function_serves_all_numbers(kind):
    compiled = backend.compiled(
        lambda logits, uniforms, numbers: draw_filtered(
            logits, uniforms, True, **numbers
        ),
        record=False,
    )
    for seed, (k, p, temperature) in enumerate(
        [(50, 0.9, 0.7), (2000, 0.99, 1.0), (1, 1.0, 3.0), (SIZE, 1.0, 1.0)]
    ):
        numbers = backend.scalars(
            {"top_k": k, "top_p": p, "temperature": temperature}
        )
        check(
            lambda *inputs, numbers=numbers: compiled(*inputs, numbers),
            logits_of(kind),
            {k: ops.convert_to_tensor(v) for k, v in numbers.items()},
            seed,
        )
    assert compiled.count == (0 if keras.backend.backend() == "torch" else 1)


@pytest.mark.parametrize(
    "numbers, is_searched",
    [
        ({"top_k": 50, "top_p": 0.9}, False),
        ({"top_k": SIZE}, True),
        ({"min_p": 0.0}, True),
    ],
)
@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="the others trace both ways"
)
def test_all_tokens_are_filtered_only_if_candidates_are_not_enough(
    numbers, is_searched, monkeypatch
):
    calls = []
    monkeypatch.setattr(
        _drawing,
        "filter_logits",
        lambda *arguments, **keywords: (
            calls.append(1) or filter_logits(*arguments, **keywords)
        ),
    )
    draw_filtered(
        ops.convert_to_tensor(logits_of("sharp")),
        np.full(4, 0.5, "float32"),
        **numbers,
    )
    assert bool(calls) == is_searched
