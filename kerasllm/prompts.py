"""Prompt templates: how a question is told from its answer (section 16.3.2).

A base model goes on with text. An instruction model has learned that text
between certain marks is a request and that what follows others is its answer.
Training and inference must set the same marks to the last space, so both take
them from one `PromptTemplate`.
"""

import dataclasses
import functools
import re

import sentencepiece
from keras import ops

from kerasllm.tokenizers import token_id_of

USER, MODEL = "user", "model"
SYSTEM = "system"
_ROLES = {USER: USER, MODEL: MODEL, "assistant": MODEL, SYSTEM: SYSTEM}
# Gemma has tokens for these tags of HTML, and they command nothing. `<s>` has
# one, too, but in other vocabularies it begins a text.
_TAGS = (
    "table caption thead tbody tfoot tr th td h1 h2 h3 h4 h5 h6 blockquote "
    "strong em b i u sub sup code"
).split()
_HARMLESS = {f"<{slash}{tag}>" for tag in _TAGS for slash in ("", "/")}


@dataclasses.dataclass(frozen=True)
class PromptTemplate:
    r"""The marks around the turns of a conversation.

    ```python
    BOOK.prompt("Where is Rome?")  # [instruction]\nWhere ...[end]\n[response]\n
    BOOK.response("In Italy.")  # In Italy.[end]
    ```

    Attributes:
        name: str.
        user_start: str. Mark before what the user says.
        user_end: str. Mark after it.
        model_start: str. Mark before what the model says; a prompt ends with
            it.
        model_end: str. Mark after it, which the model learns to write.
        system: str. What stands before the first turn when the conversation
            has no system message of its own.
        system_start: str. Mark before the system message.
        system_end: str. Mark after it.
        system_in_user_turn: bool. Whether the system message stands inside of
            the first user turn instead of before it.
        system_with_context: str. Takes the place of `system` when a request
            comes with a context; empty if it is the same.
        before_context: str. What stands between a request and its context.
        end_of_turn: str. The part of `model_end` at which an answer is over.
            Empty if the template leaves that to the tokenizer's end token.

    Source: chapter 16, "Instruction fine-tuning"; each template names its own.
    """

    name: str
    user_start: str
    user_end: str
    model_start: str
    model_end: str
    system: str = ""
    system_start: str = ""
    system_end: str = ""
    system_in_user_turn: bool = False
    system_with_context: str = ""
    before_context: str = "\n\n"
    end_of_turn: str = ""

    def prompt(self, instruction, context=None):
        """Return the text up to where the answer begins.

        Args:
            instruction: str. What the user asks for.
            context: str, a text that the request is about, or `None`.
        """
        return _join(self.prompt_segments(instruction, context))

    def response(self, text):
        """Return an answer with the marks that end it."""
        return text + self.model_end

    def chat(self, messages):
        """Return a conversation up to where the next answer begins.

        Args:
            messages: list of dicts `{"role": ..., "content": str}`. Roles are
                `"user"` and `"model"` (or `"assistant"`) in turns, the first
                and the last of them the user's; a `"system"` message may
                come before.

        Raises:
            ValueError: the roles do not follow one another so.
        """
        return _join(self.chat_segments(messages))

    def prompt_segments(self, instruction, context=None):
        """Return `prompt` as a list of pairs `(text, is_mark)`.

        Marks become control tokens. What people wrote does not, even if it
        reads like one: see `encode`.
        """
        if context is None:
            return self.chat_segments([{"role": USER, "content": instruction}])
        system = [(self.system_with_context or self.system, True)]
        separator = (self.before_context, True)
        request = [(instruction, False), separator, (context, False)]
        return _tidy(self._first_turn(system, request))

    def chat_segments(self, messages):
        """Return `chat` as a list of pairs `(text, is_mark)`."""
        messages = check_messages(messages)
        system = [(self.system, True)]
        if messages[0]["role"] == SYSTEM:
            system = [(messages[0]["content"], False)]
            messages = messages[1:]
        segments = self._first_turn(system, [(messages[0]["content"], False)])
        for message in messages[1:]:
            content = [(message["content"], False)]
            if message["role"] == USER:
                segments += self._user_turn(content)
            else:
                segments += [*content, (self.model_end, True)]
        return _tidy(segments)

    def response_segments(self, text):
        """Return `response` as a list of pairs `(text, is_mark)`."""
        return _tidy([(text, False), (self.model_end, True)])

    def _first_turn(self, system, request):
        if system[0][0]:
            start, end = (self.system_start, True), (self.system_end, True)
            system = [start, *system, end]
        if self.system_in_user_turn:
            return self._user_turn([*system, *request])
        return [*system, *self._user_turn(request)]

    def _user_turn(self, content):
        end = self.user_end + self.model_start
        return [(self.user_start, True), *content, (end, True)]


# The chapter's own, without the quotation mark that the published listing has
# by accident before the first bracket.
BOOK = PromptTemplate(
    name="book",
    user_start="[instruction]\n",
    user_end="[end]\n",
    model_start="[response]\n",
    model_end="[end]",
    system_end="\n",
    end_of_turn="[end]",
)

# Stanford Alpaca, 2023: github.com/tatsu-lab/stanford_alpaca. Its prompt ends
# with the colon; the line break before the answer is Alpaca-LoRA's.
_ALPACA_REQUEST = "Write a response that appropriately completes the request."
ALPACA = PromptTemplate(
    name="alpaca",
    user_start="### Instruction:\n",
    user_end="\n\n",
    model_start="### Response:\n",
    model_end="\n\n",
    system="Below is an instruction that describes a task. " + _ALPACA_REQUEST,
    system_with_context=(
        "Below is an instruction that describes a task, paired with an input "
        "that provides further context. " + _ALPACA_REQUEST
    ),
    system_end="\n\n",
    before_context="\n\n### Input:\n",
    end_of_turn="\n\n### Instruction:",
)

# Vicuna 1.1, LMSYS, 2023: github.com/lm-sys/FastChat, which counts the space
# before an answer to the answer. Here the prompt ends with it.
VICUNA = PromptTemplate(
    name="vicuna",
    user_start="USER: ",
    user_end=" ",
    model_start="ASSISTANT: ",
    model_end="</s>",
    system=(
        "A chat between a curious user and an artificial intelligence "
        "assistant. The assistant gives helpful, detailed, and polite answers "
        "to the user's questions."
    ),
    system_end=" ",
    end_of_turn="</s>",
)

# OpenAI, 2023; used by Qwen and many others.
CHATML = PromptTemplate(
    name="chatml",
    user_start="<|im_start|>user\n",
    user_end="<|im_end|>\n",
    model_start="<|im_start|>assistant\n",
    model_end="<|im_end|>\n",
    system_start="<|im_start|>system\n",
    system_end="<|im_end|>\n",
    end_of_turn="<|im_end|>",
)

# Gemma 2 and 3, Google, 2024: ai.google.dev/gemma/docs/core/prompt-structure
GEMMA = PromptTemplate(
    name="gemma",
    user_start="<start_of_turn>user\n",
    user_end="<end_of_turn>\n",
    model_start="<start_of_turn>model\n",
    model_end="<end_of_turn>\n",
    system_end="\n\n",
    system_in_user_turn=True,
    end_of_turn="<end_of_turn>",
)

TEMPLATES = {
    template.name: template
    for template in (BOOK, ALPACA, VICUNA, CHATML, GEMMA)
}


def get_template(template):
    """Return the `PromptTemplate` of that name; one is returned as it is.

    Raises:
        ValueError: no template has that name.
    """
    if isinstance(template, PromptTemplate):
        return template
    if template not in TEMPLATES:
        raise ValueError(
            f"`template` must be one of {', '.join(TEMPLATES)} or a "
            f"`PromptTemplate`. Received: template={template!r}."
        )
    return TEMPLATES[template]


def check_messages(messages):
    """Return a conversation with the roles named as here.

    Raises:
        ValueError: `messages` is no list of dicts with `role` and `content`,
            or the roles do not follow one another as `PromptTemplate.chat`
            says.
    """
    try:
        messages = [
            {"role": _ROLES[m["role"]], "content": _check_text(m["content"])}
            for m in messages
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(
            "`messages` must be a list of dicts with a `role` (one of "
            f"{', '.join(_ROLES)}) and a str as `content`. Received: "
            f"{messages!r:.200}."
        ) from error
    roles = [message["role"] for message in messages]
    turns = roles[1:] if roles[:1] == [SYSTEM] else roles
    expected = [USER, MODEL] * (len(turns) // 2) + [USER]
    if turns != expected:
        raise ValueError(
            "The turns of a conversation must be the user's and the model's "
            "in turns, and the last the user's, after at most one system "
            f"message. Received: roles {roles}."
        )
    return messages


def encode(tokenizer, segments):
    """Tokenize segments so that only marks can become control tokens.

    Text that people wrote may hold `"<end_of_turn>"`. Tokenized as it stands
    it would end the turn, and anybody could put words in the model's mouth.
    Here it is tokenized in two halves, which read the same and mean nothing.
    It does not matter which template is used. Marks that are text like any
    other (those of `BOOK` and `ALPACA`) cannot be protected.

    Args:
        tokenizer: a KerasHub tokenizer. A SentencePiece one should be without
            a dummy prefix, as Gemma's and ours are.
        segments: list of pairs `(text, is_mark)`.

    Returns:
        list of int.
    """
    return encode_all(tokenizer, [segments])[0]


def encode_all(tokenizer, texts):
    """Return `encode` of each of many lists of segments, in one go."""
    every_segment = {segment for segments in texts for segment in segments}
    halve = _halver(special_tokens(tokenizer, every_segment))
    pieces, counts = [], []
    for segments in texts:
        halves = [
            piece
            for text, is_mark in segments
            for piece in ([text] if is_mark else halve(text))
        ]
        pieces += halves
        counts.append(len(halves))
    if not pieces:
        return [[] for _ in texts]
    rows = iter(tokenizer(pieces))
    return [
        [int(i) for _ in range(count) for i in ops.convert_to_numpy(next(rows))]
        for count in counts
    ]


def start_tokens(tokenizer):
    """Return what a prompt begins with: a list with `<bos>`, or none.

    A tokenizer whose start token is its end token, `<|endoftext|>`, has none:
    pretraining sets that one after texts.
    """
    start = getattr(tokenizer, "start_token_id", None)
    end = getattr(tokenizer, "end_token_id", None)
    return [] if start is None or start == end else [start]


def special_tokens(tokenizer, segments=()):
    """Return the tokens that must not come out of what people write.

    These are the tokenizer's own, those that it never splits or that somebody
    set into its vocabulary, and those in the marks of a template.

    Args:
        tokenizer: a KerasHub tokenizer.
        segments: list of pairs `(text, is_mark)`.

    Returns:
        set of str.
    """
    special = set(getattr(tokenizer, "special_tokens", ()))
    special.update(getattr(tokenizer, "unsplittable_tokens", None) or ())
    proto = getattr(tokenizer, "proto", None)
    if isinstance(proto, bytes):
        special |= _user_defined_symbols(proto)
    for text, is_mark in segments:
        if is_mark:
            # <end_of_turn>, <|im_end|>, </s>
            found = re.findall(r"<[^<>\s]+>", text)
            special.update(
                t for t in found if token_id_of(tokenizer, t) is not None
            )
    return {token for token in special if len(token) > 1}


@functools.lru_cache(maxsize=4)
def _user_defined_symbols(proto):
    """Return the marks that somebody set into a SentencePiece vocabulary.

    A tokenizer names few of them: Gemma's has more than 6,000, and one for
    text only does not know what its tokens for images are. They are pieces
    with the score 0, that of no learned piece but the first, and look like
    `<end_of_turn>` or `[multimodal]`. Runs of spaces do not. (SentencePiece
    tells the type of a piece in its protocol buffer alone, whose module
    cannot be imported beside that of Transformers.)
    """
    vocabulary = sentencepiece.SentencePieceProcessor(model_proto=proto)
    pieces = vocabulary.id_to_piece(list(range(vocabulary.get_piece_size())))
    return frozenset(
        piece
        for number, piece in enumerate(pieces)
        if re.fullmatch(r"<.+>|\[.+\]", piece)
        and vocabulary.get_score(number) >= 0
        and not vocabulary.is_byte(number)  # <0x0A>, which no text becomes
    ).difference(_HARMLESS)


def _halver(special):
    """Return a function from a text to its parts, a list of str.

    Each special token in the text is cut after its first character.
    """
    firsts = {token[0] for token in special}
    lengths = {len(token) for token in special}

    def halve(text):
        # A look for each length, not for each of thousands of tokens. Those
        # that overlap are found, too.
        cuts = [
            i + 1
            for i, character in enumerate(text)
            if character in firsts
            and any(text[i : i + length] in special for length in lengths)
        ]
        return [
            text[i:j] for i, j in zip([0, *cuts], [*cuts, None], strict=True)
        ]

    return halve


def _join(segments):
    return "".join(text for text, _ in segments)


def _tidy(segments):
    """Leave out empty segments and join marks that are neighbours.

    Texts stay apart, each as somebody wrote it.
    """
    tidy = []
    for text, is_mark in segments:
        if tidy and tidy[-1][1] and is_mark:
            tidy[-1] = (tidy[-1][0] + text, True)
        elif text:
            tidy.append((text, is_mark))
    return tidy


def _check_text(text):
    if not isinstance(text, str):
        raise TypeError
    return text
