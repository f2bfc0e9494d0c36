"""Reward models: what is read where, copied, saved, and refused."""

import types

import keras
import numpy as np
import pytest
from keras import ops

from kerasllm import lora
from kerasllm.checks import UserError
from kerasllm.images import vision_inputs
from kerasllm.instructions import Instruction, TokenizedInstructions
from kerasllm.models import MiniGPTBackbone
from kerasllm.prompts import BOOK, PromptTemplate, get_template
from kerasllm.tuning import RewardModel
from kerasllm.tuning.rewards._reward_model import LastToken
from tests.instructions.test_tokenized import Bytes
from tests.lora.small import disturb
from tests.several_models import LENGTH, MAKERS

PROMPTS = ["Say red.", "Say blue. the cat sat", "the"]
RESPONSES = ["red", "", "the mat sat on"]
PLAIN = PromptTemplate("plain", "U:", " ", "M:", ".")
FAMILIES = [
    "mini_gpt",
    *(
        pytest.param(name, marks=pytest.mark.any_backend)
        for name in ("gpt2", "llama", "gemma")
    ),
]


@pytest.fixture
def make(tmp_path, tiny_untrained):
    return lambda name="mini_gpt": MAKERS[name](tmp_path, tiny_untrained)


PREPROCESSOR = types.SimpleNamespace(tokenizer=Bytes())


def small_model(template="book"):
    """Return a reward model with random weights that reads bytes."""
    backbone = MiniGPTBackbone(260, 96, 8, 16, 2, num_layers=1, dropout=0.0)
    model = RewardModel(backbone, PREPROCESSOR, template)
    randomize(model.head.kernel)
    return model


def randomize(kernel):
    rng = np.random.default_rng(0)
    kernel.assign(rng.normal(0, 1, kernel.shape))


def last_states(causal_lm):
    """Return the last hidden state of each sequence, from a pass of its own."""
    preprocessor = causal_lm.preprocessor
    template = get_template("auto", preprocessor.tokenizer)
    states = []
    for prompt, response in zip(PROMPTS, RESPONSES, strict=True):
        (ids,) = TokenizedInstructions.of(
            [Instruction(prompt, response)], preprocessor, template, LENGTH
        ).token_ids
        ids = ids[None]
        inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids, bool)}
        if getattr(preprocessor, "image_converter", None) is not None:
            # Without compiling, TensorFlow fails on no image at all.
            inputs |= vision_inputs(ids, [[]], preprocessor, 1)
        hidden = causal_lm.backbone(inputs, training=False)
        states.append(ops.convert_to_numpy(hidden)[0, -1])
    return np.stack(states)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_reward_is_read_at_the_last_token(name, make):
    """Alone or beside longer ones, of a copy of the model's weights."""
    causal_lm = make(name)
    model = RewardModel(causal_lm)
    assert model.backbone is not causal_lm.backbone
    np.testing.assert_array_equal(model.predict(PROMPTS, RESPONSES), 0)
    randomize(model.head.kernel)
    kernel = ops.convert_to_numpy(model.head.kernel)
    expected = last_states(causal_lm) @ kernel[:, 0]
    for batch_size in (1, 16):
        rewards = model.predict(PROMPTS, RESPONSES, batch_size=batch_size)
        assert rewards.dtype == "float32" and rewards.shape == (3,)
        np.testing.assert_allclose(rewards, expected, atol=1e-5)


def test_padding_may_be_the_end_token_on_either_side():
    """The mask tells where the last token is; the token ids would not."""
    states = np.arange(24, dtype="float32").reshape(3, 4, 2)
    mask = np.array([[1, 1, 0, 0], [0, 1, 1, 1], [1, 0, 0, 0]])
    for dtype in ("bool", "int32"):
        last = LastToken()(states, mask.astype(dtype))
        np.testing.assert_array_equal(
            ops.convert_to_numpy(last),
            [states[0, 1], states[1, 3], states[2, 0]],
        )
    model = small_model()
    end = Bytes.end_token_id
    ids = np.array([[1, 9, 8, end, end, end], [1, 7, 6, 5, 4, end]])
    mask = np.array([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]], bool)
    padded = model({"token_ids": ids, "padding_mask": mask})
    alone = model({"token_ids": ids[:1, :4], "padding_mask": mask[:1, :4]})
    padded, alone = map(ops.convert_to_numpy, (padded, alone))
    np.testing.assert_allclose(padded[0], alone[0], atol=1e-5)
    assert abs(padded[0] - padded[1]) > 1e-2


@pytest.mark.any_backend
def test_the_neighbors_do_not_matter():
    model = small_model()
    prompts = ["a", "bb", "c" * 30, "a"]
    responses = ["x" * 9, "", "yy", "x"]
    together = model.predict(prompts, responses)
    assert len(set(np.round(together, 4))) == 4
    for order in ([3, 1, 0, 2], [2], [0, 3]):
        some = model([prompts[i] for i in order], [responses[i] for i in order])
        np.testing.assert_allclose(some, together[order], atol=1e-5)
    assert model.predict([], []).shape == (0,)


@pytest.mark.any_backend
def test_the_template_is_the_models_own():
    model, other = small_model(), small_model(template=PLAIN)
    other.set_weights(model.get_weights())
    assert model.template == BOOK and other.template == PLAIN
    pair = ["a"], ["b"]
    assert model(*pair) != other(*pair)
    np.testing.assert_allclose(
        model(*pair, template=PLAIN), other(*pair), atol=1e-5
    )


@pytest.mark.any_backend
def test_adapters_are_merged_in_the_copy(make):
    causal_lm = make()
    before = last_states(causal_lm)
    lora.enable_lora(causal_lm, rank=2, targets=("attention", "feed_forward"))
    disturb(causal_lm)
    after = last_states(causal_lm)
    assert abs(after - before).max() > 0.1
    model = RewardModel(causal_lm)
    assert not lora.adapted_layers(model)
    assert all(v.trainable for v in model.trainable_variables)
    assert len(model.trainable_variables) == 1 + len(
        make().backbone.trainable_variables
    )
    randomize(model.head.kernel)
    kernel = ops.convert_to_numpy(model.head.kernel)
    np.testing.assert_allclose(
        model(PROMPTS, RESPONSES), after @ kernel[:, 0], atol=1e-4
    )


@pytest.mark.any_backend
def test_a_backbone_becomes_part_of_the_model(make):
    causal_lm = make()
    model = RewardModel(causal_lm.backbone, causal_lm.preprocessor)
    assert model.backbone is causal_lm.backbone
    new = type(model.backbone).from_config(model.backbone.get_config())
    assert RewardModel(new, causal_lm.preprocessor).backbone is new


@pytest.mark.parametrize(
    "rank", [pytest.param(None, marks=pytest.mark.any_backend), 2]
)
def test_a_saved_model_gives_the_same_rewards(make, tmp_path, rank):
    """Its vocabulary and its template are in the file; adapters are merged."""
    model = RewardModel(make(), template=PLAIN)
    if rank is not None:
        lora.enable_lora(model, rank, targets="attention")
        disturb(model)
    randomize(model.head.kernel)
    expected = model(PROMPTS, RESPONSES)
    model.save(tmp_path / "reward.keras")
    loaded = keras.saving.load_model(tmp_path / "reward.keras")
    assert type(loaded) is RewardModel and loaded.template == PLAIN
    np.testing.assert_allclose(loaded(PROMPTS, RESPONSES), expected, atol=1e-5)
    assert len(set(np.round(expected, 4))) == 3


@pytest.mark.any_backend
def test_what_is_no_reward_model():
    model = small_model()
    with pytest.raises(UserError, match="`backbone` must be a `CausalLM`"):
        RewardModel(keras.Sequential(), model.preprocessor)
    with pytest.raises(UserError, match="must have a preprocessor"):
        RewardModel(model.backbone)
    with pytest.raises(UserError, match="`template` must be one of"):
        RewardModel(model.backbone, model.preprocessor, template="none")


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": "a"}, "`prompts` must be a list of strings"),
        ({"responses": ["a", "b"]}, "Received: 1 prompts, 2 responses"),
        ({"responses": [None]}, "`responses` must be"),
        ({"batch_size": 0}, "`batch_size` must be a positive int"),
        ({"template": "none"}, "`template` must be one of"),
    ],
)
def test_what_cannot_be_scored(arguments, message):
    arguments = {"prompts": ["a"], "responses": ["b"]} | arguments
    with pytest.raises(UserError, match=message):
        small_model().predict(**arguments)


@pytest.mark.any_backend
def test_all_tokens_need_a_position():
    """The last one is read, too, and not only predicted."""
    model = small_model()
    room = 96 - 2 - len(BOOK.prompt("") + BOOK.response(""))
    assert np.isfinite(model([""], ["x" * room])).all()
    with pytest.raises(UserError, match="fit in 96 tokens.*one with 97"):
        model([""], ["x" * (room + 1)])
