"""Conversations in the formats of OpenAI and ShareGPT, turned into examples."""

from kerasllm.checks import UserError, check_list, shown

# The names of the speakers, and what they are called here.
_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "model",
    "model": "model",
    "gpt": "model",
    "chatgpt": "model",
}


def find_conversation(record):
    """Return the list of turns in a JSON object, or `None` if it has none.

    Args:
        record: dict.
    """
    for key in ("messages", "conversations"):
        if isinstance(record.get(key), list):
            return record[key]
    # A prompt and a completion may be lists of messages, too.
    prompt, completion = record.get("prompt"), record.get("completion")
    if isinstance(prompt, list) and isinstance(completion, list):
        return [*prompt, *completion]
    return None


def find_system(record):
    """Return the system message beside a conversation, or `None`.

    ShareGPT has it under `system`, and OpenOrca under `system_prompt`.

    Args:
        record: dict.
    """
    for key in ("system", "system_prompt"):
        if isinstance(record.get(key), str) and record[key].strip():
            return record[key]
    return None


def split_conversation(turns, where, empty_answers=False):
    """Return what is said before each answer of a conversation.

    Args:
        turns: list of dicts, `{"role": ..., "content": ...}` or
            `{"from": ..., "value": ...}`.
        where: str, for messages.
        empty_answers: bool. Whether an answer may be an empty text.

    Returns:
        list of triples: the messages before the request, a tuple of pairs
        `(role, text)`; the request; and its answer. An answer whose `weight`
        is 0, as OpenAI marks those not to learn from, has none.

    Raises:
        UserError: a turn is something else, or the turns do not alternate.
    """
    textless = {"system", "model"} if empty_answers else {"system"}
    turns = check_list("turns", turns)
    messages = [_parse_turn(turn, where, textless) for turn in turns]
    first = 1 if messages and messages[0][0] == "system" else 0
    if messages and messages[-1][0] == "user":
        messages.pop()  # nobody has answered it
    roles = [role for role, _ in messages]
    count = (len(roles) - first) // 2
    if count == 0 or roles[first:] != ["user", "model"] * count:
        raise UserError(
            "The turns of a conversation must alternate between the user and "
            "the assistant, beginning with the user, after at most one system "
            f"message. Received: {where} with the roles {shown(roles)}. Mend "
            "or remove it."
        )
    return [
        (tuple(messages[:i]), messages[i][1], messages[i + 1][1])
        for i in range(first, len(messages), 2)
        if empty_answers or not _is_zero(turns[i + 1].get("weight"))
    ]


def _is_zero(weight):
    """Return whether a weight is zero, as a number or as a file writes it."""
    return repr(weight) in ("0", "0.0")


def _parse_turn(turn, where, textless):
    """Return the role and the text of a turn, empty for `textless` roles."""
    turn = turn if isinstance(turn, dict) else {}
    role = turn.get("role", turn.get("from"))
    said = text = turn.get("content", turn.get("value"))
    if isinstance(text, list):  # OpenAI's list of parts
        parts = [p.get("text") if isinstance(p, dict) else None for p in text]
        is_text = all(isinstance(part, str) for part in parts)
        text = "".join(parts) if is_text else None
    if not isinstance(role, str) or role not in _ROLES:
        raise UserError(
            "A turn of a conversation must have a `role` (or `from`) that is "
            f"one of {', '.join(_ROLES)}. Received: {where} with "
            f"{shown(role)} in a turn with the keys "
            f"{', '.join(map(str, turn)) or '(none)'}."
        )
    is_empty = text == "" and _ROLES[role] not in textless
    if not isinstance(text, str) or is_empty:
        raise UserError(
            "A turn of a conversation must have text as its `content` (or "
            f"`value`). Received: {where} with {shown(said)} from {role}. "
            "Leave out calls of tools, and give an image as `image`."
        )
    return _ROLES[role], text
