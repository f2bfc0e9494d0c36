"""What ten lines of Python make of a corpus, to compare the pipeline with."""

import collections
import itertools

import numpy as np
import sentencepiece

from kerasllm.tokenizers import END_OF_TEXT

SYLLABLES = "the mod el reads a text and writes an oth er tok en by".split()


def document(generator):
    """A line of a shard: words, and here and there an escaped newline."""
    words = (
        "".join(generator.choices(SYLLABLES, k=generator.randint(1, 3)))
        for _ in range(generator.randint(1, 60))
    )
    return "".join(
        word + generator.choice([" ", " ", " ", "  ", "\\n"]) for word in words
    )


def write(path, lines):
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return str(path)


def read(shard):
    with open(shard, encoding="utf-8", newline="\n") as file:
        return [line.rstrip("\n").replace("\\n", "\n") for line in file]


def in_turns(shards):
    """A document of each shard in turn; shards that are used up drop out."""
    rounds = itertools.zip_longest(*map(read, shards))
    return [text for turn in rounds for text in turn if text is not None]


def reference_stream(documents, tokenizer):
    library = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.proto)
    end = library.piece_to_id(END_OF_TEXT)
    return np.concatenate([library.encode(text) + [end] for text in documents])


def reference_windows(documents, tokenizer, sequence_length):
    stream = reference_stream(documents, tokenizer)
    number = len(stream) // (sequence_length + 1)
    return stream[: number * (sequence_length + 1)].reshape(number, -1)


def windows(dataset):
    """Put the windows of all batches together again."""
    parts = [
        np.concatenate([x, y[:, -1:]], axis=1)
        for x, y in dataset.as_numpy_iterator()
    ]
    return np.concatenate(parts)


def as_set(windows):
    return collections.Counter(map(tuple, windows.tolist()))


def texts(dataset, tokenizer):
    """The documents in the stream; the last may be cut short."""
    text = tokenizer.detokenize(windows(dataset).reshape(-1))
    return text.split(END_OF_TEXT)
