"""Instruction data: reading, splitting, and what the loss is computed on."""

import json
import math
import types

import numpy as np
import pytest
from PIL import Image

from kerasllm import instructions
from kerasllm.instructions import (
    Instruction,
    TokenizedInstructions,
    instruction_dataset,
    read_jsonl,
    split_rows,
)
from kerasllm.prompts import BOOK
from kerasllm.toyworld import pictures
from tests.serving import serve

images = [picture.image for picture in pictures(3)]


class Bytes:
    """A tokenizer whose tokens are bytes, after three special ones."""

    start_token_id, end_token_id, pad_token_id = 1, 2, 0
    special_tokens = ()

    def __call__(self, text):
        if isinstance(text, str):
            return np.array([b + 3 for b in text.encode()], "int32")
        return [self(t) for t in text]

    def detokenize(self, ids):
        return bytes(int(i) - 3 for i in ids if i > 2).decode()


PREPROCESSOR = types.SimpleNamespace(tokenizer=Bytes())
ROWS = [
    Instruction(f"Say {word}.", word * count)
    for count, word in enumerate(("a", "bc", "def", "ghij", "k" * 40), 1)
]


def write(path, *records):
    path.write_text(
        "\n".join(r if isinstance(r, str) else json.dumps(r) for r in records)
    )
    return path


def test_the_usual_keys_are_understood(tmp_path):
    path = write(
        tmp_path / "rows.jsonl",
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
    path, address = tmp_path / "rows.jsonl", "https://localhost/a.png"
    texts = {"prompt": "a", "output": "b"}
    write(
        path,
        texts | {"image": "sub/c.png"},
        texts | {"images": [address, "/d.png"]},
        texts | {"image": None, "images": []},
    )
    rows = [tuple(map(str, row.images)) for row in read_jsonl(path)]
    assert rows == [(str(tmp_path / "sub/c.png"),), (address, "/d.png"), ()]


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
    path = write(tmp_path / "rows.jsonl", good, record)
    with pytest.raises(ValueError, match=message):
        read_jsonl(path)


@pytest.mark.parametrize(("encoding", "line"), [("latin-1", 2), ("utf-16", 1)])
def test_what_is_not_utf_8_is_named(tmp_path, encoding, line):
    path = write(tmp_path / "rows.jsonl", *[{"prompt": "a", "output": "b"}] * 2)
    text = path.read_text().splitlines()
    text[1] = text[1].replace("b", "Übung")
    path.write_text("\n".join(text), encoding=encoding)
    with pytest.raises(ValueError, match=f"UTF-8.*rows.jsonl, line {line}: "):
        read_jsonl(path)


def test_a_byte_order_mark_is_none_of_the_text(tmp_path):
    path = write(tmp_path / "rows.jsonl", {"prompt": "a", "output": "Übung"})
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert read_jsonl(path) == [Instruction("a", "Übung")]


@pytest.mark.parametrize("part", ["prompt", "output", "input"])
def test_half_a_character_is_refused(tmp_path, part):
    row = {"prompt": "a", "output": "b", "input": "c"}
    whole = write(tmp_path / "whole.jsonl", row | {part: "\U0001f600"})
    assert len(read_jsonl(whole)) == 1  # JSON's "\ud83d\ude00"
    half = write(tmp_path / "half.jsonl", row, row | {part: "\ud83d"})
    with pytest.raises(ValueError, match="half.jsonl, line 2.*surrogate"):
        read_jsonl(half)


def test_an_empty_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one row"):
        read_jsonl(write(tmp_path / "rows.jsonl", ""))


def test_dolly_is_read_with_or_without_contexts(tmp_path):
    rows = write(
        tmp_path / "rows.jsonl",
        {"instruction": "a", "context": "", "response": "b", "category": "x"},
        {"instruction": "a", "context": "c", "response": "b", "category": "x"},
    )
    with serve(rows.read_bytes()) as (url, _):
        arguments = {"directory": tmp_path / "cache", "url": url}
        assert instructions.dolly(**arguments) == [Instruction("a", "b")]
        assert len(instructions.dolly("use", **arguments)) == 2
    with pytest.raises(ValueError, match='context.*"drop".*Received'):
        instructions.dolly("keep", **arguments)


def test_no_request_is_on_both_sides_of_a_split():
    rows = [Instruction(f"q{i % 300}", f"a{i}") for i in range(900)]
    train, held_out = split_rows(rows, 0.2, seed=1)
    assert len(train) + len(held_out) == 900
    assert not {r.instruction for r in train} & {
        r.instruction for r in held_out
    }
    # 300 requests at 0.2: 60 with a deviation of 7; 5 of these is p < 1e-6.
    assert abs(len({r.instruction for r in held_out}) - 60) < 35
    # Order and company do not matter.
    assert set(split_rows(rows[::-1], 0.2, seed=1)[1]) == set(held_out)
    assert set(split_rows(rows, 0.2, seed=2)[1]) != set(held_out)
    for fraction in (0, 1, -1):
        with pytest.raises(ValueError, match="between 0 and 1"):
            split_rows(rows, fraction)
    with pytest.raises(ValueError, match="Both sides.*1 rows"):
        split_rows(rows[:1], 0.5)


def test_one_request_about_many_things_is_split_by_these():
    of_texts = [Instruction("Sum up.", "x", f"text {i}") for i in range(300)]
    of_images = [
        Instruction("Which?", "x", images=(np.full((2, 2), i, "uint8"),))
        for i in range(250)
    ]
    for rows in (of_texts, of_images):
        train, held_out = split_rows([*rows, *rows], 0.2)
        # 60 or 50 with a deviation of 7, each of them twice.
        assert abs(len(held_out) / 2 - 0.2 * len(rows)) < 35
        together = {id(row) for row in train} & {id(row) for row in held_out}
        assert not together


def test_only_the_answer_counts():
    tokenizer = Bytes()
    dataset = instruction_dataset(
        ROWS[:1], PREPROCESSOR, "book", sequence_length=64, batch_size=1
    )
    ((x, y, weights),) = list(dataset)
    ids, y, weights = x["token_ids"][0], y[0].numpy(), weights[0].numpy()
    text = BOOK.prompt("Say a.") + BOOK.response("a")
    assert ids[0] == tokenizer.start_token_id
    assert tokenizer.detokenize(ids) == text
    # The loss is on the answer, its mark and the end; on nothing else.
    answer = y[weights == 1]
    assert tokenizer.detokenize(answer) == "a[end]"
    assert answer[-1] == tokenizer.end_token_id
    assert set(weights) == {0, 1}
    mask = x["padding_mask"][0].numpy()
    assert mask.sum() == len(text) + 1
    np.testing.assert_array_equal(ids[1 : mask.sum()], y[: mask.sum() - 1])
    assert not y[mask.sum() :].any() and not weights[mask.sum() :].any()


def test_the_answer_begins_where_the_prompt_ends():
    tokenized = TokenizedInstructions.of(ROWS, PREPROCESSOR, BOOK, 300)
    for row, ids, start in zip(
        ROWS, tokenized.token_ids, tokenized.prompt_lengths, strict=True
    ):
        prompt, answer = ids[1:start], ids[start:-1]
        assert Bytes().detokenize(prompt) == BOOK.prompt(row.instruction)
        assert Bytes().detokenize(answer) == BOOK.response(row.response)


def test_long_rows_are_counted_not_cut():
    longest = max(
        len(BOOK.prompt(r.instruction) + BOOK.response(r.response))
        for r in ROWS
    )
    # The row has two special tokens more; its last token is no input.
    exact = TokenizedInstructions.of(ROWS, PREPROCESSOR, BOOK, longest + 1)
    assert exact.num_too_long == 0
    cut = TokenizedInstructions.of(ROWS, PREPROCESSOR, BOOK, longest)
    assert cut.num_too_long == 1 and len(cut.token_ids) == 4
    assert cut.num_tokens == sum(map(len, exact.token_ids)) - longest - 2
    with pytest.warns(UserWarning, match="1 of 5 `rows` are longer"):
        instruction_dataset(ROWS, PREPROCESSOR, BOOK, sequence_length=longest)
    with pytest.raises(ValueError, match="At least one of `rows`.*5 rows"):
        TokenizedInstructions.of(ROWS, PREPROCESSOR, BOOK, 4)
    with pytest.raises(ValueError, match="`rows` must have at least one"):
        TokenizedInstructions.of([], PREPROCESSOR, BOOK, 4)


@pytest.mark.parametrize("buckets", [True, False])
@pytest.mark.parametrize("seed", [None, 3])
def test_every_row_comes_once_an_epoch(buckets, seed):
    rows = [Instruction("q" * (i % 40 + 1), str(i)) for i in range(50)]
    tokenized = TokenizedInstructions.of(rows, PREPROCESSOR, BOOK, 128)
    dataset = tokenized.dataset(8, seed, buckets)
    for _ in range(2):
        seen = []
        for x, y, weights in dataset:
            shape = tuple(x["token_ids"].shape)
            assert shape == y.shape == weights.shape == x["padding_mask"].shape
            assert shape[0] == 8
            assert shape[1] in ((32, 64, 128) if buckets else (128,))
            if buckets and shape[1] > 32:  # as short as it can be
                assert x["padding_mask"].numpy().sum(1).max() > shape[1] // 2
            for ids, mask in zip(*x.values(), strict=True):
                if mask.numpy().any():
                    seen.append(Bytes().detokenize(ids.numpy()))
                else:
                    assert not ids.numpy().any()
        assert sorted(seen) == sorted(
            BOOK.prompt(r.instruction) + BOOK.response(r.response) for r in rows
        )


def test_epochs_are_shuffled_anew_from_a_seed():
    rows = [Instruction(str(i), "x") for i in range(30)]
    tokenized = TokenizedInstructions.of(rows, PREPROCESSOR, BOOK, 64)

    def orders(seed):
        """Return the rows of two epochs."""
        dataset = tokenized.dataset(30, seed, buckets=False)
        return [
            x["token_ids"].numpy().tolist()
            for _ in range(2)
            for x, _, _ in dataset
        ]

    first, second = orders(1)
    assert orders(1) == [first, second]
    assert first != second and sorted(first) == sorted(second)
    assert orders(2)[0] != first


def test_the_number_of_batches_is_known_before():
    rows = [Instruction("q" * (i % 90 + 1), str(i)) for i in range(100)]
    tokenized = TokenizedInstructions.of(rows, PREPROCESSOR, BOOK, 128)
    for buckets in (True, False):
        for batch_size in (3, 8, 200):
            dataset = tokenized.dataset(batch_size, 0, buckets)
            count = sum(1 for _ in dataset)
            assert tokenized.num_batches(batch_size, buckets) == count


def test_images_come_with_their_rows(tiny_untrained):
    """Each row's picture is where its soft tokens are, in any order."""
    preprocessor = tiny_untrained.preprocessor
    rows = [
        Instruction("<start_of_image>" * n + f"row {n}", "x", images=(i,) * n)
        for n, i in ((1, images[0]), (0, None), (2, images[1]), (1, images[2]))
    ]
    tokenized = TokenizedInstructions.of(rows, preprocessor, "gemma", 128)
    seen = 0
    for x, y, weights in tokenized.dataset(2, seed=0):
        assert x["images"].shape == (2, 2, 48, 48, 3)
        assert x["vision_indices"].shape == (2, 18)
        assert x["vision_mask"].shape == y.shape == weights.shape
        for i, ids in enumerate(x["token_ids"].numpy()):
            text = "".join(preprocessor.tokenizer.id_to_token(t) for t in ids)
            count = int(text.split("row")[1][1]) if "row" in text else 0
            assert x["vision_mask"].numpy()[i].sum() == 9 * count
            pixels = x["images"].numpy()[i]
            assert [bool(image.any()) for image in pixels] == [
                count > 0,
                count > 1,
            ]
            seen += count
    assert seen == 4


def test_one_image_stands_for_a_tuple_of_one():
    row = Instruction("<start_of_image>Which?", "x", images="picture.png")
    assert row.images == ("picture.png",)
    assert Instruction("Which?", "x", images=None).images == ()


@pytest.mark.parametrize("missing", [None, math.nan, 3, "\ud800"])
def test_what_a_table_lacks_is_no_row(missing):
    for part in ("instruction", "response", "context"):
        if (part, missing) == ("context", None):
            continue
        with pytest.raises(ValueError, match=f"`{part}` must be "):
            Instruction(**{"instruction": "a", "response": "b", part: missing})


def test_rows_must_be_instructions():
    rows = [{"instruction": "a", "response": "b"}] * 9
    for take in (
        split_rows,
        lambda rows: TokenizedInstructions.of(rows, PREPROCESSOR, BOOK, 64),
    ):
        with pytest.raises(ValueError, match="an `Instruction`.*read_jsonl"):
            take(rows)


def test_the_files_of_images_are_looked_at_before_they_are_read(
    tiny_untrained, tmp_path
):
    def tokenize(image):
        row = Instruction("<start_of_image>Which?", "x", images=(image,))
        return TokenizedInstructions.of(
            [row], tiny_untrained.preprocessor, "gemma", 128
        )

    for missing in ("none.png", tmp_path / "none.png", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"{missing}"):
            tokenize(missing)
    path = tmp_path / "one.png"
    path.write_text("not a picture")
    with pytest.raises(ValueError, match="Pillow can read.*one.png"):
        tokenize(path)
    for array in (np.ones((4, 4)) * 0.5 - 1, np.ones((0, 4)), None):
        with pytest.raises((ValueError, TypeError)):
            tokenize(array)
    Image.fromarray(images[0]).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])  # its beginning is that of an image
    with pytest.raises(ValueError, match="Pillow can read.*one.png"):
        tokenize(path)
    with (
        serve(whole[:-40]) as (url, requests),
        pytest.raises(ValueError, match=f"Pillow can read.*{url}"),
    ):
        tokenize(url)
    path.write_bytes(whole)
    for image in (path, str(path), images[0]):
        assert tokenize(image).images == [(image,)]
    # What is at an address is asked for at once, and only once.
    with serve(path.read_bytes()) as (url, requests):
        for _ in range(2):
            (kept,) = tokenize(url).images[0]
            assert kept.read_bytes() == path.read_bytes()
    assert len(requests) == 1
    assert tokenize(url).images == [(kept,)]  # the network may be gone
    with pytest.raises(OSError, match="must answer"):
        tokenize(url + "?other")
    with (
        serve(b"<html>Log in</html>") as (url, requests),
        pytest.raises(ValueError, match=f"Pillow can read.*{url}"),
    ):
        tokenize(url)
    assert [file.name for file in kept.parent.iterdir()] == [kept.name]


def test_an_endless_run_can_begin_anywhere():
    rows = [Instruction("q" * (i % 60 + 1), str(i)) for i in range(30)]
    tokenized = TokenizedInstructions.of(rows, PREPROCESSOR, BOOK, 128)
    count = tokenized.num_batches(4)

    def read(dataset):
        return [x["token_ids"].numpy().tolist() for x, _, _ in dataset]

    whole = read(tokenized.endless(4, seed=1).take(3 * count))
    dataset = tokenized.endless(4, seed=1)
    next(iter(dataset))  # somebody peeks
    assert (
        read(dataset.skip(count + 1).take(count))
        == whole[count + 1 : 2 * count + 1]
    )
    one_pass = sorted(row for b in read(tokenized.dataset(4)) for row in b)
    epochs = [whole[i * count : (i + 1) * count] for i in range(3)]
    for epoch in epochs:
        assert sorted(row for batch in epoch for row in batch) == one_pass
    assert epochs[0] != epochs[1] != epochs[2]
    assert read(tokenized.endless(4, seed=2).take(count)) != epochs[0]
