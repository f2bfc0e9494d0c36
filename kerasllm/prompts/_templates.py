"""Prompt templates: the delimiters around the turns of a conversation."""

import dataclasses

from kerasllm.checks import UserError, check_text, shown
from kerasllm.tokenizers import token_id_of

USER, MODEL = "user", "model"
SYSTEM = "system"
_ROLES = {USER: USER, MODEL: MODEL, "assistant": MODEL, SYSTEM: SYSTEM}


@dataclasses.dataclass(frozen=True)
class PromptTemplate:
    r"""The delimiters around the turns of a conversation.

    ```python
    BOOK.prompt("Where is Rome?")  # [instruction]\nWhere ...[end]\n[response]\n
    BOOK.response("In Italy.")  # In Italy.[end]
    ```

    Attributes:
        name: str.
        user_start: str. Delimiter before what the user says.
        user_end: str. Delimiter after it.
        model_start: str. Delimiter before what the model says; a prompt ends
            with it.
        model_end: str. Delimiter after it, which the model learns to write.
        system: str. The system message of a conversation that has none of its
            own. It comes before the first turn.
        system_start: str. Delimiter before the system message.
        system_end: str. Delimiter after it.
        system_in_user_turn: bool. Whether the system message is part of the
            first user turn instead of coming before it.
        system_with_context: str. Replaces `system` when a request comes with
            a context; empty if it is the same.
        before_context: str. What separates a request from its context.
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

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if field.type is str:
                check_text(field.name, getattr(self, field.name))

    def prompt(self, instruction, context=None):
        """Return the prompt for a request, up to where the answer begins.

        Args:
            instruction: str. What the user asks for.
            context: str, a text that the request is about, or `None`.
        """
        return _join(self.prompt_segments(instruction, context))

    def response(self, text):
        """Return an answer with the delimiter that ends it."""
        check_text("text", text)
        return text + self.model_end

    def chat(self, messages):
        """Return a conversation up to where the next answer begins.

        Args:
            messages: list of dicts `{"role": ..., "content": str}`. Roles are
                `"user"` and `"model"` (or `"assistant"`) in turns, the first
                and the last of them the user's; a `"system"` message may
                come before.

        Raises:
            UserError: the roles come in another order.
        """
        return _join(self.chat_segments(messages))

    def prompt_segments(self, instruction, context=None):
        """Return `prompt` as a list of pairs `(text, is_delimiter)`.

        Delimiters become special tokens. User text does not, even if it looks
        like one; see `encode`.
        """
        check_text("instruction", instruction)
        if context is None:
            return self.chat_segments([{"role": USER, "content": instruction}])
        check_text("context", context)
        system = [(self.system_with_context or self.system, True)]
        separator = (self.before_context, True)
        request = [(instruction, False), separator, (context, False)]
        return _tidy(self._first_turn(system, request))

    def chat_segments(self, messages):
        """Return `chat` as a list of pairs `(text, is_delimiter)`."""
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
        """Return `response` as a list of pairs `(text, is_delimiter)`."""
        check_text("text", text)
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
# before the first bracket by accident.
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


def get_template(template, tokenizer=None):
    """Return the `PromptTemplate` with a name, or a template unchanged.

    Args:
        template: str or `PromptTemplate`. `"auto"` stands for `template_for`,
            where there is a tokenizer.
        tokenizer: a KerasHub tokenizer, or `None`.

    Raises:
        UserError: no template has that name.
    """
    if isinstance(template, PromptTemplate):
        return template
    is_auto = isinstance(template, str) and template == "auto"
    if is_auto and tokenizer is not None:
        return template_for(tokenizer)
    if not isinstance(template, str) or template not in TEMPLATES:
        raise UserError(
            f"`template` must be one of {', '.join(TEMPLATES)} or a "
            f"`PromptTemplate`. Received: template={shown(template)}."
        )
    return TEMPLATES[template]


def template_for(tokenizer):
    """Return the template of a tokenizer.

    Args:
        tokenizer: a KerasHub tokenizer.

    Returns:
        The template that came with the tokenizer, as it does in a GGUF file.
        Or else `GEMMA` or `CHATML` for a vocabulary with their tokens, and
        `BOOK` for any other, because its delimiters are plain text.
    """
    own = getattr(tokenizer, "prompt_template", None)
    if own is not None:
        return PromptTemplate(**own)
    for template in (GEMMA, CHATML):
        if token_id_of(tokenizer, template.end_of_turn) is not None:
            return template
    return BOOK


def check_messages(messages):
    """Return a conversation with the roles named as here.

    Raises:
        UserError: `messages` is no list of dicts with `role` and `content`,
            or the roles do not follow one another as `PromptTemplate.chat`
            says.
    """
    try:
        messages = [
            {"role": _ROLES[m["role"]], "content": m["content"]}
            for m in messages
        ]
    except (LookupError, TypeError) as error:
        raise UserError(
            "`messages` must be a list of dicts with a `role` (one of "
            f"{', '.join(_ROLES)}) and a str as `content`. Received: "
            f"{shown(messages)}."
        ) from error
    for message in messages:
        check_text(
            "content", message["content"], "Each of `messages` must have text."
        )
    roles = [message["role"] for message in messages]
    turns = roles[1:] if roles[:1] == [SYSTEM] else roles
    expected = [USER, MODEL] * (len(turns) // 2) + [USER]
    if turns != expected:
        raise UserError(
            "The turns of a conversation must alternate between the user and "
            "the model, and the first and the last must be the user's, after "
            f"at most one system message. Received: roles {shown(roles)}."
        )
    return messages


def _join(segments):
    return "".join(text for text, _ in segments)


def _tidy(segments):
    """Leave out empty segments and join adjacent delimiters.

    Texts stay apart, each as somebody wrote it.
    """
    tidy = []
    for text, is_delimiter in segments:
        if tidy and tidy[-1][1] and is_delimiter:
            tidy[-1] = (tidy[-1][0] + text, True)
        elif text:
            tidy.append((text, is_delimiter))
    return tidy
