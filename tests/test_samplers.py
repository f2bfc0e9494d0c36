"""Samplers and filters, against Hugging Face's warpers and by hand."""

import dataclasses
import functools
import math
import pickle

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from keras import ops
from transformers import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from kerasllm import backend, samplers
from kerasllm.checks import UserError
from kerasllm.samplers import (
    apply_penalties,
    chain,
    greedy_search,
    min_p,
    min_p_filter,
    random_sample,
    top_k,
    top_k_filter,
    top_p,
    top_p_filter,
)

INF = math.inf
# Few shapes, because JAX compiles every operation for each of them.
MANY = 2000  # rows in one call, for draws from one distribution
SAMPLERS = {
    "greedy_search": greedy_search,
    "random_sample": random_sample,
    "top_k": functools.partial(top_k, k=3),
    "top_p": top_p,
    "min_p": min_p,
    "chain": chain(temperature=0.8, top_k=4, top_p=0.9, min_p=0.01),
}
each_sampler = pytest.mark.parametrize(
    "sampler", SAMPLERS.values(), ids=SAMPLERS.keys()
)


def random_logits(*shape, seed=0):
    """Return logits without ties, with a spread like that of a model."""
    rng = np.random.default_rng(seed)
    return (3 * rng.normal(size=shape)).astype("float32")


def hugging_face(logits, *warpers):
    """Return the distribution that Hugging Face's warpers give."""
    scores = torch.tensor(logits)
    for warper in warpers:
        scores = warper(None, scores)
    return torch.softmax(scores, dim=-1).numpy()


def softmax(logits):
    logits = ops.convert_to_numpy(logits).astype("float64")
    return scipy.special.softmax(logits, axis=-1)


def kept(logits):
    """Return the ids that a filter left in a row."""
    return np.flatnonzero(ops.convert_to_numpy(logits) > -INF).tolist()


def distribution_of(sampler, logits, monkeypatch):
    """Return a sampler's probability for each token of one row, exactly.

    The last thing that a sampler does is to call `keras.random.categorical`.
    In its place stands a dice that falls as it is told, so that each outcome
    can be seen with its probability.
    """
    distribution = np.zeros(len(logits))
    face, num_faces = 0, 1
    while face < num_faces:

        def loaded_dice(rows, num_samples, dtype, seed, face=face):
            nonlocal num_faces, probability
            probabilities = softmax(rows)[0]
            num_faces, probability = len(probabilities), probabilities[face]
            return ops.convert_to_tensor([[face]], dtype=dtype)

        probability = 0.0
        with monkeypatch.context() as patch:
            patch.setattr(keras.random, "categorical", loaded_dice)
            token_id = int(sampler(logits))
        distribution[token_id] += probability
        face += 1
    return distribution


# --- The same distribution as Hugging Face --------------------------------


@pytest.mark.parametrize("temperature", [0.1, 0.7, 1.0, 2.5])
def test_random_sample_draws_from_hugging_faces_distribution(
    temperature, monkeypatch
):
    logits = random_logits(10)
    expected = hugging_face(logits[None], TemperatureLogitsWarper(temperature))
    sampler = functools.partial(random_sample, temperature=temperature)
    actual = distribution_of(sampler, logits, monkeypatch)
    np.testing.assert_allclose(actual, expected[0], atol=1e-6)


@pytest.mark.parametrize("k", [1, 5, 9, 10])
@pytest.mark.parametrize("temperature", [0.7, 1.5])
def test_top_k_draws_from_hugging_faces_distribution(
    k, temperature, monkeypatch
):
    logits = random_logits(10, seed=k)
    expected = hugging_face(
        logits[None], TemperatureLogitsWarper(temperature), TopKLogitsWarper(k)
    )
    sampler = functools.partial(top_k, k=k, temperature=temperature)
    actual = distribution_of(sampler, logits, monkeypatch)
    np.testing.assert_allclose(actual, expected[0], atol=1e-6)


@pytest.mark.parametrize("p", [0.01, 0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("temperature", [0.7, 1.5])
def test_top_p_draws_from_hugging_faces_distribution(
    p, temperature, monkeypatch
):
    logits = random_logits(10, seed=7)
    expected = hugging_face(
        logits[None], TemperatureLogitsWarper(temperature), TopPLogitsWarper(p)
    )
    sampler = functools.partial(top_p, p=p, temperature=temperature)
    actual = distribution_of(sampler, logits, monkeypatch)
    np.testing.assert_allclose(actual, expected[0], atol=1e-6)


@pytest.mark.parametrize("p", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("temperature", [0.7, 1.5])
def test_min_p_draws_from_hugging_faces_distribution(
    p, temperature, monkeypatch
):
    logits = random_logits(10, seed=8)
    expected = hugging_face(
        logits[None], TemperatureLogitsWarper(temperature), MinPLogitsWarper(p)
    )
    sampler = functools.partial(min_p, p=p, temperature=temperature)
    actual = distribution_of(sampler, logits, monkeypatch)
    np.testing.assert_allclose(actual, expected[0], atol=1e-6)


@pytest.mark.parametrize("k", [None, 7])
def test_chain_applies_its_steps_in_hugging_faces_order(k, monkeypatch):
    logits = random_logits(10, seed=9)
    warpers = [TemperatureLogitsWarper(1.8)]
    warpers += [] if k is None else [TopKLogitsWarper(k)]
    warpers += [TopPLogitsWarper(0.8), MinPLogitsWarper(0.1)]
    sampler = chain(temperature=1.8, top_k=k, top_p=0.8, min_p=0.1)
    actual = distribution_of(sampler, logits, monkeypatch)
    expected = hugging_face(logits[None], *warpers)
    np.testing.assert_allclose(actual, expected[0], atol=1e-6)
    # On these logits another order gives another distribution.
    swapped = hugging_face(logits[None], *warpers[1:], warpers[0])
    assert np.abs(actual - swapped[0]).max() > 1e-2


def test_min_p_comes_after_top_p():
    logits = np.log(np.float32([0.4, 0.3, 0.2] + 7 * [0.1 / 7]))
    # 0.4 + 0.3 < 0.75, so top-p needs the third token, and min-p lets it be.
    # Had min-p come first, 0.4 + 0.3 of 0.9 would have been enough.
    sampler = chain(top_p=0.75, min_p=0.4)
    drawn = sampler(np.tile(logits, (MANY, 1)), seed=0)
    assert set(ops.convert_to_numpy(drawn)) == {0, 1, 2}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda x: top_k_filter(x, 50), TopKLogitsWarper(50)),
        (lambda x: top_p_filter(x, 0.9), TopPLogitsWarper(0.9)),
        (lambda x: min_p_filter(x, 0.02), MinPLogitsWarper(0.02)),
    ],
    ids=["top_k", "top_p", "min_p"],
)
def test_filters_agree_with_hugging_face_on_a_large_vocabulary(ours, theirs):
    logits = random_logits(4, 5000, seed=2)
    actual = softmax(ours(logits))
    np.testing.assert_allclose(
        actual, hugging_face(logits, theirs), rtol=0, atol=1e-6
    )


@each_sampler
def test_frequencies_are_those_of_the_distribution(sampler, monkeypatch):
    # A chi-square test that rejects one good sampler in 10,000. The seed is
    # fixed, so it either always passes or always fails.
    logits = random_logits(10, seed=3) / 2
    expected = distribution_of(sampler, logits, monkeypatch)
    if sampler is greedy_search:
        expected = np.eye(10)[logits.argmax()]
    batch = np.tile(logits, (MANY, 1))
    seed = keras.random.SeedGenerator(1234)
    counts = np.zeros(10)
    for _ in range(10):
        drawn = ops.convert_to_numpy(sampler(batch, seed=seed))
        counts += np.bincount(drawn, minlength=10)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    result = scipy.stats.chisquare(
        counts[possible], counts.sum() * expected[possible]
    )
    assert possible.sum() == 1 or result.pvalue > 1e-4


# --- Shapes, types, seeds --------------------------------------------------


@each_sampler
def test_a_row_gives_one_id_and_a_batch_one_id_a_row(sampler):
    logits = random_logits(3, 10)
    one, several = sampler(logits[0], seed=0), sampler(logits, seed=0)
    assert tuple(one.shape) == ()
    assert tuple(several.shape) == (3,)
    for token_ids in (one, several):
        assert keras.backend.standardize_dtype(token_ids.dtype) == "int32"


@each_sampler
def test_tensors_arrays_and_lists_are_all_logits(sampler):
    logits = random_logits(10)
    drawn = {
        int(sampler(given, seed=5))
        for given in (
            logits,
            logits.astype("float64"),
            logits.tolist(),
            ops.convert_to_tensor(logits),
        )
    }
    assert len(drawn) == 1


@each_sampler
def test_only_the_possible_token_is_ever_drawn(sampler):
    logits = np.full((MANY, 10), -INF, dtype="float32")
    logits[:, 6] = -3.0
    assert set(ops.convert_to_numpy(sampler(logits, seed=0))) == {6}


@each_sampler
def test_an_int_seed_repeats_the_draw_and_a_generator_goes_on(sampler):
    flat = np.zeros((MANY, 10), dtype="float32")

    def draw(seed):
        return ops.convert_to_numpy(sampler(flat, seed=seed)).tolist()

    assert draw(11) == draw(11)
    generator = keras.random.SeedGenerator(11)
    first, second = draw(generator), draw(generator)
    if sampler is not greedy_search:
        assert first != second
        assert draw(12) != draw(11)
    again = keras.random.SeedGenerator(11)
    assert [draw(again), draw(again)] == [first, second]


def test_without_a_seed_keras_decides():
    flat = np.zeros((MANY, 10), dtype="float32")
    keras.utils.set_random_seed(3)
    first = ops.convert_to_numpy(random_sample(flat)).tolist()
    assert first != ops.convert_to_numpy(random_sample(flat)).tolist()
    keras.utils.set_random_seed(3)
    assert first == ops.convert_to_numpy(random_sample(flat)).tolist()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_logits_are_computed_in_float32(dtype):
    # 100 - 0.01 is 100 in half precision, and token 0 would stay the first.
    equal = ops.cast(ops.convert_to_tensor([100.0, 100.0]), dtype)
    sampler = chain(temperature=0, presence_penalty=0.01)
    assert int(sampler(equal, token_ids=[0])) == 1
    # A running sum of 1/4096 in half precision ends long before 1/2.
    flat = ops.zeros((4096,), dtype=dtype)
    assert len(kept(top_p_filter(flat, 0.5))) == 2048


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_filters_keep_the_dtype(dtype):
    logits = ops.cast(ops.convert_to_tensor([2.0, 0.0, 1.0]), dtype)
    for filtered in (
        top_k_filter(logits, 2),
        top_p_filter(logits, 0.8),
        min_p_filter(logits, 0.3),
        apply_penalties(logits, [0, 0], frequency=0.5, presence=0.25),
    ):
        assert keras.backend.standardize_dtype(filtered.dtype) == dtype
        assert tuple(filtered.shape) == (3,)
    assert kept(top_k_filter(logits, 2)) == [0, 2]


# --- Filters, by hand -----------------------------------------------------


def test_top_k_keeps_exactly_k_of_equal_logits():
    tied = np.array([1.0, 2.0, 2.0, 2.0, 0.0, 2.0], dtype="float32")
    assert kept(top_k_filter(tied, 1)) == [1]
    assert kept(top_k_filter(tied, 3)) == [1, 2, 3]
    assert kept(top_k_filter(tied, 5)) == [0, 1, 2, 3, 5]
    # A threshold, as in Hugging Face, would have kept all four at k=1.
    scores = torch.tensor(tied[None])
    assert len(kept(TopKLogitsWarper(1)(None, scores)[0].numpy())) == 4


def test_top_k_draws_at_most_k_of_equal_logits():
    flat = np.zeros((MANY, 10), dtype="float32")
    # Each of the five is missed with probability 0.8**2000.
    assert len(set(ops.convert_to_numpy(top_k(flat, k=5, seed=0)))) == 5


def test_top_k_filter_works_on_every_row_of_any_shape():
    logits = random_logits(2, 3, 10)
    filtered = ops.convert_to_numpy(top_k_filter(logits, 4))
    expected = np.sort(logits, axis=-1)[..., -4:]
    np.testing.assert_array_equal(np.sort(filtered)[..., -4:], expected)
    assert (filtered > -INF).sum() == 2 * 3 * 4


def test_top_p_keeps_the_fewest_tokens_with_that_mass():
    # Probabilities 1/16, 1/2, 1/16, 1/4, 1/8: exact in binary.
    logits = np.log(np.array([1, 8, 1, 4, 2], dtype="float32") / 16)
    # 1 - 1e-9 is 1 in float32; the best token stays all the same.
    assert kept(top_p_filter(logits, 1e-9)) == [1]
    assert kept(top_p_filter(logits, 0.1)) == [1]
    assert kept(top_p_filter(logits, 0.49)) == [1]
    assert kept(top_p_filter(logits, 0.6)) == [1, 3]
    assert kept(top_p_filter(logits, 0.8)) == [1, 3, 4]
    assert kept(top_p_filter(logits, 0.9)) == [0, 1, 3, 4]
    assert kept(top_p_filter(logits, 1.0)) == [0, 1, 2, 3, 4]


def test_top_p_keeps_no_more_of_equal_logits_than_it_needs():
    flat = np.zeros(10, dtype="float32")
    assert kept(top_p_filter(flat, 0.35)) == [0, 1, 2, 3]
    scores = torch.tensor(flat[None])
    theirs = TopPLogitsWarper(0.35)(None, scores)[0].numpy()
    assert len(kept(theirs)) == 4


def test_min_p_compares_with_the_best_token():
    logits = np.log(np.array([1, 8, 1, 4, 2], dtype="float32") / 16)
    assert kept(min_p_filter(logits, 1.0)) == [1]
    assert kept(min_p_filter(logits, 0.4)) == [1, 3]
    assert kept(min_p_filter(logits, 0.2)) == [1, 3, 4]
    assert kept(min_p_filter(logits, 0.1)) == [0, 1, 2, 3, 4]
    assert kept(min_p_filter(logits, 0.0)) == [0, 1, 2, 3, 4]


def test_filters_leave_kept_logits_as_they_are():
    logits = random_logits(3, 10)
    for filtered in (
        top_k_filter(logits, 4),
        top_p_filter(logits, 0.8),
        min_p_filter(logits, 0.1),
    ):
        filtered = ops.convert_to_numpy(filtered)
        stays = filtered > -INF
        assert 0 < stays.sum() < logits.size
        np.testing.assert_array_equal(filtered[stays], logits[stays])


def test_minus_infinity_stays_and_is_never_counted():
    banned = np.array([-INF, 3.0, -INF, 2.0, -INF], dtype="float32")
    for filtered in (
        top_k_filter(banned, 4),
        top_p_filter(banned, 1.0),
        min_p_filter(banned, 0.0),
        apply_penalties(banned, [0, 0, 4], frequency=1.0, presence=-1.0),
    ):
        assert kept(filtered) == [1, 3]
    both = top_p_filter(top_k_filter(random_logits(10), 5), 0.999)
    assert set(kept(both)) <= set(kept(top_k_filter(random_logits(10), 5)))


EXTREMES = [
    {"temperature": 1e30},
    {"temperature": 1e-37},
    {"frequency_penalty": 1e30},
    {"frequency_penalty": -1e30},
    {"presence_penalty": 1e30, "temperature": 1e30},
    {"presence_penalty": -1e30, "temperature": 1e-30},
    {"top_p": 1e-300, "temperature": 1e30},
    {"min_p": 1e-300, "temperature": 1e30},
]


@pytest.mark.parametrize("numbers", EXTREMES, ids=str)
def test_a_banned_token_stays_banned_at_every_extreme(numbers):
    logits = random_logits(MANY, 10)
    logits[:, [0, 4, 9]] = -INF
    token_ids = np.tile([0, 1, 1, 4, 5], (MANY, 1))
    sampler = chain(**numbers)
    drawn = ops.convert_to_numpy(sampler(logits, token_ids, seed=0))
    assert not np.isin(drawn, [0, 4, 9]).any()
    filtered = samplers.filter_logits(logits, token_ids, **sampler.keywords)
    filtered = ops.convert_to_numpy(filtered)
    assert np.isneginf(filtered[:, [0, 4, 9]]).all()
    assert not np.isnan(filtered).any() and (filtered.max(axis=-1) > -INF).all()
    # As the generators call it, compiled once for all numbers.
    names = [name for name, n in sampler.keywords.items() if n is not None]
    compiled = backend.compiled(
        lambda logits, token_ids, numbers: samplers.filter_logits(
            logits, token_ids, **numbers
        ),
        record=False,
    )
    numbers = backend.scalars({n: sampler.keywords[n] for n in names})
    found = compiled(logits, token_ids, numbers)
    np.testing.assert_array_equal(
        np.isneginf(ops.convert_to_numpy(found))[:, [0, 4, 9]], True
    )
    assert not np.isnan(ops.convert_to_numpy(found)).any()


# --- Penalties ------------------------------------------------------------


def test_penalties_follow_openais_formula():
    rng = np.random.default_rng(0)
    logits = random_logits(3, 10)
    token_ids = rng.integers(0, 10, size=(3, 14))
    expected = logits.copy()
    for row in range(3):
        for token in range(10):
            count = (token_ids[row] == token).sum()
            expected[row, token] -= count * 0.7 + (count > 0) * 0.4
    actual = apply_penalties(logits, token_ids, frequency=0.7, presence=0.4)
    np.testing.assert_allclose(
        ops.convert_to_numpy(actual), expected, rtol=1e-6, atol=1e-6
    )
    one = apply_penalties(logits[1], token_ids[1], frequency=0.7, presence=0.4)
    np.testing.assert_allclose(
        ops.convert_to_numpy(one), expected[1], rtol=1e-6, atol=1e-6
    )


def test_padding_and_unknown_ids_are_not_penalized():
    logits = np.zeros((2, 4), dtype="float32")
    token_ids = [[2, 2, -1, 6], [0, 1, 4, -2]]
    actual = apply_penalties(logits, token_ids, frequency=1.0)
    expected = [[0, 0, -2, 0], [-1, -1, 0, 0]]
    np.testing.assert_array_equal(ops.convert_to_numpy(actual), expected)
    nothing = apply_penalties(logits[0], [], frequency=1.0, presence=1.0)
    np.testing.assert_array_equal(ops.convert_to_numpy(nothing), logits[0])


def test_chain_penalizes_before_it_divides_by_the_temperature(monkeypatch):
    logits = np.array([2.0, 1.0, 0.0], dtype="float32")
    sampler = chain(
        temperature=0.5, frequency_penalty=0.25, presence_penalty=0.5
    )
    sampler = functools.partial(sampler, token_ids=[0, 0])
    # Token 0 loses 2 * 0.25 + 0.5 = 1 and is then level with token 1.
    actual = distribution_of(sampler, logits, monkeypatch)
    np.testing.assert_allclose(actual, softmax([2.0, 2.0, 0.0]), atol=1e-6)


def test_penalties_count_at_temperature_zero():
    sampler = chain(temperature=0, presence_penalty=2.0)
    logits = np.array([2.0, 1.0, 0.0], dtype="float32")
    assert int(sampler(logits, token_ids=[2])) == 0
    assert int(sampler(logits, token_ids=[0])) == 1


# --- Temperature zero ------------------------------------------------------


@pytest.mark.parametrize("temperature", [0, 0.0, 1e-45, np.float32(0)])
@pytest.mark.parametrize(
    "sampler",
    [random_sample, top_k, top_p, min_p, chain],
    ids=lambda s: s.__name__,
)
def test_temperature_zero_is_greedy(sampler, temperature):
    logits = random_logits(MANY, 10)
    logits[:, 7] = logits[:, 3] = 20.0  # the first of equals is greedy's
    sampler = (
        chain(temperature=temperature, top_k=5, top_p=0.9, min_p=0.1)
        if sampler is chain
        else functools.partial(sampler, temperature=temperature)
    )
    drawn = ops.convert_to_numpy(sampler(logits, seed=0))
    assert set(drawn) == {3}
    as_tensor = ops.convert_to_tensor(temperature, dtype="float32")
    if isinstance(sampler, samplers.Chain):
        sampler = dataclasses.replace(sampler, temperature=as_tensor)
    else:
        sampler = functools.partial(sampler.func, temperature=as_tensor)
    assert set(ops.convert_to_numpy(sampler(logits, seed=0))) == {3}


@pytest.mark.parametrize("temperature", [1e-30, 1e-37])
def test_the_smallest_temperatures_make_no_nan(temperature):
    logits = 1000 * random_logits(MANY, 10)  # 1000 / 1e-37 is infinite
    drawn = random_sample(logits, temperature, seed=0)
    expected = logits.argmax(axis=-1)
    np.testing.assert_array_equal(ops.convert_to_numpy(drawn), expected)


def test_greedy_search_takes_the_first_of_equals():
    assert int(greedy_search([0.0, 5.0, 5.0, 1.0])) == 1
    rows = [[0.0, 5.0, 5.0], [-INF, -INF, -2.0]]
    assert ops.convert_to_numpy(greedy_search(rows)).tolist() == [1, 2]


# --- Inside a compiled loop -------------------------------------------------


def compiled(function):
    """Compile a function of tensors the way its backend does."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=True)
    return function


def test_samplers_compile_once_for_all_their_numbers():
    traces = []

    @compiled
    def step(logits, token_ids, k, p, small_p, temperature, penalty):
        traces.append(1)
        draws = [
            greedy_search(logits),
            random_sample(logits, temperature, seed=1),
            top_k(logits, k=3, temperature=temperature, seed=1),
            top_k(logits, k, temperature, seed=1),
            top_p(logits, p, temperature, seed=1),
            min_p(logits, small_p, temperature, seed=1),
            chain(
                temperature=temperature,
                top_k=k,
                top_p=p,
                min_p=small_p,
                frequency_penalty=penalty,
                presence_penalty=penalty,
            )(logits, token_ids=token_ids, seed=1),
        ]
        filtered = [
            top_k_filter(logits, k),
            top_p_filter(logits, p),
            min_p_filter(logits, small_p),
            apply_penalties(logits, token_ids, penalty, penalty),
        ]
        return draws, filtered

    logits = random_logits(3, 10)
    token_ids = np.array([[3, 3, -1], [1, 2, 3], [9, 9, 9]], dtype="int32")
    for k, p, small_p, temperature, penalty in (
        (2, 0.7, 0.2, 0.5, 0.3),
        (7, 0.9, 0.05, 0.0, 0.0),
        (10, 1.0, 0.0, 2.0, -1.0),
    ):
        draws, filtered = step(
            ops.convert_to_tensor(logits),
            ops.convert_to_tensor(token_ids),
            ops.convert_to_tensor(k, dtype="int32"),
            *[
                ops.convert_to_tensor(number, dtype="float32")
                for number in (p, small_p, temperature, penalty)
            ],
        )
        expected = [
            top_k_filter(logits, k),
            top_p_filter(logits, p),
            min_p_filter(logits, small_p),
            apply_penalties(logits, token_ids, penalty, penalty),
        ]
        for ours, eager in zip(filtered, expected, strict=True):
            np.testing.assert_allclose(
                ops.convert_to_numpy(ours), ops.convert_to_numpy(eager)
            )
        for token_ids_drawn, allowed in zip(
            draws[3:6], expected[:3], strict=True
        ):
            if temperature <= 1:  # sharper logits keep no more than these
                drawn = ops.convert_to_numpy(token_ids_drawn)
                rows = ops.convert_to_numpy(allowed)
                assert np.isfinite(rows[np.arange(3), drawn]).all()
        if temperature == 0:
            for drawn in draws:
                np.testing.assert_array_equal(
                    ops.convert_to_numpy(drawn), logits.argmax(axis=-1)
                )
    if keras.backend.backend() != "torch":
        assert len(traces) == 1


def test_a_tensor_k_keeps_the_same_tokens_as_an_int():
    tied = np.round(random_logits(3, 10) / 3)  # many equal logits
    for k in (1, 4, 7, 10):
        by_int = top_k_filter(tied, k)
        by_tensor = top_k_filter(tied, ops.convert_to_tensor(k, dtype="int32"))
        np.testing.assert_array_equal(
            ops.convert_to_numpy(by_int), ops.convert_to_numpy(by_tensor)
        )
        assert (ops.convert_to_numpy(by_int) > -INF).sum(-1).tolist() == [k] * 3


def test_a_tensor_p_keeps_the_same_tokens_as_a_float():
    logits = random_logits(6, 40)
    logits[2:4] = np.round(logits[2:4])  # many equal logits
    logits[4:] = np.where(logits[4:] > 0, logits[4:], -INF)
    for p in (1e-6, 0.3, 0.9, 0.999, 1.0):
        by_float = ops.convert_to_numpy(top_p_filter(logits, p))
        by_tensor = ops.convert_to_numpy(
            top_p_filter(logits, ops.convert_to_tensor(p, dtype="float32"))
        )
        np.testing.assert_array_equal(by_float, by_tensor)


def test_the_search_for_the_kth_logit_is_exact_at_any_magnitude():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 40)) * 10.0 ** rng.integers(-30, 30, (3, 40))
    logits = logits.astype("float32")
    logits[0, :5] = [-0.0, 0.0, -INF, 1e-45, -1e-45]
    for k in (1, 7, 39):
        kept = top_k_filter(logits, ops.convert_to_tensor(k, dtype="int32"))
        kept = ops.convert_to_numpy(kept)
        expected = -np.sort(-logits, axis=-1)[:, k - 1 : k]
        assert ((kept > -INF).sum(-1) == k).all()
        assert (
            np.min(np.where(kept > -INF, kept, INF), -1) == expected[:, 0]
        ).all()


def test_a_drawn_place_on_the_line_picks_its_token():
    probabilities = np.array([[0.2, 0.0, 0.5, 0.3, 0.0]], "float32")
    with np.errstate(divide="ignore"):
        logits = np.log(probabilities)
    for place, token in (
        (0.0, 0), (0.19, 0), (0.21, 2), (0.69, 2), (0.71, 3),
        (np.float32(1 - 2**-24), 3),
    ):  # fmt: skip
        drawn = samplers.draw_at(logits, np.array([place], "float32"))
        assert ops.convert_to_numpy(drawn).tolist() == [token]


def test_every_sampler_of_the_room_is_a_chain():
    as_chain = samplers.as_chain
    assert as_chain(greedy_search) == chain(temperature=0)
    assert as_chain(functools.partial(top_k, k=3)) == chain(top_k=3)
    assert as_chain(top_k) == chain(top_k=5)
    assert as_chain(functools.partial(top_p, seed=1)) == chain(top_p=0.9)
    assert as_chain(functools.partial(min_p, p=0.2, temperature=2.0)) == (
        chain(2.0, min_p=0.2)
    )
    assert as_chain(chain(top_k=9)) == chain(top_k=9)
    assert as_chain(functools.partial(chain(top_k=9), seed=1)) == (
        chain(top_k=9)
    )
    assert as_chain(functools.partial(chain(top_k=9), temperature=2)) == (
        chain(2.0, top_k=9)
    )
    assert as_chain(functools.partial(chain(), unknown=1)) is None
    assert as_chain(lambda logits: 0) is None
    for sampler in (random_sample, functools.partial(top_k, k=3)):
        logits = random_logits(1, 8)
        a = samplers.filter_logits(logits, **as_chain(sampler).keywords)
        drawn = {
            int(sampler(logits[0], seed=keras.random.SeedGenerator(i)))
            for i in range(200)
        }
        kept = np.flatnonzero(ops.convert_to_numpy(a)[0] > -INF)
        assert drawn <= set(kept.tolist())


# --- Samplers as values -----------------------------------------------------


@pytest.mark.any_backend
def test_a_chain_is_a_value():
    sampler = chain(temperature=0.8, top_p=0.9)
    assert sampler == chain(top_p=np.float64(0.9), temperature=0.8)
    assert sampler != chain(temperature=0.8, top_p=0.91)
    assert sampler != chain(temperature=0.8)
    assert len({sampler, chain(0.8, top_p=0.9), chain(top_k=3)}) == 2
    assert chain(top_k=np.int64(3)) == chain(top_k=3)
    assert chain(temperature=1) == chain() == chain(1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        sampler.temperature = 1.0


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "sampler",
    [chain(), chain(0.0, 3, 0.9, 0.1, 0.5, -0.5), chain(top_k=np.int64(7))],
)
def test_a_chain_survives_being_printed_and_saved(sampler):
    assert eval(repr(sampler), {"chain": chain}) == sampler
    assert pickle.loads(pickle.dumps(sampler)) == sampler
    saved = keras.saving.serialize_keras_object(sampler)
    assert keras.saving.deserialize_keras_object(saved) == sampler
    assert dataclasses.replace(sampler) == sampler


def test_other_numbers_may_be_bound_to_a_chain():
    sampler = functools.partial(chain(top_k=5), temperature=0)
    logits = random_logits(MANY, 10)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(sampler(logits, seed=0)), logits.argmax(axis=-1)
    )
    with pytest.raises(ValueError, match="`temperature` must be a finite"):
        functools.partial(chain(), temperature=-1)(logits)


@pytest.mark.any_backend
def test_a_repr_says_what_was_asked_for_and_no_more():
    assert repr(chain(temperature=0.8, top_p=0.9)) == (
        "chain(temperature=0.8, top_p=0.9)"
    )
    assert repr(chain()) == "chain()"


def test_a_sampler_for_keras_hub_survives_being_saved():
    wrapped = samplers.to_keras_hub(functools.partial(top_k, k=3), seed=4)
    config = keras.saving.serialize_keras_object(wrapped)
    again = keras.saving.deserialize_keras_object(config)
    assert again.sampler == chain(top_k=3)
    assert again.seed == 4
    foreign = samplers.to_keras_hub(lambda logits: 0)
    with pytest.raises(ValueError, match="must be one of kerasllm"):
        foreign.get_config()


# --- Arguments that make no sense -----------------------------------------


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "temperature", [-0.1, 1e38, 10**400, math.nan, INF, "1", None, True]
)
def test_temperature_must_be_finite_and_not_negative(temperature):
    rule = "`temperature` must be a finite number that is not negative"
    for sampler in (random_sample, top_k, top_p, min_p):
        with pytest.raises(ValueError, match=rule):
            sampler(random_logits(10), temperature=temperature)
    with pytest.raises(ValueError, match=rule):
        chain(temperature=temperature)


@pytest.mark.any_backend
@pytest.mark.parametrize("k", [0, -1, 11, 2.0, True, None, "5"])
def test_k_must_be_within_the_vocabulary(k):
    rule = (
        r"`k` must be an int in \[1, vocabulary_size=10\]. Received: k="
        f"{k!r}. Use `greedy_search`"
    )
    with pytest.raises(ValueError, match=rule):
        top_k(random_logits(10), k=k)
    with pytest.raises(ValueError, match=rule):
        top_k_filter(random_logits(10), k)


@pytest.mark.any_backend
def test_chain_refuses_its_k_as_early_as_it_can():
    with pytest.raises(ValueError, match=r"`top_k` must be an int in \[1, v"):
        chain(top_k=0)
    with pytest.raises(ValueError, match=r"\[1, vocabulary_size=10\]"):
        chain(top_k=11)(random_logits(10))
    with pytest.raises(ValueError, match=r"\[1, vocabulary_size=10\]"):
        chain(top_k=11, temperature=0)(random_logits(10))


@pytest.mark.any_backend
@pytest.mark.parametrize("p", [0, -0.1, 1.1, math.nan, "0.9", True])
def test_p_of_top_p_must_be_a_probability(p):
    for function in (top_p, top_p_filter):
        with pytest.raises(ValueError, match=r"`p` must be a probability in"):
            function(random_logits(10), p)
    with pytest.raises(ValueError, match=r"`top_p` must be a probability in"):
        chain(top_p=p)


@pytest.mark.any_backend
@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan, "0.1", False])
def test_p_of_min_p_must_be_a_ratio(p):
    for function in (min_p, min_p_filter):
        with pytest.raises(ValueError, match=r"`p` must be a ratio of prob"):
            function(random_logits(10), p)
    with pytest.raises(ValueError, match=r"`min_p` must be a ratio of prob"):
        chain(min_p=p)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "penalty", [math.nan, INF, 1e39, -(10**400), "1", None]
)
def test_penalties_must_be_finite(penalty):
    with pytest.raises(ValueError, match="`frequency_penalty` must be a fin"):
        chain(frequency_penalty=penalty)
    with pytest.raises(ValueError, match="`presence_penalty` must be a fin"):
        chain(presence_penalty=penalty)
    with pytest.raises(ValueError, match="`frequency` must be a finite number"):
        apply_penalties(random_logits(10), [1], frequency=penalty)
    with pytest.raises(ValueError, match="`presence` must be a finite number"):
        apply_penalties(random_logits(10), [1], presence=penalty)


@pytest.mark.any_backend
def test_penalties_need_tokens_that_fit_the_logits():
    with pytest.raises(ValueError, match="Penalties need the tokens so far"):
        chain(presence_penalty=1.0)(random_logits(10))
    for logits, token_ids in (
        (random_logits(10), [[1]]),
        (random_logits(2, 10), [1, 2]),
        (random_logits(2, 10), [[1], [2], [3]]),
        (random_logits(1, 2, 10), [[[1], [2]]]),
    ):
        with pytest.raises(ValueError, match=r"`token_ids` must be \(length,"):
            apply_penalties(logits, token_ids, presence=1.0)


@pytest.mark.any_backend
@each_sampler
def test_logits_must_be_a_row_or_a_batch_of_rows(sampler):
    for logits in (random_logits(2, 3, 10), np.float32(1.0)):
        with pytest.raises(ValueError, match="A sampler takes logits"):
            sampler(logits)


@pytest.mark.any_backend
def test_check_sampler_sees_k_without_logits():
    for sampler in (functools.partial(top_k, k=11), chain(top_k=11)):
        with pytest.raises(ValueError, match=r"vocabulary_size=10\]"):
            samplers.check_sampler(sampler, vocabulary_size=10)
        samplers.check_sampler(sampler, vocabulary_size=11)
    for sampler in (top_p, chain(top_p=0.5), functools.partial(min_p, p=0.1)):
        samplers.check_sampler(sampler, vocabulary_size=1)


@pytest.mark.any_backend
@pytest.mark.parametrize("seed", [-1, 2**31, 2**70, 1.5, "1", True])
def test_a_seed_is_an_int_within_the_range_on_any_backend(seed):
    with pytest.raises(
        ValueError, match=r"`seed` must be an int in \[0, 21474"
    ):
        random_sample(random_logits(3), seed=seed)


def test_numpys_ints_are_seeds():
    logits = random_logits(50)
    for seed in (0, 2**31 - 1):
        drawn = [random_sample(logits, seed=s) for s in (seed, np.int64(seed))]
        assert int(drawn[0]) == int(drawn[1])


@each_sampler
@pytest.mark.parametrize("bad", [math.nan, -INF])
@pytest.mark.parametrize("shape", [(5,), (2, 5)])
def test_logits_without_a_number_are_refused(sampler, bad, shape):
    """A token that nobody drew would be one that a mask has removed."""
    logits = np.full(shape, bad, "float32")
    with pytest.raises(UserError, match="Logits must be numbers.*Received: "):
        sampler(logits)
    if len(shape) == 2:
        logits[0] = 0.0  # the other sequence still has none
        with pytest.raises(UserError, match="Logits must be numbers"):
            sampler(ops.convert_to_tensor(logits))
    logits = np.zeros(shape, "float32")
    logits[..., 1] = -INF
    assert (ops.convert_to_numpy(sampler(logits)) != 1).all()


def test_a_compiled_sampler_is_not_checked():
    """The values are not known, and each call would wait for them."""
    compiled = backend.compiled(lambda logits: greedy_search(logits))
    logits = np.array([[1.0, 3.0, 2.0]], "float32")
    assert ops.convert_to_numpy(compiled(logits)).tolist() == [1]
