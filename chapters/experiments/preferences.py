"""Learning from preferences: reward models, best of n, listing 16.15, DPO.

    python chapters/experiments/preferences.py --seed 0 --out FOLDER

A model that knows the facts of the small world, and answers in all manners
(`politeness.py`), is the start. A labeller who agrees with the true score on
73% of the pairs compares its answers. From these comparisons reward models are
trained, the best of n answers is chosen, and the start is tuned: in rounds, as
in listing 16.15, by DPO, and by GRPO against a weak reward model.

Each stage adds its rows to `assets/preferences/preferences.csv`, or to the
file that `--csv` names, and keeps models and texts in the folder. What is
there already is not done again. `--part tuning` measures on other names than
`--part final`; with it, and with `--seed 9`, the numbers in `RECIPE`
(`preferences_lab.py`) were chosen. One of them changed later: hacking was first
looked for every 15 steps. The stages that tune are in `preferences_tuning.py`.

The rows that are committed come from `--seed` 0, 1 and 2. Two processes must
not write to the same file at a time, so each seed had its own, and they were
joined.
"""

import argparse
import functools
import os
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import politeness
from politeness import PRESET, sample, scores_of_all
from preferences_lab import (
    LARGE,
    MEDIUM,
    RECIPE,
    SMALL,
    Run,
    falling_rate,
    of_mean,
    of_number,
    of_share,
    tokens_of,
)
from preferences_tuning import (
    stop_at_hacking,
    tune_by_dpo,
    tune_by_grpo,
    tune_in_rounds,
    tune_on_chosen,
)

from kerasllm import backend
from kerasllm.evaluation import best_of_n_kl, best_of_n_scores
from kerasllm.files import assets_dir
from kerasllm.preferences import (
    BradleyTerry,
    TokenizedPairs,
    write_preferences,
)
from kerasllm.presets import load_causal_lm
from kerasllm.tuning import RewardModel, finetune, train_reward_model

FEWER = 1600  # for variants of DPO
NS = [1, 2, 4, 8, 16, 32, 64, 128, 256]


def learn_manners(run):
    """Tune the preset on demonstrations: the start."""
    causal_lm, recipe = load_causal_lm(PRESET), RECIPE["start"]
    examples = politeness.demonstrations(
        run.world, recipe["per_fact"], seed=run.seed
    )
    finetune(
        causal_lm, examples, epochs=recipe["epochs"],
        batch_size=recipe["batch_size"],
        learning_rate=falling_rate(recipe, recipe["epochs"], examples),
        sequence_length=politeness.LENGTH, seed=run.seed, verbose=run.verbose,
    )  # fmt: skip
    causal_lm.save_weights(run.folder / "start.weights.h5")
    known = {
        which: politeness.knows(causal_lm, prompts, run.truth).tolist()
        for which, prompts in run.questions_of_facts().items()
    }
    run.write("known.json", known)
    texts, _ = sample(causal_lm, run.held_out, 4, seed=[run.seed, 1])
    run.write("start.json", texts)
    true = scores_of_all(run.truth, run.held_out, texts).mean(axis=1)
    rows = [
        of_mean("start", "", "true", true),
        of_number("start", "", "tokens_trained", recipe["epochs"]
                  * tokens_of(causal_lm, examples)),
        *run.facts(causal_lm, "start"),
    ]  # fmt: skip
    judged = [
        (is_known, run.truth.judge(prompt, text))
        for prompt, some, is_known in zip(
            run.held_out, texts, known["held_out"], strict=True
        )
        for text in some
    ]
    right = [found.right for is_known, found in judged if is_known]
    rows.append(of_share("start", "", "right_of_known", right))
    for name in vars(judged[0][1]):
        counts = [getattr(found, name) for _, found in judged]
        rows.append(of_mean("start", "", f"mean_{name}", counts))
    return rows


def compare(run):
    """Sample answers of the start, and have pairs of them labelled."""
    rows, pairs, recipe = [], {}, RECIPE["compared"]
    count, learnable = recipe["answers"], run.learnable[: recipe["prompts"]]
    for name, prompts, size in (
        ("train", learnable, LARGE), ("held_out", run.held_out, None)
    ):  # fmt: skip
        texts, num_tokens = sample(
            run.reference, prompts, count, seed=[run.seed, 2]
        )
        if name == "train":
            rows.append(of_number("", "", "tokens_sampled", num_tokens))
        # No answer is in two pairs.
        pairs[name] = [
            (prompt, *some[i : i + 2])
            for prompt, some in zip(prompts, texts, strict=True)
            for i in range(0, count, 2)
            if some[i] != some[i + 1]
        ]
        np.random.default_rng([run.seed, 3]).shuffle(pairs[name])
        pairs[name] = [tuple(pair) for pair in pairs[name][:size]]
    labeller = BradleyTerry.with_agreement(
        run.truth, pairs["train"], seed=run.seed
    )
    rows.append(of_number("", "", "scale", labeller.scale))
    for name, some in pairs.items():
        labelled = labeller.label(some)
        write_preferences(labelled, run.folder / f"{name}.jsonl")
        better = true_differences(run.truth, labelled)
        rows += [
            of_number(name, "", "pairs", len(some)),
            of_share(name, "", "agreement", better[better != 0] > 0),
            of_share(name, "", "ties", better == 0),
        ]
    return rows


def learn_reward(num_pairs, run):
    """Train a reward model on some of the comparisons."""
    reward_model = RewardModel(run.reference)
    train = run.preferences("train")[:num_pairs]
    recipe = RECIPE["reward"]
    epochs = recipe["epochs"][num_pairs]
    logs = train_reward_model(
        reward_model, train, epochs=epochs, batch_size=recipe["batch_size"],
        learning_rate=falling_rate(recipe, epochs, train),
        sequence_length=politeness.LENGTH, seed=run.seed, verbose=run.verbose,
    )  # fmt: skip
    reward_model.save_weights(run.folder / f"reward_{num_pairs}.weights.h5")
    held_out = run.preferences("held_out")
    chosen, rejected = (
        reward_model.predict(
            [each.prompt for each in held_out],
            [getattr(each, name) for each in held_out],
            batch_size=64,
        )
        for name in ("chosen", "rejected")
    )
    better = true_differences(run.truth, held_out)
    is_right = np.sign(chosen - rejected) == np.sign(better)
    pairs = TokenizedPairs.of(
        train, reward_model.preprocessor, reward_model.template,
        politeness.LENGTH,
    )  # fmt: skip
    return [
        of_share("truth", num_pairs, "accuracy", is_right[better != 0]),
        of_share("labels", num_pairs, "accuracy", chosen > rejected),
        of_number("train", num_pairs, "accuracy", logs[-1]["accuracy"]),
        of_number("train", num_pairs, "tokens_trained",
                  epochs * pairs.num_tokens),
    ]  # fmt: skip


def sample_pool(run):
    """Sample as many answers to each prompt as the largest n."""
    prompts = run.held_out[: RECIPE["pool_prompts"]]
    texts, num_tokens = sample(
        run.reference, prompts, max(NS), seed=[run.seed, 4], at_once=1024
    )
    run.write("pool.json", texts)
    return [of_number("", "", "tokens_sampled", num_tokens)]


def best_of_n(run):
    """Choose the best of n answers by each reward model, and by the truth."""
    texts = run.read("pool.json")
    prompts = run.held_out[: len(texts)]
    true = scores_of_all(run.truth, prompts, texts)
    polite = scores_of_all(politeness.count_courtesies, prompts, texts)
    rows = [of_number("bound", n, "kl", best_of_n_kl(n)) for n in NS]
    for method in (SMALL, LARGE, "truth"):
        proxy = true
        if method != "truth":
            proxy = scores_of_all(run.reward(method), prompts, texts)
        scores = best_of_n_scores(proxy, true, NS)  # (num_prompts, len(NS))
        proxies = best_of_n_scores(proxy, proxy, NS)
        courtesies = best_of_n_scores(proxy, polite, NS)
        peak = int(scores.mean(axis=0).argmax())
        rows.append(of_number(method, "", "peak", NS[peak]))
        for i, n in enumerate(NS):
            rows += [
                of_mean(method, n, "true", scores[:, i]),
                of_mean(method, n, "proxy", proxies[:, i]),
                of_mean(method, n, "courtesies", courtesies[:, i]),
                # The same prompts, so the differences vary less.
                of_mean(method, n, "change_from_peak",
                        scores[:, i] - scores[:, peak]),
            ]  # fmt: skip
        for n, other in ((4, 1), (16, 4)):
            gain = scores[:, NS.index(n)] - scores[:, NS.index(other)]
            rows.append(of_mean(method, n, f"gain_over_{other}", gain))
    return rows


def true_differences(truth, preferences):
    """Return true scores of chosen answers, minus those of the others."""
    prompts = [each.prompt for each in preferences]
    chosen, rejected = (
        np.array(truth(prompts, [getattr(each, name) for each in preferences]))
        for name in ("chosen", "rejected")
    )
    return chosen - rejected


STAGES = {
    "start": learn_manners,
    "comparisons": compare,
    **{
        f"reward_{size}": functools.partial(learn_reward, size)
        for size in (SMALL, MEDIUM, LARGE)
    },
    "pool": sample_pool,
    "best_of_n": best_of_n,
    "rounds": tune_in_rounds,
    "dpo": functools.partial(tune_by_dpo, "dpo", num_pairs=LARGE),
    # What keeps the log-probabilities up, on fewer comparisons.
    "dpo_sft": functools.partial(
        tune_by_dpo, "dpo_sft", num_pairs=FEWER, sft_weight=1.0
    ),
    "ipo": functools.partial(
        tune_by_dpo, "ipo", num_pairs=FEWER, loss_type="ipo"
    ),
    "sft": tune_on_chosen,
    "grpo": functools.partial(tune_by_grpo, "grpo", beta=0.0),
    "grpo_kl": functools.partial(tune_by_grpo, "grpo_kl", beta=0.1),
    "watch": stop_at_hacking,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True, help="folder for the models")
    parser.add_argument(
        "--csv", default=assets_dir() / "preferences/preferences.csv"
    )
    parser.add_argument("--part", default="final", choices=["tuning", "final"])
    parser.add_argument("--stages", default=";".join(STAGES))
    parser.add_argument("--verbose", type=int, default=2)
    args = parser.parse_args()
    backend.set_up()
    keras.utils.set_random_seed(args.seed)
    run = Run(args)
    for stage in args.stages.split(";"):
        run.learn(stage, STAGES[stage])
    return 0


if __name__ == "__main__":
    sys.exit(main())
