"""Mini-GPT, GPT-2, Llama and Gemma go through the same doors."""

import concurrent.futures
import threading

import keras
import keras_hub
import numpy as np
import pytest

from kerasllm import chat, gemma, presets, tuning
from kerasllm.chat import Chat, ChatModel
from kerasllm.gemma import Gemma
from kerasllm.instructions import Instruction
from kerasllm.presets import estimate_memory
from kerasllm.prompts import BOOK, GEMMA
from kerasllm.samplers import chain
from tests.several_models import LENGTH, MAKERS

EXAMPLES = [Instruction("Say red.", "red"), Instruction("Say blue.", "blue")]
QUESTIONS = [example.instruction for example in EXAMPLES]
# JAX and TensorFlow take seconds to compile each of the others. What differs
# between backends shows with Mini-GPT, and with Gemma in tests of its own.
MARKS = {
    "mini_gpt": [],
    "gpt2": [pytest.mark.slow, pytest.mark.any_backend],
    "llama": [pytest.mark.slow, pytest.mark.any_backend],
    "gemma": [pytest.mark.slow, pytest.mark.any_backend],
}
every_model = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=MARKS[name]) for name in MAKERS]
)


@pytest.fixture
def make(tmp_path, tiny_untrained):
    return lambda name: MAKERS[name](tmp_path, tiny_untrained)


@every_model
def test_asking_and_talking_are_the_same_for_all(name, make):
    model = ChatModel(make(name))
    assert model.template is (GEMMA if name == "gemma" else BOOK)
    options = {"max_length": LENGTH, "sampler": chain(temperature=1.0)}
    answer = model.ask("Say red.", seed=1, **options)
    assert isinstance(answer, str)
    assert model.ask(["Say red."], seed=1, **options) == [answer]
    talk = model.chat(**options)
    assert isinstance(talk, Chat) and talk.model is talk.gemma is model
    assert "".join(talk.stream("Say red.", seed=1)).strip() == answer
    assert talk.messages[-1] == {"role": "model", "content": answer}
    text = model.generate("Say red.", 12)
    assert text.startswith("Say red.")
    assert model.generator.generate("Say red.", 12) == text
    with pytest.raises(ValueError, match="`prompt` must have at least one"):
        model.ask("")
    if name != "gemma":
        with pytest.raises(ValueError, match="model that takes them"):
            model.ask("<start_of_image>?", np.zeros((4, 4, 3), "uint8"))


def test_threads_ask_a_fresh_model_as_one_would_alone(make):
    """Two lengths: one is compiled while the other is in use."""
    causal_lm = make("mini_gpt")
    lengths = [LENGTH - 8, LENGTH, LENGTH]
    questions = ["Say red.", "Say blue.", "Red"]
    options = {"sampler": chain(temperature=1.0), "seed": 1}
    fresh, started = ChatModel(causal_lm), threading.Barrier(3)

    def ask(question, length):
        started.wait()
        return fresh.ask(question, max_length=length, **options)

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(ask, questions, lengths))
    assert answers == [
        fresh.ask(question, max_length=length, **options)
        for question, length in zip(questions, lengths, strict=True)
    ]


@pytest.mark.any_backend  # the next one tunes on each
@pytest.mark.slow
@every_model
def test_all_are_tuned_alike(name, make):
    keras.utils.set_random_seed(0)
    model = ChatModel(make(name))
    history = model.finetune(
        EXAMPLES * 8, EXAMPLES, epochs=12, batch_size=2, learning_rate=1e-2,
        sequence_length=LENGTH, verbose=0,
    )  # fmt: skip
    assert history[-1]["loss"] < 0.3 < 1 < history[0]["loss"]
    assert history[-1]["val_accuracy"] == 1
    assert model.ask(QUESTIONS, max_length=LENGTH) == ["red", "blue"]


@pytest.mark.slow
@every_model
def test_adapters_of_all_are_tuned_alike(name, make, tmp_path):
    """By the function, without a wrapper; merged they answer the same."""
    causal_lm, path = make(name), tmp_path / "adapters.lora.h5"
    model = ChatModel(causal_lm)
    report = model.enable_lora(4, ("attention", "feed_forward"))
    frozen = [np.array(w) for w in causal_lm.backbone.get_weights()]
    history = tuning.finetune(
        causal_lm, EXAMPLES, epochs=2, batch_size=2, learning_rate=1e-2,
        sequence_length=LENGTH, directory=tmp_path / "run", verbose=0,
    )  # fmt: skip
    assert history[-1]["loss"] < history[0]["loss"]
    moved = [
        not np.array_equal(before, after)
        for before, after in zip(
            frozen, causal_lm.backbone.get_weights(), strict=True
        )
    ]
    adapters = len(causal_lm.trainable_variables)
    assert 0 < sum(moved) <= adapters
    assert report.trainable_parameters == sum(
        int(np.prod(v.shape)) for v in causal_lm.trainable_variables
    )
    answers = model.ask(QUESTIONS, max_length=LENGTH)
    model.save_lora(path)
    model.merge_lora()
    assert model.ask(QUESTIONS, max_length=LENGTH) == answers


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("mini_gpt", "gpt2", "llama")
    ],
)
@pytest.mark.any_backend
def test_a_folder_may_hold_any_of_them(name, make, tmp_path):
    model = ChatModel(make(name))
    folder = tmp_path / "preset"
    model.causal_lm.save_to_preset(folder)
    again = ChatModel.from_preset(folder)
    assert type(again.causal_lm) is type(model.causal_lm)
    options = {"max_length": LENGTH, "sampler": chain(temperature=1.0)}
    assert again.ask("Say red.", seed=1, **options) == model.ask(
        "Say red.", seed=1, **options
    )
    estimate = estimate_memory(folder, rank=4)
    assert estimate.parameters == again.causal_lm.count_params()
    report = again.enable_lora(rank=4)
    assert estimate.lora_parameters == report.trainable_parameters


@pytest.mark.any_backend
def test_a_length_beyond_the_positions_is_refused(make):
    message = "at most 64, the length.*Received: sequence_length=65"
    with pytest.raises(ValueError, match=message):
        ChatModel(make("mini_gpt")).finetune(EXAMPLES, sequence_length=65)


@pytest.mark.any_backend
def test_any_preset_is_found_by_its_name(make, monkeypatch):
    causal_lm, asked = make("mini_gpt"), []

    def from_preset(source, **kwargs):
        asked.append((source, kwargs))
        return causal_lm

    monkeypatch.setattr(keras_hub.models.CausalLM, "from_preset", from_preset)
    for name in ("gpt2_base_en", "llama3.2_instruct_1b", "gemma3_1b"):
        model = ChatModel.from_preset(name, dtype="bfloat16")
        assert asked[-1] == (name, {"dtype": "bfloat16"})
        assert model.causal_lm is causal_lm and model.template is BOOK
    message = "tiny, tiny_instruct.*hf://.*CausalLM, such as gpt2.*'gpt2_bse'"
    with pytest.raises(ValueError, match=message):
        ChatModel.from_preset("gpt2_bse")
    # Its own are what a Gemma takes by name.
    with pytest.raises(ValueError, match="Gemma3Caus.*: .*gemma3_1b.*'gpt2_"):
        Gemma.from_preset("gpt2_base_en")
    with pytest.raises(ValueError, match="`template` must be one of"):
        ChatModel.from_preset("gemma3_1b", template="none")
    assert len(asked) == 3


@pytest.mark.any_backend
def test_a_gemma_is_a_chat_model_with_its_first_names(tiny_untrained):
    assert issubclass(Gemma, ChatModel)
    assert Gemma(tiny_untrained).template is GEMMA
    assert gemma.Chat is chat.Chat
    assert gemma.check_tuning is tuning.check_tuning
    for name in ("estimate_memory", "MemoryEstimate", "UnknownSizeError",
                 "OFFLINE_PRESETS", "ARCHITECTURES", "VISION_ARCHITECTURE",
                 "KERAS_HUB_NAMES", "HUGGING_FACE_NAMES", "VISION_NAMES",
                 ):  # fmt: skip
        assert getattr(gemma, name) is getattr(presets, name)
    assert gemma.preset_source("gemma3_1b") == "gemma3_1b"
