"""Reading examples: the usual keys, and lines that are named in errors."""

import json
import math

import pytest

from kerasllm import corpora, instructions
from kerasllm.checks import UserError
from kerasllm.instructions import Instruction, read_jsonl
from tests.serving import serve

pytestmark = pytest.mark.any_backend


def write(path, *records):
    path.write_text(
        "\n".join(r if isinstance(r, str) else json.dumps(r) for r in records)
    )
    return path


def test_the_usual_keys_are_understood(tmp_path):
    path = write(
        tmp_path / "data.jsonl",
        {"instruction": "a", "response": "b", "context": ""},
        "",
        {"prompt": "a", "output": "b", "category": 3},
        {"question": "a", "solution": "b", "input": "c"},
        {"instruction": "a", "answer": "b", "context": "c"},
        {"prompt": "a", "completion": "b", "output": None, "input": None},
        {"instruction": "a", "input": "", "output": "b"},  # Alpaca
        {"input": "a", "output": "b"},
        {"instruction": "", "input": "a", "output": "b"},
        {"prompt": openai(("user", "a")), "answer": "b"},  # TRL, for GRPO
    )
    plain, with_context = Instruction("a", "b"), Instruction("a", "b", "c")
    assert read_jsonl(path) == [
        plain, plain, with_context, with_context, plain, plain, plain, plain,
        plain,
    ]  # fmt: skip


def test_images_are_looked_for_beside_the_file(tmp_path):
    """As in the metadata of a Hugging Face `imagefolder`."""
    path, address = tmp_path / "data.jsonl", "https://localhost/a.png"
    texts = {"prompt": "a", "output": "b"}
    write(
        path,
        texts | {"image": "sub/c.png"},
        texts | {"images": [address, "/d.png"]},
        texts | {"image": None, "images": []},
    )
    examples = [tuple(map(str, example.images)) for example in read_jsonl(path)]
    assert examples == [(str(tmp_path / "sub/c.png"),), (address, "/d.png"), ()]


def test_numbers_and_booleans_are_answers(tmp_path):
    lines = ["42", "0", "-3.50", "1e3", "true", "false", '"x"', "9" * 5000]
    path = write(
        tmp_path / "data.jsonl",
        *[f'{{"question": "a", "answer": {line}, "id": 7}}' for line in lines],
    )
    answers = [example.response for example in read_jsonl(path)]
    assert answers == [line.strip('"') for line in lines]


SYSTEM, ASKED = ("system", "Be brief."), ("user", "Hi")
ANSWERED = ("model", "Hello")
OF_A_CONVERSATION = [
    Instruction("Hi", "Hello", messages=[SYSTEM]),
    Instruction("Bye", "Tschüss", messages=[SYSTEM, ASKED, ANSWERED]),
]


def openai(*turns):
    return [{"role": role, "content": text} for role, text in turns]


def sharegpt(*turns):
    return [{"from": role, "value": text} for role, text in turns]


@pytest.mark.parametrize(
    "record",
    [
        {"messages": openai(("system", "Be brief."), ("user", "Hi"),
                            ("assistant", "Hello"), ("user", "Bye"),
                            ("assistant", "Tschüss"))},
        {"id": 3, "conversations": sharegpt(
            ("system", "Be brief."), ("human", "Hi"), ("gpt", "Hello"),
            ("human", "Bye"), ("gpt", "Tschüss"), ("human", "Still there?"))},
        {"prompt": openai(("developer", "Be brief."), ("user", "Hi"),
                          ("assistant", "Hello"), ("user", "Bye")),
         "completion": openai(("assistant", "Tschüss"))},
        {"prompt": "Hi", "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            *openai(("assistant", "Hello"), ("user", "Bye"),
                    ("assistant", "Tschüss"))]},
        {"system": "Be brief.", "conversations": sharegpt(
            ("human", "Hi"), ("gpt", "Hello"), ("human", "Bye"),
            ("gpt", "Tschüss"))},
        {"system_prompt": "Be brief.", "messages": openai(
            ("user", "Hi"), ("assistant", "Hello"), ("user", "Bye"),
            ("assistant", "Tschüss"))},
    ],
    ids=["openai", "sharegpt", "trl", "parts", "system", "system_prompt"],
)  # fmt: skip
def test_each_answer_of_a_conversation_is_an_example(tmp_path, record):
    path = write(tmp_path / "data.jsonl", record)
    assert read_jsonl(path) == OF_A_CONVERSATION


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"messages": openai(("user", "a"))}, r"alternate.*line 2.*\[\]"),
        ({"messages": []}, "alternate.*line 2"),
        ({"messages": openai(("assistant", "a"))}, r"line 2.*\['model'\]"),
        ({"messages": openai(("user", "a"), ("user", "b"), ("assistant", "c"))},
         "alternate.*line 2"),
        ({"messages": openai(("user", "a"), ("tool", "b"))}, "line 2.*'tool'"),
        ({"messages": ["a", "b"]}, r"`role`.*line 2.*\(none\)"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
         "text as its `content`.*line 2.*image_url.*from user"),
        ({"system": "a", **{"messages": openai(("system", "b"), ("user", "c"),
                                               ("assistant", "d"))}},
         "one system message.*line 2"),
        ({"conversations": sharegpt(("human", "a"), ("gpt", None))},
         "line 2 with None from gpt"),
        ({"messages": openai(("user", "\ud83d"), ("assistant", "b"))},
         "line 2.*surrogate"),
    ],
)  # fmt: skip
def test_a_conversation_that_cannot_be_learned_is_named(
    tmp_path, record, message
):
    good = {"instruction": "a", "response": "b"}
    path = write(tmp_path / "data.jsonl", good, record)
    with pytest.raises(UserError, match=message):
        read_jsonl(path)


def test_a_system_message_may_stand_beside_a_request(tmp_path):
    record = {"system_prompt": "Be brief.", "question": "Hi", "response": "Yo"}
    path = write(
        tmp_path / "data.jsonl", record, record | {"system_prompt": ""}
    )
    assert read_jsonl(path) == [
        Instruction("Hi", "Yo", messages=[SYSTEM]), Instruction("Hi", "Yo")
    ]  # fmt: skip
    write(path, record | {"input": "A text."})
    with pytest.raises(UserError, match="system message or a context.*line 1"):
        read_jsonl(path)


@pytest.mark.parametrize("weight", [0, 0.0])
def test_what_openai_gives_no_weight_is_not_learned(tmp_path, weight):
    first, second = openai(("assistant", "Hello"), ("assistant", "Tschüss"))
    turns = [
        *openai(SYSTEM, ASKED), first | {"weight": weight},
        {"role": "user", "content": "Bye"}, second | {"weight": 1},
    ]  # fmt: skip
    path = write(tmp_path / "data.jsonl", {"messages": turns})
    assert read_jsonl(path) == OF_A_CONVERSATION[1:]


def test_an_array_may_begin_far_down(tmp_path):
    path = tmp_path / "data.json"
    path.write_text("\n" * 200 + '[{"prompt": "a", "output": "b"}]')
    assert read_jsonl(path) == [Instruction("a", "b")]


def test_a_file_may_be_one_json_array(tmp_path):
    path = tmp_path / "data.json"
    records = [{"prompt": "a", "output": 1}, {"messages": openai(
        ("user", "Hi"), ("assistant", "Hello"))}]  # fmt: skip
    for text in (
        json.dumps(records),
        "\ufeff\n" + json.dumps(records, indent=2),
    ):
        path.write_text(text)
        expected = [Instruction("a", "1"), Instruction("Hi", "Hello")]
        assert read_jsonl(path) == expected
    path.write_text(json.dumps([records[0], {"prompt": "a"}]))
    with pytest.raises(UserError, match="data.json, element 2 with the keys"):
        read_jsonl(path)
    path.write_text('[{"prompt": "a"}\n{"prompt": "b"}]')
    with pytest.raises(UserError, match=r"begins with \[ .*line 2 column 1"):
        read_jsonl(path)
    path.write_text("[]")
    with pytest.raises(UserError, match="at least one example"):
        read_jsonl(path)


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"], ids=ascii)
def test_lines_end_as_on_any_system(tmp_path, newline):
    path = tmp_path / "data.jsonl"
    line = json.dumps({"prompt": "a\u2028b", "output": "c"}, ensure_ascii=False)
    lines = ["\ufeff" + line, "", " ", line, "{"]
    path.write_bytes(newline.join(lines[:-1]).encode())
    assert read_jsonl(path) == [Instruction("a\u2028b", "c")] * 2
    path.write_bytes(newline.join(lines).encode())
    with pytest.raises(UserError, match="line 5"):
        read_jsonl(path)


def test_a_context_cannot_follow_messages():
    with pytest.raises(UserError, match="`messages` or a `context`"):
        Instruction("a", "b", "c", messages=[SYSTEM])


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("{", "JSON object.*line 2"),
        ("[1]", "JSON object.*line 2"),
        (
            '{"prompt": "a", "output": "b", "prompt": "c"}',
            "line 2: the key 'prompt' is there twice",
        ),
        ("prompt,output", "line 2: Expecting.*on a line of its own"),
        (
            {"prompt": openai(("user", "a")), "chosen": "b"},
            "for `kerasllm dpo`",
        ),
        ("9" * 5000, "JSON object.*line 2"),
        ("[" * 100_000, "JSON object.*line 2"),
        ({"instruction": "a"}, "a response that.*line 2.*keys instruction"),
        ({"response": "a"}, "an? instruction that is not empty, .*line 2"),
        ({"prompt": "a", "question": "b", "output": "c"}, "one instruction.*2"),
        ({"prompt": 3, "output": "c"}, "one instruction, a string.*line 2"),
        ({"prompt": " ", "output": ""}, "response"),
        ({"prompt": "a", "output": "b", "image": 3}, "images of.*line 2"),
        ({"prompt": "a", "output": "b", "images": ["c", 3]}, "images of"),
        ({"prompt": "a", "output": "b", "image": "c", "images": "d"}, "image"),
    ],
)
def test_a_bad_line_is_named(tmp_path, record, message):
    good = {"instruction": "a", "response": "b"}
    path = write(tmp_path / "data.jsonl", good, record)
    with pytest.raises(ValueError, match=message):
        read_jsonl(path)


@pytest.mark.parametrize(
    ("encoding", "where"),
    [("latin-1", ", line 2"), ("utf-16", ""), ("utf-16-le", "")],
)
def test_what_is_not_utf_8_is_named(tmp_path, encoding, where):
    path = write(tmp_path / "data.jsonl", *[{"prompt": "a", "output": "b"}] * 2)
    text = path.read_text().splitlines()
    text[1] = text[1].replace("b", "Übung")
    path.write_text("\n".join(text), encoding=encoding)
    name = "ENCODING" if encoding == "latin-1" else "UTF-16"
    message = f"UTF-8.*data.jsonl{where}[,:] .*iconv -f {name} "
    with pytest.raises(ValueError, match=message):
        read_jsonl(path)


@pytest.mark.parametrize(
    ("start", "cure"),
    [
        (b"\x1f\x8b\x08", "gzip file: unpack it with `gunzip`"),
        (b"PK\x03\x04", "ZIP archive"),
        (b"PAR1\x15", "Parquet file: write it as JSONL"),
        (b"%PDF-1.7\n", "PDF file: save its text"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path, start, cure):
    """To convert its encoding would make a text of it, and nonsense."""
    path = tmp_path / "data.jsonl"
    path.write_bytes(start + bytes(range(256)))
    with pytest.raises(UserError, match=cure):
        read_jsonl(path)
    with pytest.raises(UserError, match=cure):
        corpora.text_shards(path.rename(tmp_path / "data.txt"))


def test_a_byte_order_mark_is_none_of_the_text(tmp_path):
    path = write(tmp_path / "data.jsonl", {"prompt": "a", "output": "Übung"})
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert read_jsonl(path) == [Instruction("a", "Übung")]


@pytest.mark.parametrize("part", ["prompt", "output", "input"])
def test_half_a_character_is_refused(tmp_path, part):
    example = {"prompt": "a", "output": "b", "input": "c"}
    whole = write(tmp_path / "whole.jsonl", example | {part: "\U0001f600"})
    assert len(read_jsonl(whole)) == 1  # JSON's "\ud83d\ude00"
    half = write(tmp_path / "half.jsonl", example, example | {part: "\ud83d"})
    with pytest.raises(ValueError, match="half.jsonl, line 2.*surrogate"):
        read_jsonl(half)


def test_an_empty_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one example"):
        read_jsonl(write(tmp_path / "data.jsonl", ""))


def test_dolly_is_read_with_or_without_contexts(tmp_path):
    examples = write(
        tmp_path / "data.jsonl",
        {"instruction": "a", "context": "", "response": "b", "category": "x"},
        {"instruction": "a", "context": "c", "response": "b", "category": "x"},
    )
    with serve(examples.read_bytes()) as (url, _):
        arguments = {"directory": tmp_path / "cache", "url": url}
        assert instructions.dolly(**arguments) == [Instruction("a", "b")]
        assert len(instructions.dolly("use", **arguments)) == 2
    with pytest.raises(ValueError, match='context.*"drop".*Received'):
        instructions.dolly("keep", **arguments)


def test_one_image_stands_for_a_tuple_of_one():
    example = Instruction("<start_of_image>Which?", "x", images="picture.png")
    assert example.images == ("picture.png",)
    assert Instruction("Which?", "x", images=None).images == ()


@pytest.mark.parametrize("missing", [None, math.nan, 3, "\ud800"])
def test_what_a_table_lacks_is_no_example(missing):
    for part in ("instruction", "response", "context"):
        if (part, missing) == ("context", None):
            continue
        with pytest.raises(ValueError, match=f"`{part}` must be "):
            Instruction(**{"instruction": "a", "response": "b", part: missing})


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="JSONL file.*gone.jsonl"):
        read_jsonl(tmp_path / "gone.jsonl")
