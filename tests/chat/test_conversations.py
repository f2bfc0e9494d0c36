"""Conversations: what is remembered, and what is shown to the model."""

import keras
import numpy as np
import pytest
from PIL import Image

from kerasllm.gemma import Gemma
from kerasllm.generation import CachedDecoder
from kerasllm.images import load_image
from kerasllm.prompts import PromptTemplate
from tests.gemmas import IMAGES


@pytest.mark.any_backend
def test_a_special_token_that_the_model_wrote_is_text(gemma):
    tokenizer = gemma.causal_lm.preprocessor.tokenizer
    chat = gemma.chat(max_length=1000)
    chat._remember({"role": "user", "content": "Hi"}, [], ["<start_of_image>"])
    prompt = chat._prompt({"role": "user", "content": "So?"}, [])
    assert tokenizer.start_of_image_token_id not in prompt.token_ids
    assert "<start_of_image>" in tokenizer.detokenize(list(prompt.token_ids))


@pytest.mark.any_backend
def test_a_special_token_of_the_system_is_text_and_the_users_is_an_image(gemma):
    """Even where both say the same, and where nothing stands between them."""
    plain = PromptTemplate(
        "plain", "[INST] ", " [/INST]", "", "</s>", system_in_user_turn=True
    )
    tokenizer = gemma.causal_lm.preprocessor.tokenizer
    question = "<start_of_image>What?"
    for template in ("gemma", plain):
        chat = Gemma(gemma.causal_lm, template).chat(question, max_length=1000)
        message = {"role": "user", "content": question}
        prompt = chat._prompt(message, [load_image(IMAGES[0])])
        text = tokenizer.detokenize(list(prompt.token_ids))
        system, users = text.split("<start_of_image>What?", 1)
        assert tokenizer.start_of_image_token not in system
        placeholders = prompt.token_ids.count(tokenizer.image_placeholder_id)
        assert placeholders == 9 and users.count("What?") == 1


@pytest.mark.any_backend
@pytest.mark.parametrize("max_length", [0, -5, "x"])
def test_the_length_of_a_chat_is_checked_when_it_begins(gemma, max_length):
    with pytest.raises(ValueError, match="max_length.*positive int"):
        gemma.chat(max_length=max_length)


@pytest.mark.any_backend
def test_a_chat_remembers_and_forgets_from_the_front(gemma):
    chat = gemma.chat(system="Be brief.", max_length=96)
    prompts = []
    stream = gemma.generator.stream

    def spy(prompt, *args, **kwargs):
        prompts.append(prompt)
        return iter(["An ", "answer."])

    gemma.generator.stream = spy
    try:
        for i in range(6):
            assert chat.send(f"Question number {i}") == "An answer."
    finally:
        gemma.generator.stream = stream
    tokenizer = gemma.causal_lm.preprocessor.tokenizer
    texts = [tokenizer.detokenize(list(p.token_ids)) for p in prompts]
    assert texts[1].count("Question number") == 2
    assert "An answer." in texts[1]
    for i, (text, prompt) in enumerate(zip(texts, prompts, strict=True)):
        assert "Be brief." in text and f"Question number {i}" in text
        assert len(prompt.token_ids) <= 72  # a quarter is the answer's
    assert "Question number 0" not in texts[-1]
    assert len(chat.messages) == 13
    with pytest.raises(ValueError, match="a quarter of `max_length`"):
        chat.send("word " * 100)
    assert len(chat.messages) == 13


@pytest.mark.any_backend
def test_an_answer_cut_short_is_remembered_as_far_as_it_came(gemma):
    chat = gemma.chat(max_length=96)
    gemma.generator.stream = lambda *args, **kwargs: iter(["An ", "answer."])
    try:
        pieces = chat.stream("Say something")
        assert next(pieces) == "An "
        assert chat.messages == []
        pieces.close()
    finally:
        del gemma.generator.stream
    assert [m["content"] for m in chat.messages] == ["Say something", "An"]


@pytest.mark.any_backend
def test_what_was_said_may_be_changed_and_restored(gemma):
    prompts = []
    gemma.generator.stream = lambda prompt, *args, **kwargs: (
        prompts.append(prompt) or iter(["Yes."])
    )
    try:
        chat = gemma.chat(max_length=256)
        for text, image in (("<start_of_image>?", IMAGES[0]), ("And?", None)):
            chat.send(text, image)
        del chat.messages[2:]
        chat.send("Or?")
        other = gemma.chat(max_length=256)
        other.messages = chat.messages[2:]
        other.send("Why?")
        del chat.messages[-1]
        with pytest.raises(ValueError, match="turns.*must alternate"):
            chat.send("What?")
    finally:
        del gemma.generator.stream
    detokenize = gemma.causal_lm.preprocessor.tokenizer.detokenize
    *_, undone, restored = prompts
    assert "And?" not in detokenize(list(undone.token_ids))
    np.testing.assert_array_equal(undone.images, [IMAGES[0]])
    assert restored.images == ()
    assert detokenize(list(restored.token_ids)).count("?") == 2


@pytest.mark.any_backend
def test_a_chat_reads_an_image_once(gemma, tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(IMAGES[0]).save(path)
    chat = gemma.chat(max_length=128)
    prompts = []
    gemma.generator.stream = lambda prompt, *args, **kwargs: (
        prompts.append(prompt) or iter(["Yes."])
    )
    try:
        chat.send("<start_of_image>?", [path])
        path.unlink()
        chat.send("And?")
    finally:
        del gemma.generator.stream
    for prompt in prompts:
        (image,) = prompt.images
        np.testing.assert_array_equal(load_image(image), IMAGES[0])


@pytest.mark.any_backend
@pytest.mark.slow
def test_a_turn_that_failed_leaves_no_trace(gemma, tmp_path, monkeypatch):
    text = tmp_path / "text.png"
    text.write_text("no picture")
    chat = gemma.chat(max_length=60)
    first = chat.send("Hi", seed=1)
    kept = [dict(message) for message in chat.messages]
    mark = "<start_of_image>?"
    for wrong, images in (
        ("", None),
        ("word " * 100, None),
        ("No mark.", IMAGES[0]),
        (mark, [IMAGES[0], IMAGES[1]]),
        (mark, tmp_path / "missing.png"),
        (mark, [text]),
        (mark, 3),
        (None, None),
    ):
        with pytest.raises((ValueError, OSError)):
            chat.send(wrong, images)
        assert chat.messages == kept

    def sampler(logits):
        raise RuntimeError("in the middle")

    chat.sampler, greedy = sampler, chat.sampler
    with pytest.raises(RuntimeError, match="in the middle"):
        chat.send("Well?")
    chat.sampler = greedy
    assert chat.messages == kept
    other = gemma.chat(max_length=60)
    assert other.send("Hi", seed=1) == first
    assert chat.send(mark, IMAGES[0]) == other.send(mark, IMAGES[0])
    assert chat.messages == other.messages


@pytest.mark.slow
def test_a_chat_is_ask_with_a_memory(gemma):
    chat = gemma.chat(max_length=80)
    assert chat.send("Hello there") == gemma.ask("Hello there", max_length=80)
    pieces = list(chat.stream("<start_of_image>What?", IMAGES[:1]))
    assert "".join(pieces).strip() == chat.messages[-1]["content"]
    prompt = chat._prompt({"role": "user", "content": "And?"}, [])
    assert len(prompt.images) in (0, 1)  # 0 if there was no more room
    marks = list(prompt.token_ids).count(
        gemma.causal_lm.preprocessor.tokenizer.image_placeholder_id
    )
    assert marks == 9 * len(prompt.images)


@pytest.fixture
def reads(monkeypatch):
    """Collect for each prompt where the reading of it begins and ends."""
    ranges = []
    prefill, extend = CachedDecoder.prefill, CachedDecoder.extend

    def noting_prefill(self, token_ids, length, *arguments):
        ranges.append((0, length))
        return prefill(self, token_ids, length, *arguments)

    def noting_extend(self, cache, token_ids, start, length):
        ranges.append((start, length))
        return extend(self, cache, token_ids, start, length)

    monkeypatch.setattr(CachedDecoder, "prefill", noting_prefill)
    monkeypatch.setattr(CachedDecoder, "extend", noting_extend)
    return ranges


@pytest.mark.slow
def test_a_turn_reads_only_what_is_new(gemma, reads):
    """And the answers are those of a model that reads everything."""
    chat = gemma.chat(system="Be brief.", max_length=96)
    for text in ("One", "And two?", "Three"):
        before = len(chat.messages)
        answer = chat.send(text)
        other = gemma.chat(max_length=96)
        other.messages = chat.messages[:before]
        assert other.send(text) == answer
    first, again, second, again_2, third, again_3 = reads
    assert first == again and (again_2[0], again_3[0]) == (0, 0)
    # A turn begins where the one before ended, but for tokens that its answer
    # has no longer: white space at its end, and what cannot be encoded again.
    assert second[0] >= first[1] and third[0] >= second[1]


@pytest.mark.any_backend
@pytest.mark.slow
def test_a_turn_reads_everything_after_the_weights_have_changed(gemma, reads):
    chat = gemma.chat(max_length=96)
    chat.send("One")
    chat.send("Two")
    weight = gemma.causal_lm.trainable_variables[-1]
    value = keras.ops.convert_to_numpy(weight).copy()
    weight.assign(value * 1.01 + 0.01)
    chat.send("Three")
    weight.assign(value)
    assert [start == 0 for start, _ in reads] == [True, False, True]


@pytest.mark.any_backend
@pytest.mark.slow
def test_two_answers_at_a_time_do_not_share_what_was_read(gemma):
    chat = gemma.chat(max_length=96)
    chat.send("One")
    alone = gemma.chat(max_length=96)
    alone.messages = list(chat.messages)
    expected = ["".join(alone.stream("Two"))]
    alone.messages = list(chat.messages)
    expected.append("".join(alone.stream("Three")))
    first, second = chat.stream("Two"), chat.stream("Three")
    begun = [next(first), next(second)]
    assert [begun[0] + "".join(first), begun[1] + "".join(second)] == expected
