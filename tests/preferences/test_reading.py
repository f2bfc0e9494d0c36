"""Reading preferences: the usual forms, and lines that are named in errors."""

import json
import math
import warnings

import pytest

from kerasllm.checks import RunError, UserError
from kerasllm.preferences import (
    Preference,
    pairs_from_ranking,
    read_preferences,
    write_preferences,
)

pytestmark = pytest.mark.any_backend

EARLIER = (("user", "Hi."), ("model", "Hello."))
SYSTEM = ("system", "Be brief.")
PLAIN = Preference("Why?", "Because.", "No.")


def write(path, *records):
    lines = [r if isinstance(r, str) else json.dumps(r) for r in records]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def openai(*turns):
    return [{"role": role, "content": text} for role, text in turns]


@pytest.fixture
def read(tmp_path):
    """Return a function that reads records from a file."""
    path = tmp_path / "pairs.jsonl"

    def read(*records):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return read_preferences(write(path, *records))

    return read


def test_texts(read):
    pair = {"chosen": "Because.", "rejected": "No."}
    assert read(
        {"prompt": "Why?", **pair},
        "",
        {"question": "Why?", "prompt": None, "id": 3, **pair},
        {"instruction": "Why?", "margin": 2, **pair},
        {"prompt": "Why?", "chosen": "No.", "rejected": ""},
    ) == [
        PLAIN,
        PLAIN,
        Preference("Why?", "Because.", "No.", 2.0),
        Preference("Why?", "No.", ""),
    ]


ASKED = ("user", "Hi."), ("assistant", "Hello."), ("user", "Why?")
OF_A_CONVERSATION = {
    "explicit prompt": {
        "prompt": openai(*ASKED),
        "chosen": openai(("assistant", "Because.")),
        "rejected": openai(("assistant", "No.")),
    },
    "implicit prompt": {
        "chosen": openai(*ASKED, ("assistant", "Because.")),
        "rejected": openai(*ASKED, ("assistant", "No.")),
    },
    # As UltraFeedback has it: the first request once more, as a text.
    "prompt twice": {
        "prompt": "Hi.",
        "chosen": openai(*ASKED, ("assistant", "Because.")),
        "rejected": openai(*ASKED, ("assistant", "No.")),
        "messages": openai(*ASKED, ("assistant", "Because.")),
    },
    "answers as texts": {
        "prompt": openai(*ASKED), "chosen": "Because.", "rejected": "No."
    },
    "transcripts": {
        "chosen": "\n\nHuman: Hi.\n\nAssistant: Hello.\n\nHuman: Why?"
        "\n\nAssistant: Because.",
        "rejected": "\n\nHuman: Hi.\n\nAssistant: Hello.\n\nHuman: Why?"
        "\n\nAssistant: No.",
    },
    "transcripts with their common prefix apart": {
        "prompt": "\n\nHuman: Hi.\n\nAssistant: Hello.\n\nHuman: Why?"
        "\n\nAssistant:",
        "chosen": " Because.",
        "rejected": " No.",
    },
    "ranking": {
        "prompt": openai(*ASKED), "responses": ["Because.", "No."]
    },
}  # fmt: skip


@pytest.mark.parametrize("form", OF_A_CONVERSATION)
def test_the_last_request_is_the_prompt(read, form):
    expected = Preference("Why?", "Because.", "No.", messages=EARLIER)
    assert read(OF_A_CONVERSATION[form]) == [expected]


@pytest.mark.parametrize("key", ["system", "system_prompt"])
def test_a_system_message_may_stand_beside_a_pair(read, key):
    earlier = (("system", "Be brief."),)
    record = {key: "Be brief.", "question": "Why?"}
    expected = [Preference("Why?", "a", "b", messages=earlier)]
    assert read(record | PAIR) == expected
    assert read(record | {"responses": ["a", "b"]}) == expected


def test_one_request_may_be_a_text_beside_messages(read):
    answers = [openai(("assistant", text)) for text in ("Because.", "No.")]
    record = dict(zip(("chosen", "rejected"), answers, strict=True))
    assert read({"prompt": "Why?", **record}) == [PLAIN]
    system = openai(SYSTEM, ("user", "Why?"))
    assert read({"prompt": system, **record}) == [
        Preference("Why?", "Because.", "No.", messages=[SYSTEM])
    ]


def test_a_transcript_keeps_all_that_is_no_speaker(read):
    answer = "One.\n\nTwo: a Human: or an\n\nAssistant of sorts."
    start = "\n\nHuman:  Why?\nTell me. \n\nAssistant:"
    assert read({"chosen": f"{start} {answer}", "rejected": start}) == [
        Preference("Why?\nTell me.", answer, "")
    ]


def test_a_ranking_decides_all_its_pairs():
    def pairs(*arguments, **named):
        found = pairs_from_ranking("Why?", list("abcd"), *arguments, **named)
        return ["".join((p.chosen, p.rejected)) for p in found]

    assert pairs() == ["ab", "ac", "ad", "bc", "bd", "cd"]
    assert pairs(ranks=[2, 1, 4, 3]) == ["ba", "bd", "bc", "ad", "ac", "dc"]
    assert pairs(scores=[0.5, 1, -2, 0]) == pairs(ranks=[2, 1, 4, 3])
    # Of six pairs two are ties.
    assert sorted(pairs([1, 1, 2, 2])) == ["ac", "ad", "bc", "bd"]
    assert pairs(scores=[3, 3, 3, 3]) == []
    for k in range(2, 8):
        found = pairs_from_ranking("Why?", [str(i) for i in range(k)])
        assert len(set(found)) == k * (k - 1) / 2
        assert all(int(p.chosen) < int(p.rejected) for p in found)
    # A response that occurs twice is not better than itself.
    assert pairs_from_ranking("Why?", ["a", "b", "a"], messages=[SYSTEM]) == [
        Preference("Why?", "a", "b", messages=[SYSTEM]),
        Preference("Why?", "b", "a", messages=[SYSTEM]),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ranks": [1, 2], "scores": [1, 2]}, "`ranks` or `scores`, not both"),
        ({"ranks": [1]}, r"`ranks`.*each response.*\[1\] for 2 responses"),
        ({"scores": [1, math.nan]}, "`scores`.*finite number"),
        ({"scores": [1, "2"]}, "`scores`.*finite number"),
        ({"ranks": 3}, "`ranks` must be a list"),
        ({"responses": ["a"]}, "at least two responses"),
        ({"responses": "ab"}, "`responses` must be a list"),
        ({"responses": ["a", None]}, "`responses` must be a string"),
    ],
)
def test_what_is_no_ranking(arguments, message):
    with pytest.raises(UserError, match=message):
        pairs_from_ranking("Why?", **({"responses": ["a", "b"]} | arguments))


def test_rankings_in_a_file(read):
    ranking = {"prompt": "Why?", "responses": ["No.", "Because."]}
    tie = {**ranking, "ranks": [1, 1]}
    assert read(tie, {**ranking, "ranks": [2, 1]}) == [PLAIN]
    assert read({**ranking, "scores": [-1, 2.5], "ranks": None}) == [PLAIN]
    with pytest.raises(UserError, match="at least one pair.*1 lines"):
        read(tie)


GREETED = "\n\nHuman: Hi.\n\nAssistant: Hello."
OF_NO_USE = {
    "equal": {"prompt": "Why?", "chosen": "No.", "rejected": "No."},
    "an earlier turn differs": {
        "chosen": GREETED + "\n\nHuman: Why?\n\nAssistant: No.",
        "rejected": "\n\nHuman: Hi.\n\nAssistant: Hm.\n\nHuman: Why?"
        "\n\nAssistant: No, no.",
    },
    "one is longer": {
        "chosen": GREETED,
        "rejected": GREETED + "\n\nHuman: Why?\n\nAssistant: No.",
    },
    "twice the same speaker": {
        "chosen": "\n\nHuman: Hi." + GREETED,
        "rejected": "\n\nHuman: Hi." + GREETED + "!",
    },
    "no answer": {
        "chosen": GREETED + "\n\nHuman: Why?",
        "rejected": GREETED + "\n\nHuman: Who?",
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", OF_NO_USE)
def test_pairs_of_no_use_are_counted(tmp_path, kind):
    good = {"prompt": "Why?", "chosen": "Because.", "rejected": "No."}
    bad = OF_NO_USE[kind]
    path = write(tmp_path / "pairs.jsonl", good, bad, good, bad)
    with pytest.warns(UserWarning, match="2 of 4.*left out.*line 2"):
        assert read_preferences(path) == [PLAIN] * 2


PAIR = {"chosen": "a", "rejected": "b"}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("[1]", "JSON object.*line 2"),
        ({"prompt": "Why?", "chosen": "a"}, "`rejected`.*line 2.*None"),
        ({"prompt": "Why?", "response": "a"}, "`responses`.*line 2"),
        (PAIR, "must have a prompt.*line 2"),
        ({"prompt": "Why?", "question": "Who?", **PAIR}, "one prompt.*line 2"),
        ({"prompt": 3, **PAIR}, "one prompt.*line 2"),
        ({"prompt": "Why?", "chosen": "a", "rejected": 3}, "line 2.*ejected=3"),
        ({"prompt": "Why?", "margin": "2", **PAIR}, "`margin`.*line 2"),
        ({"prompt": "Why?", "margin": 1e39, **PAIR}, "`margin`.*float32.*ne 2"),
        ({"prompt": "Why?", "margin": 10**400, **PAIR}, "`margin`.*line 2"),
        ({"prompt": openai(("system", "a"), ("user", "Why?")), "system": "b",
          **PAIR}, "at most one system message.*line 2"),
        ({"prompt": "Why?", "chosen": "\ud83d", "rejected": "b"},
         "UTF-8.*line 2"),
        ({"prompt": openai(("user", "Why?"), ("user", "Who?")), **PAIR},
         "alternate.*line 2"),
        ({"chosen": openai(("user", "Hi."), ("assistant", "a")),
          "rejected": openai(("user", "Ho."), ("assistant", "b"))},
         "the last answer only.*line 2"),
        ({"prompt": "Why?", "responses": ["a"]}, "at least two.*line 2"),
        ({"responses": ["a", "b"]}, "must have a prompt.*line 2"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named(read, record, message):
    good = {"prompt": "Why?", **PAIR}
    with pytest.raises(UserError, match=message):
        read(good, record)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="JSONL file.*gone.jsonl"):
        read_preferences(tmp_path / "gone.jsonl")
    with pytest.raises(UserError, match="at least one pair.*0 lines"):
        read_preferences(write(tmp_path / "empty.jsonl"))


def test_what_is_written_is_read_again(tmp_path):
    preferences = [
        Preference('"Why?"\n', "Übung\u2028.", "", 0.1),
        Preference("Why?", "", "No.", messages=[SYSTEM, *EARLIER]),
        Preference("\n Human: Why?", "a", "b", messages=EARLIER),
    ]
    path = tmp_path / "pairs.jsonl"
    write_preferences(preferences, path)
    assert read_preferences(path) == preferences
    # TRL knows the speakers by these names.
    second = json.loads(path.read_text("utf-8").split("\n")[1])
    assert second["prompt"] == openai(SYSTEM, *ASKED)
    assert second["rejected"] == openai(("assistant", "No."))


def test_only_files_of_its_own_are_replaced(tmp_path):
    path = tmp_path / "pairs.jsonl"
    write_preferences([PLAIN], path)
    write_preferences(iter([PLAIN, PLAIN]), path)  # which gives them once
    assert len(read_preferences(path)) == 2
    path.write_text("mine")
    with pytest.raises(RunError, match="nobody has changed.*pairs.jsonl"):
        write_preferences([PLAIN], path)
    with pytest.raises(UserError, match="must be a `Preference`"):
        write_preferences([{"prompt": "Why?"}], path, force=True)
    with pytest.raises(UserError, match="folder that can be written to"):
        write_preferences([PLAIN], path / "pairs.jsonl")
    assert path.read_text() == "mine"
    write_preferences([PLAIN], path, force=True)
    assert read_preferences(path) == [PLAIN]
