"""Log-probabilities of responses, against a loop over full passes."""

import numpy as np
import pytest
from keras import ops
from scipy.special import log_softmax

from kerasllm import lora
from kerasllm.checks import UserError
from kerasllm.generation import TextGenerator
from kerasllm.images import vision_inputs
from kerasllm.prompts import BOOK, encode_all, get_template, start_tokens
from kerasllm.tokenizers import end_of_text_id
from kerasllm.tuning import _logprobs, response_logprobs
from tests.gemmas import IMAGES
from tests.several_models import LENGTH, MAKERS

PROMPTS = ["Say red.", "Say blue. the cat sat", "the"]
RESPONSES = ["red", "", "the mat sat on"]
FAMILIES = [
    "mini_gpt",
    *(
        pytest.param(name, marks=pytest.mark.any_backend)
        for name in ("gpt2", "llama", "gemma")
    ),
]


@pytest.fixture
def make(tmp_path, tiny_untrained):
    return lambda name: MAKERS[name](tmp_path, tiny_untrained)


def by_hand(causal_lm, prompt, response, images=()):
    """Return the log-probability of each token, from one full pass."""
    preprocessor = causal_lm.preprocessor
    tokenizer = preprocessor.tokenizer
    template = get_template("auto", tokenizer)
    sizes = {}
    if images:
        sizes["num_image_tokens"] = preprocessor.num_vision_tokens_per_image
    (asked,) = encode_all(
        tokenizer, [template.prompt_segments(prompt, **sizes)]
    )
    (answer,) = encode_all(tokenizer, [template.response_segments(response)])
    asked = [*start_tokens(tokenizer), *asked]
    end = getattr(tokenizer, "end_token_id", None)
    answer = [*answer, end_of_text_id(tokenizer) if end is None else end]
    ids = np.array([asked + answer])
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids, bool)}
    if getattr(preprocessor, "image_converter", None) is not None:
        inputs |= vision_inputs(ids, [images], preprocessor)
    logits = ops.convert_to_numpy(causal_lm(inputs))[0]  # (length, vocabulary)
    scores = log_softmax(logits.astype("float64"), axis=-1)
    positions = np.arange(len(asked), len(ids[0]))
    return scores[positions - 1, ids[0][positions]]


@pytest.mark.parametrize("name", FAMILIES)
def test_they_are_those_of_a_loop_whatever_the_batch(name, make, monkeypatch):
    model = make(name)
    # So little room that logits are computed in several parts.
    monkeypatch.setattr(_logprobs, "LARGEST_LOGITS", 3000)
    expected = [
        by_hand(model, *pair) for pair in zip(PROMPTS, RESPONSES, strict=True)
    ]
    for batch_size in (16, 2):
        scores = response_logprobs(
            model, PROMPTS, RESPONSES, per_token=True, batch_size=batch_size
        )
        for ours, theirs in zip(scores, expected, strict=True):
            assert ours.dtype == "float32"
            np.testing.assert_allclose(ours, theirs, atol=1e-4)
    sums = response_logprobs(model, PROMPTS, RESPONSES)
    assert sums.shape == (3,) and sums.dtype == "float32"
    np.testing.assert_allclose(sums, [s.sum() for s in expected], atol=1e-3)
    # An empty response is its end alone.
    assert sums[1] == pytest.approx(expected[1].sum(), abs=1e-4)


def test_images_are_seen(gemma):
    model = gemma.causal_lm
    prompt = "<start_of_image>Colour?"
    ours = response_logprobs(
        model, [prompt, prompt, "Colour?"], ["red"] * 3,
        images=[[IMAGES[0]], [IMAGES[1]], []],
    )  # fmt: skip
    assert len(set(np.round(ours, 3))) == 3
    for number in (0, 1):
        expected = by_hand_with_image(model, prompt, "red", IMAGES[number])
        assert ours[number] == pytest.approx(expected, rel=1e-3)


def by_hand_with_image(model, prompt, response, image):
    from kerasllm.instructions import Instruction, TokenizedInstructions

    tokenized = TokenizedInstructions.of(
        [Instruction(prompt, response, images=(image,))],
        model.preprocessor,
        "gemma",
        64,
    )
    (ids,), (start,) = tokenized.token_ids, tokenized.prompt_lengths
    ids = ids[None]
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids, bool)}
    inputs |= vision_inputs(ids, [[image]], model.preprocessor)
    logits = ops.convert_to_numpy(model(inputs))[0].astype("float64")
    scores = log_softmax(logits, axis=-1)
    positions = np.arange(start, ids.shape[1])
    return scores[positions - 1, ids[0][positions]].sum()


def test_they_are_what_the_generator_reports(make):
    """What was sampled is scored as it was when it was sampled."""
    model = make("mini_gpt")
    generator = TextGenerator(model)
    prompt = BOOK.prompt("Say red.")
    result = generator.generate(
        prompt, LENGTH, return_logprobs=True, stop_token_ids=None
    )
    ids = list(result.token_ids)
    prefix = list(model.preprocessor.tokenizer([prompt])[0])
    tokens = np.array([*map(int, prefix), *ids], "int32")
    scores = _logprobs._Scorer.of(model).score([tokens], [()])[0]
    np.testing.assert_allclose(
        scores[len(prefix) - 1 : len(tokens) - 1], result.logprobs, atol=1e-4
    )


def test_adapters_and_new_values_count(make):
    model = make("mini_gpt")
    before = response_logprobs(model, PROMPTS, RESPONSES)
    lora.enable_lora(model, rank=2, targets="attention")
    same = response_logprobs(model, PROMPTS, RESPONSES)
    np.testing.assert_allclose(same, before, atol=1e-4)
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(rng.normal(0, 1, weight.shape))
    assert not np.allclose(
        response_logprobs(model, PROMPTS, RESPONSES), before, atol=1e-2
    )


@pytest.mark.any_backend
def test_nothing_has_no_log_probability(make):
    model = make("mini_gpt")
    assert response_logprobs(model, [], []).shape == (0,)
    assert response_logprobs(model, [], [], per_token=True) == []


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a"], []), "one response.*1 prompts, 0 responses"),
        (("a", ["b"]), "`prompts` must be a list of strings"),
        ((["a"], "b"), "`responses` must be a list of strings"),
        ((["a"], [None]), "`responses` must be a string"),
        ((["a"], ["the " * 200]), "must fit in 64 tokens"),
        ((["a"], ["b"], "no such"), "`template` must be one of"),
        ((None, ["b"]), "`prompts` must be a list of strings"),
        ((["a"], 3), "`responses` must be a list"),
    ],
)
def test_impossible_texts(arguments, message, make):
    with pytest.raises(UserError, match=message):
        response_logprobs(make("mini_gpt"), *arguments)


@pytest.mark.any_backend
@pytest.mark.parametrize("images", ["x.png", b"123", IMAGES[0], [], [1, 2]])
def test_each_prompt_has_its_images(images, make):
    with pytest.raises(UserError, match="images for each prompt.*Received"):
        response_logprobs(make("gemma"), ["a"], ["b"], images=images)
