"""Finding the delimiters in a chat template written in Jinja."""

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kerasllm.prompts._templates import PromptTemplate

AUTO = "auto"
# What people say in the conversations that a template is asked to write. The
# letters are of Unicode's private area: no template has them itself.
_SYSTEM, _FIRST, _ANSWER, _SECOND = "\ue000s", "\ue000f", "\ue000a", "\ue000n"


def template_from_jinja(source, end_token=""):
    """Return the delimiters of a Transformers chat template.

    Templates in Jinja are programs. The template renders a few conversations,
    and the strings between the texts are the delimiters. They are then checked
    on another conversation.

    Args:
        source: str, `chat_template` of a tokenizer of Transformers.
        end_token: str. What the program gets as `eos_token`. Its `bos_token`
            is empty, for prompts get theirs with the tokens.

    Returns:
        A `PromptTemplate` named `"auto"`, or `None` if the template does not
        write delimiters around turns, and nothing else.

    Source: Hugging Face, "Templates for chat models".
    """
    try:
        write = _Writer(source, end_token)
        template = _read_delimiters(write)
        return template if _agrees(template, write) else None
    except (jinja2.TemplateError, ValueError, TypeError, LookupError):
        return None


class _Writer:
    """Writes conversations with a template."""

    def __init__(self, source, end_token):
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols"],
        )
        environment.globals["raise_exception"] = _refuse
        self._template = environment.from_string(source)
        self._end_token = end_token

    def __call__(self, *texts, system=None, asks=False):
        """Return a conversation as text.

        Args:
            *texts: str, in turn the user's and the model's.
            system: str, or `None`.
            asks: bool. Whether to end where an answer begins.
        """
        roles = ("user", "assistant")
        messages = [
            {"role": roles[i % 2], "content": text}
            for i, text in enumerate(texts)
        ]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        return self._template.render(
            messages=messages,
            add_generation_prompt=asks,
            bos_token="",
            eos_token=self._end_token,
        )


def _refuse(message):
    raise jinja2.TemplateError(message)


def _read_delimiters(write):
    """Return a `PromptTemplate` with what stands between texts."""
    head, tail = write(_FIRST).split(_FIRST)
    answered = write(_FIRST, _ANSWER)
    model_end = answered.split(_ANSWER)[1]
    conversation = write(_FIRST, _ANSWER, _SECOND, asks=True)
    to_model = _between(conversation, _FIRST, _ANSWER)
    to_user = _between(conversation, _ANSWER, _SECOND)
    user_start = to_user.removeprefix(model_end)
    default = {"system": "", "system_start": "", "system_end": ""}
    try:
        default = _read_system(write, head, user_start)
    except jinja2.TemplateError:  # the model was trained without any
        if head != user_start:
            raise
    return PromptTemplate(
        name=AUTO,
        user_start=user_start,
        user_end=tail,
        model_start=to_model.removeprefix(tail),
        model_end=model_end,
        end_of_turn=model_end.strip(),
        **default,
    )


def _read_system(write, head, user_start):
    """Return what a template does with a system message, a dict."""
    with_system = write(_FIRST, system=_SYSTEM)
    start = with_system[: with_system.index(_SYSTEM)]
    end = _between(with_system, _SYSTEM, _FIRST)
    in_user_turn = not end.endswith(user_start) and start == user_start
    if in_user_turn:
        start = ""
    else:
        end = end.removesuffix(user_start)
    default = ""
    if head != user_start:
        default = head.removesuffix(user_start).removesuffix(end)
        default = default.removeprefix(start)
    return {
        "system": default,
        "system_start": start,
        "system_end": end,
        "system_in_user_turn": in_user_turn,
    }


def _between(text, first, second):
    return text[text.index(first) + len(first) : text.index(second)]


def _agrees(template, write):
    """Tell whether delimiters write what the template in Jinja does."""
    if not template.model_start or not template.end_of_turn:
        return False  # nobody could tell where an answer begins or ends
    texts = ["What is it?", "It\n\nis  this.", "Why?", "1 < 2", "So?"]
    roles = ("user", "assistant")
    messages = [
        {"role": roles[i % 2], "content": text} for i, text in enumerate(texts)
    ]
    if template.chat(messages) != write(*texts, asks=True):
        return False
    if not template.system_start and not template.system_in_user_turn:
        return True
    system = {"role": "system", "content": "Be kind."}
    return template.chat([system, *messages]) == write(
        *texts, system="Be kind.", asks=True
    )
