"""The stages of `preferences.py` that tune the start on preferences."""

import politeness
from politeness import Track, sample, scores_of_all
from preferences_lab import (
    LARGE,
    RECIPE,
    SMALL,
    of_mean,
    of_number,
    row_of,
    tokens_of,
)

from kerasllm.instructions import Instruction
from kerasllm.preferences import TokenizedPairs
from kerasllm.prompts import get_template
from kerasllm.tuning import (
    StopAtRewardHacking,
    dpo,
    finetune,
    grpo,
    prefer,
)


def tune_in_rounds(run):
    """Tune the start as in listing 16.15."""
    causal_lm, reward = run.start(), run.reward(LARGE)
    history = prefer(
        causal_lm, run.learnable, reward, run.held_out, true_score=run.truth,
        sequence_length=politeness.LENGTH, seed=run.seed,
        sampling_batch_size=512, verbose=run.verbose, **RECIPE["prefer"],
    )  # fmt: skip
    rows = []
    for logs in history:
        for measure in ("true_score", "reward", "kl", "length"):
            value, error = logs[f"val_{measure}"], logs[f"val_{measure}_error"]
            name = {"true_score": "true", "reward": "proxy"}.get(
                measure, measure
            )
            half = 1.96 * error
            rows.append(
                row_of("rounds", logs["round"], name, value, value - half,
                       value + half, len(run.held_out))
            )  # fmt: skip
    for measure in ("tokens_sampled", "tokens_trained"):
        total = sum(logs.get(measure, 0) for logs in history)
        rows.append(of_number("rounds", "", measure, total))
    return rows + of_tuned(run, causal_lm, "rounds")


def tune_by_dpo(method, run, num_pairs, **options):
    """Tune the start on the comparisons by DPO."""
    causal_lm, train = run.start(), run.preferences("train")[:num_pairs]
    options = RECIPE["dpo"] | options
    # The reward model is not used, only measured.
    track = Track(
        run.held_out, run.reward(LARGE), run.truth, run.reference,
        RECIPE["every"]["dpo"], 1, run.preferences("held_out")[:200], run.seed,
    )  # fmt: skip
    dpo(
        causal_lm, train, sequence_length=politeness.LENGTH, seed=run.seed,
        callbacks=[track], verbose=run.verbose, **options,
    )  # fmt: skip
    pairs = TokenizedPairs.of(
        train, causal_lm.preprocessor,
        get_template("auto", causal_lm.preprocessor.tokenizer),
        politeness.LENGTH,
    )  # fmt: skip
    tokens = options["epochs"] * pairs.num_tokens
    return [
        *of_track(track, method),
        of_number(method, "", "tokens_trained", tokens),
        *of_tuned(run, causal_lm, method),
    ]


def tune_on_chosen(run):
    """Tune the start on the chosen answers alone, as in supervised tuning."""
    causal_lm = run.start()
    examples = [
        Instruction(each.prompt, each.chosen)
        for each in run.preferences("train")
    ]
    finetune(
        causal_lm, examples, sequence_length=politeness.LENGTH, seed=run.seed,
        verbose=run.verbose, **RECIPE["sft"],
    )  # fmt: skip
    tokens = RECIPE["sft"]["epochs"] * tokens_of(causal_lm, examples)
    return [
        of_number("sft", "", "tokens_trained", tokens),
        *of_tuned(run, causal_lm, "sft"),
    ]


def tune_by_grpo(method, run, beta):
    """Tune the start against the weak reward model, beyond the peak."""
    causal_lm, reward = run.start(), run.reward(SMALL)
    track = Track(
        run.held_out, reward, run.truth, run.reference, RECIPE["every"]["grpo"],
        4, seed=run.seed,
    )  # fmt: skip
    logs = grpo(
        causal_lm, run.learnable, reward, beta=beta, seed=run.seed,
        callbacks=[track], verbose=run.verbose, **RECIPE["grpo"],
    )  # fmt: skip
    return [
        *of_track(track, method),
        # The sampler and the teacher agree on how likely tokens are.
        of_number(method, 1, "ratio", logs[0]["ratio"]),
        of_number(method, "", "tokens_sampled",
                  sum(each["sampled_tokens"] for each in logs)),
    ]  # fmt: skip


def stop_at_hacking(run):
    """Do so once more, with a callback that ends the run in time."""
    causal_lm, reward = run.start(), run.reward(SMALL)
    every = RECIPE["every"]["grpo"]
    stop = StopAtRewardHacking(
        run.held_out, reward, run.truth, every=every,
        num_generations=4, sequence_length=politeness.LENGTH, seed=run.seed,
    )  # fmt: skip
    grpo(
        causal_lm, run.learnable, reward, beta=0.0, seed=run.seed,
        callbacks=[stop], verbose=run.verbose, **RECIPE["grpo"],
    )  # fmt: skip
    rows = [
        of_number("watch", found["step"], measure, found[measure])
        for found in stop.history
        for measure in ("true_score", "reward", "change", "low", "high")
    ]
    best = max(stop.history, key=lambda found: found["true_score"])
    rows += [
        of_number("watch", "", "is_hacked", int(stop.watch.is_hacked)),
        of_number("watch", "", "stopped_at", stop.history[-1]["step"]),
        of_number("watch", "", "best_at", best["step"]),
    ]
    return rows


def of_track(track, method):
    """Return the rows of a `Track`."""
    rows = [
        of_mean(method, record["step"], measure, values)
        for record in track.records
        for measure, values in record.items()
        if measure != "step"
    ]
    peak = track.at_peak()
    change = track.records[-1]["true"] - peak["true"]
    rows += [
        of_number(method, "", "peak", peak["step"]),
        of_mean(method, track.records[-1]["step"], "change_from_peak", change),
    ]
    if track.first_alarm is not None:
        rows.append(of_number(method, "", "first_alarm", track.first_alarm))
    return rows


def of_tuned(run, causal_lm, method):
    """Return what a tuned model is worth, compared with the start."""
    texts, num_tokens = sample(causal_lm, run.held_out, 4, seed=[run.seed, 1])
    true, before = (
        scores_of_all(run.truth, run.held_out, some).mean(axis=1)
        for some in (texts, run.read("start.json"))
    )
    asked = [prompt for prompt in run.held_out for _ in range(4)]
    answered = [text for some in texts for text in some]
    ratios = politeness.log_ratios(
        causal_lm, run.reference, asked, answered
    ).reshape(-1, 4)
    causal_lm.save_weights(run.folder / f"{method}.weights.h5")
    return [
        of_mean(method, "end", "true", true),
        of_mean(method, "end", "gain", true - before),
        of_mean(method, "end", "kl", ratios.mean(axis=1)),
        of_number(method, "end", "tokens_an_answer", num_tokens / len(asked)),
        *run.facts(causal_lm, method),
    ]
