"""What is found, and what is answered from it, in worlds nobody has read of.

    python chapters/experiments/retrieval.py search --out FOLDER
    python chapters/experiments/retrieval.py answers --out FOLDER

`search` trains an embedder on questions about other small worlds and compares
five ways to find the passage that answers a question about a new world: the
hidden states of the model before this training, BM25, the trained embedder,
both of these as a store fuses them, by ranks (`hybrid`), and a weighted sum of
their scores. Each passage states one fact. A question is worded independently
of its passage (`any`), or it is a paraphrase without a common word but for the
name (`paraphrased`). BM25 often puts the same fact about another name first,
said in the words of the question, or another fact about the right name. Fused
by ranks, this order has as many votes as that of the embedder, which is why
`hybrid` lies between its two parts. The weight of the sum is chosen on another
world.

`answers` teaches a model to answer from context, on yet other worlds, and asks
it with and without a store: about facts that have changed since pretraining,
about names that it has never read, and about names that are not in the store.
Then it counts right answers by the number of passages and the place of the
right one. `retrieval_lab.py` tells how the model learns to read. It reads one
passage best, so the store hands it one (`--k 1`), and to tell names apart is
the embedder's work. `--sets several` tunes it further, on prompts with one to
three passages, and counts again.

Worlds are told apart by their seeds: those to train on, one to choose the
recipe on (`--names choice`), and others for the rows that are committed
(`--names final`). Rows are added to `assets/retrieval/search.csv` and
`assets/retrieval/answers.csv`, or to the folder that `--csv` names. What is
there is not done again.
"""

import argparse
import collections
import os
import pathlib
import random
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from csv_rows import read_rows, write_rows
from retrieval_lab import (
    OLD_WORLD,
    changed,
    facts_of,
    make_embedders,
    neighbors,
    pairs_of,
    passage_of,
    questions_about,
    tune_on_several,
    tune_reader,
)

from kerasllm import backend
from kerasllm.chat import CANNOT_TELL
from kerasllm.evaluation import Share
from kerasllm.files import assets_dir
from kerasllm.retrieval import Store, distance_threshold
from kerasllm.toyworld import World

SEARCH_COLUMNS = (
    "names seed questions way size recall_1 low high recall_5 mrr"
).split()
ANSWER_COLUMNS = "names seed what way passages place hits size low high".split()
# Parts of `answers`, and a word in the rows of each.
SETS = {"store": "absent", "places": "place", "several": "place, several"}
WORLDS = {"choice": 50, "final": 60}
WAYS = ("untrained", "bm25", "trained", "hybrid", "weighted")
DEPTH = 100  # how far a rank is looked for


def measure_search(args):
    folder = pathlib.Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    path = pathlib.Path(args.csv) / "search.csv"
    rows = read_rows(path)
    done = {
        row["way"]
        for row in rows
        if (row["names"], row["seed"]) == (args.names, str(args.seed))
    }
    if done.issuperset(WAYS):
        return rows
    world = World(WORLDS[args.names] + 1000 * args.seed)
    untrained, trained = make_embedders(args, folder)
    weight = choose_weight(trained)
    for kind in ("any", "paraphrased"):
        rng = random.Random(f"{kind} {world.seed}")
        pairs = pairs_of(world, kind, rng)
        asked = rng.sample(pairs, args.questions)
        for way in [way for way in WAYS if way not in done]:
            embedder = untrained if way == "untrained" else trained
            with Store(":memory:", embedder) as store:
                store.add([passage for _, passage in pairs])
                ranks = [
                    rank_of(passage, find(store, question, way, weight))
                    for question, passage in asked
                ]
            share = Share.of(rank == 1 for rank in ranks)
            low, high = share.interval()
            mean = sum(1 / rank for rank in ranks) / len(ranks)
            found = sum(rank <= 5 for rank in ranks)
            values = [
                *(args.names, args.seed, kind, way, share.size, share.hits),
                *(f"{low:.3f}", f"{high:.3f}", found, f"{mean:.3f}"),
            ]
            rows.append(dict(zip(SEARCH_COLUMNS, values, strict=True)))
            print(rows[-1], flush=True)
    write_rows(path, SEARCH_COLUMNS, rows)
    return rows


def find(store, question, way, weight):
    """Return the texts that a way finds, the best first."""
    if way == "weighted":
        return fuse_scores(*hits_of_both(store, question), weight)
    mode = {"untrained": "vector", "trained": "vector"}.get(way, way)
    return [hit.text for hit in store.search(question, DEPTH, mode)]


def hits_of_both(store, question):
    return (
        store.search(question, DEPTH, "vector"),
        store.search(question, DEPTH, "bm25"),
    )


def fuse_scores(by_vector, by_words, weight):
    """Return texts by a weighted sum of their scores in two searches.

    Of each search, the scores are scaled to [0, 1] first. A text that only one
    search has found has 0 in the other.
    """
    totals = collections.Counter()
    for hits, share in ((by_vector, weight), (by_words, 1 - weight)):
        scores = [hit.score for hit in hits]
        for hit in hits:
            width = max(scores) - min(scores)
            totals[hit.text] += share * (hit.score - min(scores)) / (width or 1)
    return [text for text, _ in totals.most_common()]


def choose_weight(embedder):
    """Return the weight of the vectors with the best mean reciprocal rank.

    Found on a world that nothing else is measured on.
    """
    rng = random.Random("weight")
    pairs = pairs_of(World(42), "any", rng)
    with Store(":memory:", embedder) as store:
        store.add([passage for _, passage in pairs])
        found = [
            (passage, hits_of_both(store, question))
            for question, passage in rng.sample(pairs, 300)
        ]
    totals = {
        weight: sum(
            1 / rank_of(passage, fuse_scores(*hits, weight))
            for passage, hits in found
        )
        for weight in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
    }
    for weight, total in totals.items():
        print(f"weight {weight}: MRR {total / len(found):.3f}")
    return max(totals, key=totals.get)


def rank_of(passage, texts):
    """Return the rank of a passage; infinity if it was not found."""
    ranks = (rank for rank, text in enumerate(texts, 1) if text == passage)
    return next(ranks, float("inf"))


def ask(model, questions, **options):
    answers = []
    for first in range(0, len(questions), 50):
        asked = [q.text for q in questions[first : first + 50]]
        answers += model.ask(asked, max_length=384, **options)
    # Not with the citations. Where the model was not asked, there is no text.
    return [getattr(answer, "text", answer) or CANNOT_TELL
            for answer in answers]  # fmt: skip


def measure_answers(args):
    """Add rows for each of `--sets` that has none."""
    folder = pathlib.Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    path = pathlib.Path(args.csv) / "answers.csv"
    rows = read_rows(path)
    done = {
        row["what"]
        for row in rows
        if (row["names"], row["seed"]) == (args.names, str(args.seed))
    }
    wanted = [some for some in args.sets if SETS[some] not in done]
    if not wanted:
        return rows
    _, embedder = make_embedders(args, folder)
    model = tune_reader(args, folder)

    def note(what, way, flags, passages="", place=""):
        share = Share.of(flags)
        low, high = share.interval()
        values = [args.names, args.seed, what, way, passages, place, share.hits,
                  share.size, f"{low:.3f}", f"{high:.3f}"]  # fmt: skip
        rows.append(dict(zip(ANSWER_COLUMNS, values, strict=True)))
        print(rows[-1], flush=True)

    number = WORLDS[args.names] + 1000 * args.seed
    for some in wanted:
        rng = random.Random(f"{some} {number}")
        if some == "store":
            measure_store(model, embedder, number, rng, args, note)
        else:
            reader, what = model, SETS[some]
            if some == "several":
                reader = tune_on_several(args, folder)
            measure_places(reader, what, World(number), rng, args.placed, note)
        write_rows(path, ANSWER_COLUMNS, rows)
    return rows


def measure_store(model, embedder, number, rng, args, note):
    """Ask about changed facts, new names, and names not in the store."""
    new = changed(World(OLD_WORLD), rng)
    unread = World(number)
    absent = World(number + 1)
    search = {"k": args.k, "mode": "vector",
              "max_distance": choose_distance(embedder)}  # fmt: skip
    for what, world in (("changed", new), ("unread", unread)):
        facts = facts_of(world)
        some = questions_about(rng.sample(facts, args.asked), rng)
        with Store(":memory:", embedder) as store:
            store.add([passage_of(e, a, rng) for e, a in facts])
            for way, options in (
                ("without", {}),
                ("with", search | {"store": store}),
            ):
                answers = ask(model, some, **options)
                note(what, way, right(answers, some))
                if (what, way) == ("unread", "without"):
                    invented = [a != CANNOT_TELL and is_claim(a)
                                for a in answers]  # fmt: skip
                    note("invented", way, invented)
            if what == "unread":
                others = questions_about(
                    rng.sample(facts_of(absent), args.asked), rng
                )
                answers = ask(model, others, **search | {"store": store})
                note("absent", "with", [a == CANNOT_TELL for a in answers])


def choose_distance(embedder):
    """Return from which distance on a store has no answer.

    Found on worlds that nothing else is measured on.
    """
    rng = random.Random("distance")
    world, absent = World(40), World(41)
    facts = facts_of(world)
    with Store(":memory:", embedder) as store:
        store.add([passage_of(e, a, rng) for e, a in facts])
        distance, accuracy = distance_threshold(
            store,
            [q.text for q in questions_about(rng.sample(facts, 200), rng)],
            [q.text for q in questions_about(
                rng.sample(facts_of(absent), 200), rng)],
        )  # fmt: skip
    print(f"maximum distance {distance:.3f}, right for {accuracy:.1%}")
    return distance


def right(answers, questions):
    return [a == q.answer for a, q in zip(answers, questions, strict=True)]


def is_claim(answer):
    """Tell whether an answer states something, and does not refuse."""
    return answer.startswith(("It ", "He ", "She "))


def measure_places(model, what, world, rng, count, note):
    """Count right answers by the number of passages and the gold one's."""
    for num_passages in (1, 2, 3, 5, 8):
        for place in ("front", "middle", "end"):
            facts = rng.sample(facts_of(world), count)
            some = questions_about(facts, rng)
            shown = {}
            for question, (entity, attribute) in zip(some, facts, strict=True):
                texts = neighbors(
                    world, entity, attribute, rng, num_passages - 1
                )
                at = {"front": 0, "middle": len(texts) // 2, "end": len(texts)}
                texts.insert(at[place], passage_of(entity, attribute, rng))
                shown[question.text] = texts
            answers = ask(model, some, store=shown.get, k=num_passages)
            note(what, "with", right(answers, some), num_passages, place)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("search", "answers"))
    parser.add_argument("--names", choices=tuple(WORLDS), default="choice")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True, help="folder for the models")
    parser.add_argument("--csv", default=assets_dir() / "retrieval")
    parser.add_argument("--worlds", type=int, default=10)
    parser.add_argument("--per_world", type=int, default=160)
    parser.add_argument("--questions", type=int, default=600)
    parser.add_argument("--asked", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--sets", nargs="+", default=tuple(SETS), choices=SETS)
    parser.add_argument("--placed", type=int, default=100)
    parser.add_argument("--lessons", type=int, default=1)
    parser.add_argument(
        "--several",
        type=int,
        default=80,
        help="requests of a world with several passages",
    )
    parser.add_argument("--passages", type=int, default=1)
    parser.add_argument("--k", type=int, default=1)
    parser.add_argument("--reader_worlds", type=int, default=40)
    parser.add_argument("--reader_epochs", type=int, default=1)
    parser.add_argument("--reader_batch", type=int, default=32)
    parser.add_argument("--reader_rate", type=float, default=1.5e-3)
    parser.add_argument("--reader_length", type=int, default=108)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--temperature", type=float, default=0.05)
    parser.add_argument("--verbose", type=int, default=2)
    args = parser.parse_args()
    backend.set_up()
    measure = {"search": measure_search, "answers": measure_answers}
    for row in measure[args.part](args):
        print(",".join(str(value) for value in row.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
