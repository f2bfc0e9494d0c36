"""The preset that chapters 2 and 3 sample from: how it is made, what it is."""

import json
import re

import keras
import numpy as np
import pytest
from keras import ops

from kerasllm import corpora, files
from kerasllm.checks import UserError
from kerasllm.gemma import Gemma
from kerasllm.models import MiniGPTCausalLM
from kerasllm.presets import DOCS_PRESET, load_causal_lm
from kerasllm.pretraining import _docs_preset
from tests.recipes import TINY


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a small run, its shards, the folder of a preset, and its card."""
    texts = tmp_path_factory.mktemp("texts")
    for i in range(120):
        text = f"Document {i} says: {i} and {i + 1} are {2 * i + 1}.\n"
        (texts / f"{i}.txt").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("cache")))
        shards = corpora.text_shards(texts, documents="files")
        run = tmp_path_factory.mktemp("run")
        trained = _docs_preset.train(TINY, shards, run, verbose=0)
        folder = tmp_path_factory.mktemp("out") / "preset"
        card = _docs_preset.write_preset(trained, folder, shards)
    return trained, shards, folder, card


@pytest.mark.any_backend  # the shipped one, in float16, is read on each below
def test_a_preset_is_written_in_float16_and_read_in_float32(made):
    trained, _, folder, _ = made
    causal_lm = load_causal_lm(folder)
    assert isinstance(causal_lm, MiniGPTCausalLM)
    assert causal_lm.backbone.compute_dtype == "float32"
    for ours, theirs in zip(
        causal_lm.backbone.get_weights(),
        trained.model.get_weights(),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs.astype("float16"))
    numbers = sum(w.size for w in trained.model.get_weights())
    size = (folder / "model.weights.h5").stat().st_size
    assert 2 * numbers < size < 4 * numbers + 40_000


@pytest.mark.any_backend
def test_the_scores_are_those_of_what_was_written(made):
    trained, shards, folder, card = made
    causal_lm = load_causal_lm(folder)
    dataset = _docs_preset.pipeline.pretraining_dataset(
        shards,
        causal_lm.preprocessor.tokenizer,
        TINY.sequence_length,
        TINY.batch_size,
        split="validation",
        validation_fraction=TINY.validation_fraction,
    )
    losses, hits = [], []
    for x, y in dataset.as_numpy_iterator():
        logits = causal_lm.to_mini_gpt()(x)
        logprobs = ops.convert_to_numpy(ops.log_softmax(logits))
        losses += list(-np.take_along_axis(logprobs, y[..., None], -1).ravel())
        hits += list((logprobs.argmax(-1) == y).ravel())
    scores = card["scores"]
    assert scores["tokens"] == len(losses)
    assert scores["loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    assert scores["perplexity"] == pytest.approx(np.exp(scores["loss"]))
    assert scores["accuracy"] == pytest.approx(np.mean(hits))


@pytest.mark.any_backend
def test_the_card_is_written_for_people_too(made):
    _, _, folder, card = made
    text = (folder / "README.md").read_text()
    assert text == _docs_preset.readme(card)
    assert json.loads((folder / "card.json").read_text()) == card
    assert f"| {card['scores']['loss']:.3f} |" in text
    assert "2 x 4 = 8 steps of 4 sequences of\n16 tokens, 512 tokens" in text


# --- What is shipped ---------------------------------------------------------


@pytest.mark.any_backend
def test_the_shipped_card_is_that_of_the_committed_command():
    folder = files.assets_dir() / DOCS_PRESET
    card = json.loads((folder / "card.json").read_text())
    assert card["recipe"] == _docs_preset.DOCS.identity()
    assert (card["seed"], card["dtype"]) == (0, _docs_preset.DTYPE)
    assert (folder / "README.md").read_text() == _docs_preset.readme(card)
    read = set(card["corpus"]["facts"]) - {"recipe", "python"}
    assert read == set(re.findall(r"\w+", " ".join(_docs_preset.LICENSES))) & (
        read
    )
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    assert size < 12e6


def test_the_shipped_model_knows_documentation():
    causal_lm = load_causal_lm(DOCS_PRESET)
    tokenizer = causal_lm.preprocessor.tokenizer
    text = (
        "Returns the sum of all elements of the given array.\n\n"
        "Args:\n    axis: The axis along which the sum is computed.\n"
    )
    ids = np.array([tokenizer(text)])

    def loss(ids):
        logits = causal_lm.to_mini_gpt()(ids[:, :-1])
        losses = keras.losses.sparse_categorical_crossentropy(
            ids[:, 1:], logits, from_logits=True
        )
        return float(ops.mean(losses))

    shuffled = np.random.default_rng(0).permuted(ids, axis=1)
    assert loss(ids) < 4 < loss(shuffled)


@pytest.mark.any_backend
def test_it_is_no_gemma():
    with pytest.raises(UserError, match="Gemma3CausalLM.*a mini-GPT.*Load it"):
        Gemma.from_preset(DOCS_PRESET)
