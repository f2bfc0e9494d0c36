"""Tokens per second of `pretraining_dataset` against the chapter's pipeline.

    python -m tests.benchmarks.pipeline [--data DIR] [--repeats N]

Both read the same shards with the same vocabulary in one process, in turns,
so that the ratio means something on a busy machine. Without `--data` they read
the local docs. The first pass over each is not timed; it checks that both give
the same batches. For that, documents that spell `<|endoftext|>` are left out:
the chapter's pipeline ends them there, ours does not.
"""

import argparse
import pathlib
import resource
import statistics
import tempfile
import time

import tensorflow as tf

from kerasllm import corpora, pipeline, tokenizers
from kerasllm.pipeline import _counts

SEQUENCE_LENGTH = 256
BATCH_SIZE = 128


def chapter_dataset(files, tokenizer):
    """Do what listing 16.3 of the chapter does, written anew."""
    end = tf.constant([tokenizer.token_to_id(tokenizers.END_OF_TEXT)])

    def read_shard(file):
        return (
            tf.data.TextLineDataset(file)
            .map(lambda text: tf.strings.regex_replace(text, r"\\n", "\n"))
            .map(tokenizer, num_parallel_calls=8)
            .map(lambda tokens: tf.concat([tokens, end], axis=0))
        )

    return (
        tf.data.Dataset.from_tensor_slices(files)
        .interleave(read_shard, cycle_length=32, num_parallel_calls=32)
        .rebatch(SEQUENCE_LENGTH + 1, drop_remainder=True)
        .map(lambda window: (window[:-1], window[1:]))
        .batch(BATCH_SIZE)
        .prefetch(8)
    )


def tokens_per_second(dataset):
    begin = time.perf_counter()
    tokens = sum(len(x) * SEQUENCE_LENGTH for x, _ in dataset)
    return tokens / (time.perf_counter() - begin)


def without_end_of_text(files, folder):
    """Copy shards, less the documents that spell the end token."""
    copies = []
    for i, file in enumerate(files):
        lines = pathlib.Path(file).read_bytes().splitlines(keepends=True)
        copy = pathlib.Path(folder, f"shard{i}.txt")
        token = tokenizers.END_OF_TEXT.encode()
        copy.write_bytes(b"".join(x for x in lines if token not in x))
        copies.append(str(copy))
    return copies


def seconds(function):
    begin = time.perf_counter()
    result = function()
    return time.perf_counter() - begin, result


def peak_megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compare(files, arguments):
    size = sum(pathlib.Path(file).stat().st_size for file in files)
    print(f"{len(files)} shards, {size / 1e6:.1f} MB")

    duration, tokenizer = seconds(
        lambda: tokenizers.train_sentence_piece(
            files, arguments.vocabulary_size, model_type=arguments.model_type
        )
    )
    print(f"train the vocabulary: {duration:.1f} s")

    # A pass must be long enough to be timed.
    files = files * max(1, round(16e6 / size))

    def make():
        return pipeline.pretraining_dataset(
            files, tokenizer, SEQUENCE_LENGTH, BATCH_SIZE
        )

    with tempfile.TemporaryDirectory() as empty:
        original = _counts.cache_dir
        _counts.cache_dir = lambda *_: pathlib.Path(empty)
        first, ours = seconds(make)
        second, ours = seconds(make)
        pairs = pipeline.pretraining_dataset(files, tokenizer, 1, 1)
        _counts.cache_dir = original
    print(f"count the batches: {first:.2f} s, again from cache: {second:.2f} s")
    all_bytes = sum(pathlib.Path(file).stat().st_size for file in files)
    print(f"bytes a token: {all_bytes / (2 * int(pairs.cardinality())):.2f}")
    chapter = chapter_dataset(files, tokenizer)

    matches = all(
        bool(tf.reduce_all(ours_x == chapter_x))
        for (ours_x, _), (chapter_x, _) in zip(ours, chapter, strict=True)
    )
    print(f"same batches: {matches}")

    speeds = {"chapter": [], "kerasllm": []}
    for _ in range(arguments.repeats):
        speeds["chapter"].append(tokens_per_second(chapter))
        speeds["kerasllm"].append(tokens_per_second(ours))
    for name, values in speeds.items():
        print(
            f"{name}: median {statistics.median(values) / 1e6:.2f}M tokens/s, "
            f"{min(values) / 1e6:.2f} to {max(values) / 1e6:.2f}"
        )
    ratios = [b / a for a, b in zip(*speeds.values(), strict=True)]
    print(
        f"ratio kerasllm / chapter: median {statistics.median(ratios):.2f}, "
        f"{min(ratios):.2f} to {max(ratios):.2f}"
    )

    before = peak_megabytes()
    longer = pipeline.pretraining_dataset(
        files * 8, tokenizer, SEQUENCE_LENGTH, BATCH_SIZE, seed=0
    )
    tokens_per_second(longer)
    print(
        "peak memory: "
        f"{before:.0f} MB, after 8 times the corpus, shuffled: "
        f"{peak_megabytes():.0f} MB"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder of shards; default: local docs")
    parser.add_argument("--vocabulary-size", type=int, default=4096)
    parser.add_argument("--model-type", default="unigram")
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    files = (
        sorted(map(str, pathlib.Path(arguments.data).glob("*.txt")))
        if arguments.data
        else corpora.local_docs()
    )
    with tempfile.TemporaryDirectory() as folder:
        compare(without_end_of_text(files, folder), arguments)


if __name__ == "__main__":
    main()
