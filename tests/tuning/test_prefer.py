"""Listing 16.15 as a function: what it learns, measures and refuses."""

import functools
import math

import numpy as np
import pytest
from keras import ops

from kerasllm import files, lora
from kerasllm.checks import UserError
from kerasllm.instructions import Instruction
from kerasllm.prompts import BOOK, encode, get_template
from kerasllm.tokenizers import token_id_of
from kerasllm.tuning import (
    BestOfEach,
    Cutoff,
    RewardModel,
    RewardWatch,
    TopShare,
    finetune,
    prefer,
    response_logprobs,
)
from kerasllm.tuning.rounds import _measuring, _weights
from kerasllm.tuning.rounds._sampling import ResponseSampler, seeds_of
from tests.several_models import LENGTH, MAKERS, make_mini_gpt
from tests.tuning import scripted
from tests.tuning.scripted import HELD_OUT, PROMPTS, number
from tests.tuning.test_dpo import copy_of

COLORS = ("red", "blue")
# Two held-out prompts that the speaker knows, many times.
SPOKEN = ["Say number 6.", "Say number 7."] * 15
OPTIONS = {"sequence_length": LENGTH, "verbose": 0}


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """A model that nobody tunes: take copies."""
    return make_mini_gpt(tmp_path_factory.mktemp("vocabulary"), None)


@pytest.fixture(scope="module")
def speaker(untrained):
    """A model that says red or blue, whatever it is asked. Take copies."""
    model = copy_of(untrained)
    examples = [
        Instruction(f"Say number {i}.", color)
        for i in range(8)
        for color in COLORS
    ]
    finetune(
        model, examples, epochs=40, batch_size=16, learning_rate=1e-2,
        **OPTIONS,
    )  # fmt: skip
    return model


@pytest.fixture
def stages(monkeypatch):
    return scripted.install(monkeypatch)


def is_red(prompts, responses):
    assert all(prompt.startswith("Say number ") for prompt in prompts)
    return [float(response == "red") for response in responses]


def as_arrays(variables):
    return [np.array(ops.convert_to_numpy(v)) for v in variables]


@pytest.mark.parametrize(
    "rank", [pytest.param(None, marks=pytest.mark.any_backend), 4]
)
def test_a_model_learns_to_say_what_is_rewarded(speaker, tmp_path, rank):
    model = copy_of(speaker)
    if rank is not None:
        lora.enable_lora(model, rank, ("attention", "feed_forward"))
    start = as_arrays(model.trainable_variables)
    frozen = as_arrays(model.non_trainable_variables)
    history = prefer(
        model, PROMPTS, is_red, SPOKEN, rounds=2, num_generations=8,
        keep=Cutoff(0.5), epochs=15, learning_rate=1e-2, directory=tmp_path,
        true_score=lambda p, r: [len(each) for each in r], **OPTIONS,
    )  # fmt: skip
    assert [logs["round"] for logs in history] == [0, 1, 2]
    first, last = history[0], history[-1]
    assert last["val_reward"] > first["val_reward"] + 0.25  # three errors
    assert first["val_kl"] == 0 and last["val_kl"] > 0.1
    assert first["val_true_score"] != last["val_true_score"] > 0
    assert last["kept_reward"] == 1 and last["num_responses"] == 48
    for logs in history[1:]:
        # Each prompt can teach it one response, which is the word itself.
        assert logs["share_kept"] <= 1 / 8
    for variable, before in zip(
        model.non_trainable_variables, frozen, strict=True
    ):
        np.testing.assert_array_equal(before, ops.convert_to_numpy(variable))
    # The divergence is what both models say of the tokens that were sampled.
    values = as_arrays(model.trainable_variables)
    sampler = ResponseSampler(model, BOOK, LENGTH, 1.0, 256)
    seeds = seeds_of(0, 0, len(SPOKEN))
    samples = sampler.sample(SPOKEN, 1, seeds)
    ratios = _measuring.log_ratios(model, samples, start)
    assert ratios.mean() == pytest.approx(last["val_kl"], rel=1e-3)
    policy = _measuring._logprobs(model, samples)
    for variable, value in zip(model.trainable_variables, start, strict=True):
        variable.assign(value)
    reference = _measuring._logprobs(model, samples)
    np.testing.assert_allclose(ratios, policy - reference, atol=1e-4)
    with _weights.other_weights(model.trainable_variables, values):
        np.testing.assert_allclose(
            _measuring._logprobs(model, samples), policy, rtol=1e-5
        )


def test_what_is_sampled_is_what_is_tuned(speaker):
    """The sampler's log-probabilities are those of the same model in tuning.

    So are the tokens: a response that ends has its delimiter, and the prompt
    has the template once.
    """
    sampler = ResponseSampler(speaker, BOOK, LENGTH, 1.0, 64)
    samples = sampler.sample(PROMPTS, 3, seeds_of(1, 1, len(PROMPTS)))
    assert len(samples) == 18 and samples.prompts[:4] == [PROMPTS[0]] * 3 + [
        PROMPTS[1]
    ]
    assert np.mean(samples.ended) > 0.8
    # A few end with the end token alone, whose share is not in the first.
    scored = _measuring._logprobs(speaker, samples)
    is_whole = [response in COLORS for response in samples.responses]
    assert np.mean(is_whole) > 0.5
    difference = scored - samples.logprobs
    np.testing.assert_allclose(difference[is_whole], 0, atol=1e-3)
    assert difference.max() < 1e-3
    tokenizer = speaker.preprocessor.tokenizer
    for prompt, tokens, start in zip(
        samples.prompts, samples.token_ids, samples.starts, strict=True
    ):
        text = tokenizer.detokenize([int(i) for i in tokens[:start]])
        assert text == BOOK.prompt(prompt)
    per_token = response_logprobs(
        speaker, samples.prompts, samples.responses, per_token=True
    )
    for i, scores in enumerate(per_token):
        # Tuning adds the end token, after the delimiter.
        if samples.ended[i] and samples.responses[i] in COLORS:
            assert scores[:-1].sum() == pytest.approx(
                samples.logprobs[i], abs=1e-3
            )


@pytest.mark.any_backend
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma"])
def test_every_family_is_sampled_as_it_is_scored(
    name, tmp_path, tiny_untrained
):
    """Untrained, it never ends, and is cut off where its end would not fit."""
    model = MAKERS[name](tmp_path, tiny_untrained)
    tokenizer = model.preprocessor.tokenizer
    template = get_template("auto", tokenizer)
    sampler = ResponseSampler(model, template, 48, 1.0, 64)
    samples = sampler.sample(["red", "blue cat"], 2, [1, 2])
    scored = _measuring._logprobs(model, samples)
    cut = ~np.array(samples.ended)
    assert cut.any()
    np.testing.assert_allclose(
        scored[cut], np.array(samples.logprobs)[cut], rtol=1e-3
    )
    after = encode(tokenizer, template.response_segments(""))
    for tokens, ended in zip(samples.token_ids, samples.ended, strict=True):
        assert ended or len(tokens) == 48 - len(after)
    if name == "gemma":  # its end of a turn is a token, and no text
        assert sampler._end == token_id_of(tokenizer, "<end_of_turn>")
        assert sampler._stop_strings == []
    else:
        assert sampler._end == tokenizer.end_token_id
        assert sampler._stop_strings == ["[end]"]


@pytest.mark.any_backend
def test_prompts_have_luck_of_their_own(speaker):
    """With one seed for all, they would all say the same."""
    sampler = ResponseSampler(speaker, BOOK, LENGTH, 1.0, 64)
    seeds = seeds_of(0, 1, 40)
    assert len(set(seeds)) == 40 and seeds_of(0, 2, 40) != seeds
    samples = sampler.sample([PROMPTS[0]] * 40, 1, seeds)
    reds = sum(is_red(samples.prompts, samples.responses))
    assert 2 < reds < 38
    # Whatever comes together in a batch.
    sampler = ResponseSampler(speaker, BOOK, LENGTH, 1.0, 16)
    again = sampler.sample([PROMPTS[0]] * 40, 1, seeds)
    assert again.responses == samples.responses


@pytest.mark.any_backend
def test_a_reward_model_gets_bare_prompts(untrained, stages):
    """It puts the template around them itself."""
    model = copy_of(untrained)
    reward_model = RewardModel(model)
    rng = np.random.default_rng(0)
    reward_model.head.kernel.assign(rng.normal(0, 1, (32, 1)))
    seen = []

    def watched(prompts, responses):
        seen.append((prompts, responses, reward_model(prompts, responses)))
        return seen[-1][-1]

    history = prefer(model, PROMPTS, watched, rounds=1, **OPTIONS)
    prompts, responses, rewards = seen[0]
    assert sorted(set(prompts)) == PROMPTS and len(seen) == 1
    np.testing.assert_allclose(
        rewards, reward_model.predict(prompts, responses), rtol=1e-5
    )
    assert history[0]["reward"] == pytest.approx(rewards.mean(), rel=1e-5)
    copy = copy_of(untrained)
    again = prefer(copy, PROMPTS, reward_model, rounds=1, **OPTIONS)
    assert again[0]["reward"] == pytest.approx(history[0]["reward"])


@pytest.mark.any_backend
def test_what_a_round_reports(untrained, stages, tmp_path):
    model = copy_of(untrained)
    (logs,) = prefer(
        model, PROMPTS, number, rounds=1, num_generations=5,
        keep=TopShare(0.5), directory=tmp_path, **OPTIONS,
    )  # fmt: skip
    records = [
        record
        for record, _ in files.read_records(
            tmp_path / "round_1" / "samples.jsonl", "Samples"
        )
    ]
    assert [r["prompt"] for r in records] == [
        prompt for prompt in PROMPTS for _ in range(5)
    ]
    values = np.array([float(r["response"]) for r in records])
    distinct = {
        (r["prompt"], r["response"]): float(r["response"])
        for r in records
        if r["ended"]
    }
    kept = sorted(distinct.values())[-math.ceil(len(distinct) / 2) :]
    assert logs["round"] == 1 and logs["num_prompts"] == 6
    assert logs["reward"] == pytest.approx(values.mean())
    assert logs["share_kept"] >= len(kept) / 30
    assert logs["kept_reward"] > values.mean()
    assert logs["share_ended"] == np.mean([r["ended"] for r in records])
    assert logs["tokens_sampled"] == sum(r["num_tokens"] for r in records)
    assert logs["loss"] == round(logs["share_kept"] * 30)
    assert logs["tokens_trained"] > logs["loss"] * 10
    assert logs["sampling_seconds"] >= 0 and logs["training_seconds"] >= 0
    assert not [name for name in logs if name.startswith("val_")]


@pytest.mark.any_backend
def test_fresh_prompts_are_used_once(untrained, stages):
    seen = []

    def reward(prompts, responses):
        seen.append(set(prompts))
        return number(prompts, responses)

    options = {"rounds": 3, "prompts_per_round": 2, **OPTIONS}
    prefer(copy_of(untrained), PROMPTS, reward, **options)
    assert seen == [set(PROMPTS[i : i + 2]) for i in (0, 2, 4)]
    seen.clear()
    prefer(copy_of(untrained), PROMPTS, reward, rounds=2, **OPTIONS)
    assert seen == [set(PROMPTS)] * 2


@pytest.mark.any_backend
@pytest.mark.parametrize("tune_from", ["last", "start"])
def test_each_round_begins_with_the_last_one_or_with_the_start(
    untrained, stages, tune_from
):
    model = copy_of(untrained)
    before = scripted.level_of(model)
    history = prefer(
        model, PROMPTS, number, rounds=3, tune_from=tune_from, **OPTIONS
    )
    steps = [logs["loss"] / 100 for logs in history]
    gained = sum(steps) if tune_from == "last" else steps[-1]
    assert scripted.level_of(model) - before == pytest.approx(gained, abs=1e-4)


@pytest.mark.any_backend
def test_the_reward_can_be_learned_anew(untrained, stages):
    seen = []

    def renew(number_, prompts, responses):
        assert prompts == [p for p in PROMPTS for _ in range(4)]
        assert len(responses) == 24
        seen.append(number_)
        return lambda prompts, responses: [100.0 * number_] * len(prompts)

    history = prefer(
        copy_of(untrained), PROMPTS, number, HELD_OUT, rounds=2,
        renew_reward=renew, **OPTIONS,
    )  # fmt: skip
    assert seen == [1, 2]
    assert history[0]["val_reward"] < 100
    for logs in history[1:]:
        assert logs["reward"] == logs["val_reward"] == 100 * logs["round"]


def exploited(levels):
    """Return a proxy that rises, and a true score that turns round.

    Args:
        levels: callable that returns what the model knows.
    """

    def proxy(prompts, responses):
        return 100 * levels() + 0.01 * number(prompts, responses)

    def true(prompts, responses):
        # The best level is a quarter above the start.
        luck = 1e-4 * number(prompts, responses)
        return luck - abs(levels() - 0.25)

    return proxy, true


@pytest.mark.any_backend
@pytest.mark.parametrize("directory", [False, True])
def test_a_watch_ends_the_run_and_the_best_weights_come_back(
    untrained, stages, tmp_path, directory, capsys
):
    model = copy_of(untrained)
    start = scripted.level_of(model)
    proxy, true = exploited(lambda: scripted.level_of(model) - start)
    watch = RewardWatch()
    arguments = {
        "rounds": 20, "true_score": true, "watch": watch,
        "restore_best": True, **OPTIONS, "verbose": 2,
        "directory": tmp_path / "run" if directory else None,
    }  # fmt: skip
    history = prefer(model, PROMPTS, proxy, HELD_OUT, **arguments)
    # Six examples a round: 0, .06, .12, .18, .24 is the best, .30.
    best = max(history, key=lambda logs: logs["val_true_score"])["round"]
    assert history[-1]["round"] == best + 1 < 20
    assert [logs["is_hacked"] for logs in history[:-1]] == [False] * (best + 1)
    assert history[-1]["is_hacked"] is True
    gained = sum(logs["loss"] / 100 for logs in history[1:-1])
    assert scripted.level_of(model) - start == pytest.approx(gained, abs=1e-3)
    printed = capsys.readouterr().out
    assert "The reward is exploited." in printed
    assert f"The weights are those of round {best}, the best one." in printed
    if directory:
        # The same call once more has nothing to do, and says the same.
        calls = len(stages.calls)
        again = prefer(model, PROMPTS, proxy, HELD_OUT, **arguments)
        assert again == history and len(stages.calls) == calls
        assert scripted.level_of(model) - start == pytest.approx(
            gained, abs=1e-3
        )


@pytest.mark.any_backend
def test_nothing_is_kept(untrained, stages):
    model = copy_of(untrained)
    message = r"`keep`. Received: Cutoff\(value=100.0\).*in round 1"
    with pytest.raises(UserError, match=message):
        prefer(model, PROMPTS, number, keep=Cutoff(100), **OPTIONS)
    assert stages.calls == ["sample"]


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": "Say red."}, "`prompts` must be a list of strings"),
        ({"prompts": []}, "`prompts` must have at least one"),
        ({"prompts": ["a", None]}, "`prompts` must be a string.*NoneType"),
        ({"prompts": ["a", ""]}, "`prompts` must not have empty ones"),
        ({"prompts": ["the cat " * 90]}, "`sequence_length` must leave room"),
        ({"validation_prompts": PROMPTS[:1]}, "must be held out.*: 1 that"),
        ({"reward_fn": 1.0}, "`reward_fn` must be callable"),
        ({"true_score": 1.0}, "`true_score` must be callable"),
        ({"renew_reward": 1.0}, "`renew_reward` must be callable"),
        ({"keep": 0.5}, r"`keep` must be callable.*write `Cutoff\(0.5\)`"),
        ({"rounds": 0}, "`rounds` must be a positive int"),
        ({"num_generations": 0}, "`num_generations` must be a positive int"),
        ({"prompts_per_round": 3}, "fresh prompts.*6 prompts.*Bring 9"),
        ({"temperature": 0}, "`temperature` must be positive"),
        ({"tune_from": "best"}, "`tune_from` must be one of 'last', 'start'"),
        ({"watch": True}, "`watch` needs `validation_prompts` and"),
        ({"restore_best": True}, "`restore_best` needs `validation_prompts`"),
        ({"watch": 1, "held_out": 30}, "`watch` must be a `RewardWatch`"),
        ({"watch": RewardWatch(), "held_out": 19}, "at least 20 held-out"),
        (
            {"watch": RewardWatch(), "held_out": 30, "renew_reward": number},
            "the reward must stay the same",
        ),
        ({"callbacks": [3]}, "Each of `callbacks` must be"),
        ({"directory": 5}, "`directory` must be a str or a path"),
        ({"epochs": 0}, "`epochs` must be a positive int"),
        ({"batch_size": 0}, "`batch_size` must be a positive int"),
        ({"learning_rate": 0.0}, "`learning_rate` must be positive"),
        ({"sequence_length": 65}, "`sequence_length` must be at most 64"),
        ({"sampling_batch_size": 0}, "`sampling_batch_size` must be"),
        ({"seed": -1}, "`seed` must be"),
        ({"template": "no such"}, "`template` must be one of"),
    ],
)
def test_arguments_are_checked_where_they_enter(
    untrained, stages, tmp_path, arguments, message
):
    arguments = {
        "prompts": PROMPTS,
        "reward_fn": number,
        "directory": tmp_path / "run",
        **OPTIONS,
    } | arguments
    held_out = arguments.pop("held_out", None)
    if held_out is not None:
        arguments["validation_prompts"] = HELD_OUT[:held_out]
        arguments["true_score"] = number
    with pytest.raises(UserError, match=message):
        prefer(untrained, **arguments)
    assert not (tmp_path / "run").exists() and stages.calls == []


@pytest.mark.any_backend
def test_a_frozen_model_is_refused_before_it_samples(untrained, stages):
    model = copy_of(untrained)
    model.trainable = False
    for weight in model.weights:
        weight.trainable = False
    with pytest.raises(UserError, match="Something must be trainable"):
        prefer(model, PROMPTS, number, **OPTIONS)
    assert stages.calls == []


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        (lambda p, r: [1.0], r"`reward_fn` must return a number.*\(1,\)"),
        (lambda p, r: ["a"] * len(r), "`reward_fn` must return a number"),
        (lambda p, r: [np.nan] * len(r), "`reward_fn` must return finite"),
    ],
)
def test_rewards_are_checked(untrained, stages, scorer, message):
    with pytest.raises(UserError, match=message):
        prefer(copy_of(untrained), PROMPTS, scorer, **OPTIONS)


@pytest.mark.any_backend
def test_a_rule_of_ones_own(untrained, stages):
    keep = functools.partial(np.less, np.float64(50))  # above fifty
    (logs,) = prefer(
        copy_of(untrained), PROMPTS, number, keep=keep, rounds=1, **OPTIONS
    )
    assert logs["kept_reward"] > 50
    assert BestOfEach() == BestOfEach(1)
