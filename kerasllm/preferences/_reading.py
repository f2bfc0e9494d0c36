"""Files of preferences: reading the usual forms, and writing one of them."""

import contextlib
import json
import re
import warnings

from kerasllm import files
from kerasllm.checks import UserError, check_lists, check_path, shown
from kerasllm.instructions import KEYS, find_system, split_conversation
from kerasllm.preferences._preference import Preference, check_preferences
from kerasllm.preferences._ranking import pairs_from_ranking

PROMPT_KEYS = KEYS["instruction"]
_ROLES = {"Human": "user", "Assistant": "model"}
_SPEAKER = re.compile(f"\n\n({'|'.join(_ROLES)}):")


def read_preferences(path):
    r"""Read preferences from a file with one JSON object per line.

    An object has one of these forms. `prompt` may also be `instruction` or
    `question`.

    - Texts: `prompt`, `chosen`, and `rejected`.
    - Conversations: `chosen` and `rejected` are lists of messages with `role`
      and `content`. Either `prompt` is what comes before them, a list of
      messages or the text of one, or both lists begin with it.
    - Transcripts, as in HH-RLHF: `chosen` and `rejected` are conversations in
      one text, with `"\n\nHuman:"` and `"\n\nAssistant:"` before the turns.
      They differ in the last turn.
    - Rankings: `prompt` and `responses`, a list of texts, the best one first,
      or with `ranks` or `scores`; see `pairs_from_ranking`.

    Pairs may have a `margin`, a number, and a message under `system` or
    `system_prompt`. Of a conversation, the last request is the prompt, and
    what was said before becomes the `messages`.

    Pairs of equal responses are left out with a warning that counts them, for
    they say nothing. So are transcripts that differ before the last turn or
    do not alternate, because HH-RLHF has a few.

    Args:
        path: str or path of a UTF-8 file. One that begins with `[` is one
            JSON array of such objects.

    Returns:
        list of `Preference`. A response may be empty.

    Raises:
        MissingFileError: there is no such file.
        UserError: a line has none of these forms or is no UTF-8, says which;
            or no pair is left.

    Source: Bai et al., 2022, arXiv:2204.05862 (HH-RLHF). The forms with
    messages are those of the library TRL.
    """
    preferences, left_out, number = [], [], 0
    for record, where in files.read_records(path, "Preference data"):
        number += 1
        pairs = parse_record(record, where)
        if not pairs and "responses" not in record:  # and not just a tie
            left_out.append(where)
        preferences += pairs
    if not preferences:
        raise UserError(
            "Preference data must have at least one pair of different "
            f"responses. Received: {path}, with {number} lines and none in "
            "them. Look at the file."
        )
    if left_out:
        warnings.warn(
            f"{len(left_out)} of {number} pairs are left out, the first one "
            f"in {left_out[0]}. Their responses are equal, or they are "
            "transcripts that differ before the last answer.",
            stacklevel=2,
        )
    return preferences


def write_preferences(preferences, path, force=False):
    """Write preferences to a file that `read_preferences` and TRL can read.

    A pair without messages is a line with the texts `prompt`, `chosen`, and
    `rejected`. One with messages is a line with these as lists of messages.
    Either has its `margin`, if it has one.

    Args:
        preferences: list of `Preference`.
        path: str or path of the file. It appears once it is complete.
        force: bool. Whether to replace a file that others wrote or changed.

    Raises:
        UserError: one of the preferences is something else, or the folder of
            `path` cannot be written to.
        RunError: there is a file that was not written by this function, or
            that was changed since; see `force`.
    """
    (preferences,) = check_lists(preferences=preferences)
    check_preferences(preferences)
    files.check_may_write(check_path("path", path).parent)
    files.check_unchanged([path], force)
    with files.whole_file(path) as file:
        for preference in preferences:
            json.dump(_record(preference), file, ensure_ascii=False)
            file.write("\n")
    files.remember(path)


def _record(preference):
    """Return a preference as a dict of texts or of lists of messages."""
    said = {
        "prompt": [*preference.messages, ("user", preference.prompt)],
        "chosen": [("model", preference.chosen)],
        "rejected": [("model", preference.rejected)],
    }
    record = {
        name: to_messages(turns) if preference.messages else turns[-1][1]
        for name, turns in said.items()
    }
    if preference.margin is not None:
        record["margin"] = preference.margin
    return record


def to_messages(turns):
    """Return pairs of a role and a text as dicts, with the usual names."""
    return [
        {"role": "assistant" if role == "model" else role, "content": text}
        for role, text in turns
    ]


def parse_record(record, where):
    """Return the preferences of a JSON object: a list.

    Args:
        record: dict.
        where: str, where it is, for messages.
    """
    if "responses" in record:
        return _parse_ranking(record, where)
    prompt = _find_prompt(record, where)
    responses = record.get("chosen"), record.get("rejected")
    if _are_transcripts(prompt, responses):
        pair = [_split_transcript((prompt or "") + text) for text in responses]
        if None in pair or pair[0][:2] != pair[1][:2]:
            return []
    else:
        pair = _split_conversations(prompt, responses, where)
    (messages, request, chosen), (_, _, rejected) = pair
    messages = _with_system(record, messages, where)
    if chosen == rejected:
        return []
    margin = record.get("margin")
    with _saying(where):
        return [Preference(request, chosen, rejected, margin, messages)]


def _find_prompt(record, where):
    """Return the prompt of a JSON object: a str, a list, or `None`."""
    found = [
        record[key] for key in PROMPT_KEYS if record.get(key) not in (None, "")
    ]
    if len(found) > 1 or not isinstance(found[0] if found else "", str | list):
        raise UserError(
            "A pair must have one prompt, a string or a list of messages, "
            f"under one of the keys {', '.join(PROMPT_KEYS)}. Received: "
            f"{where} with {len(found)}: {shown(found)}."
        )
    return found[0] if found else None


def parse_prompt(record, where):
    """Return the messages and the prompt of a JSON object: a tuple, a str."""
    # A conversation ends with an answer: here, with an empty one.
    prompt = _find_prompt(record, where)
    return _split_conversation(prompt, "", where)[:2]


def _with_system(record, messages, where):
    """Return messages after the system message that stands beside them."""
    system = find_system(record)
    if system is None:
        return messages
    if messages and messages[0][0] == "system":
        raise UserError(
            "A pair must have at most one system message. Received: "
            f"{where} with {shown(system)} and {shown(messages[0][1])}. Remove "
            "one."
        )
    return (("system", system), *messages)


def _parse_ranking(record, where):
    """Return the pairs of a ranking."""
    messages, request = parse_prompt(record, where)
    messages = _with_system(record, messages, where)
    with _saying(where):
        return pairs_from_ranking(
            request,
            record["responses"],
            record.get("ranks"),
            record.get("scores"),
            messages,
        )


def _split_conversations(prompt, responses, where):
    """Return messages, prompt and answer of both responses of a pair."""
    if not all(isinstance(response, str | list) for response in responses):
        hint = " A file of requests with an answer is for `kerasllm finetune`."
        raise UserError(
            "A pair must have `chosen` and `rejected`, texts or lists of "
            f"messages; a ranking has `responses`. Received: {where} with "
            f"chosen={shown(responses[0])}, rejected={shown(responses[1])}."
            f"{hint if responses[0] is responses[1] is None else ''}"
        )
    first, second = (
        _split_conversation(prompt, response, where) for response in responses
    )
    if first[:2] != second[:2]:
        raise UserError(
            "Two conversations of a pair must differ in the last answer only. "
            f"Received: {where}, where what comes before differs, too. Remove "
            "the line."
        )
    return first, second


def _split_conversation(prompt, response, where):
    """Return the messages, the prompt, and the answer of a response.

    Args:
        prompt: str, list of messages, or `None`.
        response: str or list of messages, which may begin with the prompt.
        where: str, for messages.
    """
    if prompt is None and isinstance(response, str):
        raise UserError(
            "A pair of texts must have a prompt, under one of the keys "
            f"{', '.join(PROMPT_KEYS)}, or be two transcripts, which begin "
            f"with a blank line and `Human:`. Received: {where} without one."
        )
    if isinstance(response, str):
        response = [{"role": "assistant", "content": response}]
    if isinstance(prompt, str):
        is_answer = len(response) == 1
        prompt = [{"role": "user", "content": prompt}] if is_answer else []
    turns = [*(prompt or []), *response]
    return split_conversation(turns, where, empty_answers=True)[-1]


def _are_transcripts(prompt, responses):
    """Return whether the first of the texts begins with a speaker."""
    is_text = all(isinstance(response, str) for response in responses)
    first = responses[0] if prompt is None else prompt
    return is_text and isinstance(first, str) and bool(_SPEAKER.match(first))


def _split_transcript(text):
    """Return the messages, the prompt, and the answer of a transcript.

    Returns `None` if the turns do not alternate up to an answer.
    """
    _, *parts = _SPEAKER.split(text)
    turns = [
        (_ROLES[speaker], said.strip())
        for speaker, said in zip(parts[::2], parts[1::2], strict=True)
    ]
    count, rest = divmod(len(turns), 2)
    if rest or [role for role, _ in turns] != ["user", "model"] * count:
        return None
    *messages, (_, request), (_, answer) = turns
    return tuple(messages), request, answer


@contextlib.contextmanager
def _saying(where):
    """Say where a mistake is: in which line of thousands."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{error} It is in {where}.") from None
