"""Examples as batches: what the loss is computed on, and in which order."""

import types

import numpy as np
import pytest
from PIL import Image

from kerasllm.checks import UserError
from kerasllm.instructions import (
    Instruction,
    TokenizedInstructions,
    instruction_dataset,
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
EXAMPLES = [
    Instruction(f"Say {word}.", word * count)
    for count, word in enumerate(("a", "bc", "def", "ghij", "k" * 40), 1)
]


@pytest.mark.any_backend
def test_only_the_answer_counts():
    tokenizer = Bytes()
    dataset = instruction_dataset(
        EXAMPLES[:1], PREPROCESSOR, "book", sequence_length=64, batch_size=1
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


@pytest.mark.any_backend
def test_what_was_said_before_is_part_of_the_request():
    messages = [("system", "Be brief."), ("user", "Hi"), ("model", "Hello")]
    example = Instruction("Bye", "Ciao", messages=messages)
    ((x, y, weights),) = instruction_dataset(
        [example], PREPROCESSOR, "book", sequence_length=128, batch_size=1
    )
    chat = [{"role": role, "content": text} for role, text in messages]
    chat.append({"role": "user", "content": "Bye"})
    text = BOOK.chat(chat) + BOOK.response("Ciao")
    assert Bytes().detokenize(x["token_ids"][0]) == text
    answer = y[0].numpy()[weights[0].numpy() == 1]
    assert Bytes().detokenize(answer) == BOOK.response("Ciao")


@pytest.mark.any_backend
def test_the_answer_begins_where_the_prompt_ends():
    tokenized = TokenizedInstructions.of(EXAMPLES, PREPROCESSOR, BOOK, 300)
    for example, ids, start in zip(
        EXAMPLES, tokenized.token_ids, tokenized.prompt_lengths, strict=True
    ):
        prompt, answer = ids[1:start], ids[start:-1]
        assert Bytes().detokenize(prompt) == BOOK.prompt(example.instruction)
        assert Bytes().detokenize(answer) == BOOK.response(example.response)


@pytest.mark.any_backend
def test_long_examples_are_counted_not_cut():
    longest = max(
        len(BOOK.prompt(r.instruction) + BOOK.response(r.response))
        for r in EXAMPLES
    )
    # The example has two special tokens more; its last token is no input.
    exact = TokenizedInstructions.of(EXAMPLES, PREPROCESSOR, BOOK, longest + 1)
    assert exact.num_too_long == 0
    cut = TokenizedInstructions.of(EXAMPLES, PREPROCESSOR, BOOK, longest)
    assert cut.num_too_long == 1 and len(cut.token_ids) == 4
    assert cut.num_tokens == sum(map(len, exact.token_ids)) - longest - 2
    with pytest.warns(UserWarning, match="1 of 5 `examples` are longer"):
        instruction_dataset(
            EXAMPLES, PREPROCESSOR, BOOK, sequence_length=longest
        )
    with pytest.raises(
        ValueError, match="At least one of `examples`.*5 examples"
    ):
        TokenizedInstructions.of(EXAMPLES, PREPROCESSOR, BOOK, 4)
    with pytest.raises(ValueError, match="`examples` must have at least one"):
        TokenizedInstructions.of([], PREPROCESSOR, BOOK, 4)


@pytest.mark.any_backend
@pytest.mark.parametrize("buckets", [True, False])
@pytest.mark.parametrize("seed", [None, 3])
def test_every_example_comes_once_an_epoch(buckets, seed):
    examples = [Instruction("q" * (i % 40 + 1), str(i)) for i in range(50)]
    tokenized = TokenizedInstructions.of(examples, PREPROCESSOR, BOOK, 128)
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
            BOOK.prompt(r.instruction) + BOOK.response(r.response)
            for r in examples
        )


@pytest.mark.any_backend
def test_epochs_are_shuffled_anew_from_a_seed():
    examples = [Instruction(str(i), "x") for i in range(30)]
    tokenized = TokenizedInstructions.of(examples, PREPROCESSOR, BOOK, 64)

    def orders(seed):
        """Return the examples of two epochs."""
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


@pytest.mark.any_backend
def test_the_number_of_batches_is_known_before():
    examples = [Instruction("q" * (i % 90 + 1), str(i)) for i in range(100)]
    tokenized = TokenizedInstructions.of(examples, PREPROCESSOR, BOOK, 128)
    for buckets in (True, False):
        for batch_size in (3, 8, 200):
            dataset = tokenized.dataset(batch_size, 0, buckets)
            count = sum(1 for _ in dataset)
            assert tokenized.num_batches(batch_size, buckets) == count


@pytest.mark.any_backend
def test_images_come_with_their_examples(tiny_untrained):
    """Each example's picture is where its soft tokens are, in any order."""
    preprocessor = tiny_untrained.preprocessor
    examples = [
        Instruction("<start_of_image>" * n + f"row {n}", "x", images=(i,) * n)
        for n, i in ((1, images[0]), (0, None), (2, images[1]), (1, images[2]))
    ]
    tokenized = TokenizedInstructions.of(examples, preprocessor, "gemma", 128)
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


@pytest.mark.any_backend
def test_the_files_of_images_are_looked_at_before_they_are_read(
    tiny_untrained, tmp_path
):
    def tokenize(image):
        example = Instruction("<start_of_image>Which?", "x", images=(image,))
        return TokenizedInstructions.of(
            [example], tiny_untrained.preprocessor, "gemma", 128
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


@pytest.mark.any_backend
def test_an_endless_run_can_begin_anywhere():
    examples = [Instruction("q" * (i % 60 + 1), str(i)) for i in range(30)]
    tokenized = TokenizedInstructions.of(examples, PREPROCESSOR, BOOK, 128)
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
    one_pass = sorted(
        example for b in read(tokenized.dataset(4)) for example in b
    )
    epochs = [whole[i * count : (i + 1) * count] for i in range(3)]
    for epoch in epochs:
        assert (
            sorted(example for batch in epoch for example in batch) == one_pass
        )
    assert epochs[0] != epochs[1] != epochs[2]
    assert read(tokenized.endless(4, seed=2).take(count)) != epochs[0]


@pytest.mark.any_backend
@pytest.mark.parametrize("name", ["batch_size", "sequence_length", "seed"])
@pytest.mark.parametrize("value", [-1, 2.5, "8", True])
def test_numbers_of_a_dataset_are_checked(name, value):
    with pytest.raises(UserError, match=f"`{name}` must be"):
        instruction_dataset(EXAMPLES, PREPROCESSOR, "book", **{name: value})
