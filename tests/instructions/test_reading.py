"""Reading examples: the usual keys, and lines that are named in errors."""

import json
import math

import pytest

from kerasllm import instructions
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
    )
    plain, with_context = Instruction("a", "b"), Instruction("a", "b", "c")
    assert read_jsonl(path) == [plain, plain, with_context, with_context]


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


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("{", "JSON object.*line 2"),
        ("[1]", "JSON object.*line 2"),
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


@pytest.mark.parametrize(("encoding", "line"), [("latin-1", 2), ("utf-16", 1)])
def test_what_is_not_utf_8_is_named(tmp_path, encoding, line):
    path = write(tmp_path / "data.jsonl", *[{"prompt": "a", "output": "b"}] * 2)
    text = path.read_text().splitlines()
    text[1] = text[1].replace("b", "Übung")
    path.write_text("\n".join(text), encoding=encoding)
    with pytest.raises(ValueError, match=f"UTF-8.*data.jsonl, line {line}: "):
        read_jsonl(path)


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
