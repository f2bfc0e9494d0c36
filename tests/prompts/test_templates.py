"""Prompt templates: the published formats, and who speaks when."""

import pytest
from keras_hub.tokenizers import BytePairTokenizer

from kerasllm import prompts
from kerasllm.prompts import ALPACA, BOOK, CHATML, GEMMA, TEMPLATES, VICUNA
from tests.recipes import gemma_tokenizer

pytestmark = pytest.mark.any_backend

TALK = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Bye"},
]


def test_the_published_formats():
    assert BOOK.prompt("Go?") == "[instruction]\nGo?[end]\n[response]\n"
    assert BOOK.response("Yes.") == "Yes.[end]"
    assert GEMMA.chat(TALK) == (
        "<start_of_turn>user\nHi<end_of_turn>\n"
        "<start_of_turn>model\nHello.<end_of_turn>\n"
        "<start_of_turn>user\nBye<end_of_turn>\n"
        "<start_of_turn>model\n"
    )
    assert CHATML.chat(TALK[:1]) == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert VICUNA.chat(TALK).endswith(
        " USER: Hi ASSISTANT: Hello.</s>USER: Bye ASSISTANT: "
    )
    assert ALPACA.prompt("Add.").endswith(
        "request.\n\n### Instruction:\nAdd.\n\n### Response:\n"
    )
    assert ALPACA.prompt("Add.", "1, 2").endswith(
        "### Instruction:\nAdd.\n\n### Input:\n1, 2\n\n### Response:\n"
    )
    assert "paired with an input" in ALPACA.prompt("Add.", "1, 2")
    assert "paired with an input" not in ALPACA.prompt("Add.")


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_training_and_inference_share_every_character(template):
    """A prompt, an answer and a prompt are a chat of three messages."""
    first = template.chat(TALK[:1])
    assert first == template.prompt("Hi")
    whole = template.chat(TALK)
    assert whole.startswith(first + template.response("Hello."))
    assert template.end_of_turn in template.chat(TALK)[len(first) :]


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_a_system_message_comes_before_the_request(template):
    system = {"role": "system", "content": "Be brief."}
    text = template.chat([system, *TALK[:1]])
    assert text.index("Be brief.") < text.index("Hi")
    assert not template.system or template.system not in text


def test_gemma_has_no_system_turn():
    text = GEMMA.chat([{"role": "system", "content": "S"}, *TALK[:1]])
    assert text.startswith("<start_of_turn>user\nS\n\nHi<end_of_turn>")


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [TALK[1]],
        TALK[:2],
        [TALK[0], TALK[0]],
        [{"role": "system", "content": "S"}],
        [{"role": "wizard", "content": "S"}],
        [{"role": "user"}],
        [{"role": "user", "content": None}],
        "Hi",
    ],
)
def test_a_conversation_must_be_in_turns(messages):
    with pytest.raises(ValueError, match="messages|turns"):
        GEMMA.chat(messages)


def test_an_unknown_template_is_named():
    assert prompts.get_template("gemma") is GEMMA
    assert prompts.get_template(BOOK) is BOOK
    with pytest.raises(ValueError, match="one of book, alpaca.*Received.*'x'"):
        prompts.get_template("x")


def test_a_vocabulary_tells_its_template():
    """By the token that ends a turn; `BOOK` needs none."""

    def tokenizer(*pieces):
        pieces = [*pieces, "a", "b", "ab"]
        vocabulary = {piece: number for number, piece in enumerate(pieces)}
        return BytePairTokenizer(vocabulary, ["a b"])

    assert prompts.template_for(gemma_tokenizer()) is GEMMA
    assert prompts.template_for(tokenizer("<|im_end|>")) is CHATML
    assert prompts.template_for(tokenizer("<end_of_turn>")) is GEMMA
    assert prompts.template_for(tokenizer()) is BOOK
