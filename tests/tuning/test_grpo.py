"""Learning from rewards: what is sampled, what is learned, what is logged."""

import contextlib

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats
from scipy.special import log_softmax

from kerasllm import lora, training, tuning
from kerasllm.checks import UserError
from kerasllm.generation import TextGenerator
from kerasllm.prompts import get_template
from kerasllm.tuning.reinforcement import _run, _snapshot
from kerasllm.tuning.reinforcement._completions import (
    Batch,
    Completion,
    sample_completions,
    tokenize_prompts,
)
from kerasllm.tuning.reinforcement._learner import Questions
from kerasllm.tuning.reinforcement._policy_model import PolicyModel
from kerasllm.tuning.reinforcement._rewards import Rewards
from kerasllm.tuning.reinforcement._settings import Floors
from tests.alphabet import END, LETTERS
from tests.gemmas import fail_with
from tests.several_models import MAKERS
from tests.tuning.policies import (
    OPTIONS,
    PROMPTS,
    has_a,
    make_policy,
    settings,
    share_of_a,
    values,
    without_seconds,
)


@pytest.fixture
def make(tmp_path, tiny_untrained):
    return lambda name: MAKERS[name](tmp_path, tiny_untrained)


def sample(model, prompts, template=None, num_samples=3, length=4, **options):
    generator = TextGenerator(model)
    tokens = tokenize_prompts(generator, prompts, template)
    seeds = [[5, number] for number in range(len(prompts))]
    return sample_completions(
        generator, tokens, seeds, num_samples=num_samples,
        max_completion_length=length, **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "mini_gpt",
        *(
            pytest.param(name, marks=pytest.mark.any_backend)
            for name in ("gpt2", "llama", "gemma")
        ),
    ],
)
def test_the_sampler_reports_what_is_trained(name, make):
    """A cached step for each token, or one pass over all: both are right.

    Prompts have different lengths, and some completions end by a stop token.
    """
    model = make(name)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if len(weight.shape) > 1:
            weight.assign(rng.normal(0, 0.2, weight.shape))
    tokenizer = model.preprocessor.tokenizer
    stops = range(tokenizer.vocabulary_size() // 10)
    completions = sample(
        model, ["Say red.", "the cat"], get_template("auto", tokenizer),
        num_samples=8, length=8, temperature=0.7, stop_token_ids=stops,
    )  # fmt: skip
    assert {c.is_truncated for c in completions} == {True, False}
    for its in completions:
        assert len(its.token_ids) == len(its.logprobs)
        assert its.is_truncated == (its.token_ids[-1] not in stops)
        assert len(its.token_ids) <= 8
    batch = Batch.of(completions, model, mask_truncated=False)
    policy = PolicyModel(model, settings(temperature=0.7))
    found = ops.convert_to_numpy(policy(batch.inputs(slice(None))))
    assert batch.mask.sum() == sum(len(c.token_ids) for c in completions)
    np.testing.assert_allclose(
        found * batch.mask, batch.logprobs, rtol=1e-4, atol=1e-4
    )
    # And those of a pass by hand, with the temperature.
    its = completions[0]
    ids = np.array([[*its.prompt_ids, *its.token_ids]])
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids, bool)}
    if name != "gemma":  # which wants images, too
        logits = ops.convert_to_numpy(model(inputs))[0].astype("float64")
        scores = log_softmax(logits / 0.7, axis=-1)
        start = len(its.prompt_ids)
        positions = np.arange(start, ids.shape[1])
        np.testing.assert_allclose(
            scores[positions - 1, ids[0][positions]], its.logprobs, atol=1e-4
        )


@pytest.mark.any_backend
def test_prompts_do_not_share_their_random_numbers():
    completions = sample(make_policy(), ["abc", "abc"], num_samples=8)
    texts = [c.text for c in completions]
    assert texts[:8] != texts[8:] and len(set(texts)) > 8
    again = sample(make_policy(), ["abc", "abc"], num_samples=8)
    assert [c.text for c in again] == texts


@pytest.mark.any_backend
def test_a_batch_says_at_each_position_what_comes_next():
    completions = [
        Completion((1, 2, 3), (4, 26), (-0.5, -0.25), "e", False),
        Completion((7,), (8, 9, 10), (-1.0, -2.0, -3.0), "ijk", True),
    ]
    batch = Batch.of(completions, make_policy())
    assert batch.token_ids.shape == (2, 8)  # the smallest bucket
    np.testing.assert_array_equal(batch.token_ids[0, :5], [1, 2, 3, 4, 0])
    np.testing.assert_array_equal(batch.labels[0, :5], [2, 3, 4, 26, 0])
    np.testing.assert_array_equal(batch.logprobs[0, :5], [0, 0, -0.5, -0.25, 0])
    np.testing.assert_array_equal(batch.mask[0, :5], [0, 0, 1, 1, 0])
    np.testing.assert_array_equal(batch.padding_mask.sum(axis=1), [4, 3])
    np.testing.assert_array_equal(batch.labels[1, :3], [8, 9, 10])
    np.testing.assert_array_equal(batch.mask[1], 0)
    batch = Batch.of(completions, make_policy(), mask_truncated=False)
    np.testing.assert_array_equal(batch.mask[1, :4], [1, 1, 1, 0])


def inputs_of(model, prompts=PROMPTS[:2], **changed):
    """Return `Settings`, completions as a batch, and what a policy gets."""
    numbers = settings(mask_truncated_completions=False, **changed)
    completions = sample(
        model, prompts, num_samples=2, temperature=numbers.temperature
    )
    batch = Batch.of(completions, model, mask_truncated=False)
    advantages = np.array([1.0, -1.0, 0.5, -0.5], "float32")
    y = {
        "logprobs": batch.logprobs, "advantages": advantages,
        "mask": batch.mask,
    }  # fmt: skip
    return numbers, batch, batch.inputs(slice(None)), y


def test_the_first_update_is_a_policy_gradient():
    """Against slopes of log-probabilities by finite differences.

    All ratios are 1, so the loss is 0 for advantages that cancel, and its
    gradient is the mean over completions of the mean over their tokens.
    """
    model = make_policy()
    numbers, batch, x, y = inputs_of(model)
    weight = model.backbone.embedding.token_embeddings.embeddings
    for variable in model.weights:
        variable.trainable = variable is weight
    before = np.array(ops.convert_to_numpy(weight))
    policy = PolicyModel(model, numbers)
    policy.compile(keras.optimizers.SGD(1.0))
    logs = policy.train_on_batch(x, y, return_dict=True)
    assert logs["loss"] == pytest.approx(0, abs=1e-5)
    assert logs["ratio"] == pytest.approx(1, abs=1e-5)
    assert logs["clip_share"] == 0
    moved = ops.convert_to_numpy(weight) - before

    def objective():
        logprobs = ops.convert_to_numpy(policy(x)).astype("float64")
        means = (logprobs * batch.mask).sum(1) / batch.mask.sum(1)
        return (means * y["advantages"]).mean()

    largest = np.argsort(-abs(moved), axis=None)[:4]
    for index in zip(*np.unravel_index(largest, moved.shape), strict=True):
        slope = 0
        for step in (3e-3, -3e-3):
            value = before.copy()
            value[index] += step
            weight.assign(value)
            slope += objective() / (2 * step)
        assert moved[index] == pytest.approx(slope, rel=0.02)
        assert abs(slope) > 1e-3


def test_truncated_completions_teach_nothing():
    """Whatever their tokens are; unless they are not masked."""
    model = make_policy()
    policy = PolicyModel(model, settings())
    policy.compile(keras.optimizers.SGD(0.1))
    before, results = values(model), {}
    for letters in ("ijkl", "cccc"):
        truncated = Completion(
            (1, 2), tuple(map(LETTERS.index, letters)), (-3.6,) * 4, "", True
        )
        whole = Completion((1, 2), (4, END), (-3.3, -3.3), "e", False)
        for masked in (True, False):
            for weight, value in zip(model.weights, before, strict=True):
                weight.assign(value)
            batch = Batch.of([whole, truncated], model, masked)
            y = {
                "logprobs": batch.logprobs, "mask": batch.mask,
                "advantages": np.array([0.5, -0.5], "float32"),
            }  # fmt: skip
            logs = policy.train_on_batch(
                batch.inputs(slice(None)), y, return_dict=True
            )
            results[letters, masked] = logs["loss"], values(model)
    (loss, weights), (other, others) = (
        results[letters, True] for letters in ("ijkl", "cccc")
    )
    assert loss == pytest.approx(other, rel=1e-5)
    for one, another in zip(weights, others, strict=True):
        np.testing.assert_allclose(one, another, atol=1e-6)
    loss, other = (results[letters, False][0] for letters in ("ijkl", "cccc"))
    assert loss != pytest.approx(other, rel=1e-3)


def test_a_bandit_is_learned():
    """Whoever writes an `a` wins; one letter in 27 is one.

    With p for the share of winners at the start, measured on 64 samples, as
    many winners as there must be at the end come by chance with a
    probability below 1e-6.
    """
    model = make_policy()
    history = tuning.grpo(
        model, PROMPTS, has_a, steps=12, learning_rate=3e-2,
        mask_truncated_completions=False, **OPTIONS | {"num_generations": 16},
    )  # fmt: skip
    first, last = history[0]["reward"], history[-1]["reward"]
    assert 0 < first < 0.4
    assert (
        stats.binomtest(round(64 * last), 64, first + 0.05, "greater").pvalue
        < 1e-6
    )
    assert last > 0.8
    assert history[0]["entropy"] > history[-1]["entropy"]
    assert history[0]["kl"] == pytest.approx(0, abs=1e-4)
    assert history[-1]["kl"] > 0.1


def test_a_step_has_a_loss_of_zero_and_changes_the_model():
    model = make_policy(dropout=0.5)  # which would be noise, and is off
    before = values(model)
    (logs,) = tuning.grpo(
        model, PROMPTS, share_of_a, steps=1,
        mask_truncated_completions=False, **OPTIONS,
    )  # fmt: skip
    assert logs["step"] == 1
    assert logs["loss"] == pytest.approx(0, abs=1e-4)
    assert logs["ratio"] == pytest.approx(1, abs=1e-4)
    assert logs["clip_share"] == 0 and logs["kl"] == pytest.approx(0, abs=1e-4)
    assert 0 < logs["reward"] < 1 and logs["reward_std"] > 0
    # 27 letters that are nearly equally likely.
    assert logs["entropy"] == pytest.approx(np.log(27), abs=0.3)
    assert 1 <= logs["completion_length"] <= 4
    assert logs["sampled_tokens"] == 16 * logs["completion_length"]
    assert logs["equal_groups"] in (0, 0.25)
    assert 0.5 < logs["truncated"] <= 1
    spent = logs["sampling_seconds"] + logs["training_seconds"]
    assert 0 < spent < logs["seconds"]
    moved = [
        abs(new - old).max()
        for new, old in zip(values(model), before, strict=True)
    ]
    assert max(moved) > 1e-5


@pytest.mark.any_backend
def test_equal_rewards_teach_nothing():
    model = make_policy()
    before = values(model)
    (logs,) = tuning.grpo(
        model, PROMPTS, lambda prompts, responses: [0.3] * len(responses),
        steps=1, mask_truncated_completions=False, **OPTIONS,
    )  # fmt: skip
    assert logs["equal_groups"] == 1 and logs["loss"] == 0
    for old, new in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.any_backend
def test_several_updates_of_a_sample_are_clipped():
    """The first pass has ratios of 1, so the others are far from it."""
    history = tuning.grpo(
        make_policy(), PROMPTS, share_of_a, steps=1, num_iterations=3,
        minibatch_size=8, learning_rate=0.1, epsilon=0.1, seed=1,
        mask_truncated_completions=False, **OPTIONS,
    )  # fmt: skip
    assert history[0]["ratio"] != pytest.approx(1, abs=1e-2)
    assert 0 < history[0]["clip_share"] < 1


@pytest.mark.any_backend
def test_the_reference_of_a_step_is_the_start(monkeypatch):
    """Its log-probabilities reach the loss, and the divergence the logs."""
    train, seen = PolicyModel.train_on_batch, []

    def record(self, x, y, **options):
        seen.append((x, y))
        return train(self, x, y, **options)

    monkeypatch.setattr(PolicyModel, "train_on_batch", record)
    history = tuning.grpo(
        make_policy(), PROMPTS, share_of_a, steps=2, beta=0.5,
        learning_rate=3e-2, mask_truncated_completions=False, **OPTIONS,
    )  # fmt: skip
    x, y = seen[1]
    start = PolicyModel(make_policy(), settings(temperature=1.0))
    expected = ops.convert_to_numpy(start(x))
    np.testing.assert_allclose(
        y["reference_logprobs"] * y["mask"], expected * y["mask"], atol=1e-5
    )
    d = (expected - y["logprobs"])[y["mask"] > 0].astype("float64")
    divergence = (np.exp(d) - d - 1).mean()
    assert history[1]["kl"] == pytest.approx(divergence, rel=1e-3)
    assert divergence > 1e-2


def test_the_reference_is_the_model_of_the_start():
    """With other weights since, and these are there again afterwards."""
    model = make_policy()
    ids = np.array([[1, 2, 3, 4]])
    x = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    start = _snapshot.Snapshot(model.trainable_variables)
    start.take(step=0)
    before = ops.convert_to_numpy(model(x))
    for weight in model.trainable_variables:
        weight.assign_add(0.1 * np.ones(weight.shape))
    after, kept = ops.convert_to_numpy(model(x)), values(model)
    assert not np.allclose(before, after, atol=1e-2)
    with pytest.raises(MemoryError), start.in_place():
        np.testing.assert_allclose(
            ops.convert_to_numpy(model(x)), before, atol=1e-6
        )
        raise MemoryError
    for old, new in zip(kept, values(model), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.any_backend
def test_seeds_reproduce():
    histories = [
        tuning.grpo(
            make_policy(), PROMPTS, share_of_a, steps=2, seed=seed, **OPTIONS
        )
        for seed in (3, 3, 4)
    ]
    first, same, other = map(without_seconds, histories)
    assert first == same
    assert first[0]["reward"] != other[0]["reward"]


@pytest.mark.any_backend
def test_all_prompts_are_used_before_one_comes_again():
    questions = Questions(list("abcdefg"), [None] * 7)
    numbers = np.concatenate(
        [questions.of_step(step, 4, seed=0) for step in range(7)]
    )
    for part in numbers.reshape(4, 7):
        assert sorted(part) == list(range(7))
    assert len({tuple(part) for part in numbers.reshape(4, 7)}) == 4
    twice = questions.of_step(0, 14, seed=0)
    assert sorted(twice) == sorted(2 * list(range(7)))


@pytest.mark.any_backend
def test_only_adapters_are_trained():
    model = make_policy()
    lora.enable_lora(model, 2)
    before = values(model)
    tuning.grpo(
        model, PROMPTS, share_of_a, steps=2, learning_rate=1e-2,
        mask_truncated_completions=False, **OPTIONS,
    )  # fmt: skip
    changed = [
        not np.array_equal(old, new)
        for old, new in zip(before, values(model), strict=True)
    ]
    trained = [weight.trainable for weight in model.weights]
    assert any(changed)
    assert not any(c for c, t in zip(changed, trained, strict=True) if not t)


@pytest.mark.any_backend
def test_several_rewards_are_added_with_weights():
    def long(prompts, responses):
        return [len(response) for response in responses]

    history = tuning.grpo(
        make_policy(), PROMPTS, [has_a, long, long], steps=1,
        reward_weights=[1, 0.5, np.float32(-0.25)], **OPTIONS,
    )  # fmt: skip
    logs = history[0]
    assert logs["reward_long"] == logs["reward_long_2"] > 0
    assert logs["reward"] == pytest.approx(
        logs["reward_has_a"] + 0.25 * logs["reward_long"]
    )


@pytest.mark.any_backend
def test_a_reward_cannot_change_what_others_get():
    def greedy(prompts, responses):
        prompts.sort()
        responses.sort()
        return [0.0] * len(responses)

    def same(prompts, responses):
        return [prompt == response for prompt, response in zip(
            prompts, responses, strict=True)]  # fmt: skip

    words = ["d", "a", "c", "b"]
    total, _ = Rewards([greedy, same])(words, ["d", "a", "b", "c"])
    assert total.tolist() == [1, 1, 0, 0] and words == ["d", "a", "c", "b"]


@pytest.mark.any_backend
def test_the_best_weights_are_kept_by_held_out_reward(monkeypatch):
    """Not those that training ends with."""
    rewards = iter([0.1, 0.3, 0.2, 0.3])
    seen = []

    def reward(prompts, responses):
        if prompts == ["held", "out"]:
            seen.append(values(model))
            return [next(rewards)] * 2
        return share_of_a(prompts, responses)

    model = make_policy()
    history = tuning.grpo(
        model, PROMPTS, reward, ["held", "out"], steps=5, validation_steps=2,
        learning_rate=1e-2, mask_truncated_completions=False, **OPTIONS,
    )  # fmt: skip
    found = {h["step"]: h.get("val_reward") for h in history}
    assert found == {0: 0.1, 1: None, 2: 0.3, 3: None, 4: 0.2, 5: 0.3}
    for expected, value in zip(seen[1], values(model), strict=True):
        np.testing.assert_array_equal(expected, value)
    assert any(
        not np.array_equal(one, another)
        for one, another in zip(seen[1], seen[3], strict=True)
    )


@pytest.mark.any_backend
def test_a_line_is_printed_where_no_other_is_drawn(monkeypatch, capsys):
    """The line of a step would stand behind the seconds that it took."""

    @contextlib.contextmanager
    def working(what, at_once=True):
        capsys.readouterr()
        yield
        assert capsys.readouterr().out == ""
        seen.append(what)

    seen = []
    monkeypatch.setattr(_run, "working", working)
    options = OPTIONS | {"verbose": 2}
    tuning.grpo(make_policy(), PROMPTS, has_a, ["held"], steps=1, **options)
    assert "Step 1" in seen
    assert "step 1/1 - " in capsys.readouterr().out


def test_a_collapsed_policy_stops():
    options = OPTIONS | {"steps": 9}
    with pytest.warns(UserWarning, match="`entropy` must stay at 9.*last 3 st"):
        history = tuning.grpo(
            make_policy(), PROMPTS, share_of_a, min_entropy=9.0, **options
        )
    assert [logs["step"] for logs in history] == [1, 2, 3]
    floors = Floors(None, 2, 0.5)
    fine = {"entropy": 0, "completion_length": 2, "reward": 0.5}
    assert floors.what_collapsed([fine] * 5) is None
    short = fine | {"completion_length": 1.5}
    assert floors.what_collapsed([fine, short, short]) is None
    assert "`completion_length` must stay at 2" in floors.what_collapsed(
        [{"step": 0, "val_reward": 1.0}, short, short, short]
    )


@pytest.mark.any_backend
def test_a_response_ends_before_the_delimiter_of_its_template(
    make, monkeypatch
):
    model = make("mini_gpt")
    tokenizer = model.preprocessor.tokenizer
    written = [*map(int, tokenizer("red[end]")), tokenizer.end_token_id]

    def write(self, sequences, **options):
        for sequence in sequences:
            for token_id in written:
                sequence.add(token_id, -1.0, -1.0)
        yield

    monkeypatch.setattr(TextGenerator, "run", write)
    seen = []

    def reward(prompts, responses):
        seen.extend(zip(prompts, responses, strict=True))
        return [0.0] * len(responses)

    (logs,) = tuning.grpo(
        model, ["Say red.", "Say blue."], reward, steps=1, num_generations=2,
        batch_size=2, max_completion_length=20, verbose=0,
    )  # fmt: skip
    assert sorted(seen) == 2 * [("Say blue.", "red")] + 2 * [
        ("Say red.", "red")
    ]
    assert logs["completion_length"] == len(written)
    assert logs["truncated"] == 0 and logs["entropy"] == 1


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_generations": 1}, "`num_generations` must be an int of at lea"),
        ({"beta": -1}, "`beta` must be at least 0"),
        ({"beta": np.inf}, "`beta` must be at least 0 and finite"),
        ({"epsilon": 2}, r"`epsilon` must be in \[0, 1\]"),
        ({"epsilon_high": -1}, "`epsilon_high` must be at least 0"),
        ({"scale_rewards": "std"}, "`scale_rewards` must be one of 'group'"),
        ({"loss_type": "ppo"}, "`loss_type` must be one of 'grpo'"),
        ({"num_iterations": 0}, "`num_iterations` must be a positive int"),
        ({"temperature": 0}, "`temperature` must be positive.*Use 1 for"),
        ({"max_completion_length": 0}, "`max_completion_length` must be a po"),
        ({"max_completion_length": 13}, "must fit in 16 tokens.*up to 5 tok"),
        ({"steps": 0}, "`steps` must be a positive int"),
        ({"batch_size": 2.5}, "Received: batch_size=2.5"),
        ({"minibatch_size": 3}, r"`minibatch_size` must divide .* = 16\. Rec"),
        ({"learning_rate": 0}, "`learning_rate` must be positive"),
        ({"validation_steps": 0}, "`validation_steps` must be a positive"),
        ({"checkpoint_steps": 0}, "`checkpoint_steps` must be a positive"),
        ({"min_reward": "low"}, "`min_reward` must be a finite number or No"),
        ({"seed": -1}, "`seed` must be"),
        ({"prompts": []}, "`prompts` must be a list with at least one"),
        (
            {"prompts": "abc"},
            "`prompts` must be a list. Received: ",
        ),
        ({"prompts": ["abc", 3]}, "`prompts` must be a string"),
        ({"prompts": [""]}, "must have at least one token"),
        ({"validation_prompts": []}, "`validation_prompts` must be a list"),
        ({"validation_prompts": PROMPTS[:1]}, "must be held out.*: 1 that"),
        ({"reward_fn": 3}, "`reward_fn` must be a function"),
        ({"reward_fn": []}, "`reward_fn` must be a function"),
        ({"reward_weights": [1, 2]}, "one number for each reward.*2 weights"),
        ({"reward_weights": ["a"]}, "`reward_weights` must be finite numbers"),
        ({"stop_token_ids": None}, "There must be a stop token if truncated"),
        ({"stop_token_ids": 99}, "`stop_token_ids` must be 'auto', None or"),
        ({"callbacks": [3]}, "Each of `callbacks` must be"),
        ({"directory": 5}, "`directory` must be a str or a path"),
        ({"template": "no such"}, "`template` must be one of"),
    ],
)
def test_arguments_are_checked_where_they_enter(
    tmp_path, monkeypatch, arguments, message
):
    monkeypatch.setattr(training, "Checkpoint", fail_with(MemoryError()))
    arguments = {
        "prompts": PROMPTS, "reward_fn": has_a, "directory": tmp_path / "run",
        **OPTIONS,
    } | arguments  # fmt: skip
    with pytest.raises(UserError, match=message):
        tuning.grpo(make_policy(), **arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        (
            [1.0],
            "`reward` must return a number for each response.*for 2 responses",
        ),
        (["a", "b"], "`reward` must return a number for each response"),
        (
            [1.0, float("nan")],
            "`reward` must return finite numbers. Received: nan for",
        ),
    ],
)
def test_impossible_rewards(rewards, message):
    def reward(prompts, responses):
        return rewards

    with pytest.raises(UserError, match=message):
        Rewards(reward)(["a", "b"], ["c", "d"])


@pytest.mark.any_backend
def test_a_model_without_anything_to_train_is_refused():
    model = make_policy()
    for weight in model.weights:
        weight.trainable = False
    with pytest.raises(UserError, match="Something must be trainable"):
        tuning.grpo(model, PROMPTS, has_a, **OPTIONS)
