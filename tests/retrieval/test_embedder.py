"""Embedders: one vector a text, whatever stands beside it."""

import types

import keras
import keras_hub
import numpy as np
import pytest
from keras import ops

from kerasllm import lora
from kerasllm.checks import RunError, UserError
from kerasllm.images import vision_inputs
from kerasllm.prompts import encode, start_tokens
from kerasllm.retrieval import Embedder, Store
from kerasllm.retrieval.embedders._embedder import MeanOfTokens
from tests.instructions.test_tokenized import Bytes
from tests.retrieval.small_embedders import (
    PREPROCESSOR,
    copy_of,
    small_embedder,
)
from tests.several_models import MAKERS


class NoStart(Bytes):
    start_token_id = Bytes.end_token_id


TEXTS = ["the cat", "the cat number 3 sat on the mat", "Say red."]
FAMILIES = [
    "mini_gpt",
    *(
        pytest.param(name, marks=pytest.mark.any_backend)
        for name in ("gpt2", "llama", "gemma")
    ),
]


def by_hand(causal_lm, pooling):
    """Return the vectors of `TEXTS`, each from a pass of its own."""
    tokenizer = causal_lm.preprocessor.tokenizer
    vectors = []
    for text in TEXTS:
        ids = start_tokens(tokenizer) + encode(tokenizer, [(text, False)])
        ids += [tokenizer.end_token_id] if pooling == "last" else []
        ids = np.array([ids], "int32")
        inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids, bool)}
        if getattr(causal_lm.preprocessor, "image_converter", None) is not None:
            # Without compiling, TensorFlow fails on no image at all.
            inputs |= vision_inputs(ids, [[]], causal_lm.preprocessor, 1)
        states = ops.convert_to_numpy(causal_lm.backbone(inputs))[0]
        vectors.append(states.mean(0) if pooling == "mean" else states[-1])
    vectors = np.stack(vectors)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_vector_is_that_of_the_text_alone(name, tmp_path, tiny_untrained):
    causal_lm = MAKERS[name](tmp_path, tiny_untrained)
    for pooling in ("mean", "last"):
        embedder = Embedder(causal_lm, pooling=pooling)
        expected = by_hand(causal_lm, pooling)
        for batch_size in (1, 3):
            vectors = embedder.predict(TEXTS, batch_size)
            assert vectors.dtype == "float32"
            np.testing.assert_allclose(vectors, expected, atol=1e-5)


@pytest.mark.any_backend
def test_the_neighbors_do_not_matter():
    for pooling in ("mean", "last"):
        embedder = small_embedder(pooling)
        texts = ["a", "bb", "c" * 40, "a", "", "hello there"]
        together = embedder(texts)
        np.testing.assert_allclose(together[0], together[3], atol=1e-6)
        for order in ([2], [5, 0], [4, 2, 1], [3, 3, 3, 3, 3]):
            some = embedder([texts[i] for i in order])
            np.testing.assert_allclose(some, together[order], atol=1e-6)
        different = together[[0, 1, 2, 5]]
        cosines = different @ different.T
        assert (cosines - 2 * np.eye(4)).max() < 0.999


def test_the_mean_is_that_of_the_tokens():
    """On either side of the padding, which may hold anything."""
    states = np.arange(24, dtype="float32").reshape(3, 4, 2)
    mask = np.array([[1, 1, 0, 0], [0, 1, 1, 1], [0, 0, 1, 0]])
    states[0, 2:] = np.nan
    for dtype in ("bool", "int32"):
        means = MeanOfTokens()(states, mask.astype(dtype))
        np.testing.assert_allclose(
            ops.convert_to_numpy(means), [[1, 2], [12, 13], [20, 21]]
        )


@pytest.mark.any_backend
def test_an_encoder_has_its_own_tokens_and_segments():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat"]
    tokenizer = keras_hub.models.BertTokenizer(words)
    preprocessor = keras_hub.models.BertTextEmbedderPreprocessor(tokenizer, 16)
    backbone = keras_hub.models.BertBackbone(
        len(words), 1, 2, 16, 32, dropout=0.0, max_sequence_length=16
    )
    embedder = Embedder(backbone, preprocessor)
    texts = ["the cat", "the cat sat", "sat"]
    assert embedder.tokenize(texts)[1].tolist() == [2, 5, 6, 7, 3]
    # KerasHub's own, which pads all texts to 16 tokens.
    theirs = keras_hub.models.BertTextEmbedder(backbone, preprocessor)
    expected = theirs.encode_text(texts, verbose=0)
    np.testing.assert_allclose(embedder(texts), expected, atol=1e-5)
    # A store takes either of them.
    for one in (embedder, theirs):
        with Store(":memory:", one) as store:
            store.add(texts)
            (hit,) = store.search("sat", k=1)
            assert hit.text == "sat" and hit.score == pytest.approx(1)


@pytest.mark.any_backend
def test_long_texts_are_cut():
    for pooling in ("mean", "last"):
        embedder = small_embedder(pooling, sequence_length=10)
        tokens = embedder.tokenize(["a" * 50, "ab"])
        # The text comes after a start token, and before an end token.
        is_last = pooling == "last"
        assert [len(t) for t in tokens] == [10, 3 + is_last]
        assert [t[-1] == 2 for t in tokens] == [is_last] * 2
        room = 9 - is_last
        vectors = embedder(["a" * 50, "a" * room, "a" * (room - 1)])
        np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
        assert abs(vectors[0] - vectors[2]).max() > 1e-4


@pytest.mark.any_backend
def test_no_texts_and_empty_ones():
    embedder = small_embedder()
    assert embedder([]).shape == (0, 16)
    # The vector of the start token, where there is one.
    assert np.linalg.norm(embedder([""])) == pytest.approx(1)
    embedder.preprocessor = types.SimpleNamespace(tokenizer=NoStart())
    found = embedder(["", "a"])
    np.testing.assert_array_equal(found[0], np.zeros(16))
    assert np.linalg.norm(found[1]) == pytest.approx(1)


@pytest.mark.any_backend
def test_training_it_leaves_the_model_alone(tmp_path, tiny_untrained):
    causal_lm = MAKERS["mini_gpt"](tmp_path, tiny_untrained)
    lora.enable_lora(causal_lm, 2)
    for _, layer in lora.adapted_layers(causal_lm):
        layer.lora_kernel_b.assign(np.ones(layer.lora_kernel_b.shape))
    embedder = Embedder(causal_lm)
    np.testing.assert_allclose(
        embedder(TEXTS), by_hand(causal_lm, "mean"), atol=1e-5
    )
    assert embedder.backbone is not causal_lm.backbone
    assert lora.adapted_layers(embedder) == []
    for variable in embedder.variables:
        variable.assign(np.zeros(variable.shape))
    assert any(np.any(w) for w in causal_lm.get_weights())
    # A backbone is not copied.
    shared = Embedder(causal_lm.backbone, causal_lm.preprocessor)
    assert shared.backbone is causal_lm.backbone


@pytest.mark.any_backend
def test_it_is_saved_and_found_by_its_store(tmp_path, tiny_untrained):
    causal_lm = MAKERS["mini_gpt"](tmp_path, tiny_untrained)
    embedder = Embedder(causal_lm, pooling="last", sequence_length=20)
    path = tmp_path / "store.sqlite"
    with Store(path, embedder) as store:
        store.add(TEXTS)
    embedder.save(tmp_path / "embedder.keras")
    loaded = keras.saving.load_model(tmp_path / "embedder.keras")
    assert (loaded.pooling, loaded.sequence_length) == ("last", 20)
    np.testing.assert_allclose(loaded(TEXTS), embedder(TEXTS), atol=1e-6)
    with Store(path, loaded) as store:
        assert store.search("Say red.", k=1)[0].text == "Say red."
    # The second of the same class has no number in its name.
    assert Embedder(causal_lm, pooling="last").name == embedder.name
    other = Embedder(causal_lm, pooling="last", sequence_length=20)
    for weight in other.weights:
        weight.assign(-1 * np.roll(ops.convert_to_numpy(weight), 1))
    with Store(path, other) as store:
        with pytest.raises(RunError, match="another one named"):
            store.search("Say red.")


@pytest.mark.any_backend
def test_a_preset_is_an_embedder():
    embedder = Embedder.from_preset("mini_gpt_docs")
    assert embedder.name == "mini_gpt_docs_mean"
    assert embedder.sequence_length == 128
    vectors = embedder(["Return a new list.", "Return a new tuple.", "Rain"])
    cosines = vectors @ vectors.T
    assert cosines[0, 1] > cosines[0, 2]


@pytest.mark.any_backend
def test_what_is_no_embedder_is_refused():
    embedder = small_embedder()
    backbone = embedder.backbone
    for arguments, message in (
        (("tiny", PREPROCESSOR), "`backbone` must be a `CausalLM` or a back"),
        ((backbone, None), "must have a preprocessor"),
        ((backbone, PREPROCESSOR, "max"), "`pooling` must be one of 'mean'"),
        ((backbone, PREPROCESSOR, "mean", 49), r"an int in \[3, 48\]"),
        ((backbone, PREPROCESSOR, "mean", 0), r"an int in \[3, 48\]"),
    ):
        with pytest.raises(UserError, match=message):
            Embedder(*arguments)
    for texts, message in (
        ("a text", "`texts` must be a list of strings"),
        ([1], "`texts` must be a string"),
        (None, "`texts` must be a list of strings"),
    ):
        with pytest.raises(UserError, match=message):
            embedder(texts)
    with pytest.raises(UserError, match="`batch_size` must be a positive"):
        embedder.predict(["a"], batch_size=0)


@pytest.mark.any_backend
def test_a_copy_has_the_same_vectors():
    embedder = small_embedder(seed=3)
    np.testing.assert_allclose(
        copy_of(embedder)(TEXTS), embedder(TEXTS), atol=1e-6
    )
