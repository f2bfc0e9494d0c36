"""What SmolLM2 knows about Python, and what it finds in the documentation.

    python chapters/experiments/docs_questions.py --part choice
    python chapters/experiments/docs_questions.py --part final

`assets/retrieval/docs_questions.jsonl` has questions about the documentation
that comes with every Python, each with its accepted answers and with `evidence`
of the passage that holds the answer: words that it must have. They were written
from the documentation of Python 3.11.7, before any model was asked. SmolLM2 is
asked each of them without anything else, and with the passages that BM25 finds
in all of `corpora.local_docs`, some 80,000 of up to 40 words.

An answer is right if an accepted one stands in its first 48 tokens, as whole
words and in capital or small letters. That is lenient: of the right answers,
one of each part has the word by chance (about pickle, and about wave). `rank`
is that of the first passage with the evidence among the best 20; it is empty if
there is none.

The 15 questions of the part `choice` are there to choose how to search, and
the 50 of `final` to measure. `--part choice --search` compares BM25 with the
hidden states of SmolLM2, and with both, among 150 passages, for so large a
model takes hours to read all of them. So BM25 was settled before these
rows were there, which agree with it; and two passages when only a part of the
answers with one was there.

Rows are added to `assets/retrieval/docs.csv`, one a question and a way to ask
or to search. What is there already is not done again, and the summary is
printed at the end. It takes five minutes of one core on PyTorch, with which
the committed rows were made.
"""

import argparse
import json
import math
import os
import pathlib
import random
import re
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from csv_rows import read_rows, write_rows

from kerasllm import ChatModel, backend
from kerasllm.chat import context_prompt
from kerasllm.corpora import local_docs
from kerasllm.evaluation import Share
from kerasllm.files import assets_dir, restore_line
from kerasllm.retrieval import Embedder, Store, chunk_document

COLUMNS = "part question way passages right rank seconds answer".split()
WORDS, OVERLAP = 40, 10  # of a passage
K = 2  # passages to read
DEPTH = 20  # how far a rank is looked for
LONGEST = 48  # tokens of an answer that count
FEW = 150  # passages in the comparison of embedders


def read_questions(part):
    path = assets_dir() / "retrieval/docs_questions.jsonl"
    with open(path, encoding="utf-8") as file:
        questions = map(json.loads, file)
        return [q for q in questions if q["part"] == part]


def read_passages():
    """Return the chunks of all documents, each once."""
    passages = {}
    for shard in local_docs():
        with open(shard, encoding="utf-8", newline="\n") as file:
            for line in file:
                text = restore_line(line.removesuffix("\n"))
                chunks = chunk_document(text, WORDS, OVERLAP)
                passages.update(dict.fromkeys(c.text for c in chunks))
    return list(passages)


def no_vectors(texts):
    """Embed nothing: a store that is searched by words needs no more."""
    return np.zeros((len(texts), 1), "float32")


def in_one_line(text):
    return " ".join(text.split())


def has_evidence(passage, question):
    passage = in_one_line(passage)
    return all(words in passage for words in question["evidence"])


def rank_of(hits, question):
    """Return the rank of the first hit that has the answer, or `""`."""
    found = (h.rank for h in hits if has_evidence(h.text, question))
    return next(found, "")


def is_right(answer, question):
    """Return whether an accepted answer stands in a text."""
    return any(
        re.search(rf"(?<!\w){re.escape(a)}(?!\w)", answer, re.IGNORECASE)
        for a in question["answers"]
    )


def ask_all(chat, questions, found):
    """Return answers, and the seconds of one.

    Args:
        chat: `ChatModel`.
        questions: list of str.
        found: dict from a question to its hits. Empty for none.
    """
    started = time.perf_counter()
    if not found:
        prompts, options = questions, {}
    else:
        prompts = [
            context_prompt(q, [hit.text for hit in found[q]]) for q in questions
        ]
        options = {"store": found.get, "k": DEPTH}
    longest = max(len(chat.prompt(p).token_ids) for p in prompts)
    # With passages, `ask` leaves a quarter for the answer.
    room = max(LONGEST, longest // 3 + 2) if options else LONGEST
    answers = chat.ask(questions, max_length=longest + room, **options)
    answers = [getattr(answer, "text", answer) for answer in answers]
    tokenizer = chat.causal_lm.preprocessor.tokenizer
    answers = [
        tokenizer.detokenize(np.array(tokenizer(answer))[:LONGEST])
        if answer
        else ""
        for answer in answers
    ]
    return answers, (time.perf_counter() - started) / len(questions)


def measure_answers(args, rows):
    """Ask each question with several numbers of passages; 0 is without."""
    missing = {
        k: [
            question
            for question in read_questions(args.part)
            if not is_done(rows, question, "answers", k)
        ]
        for k in args.passages
    }
    if not any(missing.values()):
        return
    chat = ChatModel.from_preset("smollm2")
    with Store(":memory:", no_vectors) as store:
        if any(args.passages):
            store.add(read_passages())
        for k, some in missing.items():
            hits = {
                q["question"]: store.search(q["question"], DEPTH, "bm25")
                for q in some
                if k
            }
            # A batch goes on until the shortest prompt has its last token.
            some = sorted(some, key=lambda q: sum(
                len(hit.text) for hit in hits.get(q["question"], [])[:k]
            ))  # fmt: skip
            for first in range(0, len(some), args.batch_size):
                batch = some[first : first + args.batch_size]
                measure_batch(args, rows, chat, batch, k, hits)
                write_rows(args.csv, COLUMNS, rows)


def measure_batch(args, rows, chat, batch, k, hits):
    texts = [question["question"] for question in batch]
    best = {text: hits[text][:k] for text in texts if k}
    answers, seconds = ask_all(chat, texts, best)
    for question, answer in zip(batch, answers, strict=True):
        found = hits.get(question["question"], [])
        add_row(
            args, rows, question, "answers", k,
            int(is_right(answer, question)), rank_of(found, question),
            f"{seconds:.1f}", in_one_line(answer),
        )  # fmt: skip


def measure_search(args, rows):
    """Compare ways to search, among a few of the passages."""
    questions = read_questions(args.part)
    ways = {"bm25": "bm25", "hidden states": "vector", "hybrid": "hybrid"}
    if all(is_done(rows, q, way) for q in questions for way in ways):
        return
    every = read_passages()
    gold = [p for p in every if any(has_evidence(p, q) for q in questions)]
    few = random.Random(0).sample(every, FEW) + gold
    chat = ChatModel.from_preset("smollm2")
    embedder = Embedder(chat.causal_lm, sequence_length=160)
    with Store(":memory:", embedder) as store:
        store.add(list(dict.fromkeys(few)))
        for way, mode in ways.items():
            for question in questions:
                hits = store.search(question["question"], DEPTH, mode)
                if not is_done(rows, question, way):
                    rank = rank_of(hits, question)
                    add_row(args, rows, question, way, "", "", rank, "", "")
    write_rows(args.csv, COLUMNS, rows)


def is_done(rows, question, way, passages=""):
    wanted = question["question"], way, str(passages)
    return any(
        (row["question"], row["way"], row["passages"]) == wanted for row in rows
    )


def add_row(args, rows, question, way, *values):
    values = [args.part, question["question"], way, *values]
    rows.append(dict(zip(COLUMNS, map(str, values), strict=True)))
    print(*values, sep=" | ", flush=True)


def summarize(rows, part):
    """Print what the rows of a part say."""
    rows = [row for row in rows if row["part"] == part]
    by_way = {}
    for row in rows:
        key = row["way"], row["passages"]
        by_way.setdefault(key, {})[row["question"]] = row
    for (way, passages), some in by_way.items():
        some = some.values()
        if passages != "0":
            print(f"{way} {passages}: recall among the best k passages:")
            ranks = [int(row["rank"] or DEPTH + 1) for row in some]
            for k in (1, 2, 3, 5, DEPTH):
                say(f"  k = {k}", [rank <= k for rank in ranks])
        if way == "answers":
            say(
                f"{passages} passages: right",
                [row["right"] == "1" for row in some],
            )
    without = by_way.get(("answers", "0"), {})
    for (way, passages), some in by_way.items():
        if way == "answers" and passages != "0" and without:
            compare(without, some, int(passages))


def compare(without, with_passages, k):
    """Print what passages gain, question by question."""
    asked = [q for q in with_passages if q in without]
    right = np.array(
        [
            [rows[q]["right"] == "1" for q in asked]
            for rows in (without, with_passages)
        ],
        "int32",
    )
    found = np.array(
        [0 < int(with_passages[q]["rank"] or 0) <= k for q in asked]
    )
    print(f"{k} passages beside none, {len(asked)} questions:")
    for what, some in (("found", found), ("not found", ~found)):
        say(f"  without, passage {what}", right[0, some])
        say(f"  with, passage {what}", right[1, some])
    gains = right[1] - right[0]
    rng = np.random.default_rng(0)
    draws = rng.choice(gains, (10_000, len(gains))).mean(axis=1)
    low, high = np.quantile(draws, (0.025, 0.975))
    better, worse = int((gains > 0).sum()), int((gains < 0).sum())
    print(
        f"  gain: {gains.mean():.1%} ({low:.1%} to {high:.1%}, bootstrap); "
        f"{better} better, {worse} worse, "
        f"p = {sign_test(better, worse):.1g} (McNemar, exact)"
    )


def sign_test(better, worse):
    """Return the two-sided probability of so uneven a split by chance."""
    size = better + worse
    tail = sum(math.comb(size, i) for i in range(min(better, worse) + 1))
    return min(1.0, 2 * tail / 2**size)


def say(what, flags):
    if len(flags):
        share = Share.of(flags)
        low, high = share.interval()
        print(
            f"{what}: {share.hits} of {share.size}, {share:.1%} "
            f"({low:.1%} to {high:.1%})"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", default="final", choices=("choice", "final"))
    parser.add_argument("--search", action="store_true")
    parser.add_argument("--passages", type=int, nargs="+", default=(0, K))
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument(
        "--csv", type=pathlib.Path, default=assets_dir() / "retrieval/docs.csv"
    )
    args = parser.parse_args()
    backend.set_up()
    rows = read_rows(args.csv)
    (measure_search if args.search else measure_answers)(args, rows)
    summarize(rows, args.part)
    return 0


if __name__ == "__main__":
    sys.exit(main())
