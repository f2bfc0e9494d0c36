"""Generation, mostly with an alphabet for a vocabulary."""

import functools
import inspect

import keras
import numpy as np
import pytest
from keras import ops

from kerasllm.generation import compiled_generate, generate
from kerasllm.layers import PositionalEmbedding
from kerasllm.models import mini_gpt
from kerasllm.samplers import (
    chain,
    greedy_search,
    min_p,
    random_sample,
    top_k,
    top_p,
)
from kerasllm.tokenizers import END_OF_TEXT
from tests.alphabet import (
    LETTERS,
    VOCABULARY_SIZE,
    Alphabet,
    babbling_table,
    reciting_table,
)

both = pytest.mark.parametrize("generate", [generate, compiled_generate])


def bigram_model(table):
    """Return a model whose logits are the row of the token before."""
    token_ids = keras.Input((None,), dtype="int32")
    table = np.array(table, dtype="float32")
    embedding = keras.layers.Embedding(*table.shape)
    model = keras.Model(token_ids, embedding(token_ids))
    embedding.set_weights([table])
    return model


@pytest.fixture(scope="module")
def reciter():
    """A model that recites the alphabet: a, b, c, to z, and the end."""
    return bigram_model(reciting_table())


@pytest.fixture(scope="module")
def babbler():
    """A model to which all tokens but the end are equally likely."""
    return bigram_model(babbling_table())


@pytest.fixture(scope="module")
def listener():
    """A small model that hears all the tokens before, not only the last."""
    keras.utils.set_random_seed(0)
    token_ids = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(VOCABULARY_SIZE, 16)(token_ids)
    x = ops.cumsum(x, axis=1)
    return keras.Model(token_ids, keras.layers.Dense(VOCABULARY_SIZE)(x))


@pytest.fixture(scope="module")
def short_memory():
    """A model with a table of 12 positions."""
    token_ids = keras.Input((None,), dtype="int32")
    embedding = PositionalEmbedding(12, VOCABULARY_SIZE, 4)
    logits = embedding(embedding(token_ids), reverse=True)
    return keras.Model(token_ids, logits)


# --- What the loop does ----------------------------------------------------


@both
def test_a_prompt_is_continued_to_max_length(generate, reciter):
    assert generate(reciter, Alphabet(), "abc", max_length=8) == "abcdefgh"
    assert generate(reciter, Alphabet(), "k", max_length=2) == "kl"


@pytest.mark.any_backend
def test_the_default_is_64_tokens(babbler):
    assert len(compiled_generate(babbler, Alphabet(), "abc")) == 64


@pytest.mark.any_backend
@both
def test_the_end_token_ends_the_text_and_is_left_out(generate, reciter):
    assert generate(reciter, Alphabet(), "xy", max_length=12) == "xyz"


@pytest.mark.any_backend
@both
def test_the_prompt_can_be_stripped(generate, reciter):
    def continuation(prompt):
        return generate(
            reciter, Alphabet(), prompt, max_length=8, strip_prompt=True
        )

    assert continuation("abc") == "defgh"
    assert continuation("xyz") == ""


@pytest.mark.any_backend
@both
def test_stop_tokens_can_be_chosen(generate, reciter):
    def recite(**keywords):
        return generate(reciter, Alphabet(), "a", max_length=8, **keywords)

    assert recite(stop_token_ids=LETTERS.index("f")) == "abcde"
    assert recite(stop_token_ids=[np.int32(3), 25]) == "abc"
    assert recite(stop_token_ids=[]) == "abcdefgh"
    # A stop token in the prompt is text like any other.
    assert recite(stop_token_ids=LETTERS.index("a")) == "abcdefgh"


@pytest.mark.any_backend
@both
def test_no_stop_token_means_no_stop(generate, reciter):
    def recite(tokenizer, **keywords):
        return generate(reciter, tokenizer, "y", max_length=5, **keywords)

    # After the end token all tokens are equally likely: the first is "a".
    assert recite(Alphabet(), stop_token_ids=None) == "yz.ab"
    assert recite(Alphabet(end_token_id=None)) == "yz.ab"


def plain_greedy_loop(model, prompt, max_length):
    """All logits of the text so far, the best of the last row, again."""
    token_ids = Alphabet()(prompt).tolist()
    while len(token_ids) < max_length:
        padded = np.zeros((1, max_length), dtype="int32")
        padded[0, : len(token_ids)] = token_ids
        logits = ops.convert_to_numpy(model(padded))
        token_ids.append(int(np.argmax(logits[0, len(token_ids) - 1])))
    return Alphabet().detokenize(token_ids)


# JAX compiles each operation of each length that `generate` reads.
@pytest.mark.parametrize(
    ("prompt", "max_length"),
    [("a", 4), ("hello", 8), ("zzzzzzz", 8), ("zzzzzzz", 12)],
)
def test_both_ways_follow_the_models_argmax(listener, prompt, max_length):
    expected = plain_greedy_loop(listener, prompt, max_length)
    for function in (generate, compiled_generate):
        text = function(
            listener,
            Alphabet(),
            prompt,
            max_length=max_length,
            stop_token_ids=None,
        )
        assert text == expected


@pytest.mark.slow  # JAX compiles each operation of each length
def test_a_mini_gpt_writes_the_same_both_ways():
    keras.utils.set_random_seed(0)
    gpt = mini_gpt(
        VOCABULARY_SIZE,
        sequence_length=12,
        hidden_dim=16,
        intermediate_dim=32,
        num_heads=2,
        num_layers=1,
    )
    for prompt in ("hello", "keras"):
        expected = plain_greedy_loop(gpt, prompt, max_length=8)
        for function in (generate, compiled_generate):
            text = function(
                gpt, Alphabet(), prompt, max_length=8, stop_token_ids=None
            )
            assert text == expected


@pytest.mark.any_backend
def test_both_have_the_same_signature():
    signature = inspect.signature(generate)
    assert signature == inspect.signature(compiled_generate)
    assert list(signature.parameters)[:5] == [
        "model",
        "tokenizer",
        "prompt",
        "sample_fn",
        "max_length",
    ]


# --- Samplers ---------------------------------------------------------------


def books_random_sample(preds, temperature=1.0):
    """Return an id in an array of one, as the chapter's function does."""
    return keras.random.categorical(preds[None, :] / temperature, 1)[0]


ANY_CALLABLE = {
    "greedy_search": greedy_search,
    "random_sample": functools.partial(random_sample, temperature=0.1),
    "top_k": functools.partial(top_k, k=5, temperature=0.1),
    "top_p": functools.partial(top_p, p=0.5),
    "min_p": functools.partial(min_p, p=0.5),
    "chain": chain(temperature=0.5, top_k=10, top_p=0.9),
    "keras": ops.argmax,
    "numpy": np.argmax,
    "lambda": lambda logits: int(np.argmax(ops.convert_to_numpy(logits))),
    "book": functools.partial(books_random_sample, temperature=0.1),
}


@both
@pytest.mark.parametrize(
    "sample_fn",
    [
        pytest.param(
            function,
            id=name,
            # The others differ in nothing that a backend knows of.
            marks=()
            if name in ("top_k", "chain", "keras", "numpy", "book")
            else pytest.mark.any_backend,
        )
        for name, function in ANY_CALLABLE.items()
    ],
)
def test_any_callable_of_logits_is_a_sampler(generate, sample_fn, reciter):
    # The next letter has e^9 times the probability of any other one, more
    # with a low temperature: one run in 100 would differ, with another seed.
    keras.utils.set_random_seed(0)
    text = generate(reciter, Alphabet(), "ab", sample_fn, max_length=6)
    assert text == "abcdef"


@both
def test_a_sampler_sees_one_float32_row_of_logits(generate):
    table = keras.layers.Embedding(
        VOCABULARY_SIZE, VOCABULARY_SIZE, dtype="float16"
    )
    token_ids = keras.Input((None,), dtype="int32")
    model = keras.Model(token_ids, table(token_ids))
    seen = []

    def sample_fn(logits):
        seen.append((ops.is_tensor(logits), tuple(logits.shape)))
        assert keras.backend.standardize_dtype(logits.dtype) == "float32"
        return 0

    generate(model, Alphabet(), "abc", sample_fn, max_length=5)
    assert seen == [(True, (VOCABULARY_SIZE,))] * 2


@pytest.mark.any_backend
@both
def test_a_sampler_can_ask_for_the_tokens_so_far(generate, babbler):
    seen = []

    def sample_fn(logits, token_ids):
        seen.append(ops.convert_to_numpy(token_ids).tolist())
        return 7

    generate(babbler, Alphabet(), "bc", sample_fn, max_length=4)
    assert seen == [[1, 2, -1, -1], [1, 2, 7, -1]]


@both
def test_penalties_count_the_prompt_and_what_came_since(generate, babbler):
    # All tokens are equal but for the penalty: each comes once, in order.
    sampler = chain(temperature=0, presence_penalty=1.0)
    text = generate(babbler, Alphabet(), "bad", sampler, max_length=9)
    assert text == "badcefghi"


# --- Seeds --------------------------------------------------------------------


@both
def test_a_seed_makes_a_text_that_can_be_had_again(generate, babbler):
    def babble(seed, sample_fn=random_sample):
        return generate(
            babbler, Alphabet(), "a", sample_fn, max_length=24, seed=seed
        )

    assert babble(7) == babble(7) == babble(np.int64(7))
    # Two texts of 23 letters are equal by chance once in 26**23.
    assert babble(7) != babble(8)
    assert babble(None) != babble(None)
    assert babble(keras.random.SeedGenerator(7)) == babble(7)
    generator = keras.random.SeedGenerator(7)
    assert babble(generator) != babble(generator)


@both
def test_a_seed_bound_to_the_sampler_starts_the_text(generate, babbler):
    def babble(seed, bound):
        sample_fn = functools.partial(random_sample, seed=bound)
        return generate(
            babbler, Alphabet(), "a", sample_fn, max_length=24, seed=seed
        )

    # The same draw at each step would repeat one letter.
    assert len(set(babble(None, bound=7))) > 5
    assert babble(None, bound=7) == babble(7, bound=None)
    assert babble(8, bound=7) == babble(8, bound=None)


def test_eager_and_compiled_draw_the_same_text(babbler):
    texts = {
        function(
            babbler,
            Alphabet(),
            "a",
            functools.partial(top_k, k=9),
            max_length=24,
            seed=5,
        )
        for function in (generate, compiled_generate)
    }
    assert len(texts) == 1


@pytest.mark.any_backend
@both
def test_a_seed_that_nobody_would_use_is_refused(generate, babbler):
    with pytest.raises(ValueError, match="`seed` needs a `sample_fn` with a"):
        generate(babbler, Alphabet(), "a", lambda logits: 0, seed=1)
    with pytest.raises(ValueError, match="`seed` must be an int, a `keras.ra"):
        generate(babbler, Alphabet(), "a", random_sample, seed="1")


# --- Compilation ----------------------------------------------------------


class CallCounter(keras.layers.Layer):
    """Counts how often Python runs through the model."""

    calls = 0

    def call(self, inputs):
        self.calls += 1
        return inputs


@pytest.mark.skipif(
    keras.backend.backend() == "torch",
    reason="on torch `predict` runs eagerly, there is nothing to compile",
)
def test_one_compilation_for_each_max_length():
    token_ids = keras.Input((None,), dtype="int32")
    counter = CallCounter()
    embedding = keras.layers.Embedding(VOCABULARY_SIZE, VOCABULARY_SIZE)
    model = keras.Model(token_ids, counter(embedding(token_ids)))

    def count(prompt, sample_fn, max_length):
        before = counter.calls
        compiled_generate(
            model,
            Alphabet(),
            prompt,
            sample_fn,
            max_length,
            stop_token_ids=None,
        )
        return counter.calls - before

    assert count("abc", greedy_search, 16) == 1
    assert count("abc", greedy_search, 16) == 0
    assert count("z", functools.partial(top_k, k=5), 16) == 0
    assert count("hello", functools.partial(top_k, k=3), 16) == 0
    assert count("hello", chain(0.7, 9, 0.9, 0.1, 1.0, 1.0), 16) == 0
    assert count("hello", lambda logits: 3, 16) == 0
    assert count("abc", greedy_search, 20) == 1
    assert count("abcdef", random_sample, 20) == 0
    assert count("abcdef", random_sample, 16) == 0


# --- During training --------------------------------------------------------


def test_text_can_be_generated_while_the_model_trains():
    x = np.array([[0, 1, 2, 3], [4, 5, 6, 7]])

    def train(callbacks):
        model = bigram_model(np.zeros((VOCABULARY_SIZE, VOCABULARY_SIZE)))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=keras.optimizers.Adam(1.0), loss=loss)
        model.fit(x, x + 1, epochs=3, verbose=0, callbacks=callbacks)
        return model

    class Samples(keras.callbacks.Callback):
        texts = []

        def on_epoch_end(self, epoch, logs=None):
            for function in (generate, compiled_generate):
                text = function(self.model, Alphabet(), "ab", max_length=5)
                self.texts.append(text)

    alone, watched = train([]), train([Samples()])
    assert Samples.texts == ["abcde"] * 6
    for expected, actual in zip(
        alone.get_weights(), watched.get_weights(), strict=True
    ):
        np.testing.assert_allclose(actual, expected, rtol=1e-6)


# --- A real vocabulary -------------------------------------------------------


@pytest.fixture(scope="module")
def sentence_piece(tmp_path_factory):
    """A SentencePiece tokenizer that knows a few words and the end token."""
    import io

    import keras_hub
    import sentencepiece

    words = "the cat sat on the mat\nand the dog sat on the log"
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([words] * 4),
        model_writer=model,
        vocab_size=40,
        hard_vocab_limit=False,
        user_defined_symbols=["\n", END_OF_TEXT],
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    return keras_hub.tokenizers.SentencePieceTokenizer(proto=model.getvalue())


@both
def test_text_goes_through_a_sentence_piece_tokenizer(generate, sentence_piece):
    size = sentence_piece.vocabulary_size()
    model = bigram_model(np.eye(size)[:, ::-1])  # t is followed by size-1-t
    text = generate(model, sentence_piece, "the cat", max_length=12)
    token_ids = sentence_piece("the cat")
    token_ids = [int(i) for i in ops.convert_to_numpy(token_ids)]
    while len(token_ids) < 12:
        token_ids.append(size - 1 - token_ids[-1])
    assert isinstance(text, str)
    assert text.startswith("the cat")
    assert text == sentence_piece.detokenize(token_ids)


@pytest.mark.any_backend
@both
def test_a_sentence_piece_text_ends_at_end_of_text(generate, sentence_piece):
    end = sentence_piece.token_to_id(END_OF_TEXT)
    table = np.zeros((sentence_piece.vocabulary_size(),) * 2)
    table[:, end] = 1.0
    assert generate(bigram_model(table), sentence_piece, "the ") == "the "
    text = generate(bigram_model(table), sentence_piece, END_OF_TEXT)
    assert text == END_OF_TEXT
    text = generate(
        bigram_model(table), sentence_piece, "the ", strip_prompt=True
    )
    assert text == ""
    # A likelier "s" keeps it from ending.
    table[:, sentence_piece.token_to_id("s")] = 2.0
    text = generate(
        bigram_model(table),
        sentence_piece,
        "the ",
        max_length=8,
        strip_prompt=True,
    )
    assert set(text) == {"s"}


# --- Arguments that make no sense -------------------------------------------


class Untouchable:
    """Stands for a model that must not run: looks like it, does nothing."""

    def __init__(self, model):
        self.output_shape = model.output_shape
        self.layers = model.layers

    def __call__(self, inputs):
        raise AssertionError("it was called")


@pytest.mark.any_backend
@both
def test_the_prompt_must_be_text_with_a_token(generate, short_memory):
    model = Untouchable(short_memory)
    with pytest.raises(ValueError, match="`prompt` must have at least one to"):
        generate(model, Alphabet(), "", max_length=8)
    for prompt in (["a", "b"], b"a", None):
        with pytest.raises(ValueError, match="`prompt` must be a string"):
            generate(model, Alphabet(), prompt, max_length=8)


@pytest.mark.any_backend
@both
@pytest.mark.parametrize("prompt", ["abcde", "abcdef"])
def test_the_prompt_must_leave_room(generate, short_memory, prompt):
    with pytest.raises(
        ValueError, match=f"of {len(prompt)} tokens and max_length=5"
    ):
        generate(Untouchable(short_memory), Alphabet(), prompt, max_length=5)


@pytest.mark.any_backend
@both
def test_max_length_must_fit_the_position_table(generate, short_memory):
    with pytest.raises(
        ValueError, match="`max_length` must be at most 12, .*max_length=13"
    ):
        generate(Untouchable(short_memory), Alphabet(), "a", max_length=13)
    # The table is found at any depth.
    outer = keras.Sequential(
        [keras.Input((None,), dtype="int32"), short_memory]
    )
    with pytest.raises(ValueError, match="`max_length` must be at most 12"):
        generate(Untouchable(outer), Alphabet(), "a")


@pytest.mark.any_backend
@both
@pytest.mark.parametrize("max_length", [1, 0, -5, 8.0, None, True])
def test_max_length_must_be_an_int_with_room(
    generate, short_memory, max_length
):
    with pytest.raises(ValueError, match="`max_length` must be an int of at "):
        generate(
            Untouchable(short_memory), Alphabet(), "a", max_length=max_length
        )


@pytest.mark.any_backend
@both
def test_the_prompt_must_be_in_the_models_vocabulary(generate):
    model = Untouchable(bigram_model(np.eye(5)))
    with pytest.raises(
        ValueError, match=r"must be in \[0, 5\).*Received: tokens from 1 to 5"
    ):
        generate(model, Alphabet(end_token_id=None), "bf")


@pytest.mark.any_backend
@both
@pytest.mark.parametrize("stop_token_ids", [-1, 27, [3, 99], "the end", [1.0]])
def test_stop_tokens_must_be_in_the_vocabulary(
    generate, short_memory, stop_token_ids
):
    with pytest.raises(ValueError, match="`stop_token_ids` must be 'auto', "):
        generate(
            Untouchable(short_memory),
            Alphabet(),
            "a",
            max_length=8,
            stop_token_ids=stop_token_ids,
        )


@pytest.mark.any_backend
@both
def test_k_over_the_vocabulary_is_refused_before_the_model_runs(
    generate, short_memory
):
    for sample_fn in (functools.partial(top_k, k=28), chain(top_k=28)):
        with pytest.raises(ValueError, match=r"vocabulary_size=27\]"):
            generate(
                Untouchable(short_memory),
                Alphabet(),
                "a",
                sample_fn,
                max_length=8,
            )


@both
@pytest.mark.parametrize(
    "bad",
    [np.nan, pytest.param(np.inf, marks=pytest.mark.any_backend), -np.inf],
)
def test_a_diverged_model_is_refused(generate, bad):
    table = np.zeros((VOCABULARY_SIZE, VOCABULARY_SIZE))
    # After "c" one logit is not a number, or all of them are -inf.
    table[2, 4 if bad != -np.inf else slice(None)] = bad
    model = bigram_model(table)
    with pytest.raises(ValueError, match="of token 4. The model has probably"):
        generate(model, Alphabet(), "abac", max_length=8)


@both
@pytest.mark.parametrize(
    "returned",
    [
        27,
        *(
            pytest.param(wrong, marks=pytest.mark.any_backend)
            for wrong in (-1, [1, 2], 1.5, [[1], [2]], [])
        ),
    ],
)
def test_a_sampler_must_return_one_token_id(generate, babbler, returned):
    with pytest.raises(
        ValueError, match="sampler must return one int token id"
    ):
        generate(babbler, Alphabet(), "a", lambda logits: np.array(returned), 8)
