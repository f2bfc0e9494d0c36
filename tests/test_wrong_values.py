"""What is no list, number, path or function is told in words of ours.

There is a call or two for each kind of function; what trains has lists of its
own in its tests.
"""

import json

import numpy as np
import pytest

from kerasllm import (
    corpora,
    evaluation,
    files,
    generation,
    instructions,
    lora,
    models,
    plots,
    preferences,
    prompts,
    reasoning,
    retrieval,
    samplers,
    toyworld,
    tuning,
)
from kerasllm.checks import UserError
from kerasllm.logit_filters import top_k_filter
from kerasllm.retrieval import Store, chunk_document

pytestmark = pytest.mark.any_backend

PROBLEM = reasoning.Problem("1 + 1?", 2, "1 + 1 = 2\nANSWER: 2", 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: generation.majority_vote(None), "`answers` must be a list"),
        (lambda: generation.majority_vote("aab"), "`answers` must be a list"),
        (lambda: evaluation.refused_share(None), "`answers` must be a list"),
        (lambda: evaluation.ngram_set("a b c"), "`texts` must be a list of s"),
        (
            lambda: evaluation.repeated_ngrams([[1], [2]], 1),
            r"`tokens` must be hashable.*\[1\]",
        ),
        (
            lambda: evaluation.reliability_table(["a"], [1]),
            "`probabilities` must be numbers",
        ),
        (
            lambda: evaluation.area_under_curve([1, 2], None),
            "`flags` must be a list",
        ),
        (
            lambda: evaluation.preferred_share(["a"], len),
            "Each of `preferences` must be a `Preference`",
        ),
        (
            lambda: preferences.BradleyTerry(3),
            "`score` must be callable. Received: score=3",
        ),
        (
            lambda: preferences.pairs_from_ranking("a", None),
            "`responses` must be a list",
        ),
        (
            lambda: instructions.Instruction("a", "b", messages=("ab",)),
            r"`messages` must be a list of pairs \(role, text\). Received: one",
        ),
        (
            lambda: instructions.split_conversation(None, "here"),
            "`turns` must be a list",
        ),
        (lambda: reasoning.as_instructions([3]), "Each of `problems` must be"),
        (lambda: reasoning.step_prompt(None), "`question` must be a string"),
        (
            lambda: reasoning.hide_steps("a ANSWER: 2", ""),
            "`marker` must have a character",
        ),
        (lambda: reasoning.read_number(2), "`text` must be a string"),
        (
            lambda: reasoning.AnswerChecker()([2], "ANSWER: 2"),
            "`responses` must be a list",
        ),
        (
            lambda: reasoning.CodeTask("a", "f", [3]),
            "Each of `cases` must be a pair",
        ),
        (
            lambda: reasoning.force_budget("model", "a", 1, 2),
            "`generator` must be a `TextGenerator`. Received: 'model'",
        ),
        (lambda: plots.plot_curves([1], "x", "y"), "`curves` must.*a dict"),
        (lambda: plots.plot_low_rank(4, 4, 2, ax=3), "`ax` must be Matplot"),
        (lambda: prompts.BOOK.prompt(None), "`instruction` must be a string"),
        (
            lambda: prompts.PromptTemplate("a", "b", "c", "d", 5),
            "`model_end` must be a string",
        ),
        (lambda: toyworld.TrueScore(3), "`world` must be a `World`"),
        (lambda: toyworld.pictures(1, seed=-1), "`seed` must be an int of"),
        (lambda: corpora.text_shards(None), "`paths` must be a list of paths"),
        (lambda: Store(None, len), "`path` must be a str or a path"),
        (lambda: retrieval.read_document(3), "`path` must be a str or a path"),
        (
            lambda: retrieval.distance_threshold(3, ["a"], ["b"]),
            "`store` must have a method `search`",
        ),
        (
            lambda: chunk_document("a", tokenizer=None),
            "`tokenizer` must be callable",
        ),
        (lambda: list(files.read_records(3, "X")), "`path` must be a str"),
        (lambda: lora.enable_lora("gpt2"), "`model` must be a Keras model"),
        (
            lambda: tuning.response_logprobs("gpt2", ["a"], ["b"]),
            "`causal_lm` must be a KerasHub.*'gpt2'",
        ),
        (lambda: tuning.Cutoff(10**400), "`value` must be a finite number, at"),
        (
            lambda: tuning.compare_with_best([[1]], [[1]], 2),
            "`confidence` must be between 0 and 1",
        ),
        (lambda: samplers.random_sample("abc"), "`logits` must be numbers"),
        (lambda: top_k_filter(3.0, 1), "`logits` must be.*of shape"),
        (lambda: samplers.to_keras_hub(len, seed="x"), "`seed` must be an int"),
    ],
)
def test_each_is_told_in_our_words(call, message):
    with pytest.raises(UserError, match=message) as caught:
        call()
    assert len(str(caught.value)) < 500


def test_a_model_takes_sizes_of_numpy():
    """Keras itself refuses them, and JSON cannot write them."""
    sizes = {
        "vocabulary_size": 11, "sequence_length": 8, "hidden_dim": 4,
        "intermediate_dim": 6, "num_heads": 2, "num_layers": 1,
    }  # fmt: skip
    ours = {name: np.int64(size) for name, size in sizes.items()}
    backbone = models.MiniGPTBackbone(**ours, dropout=np.float32(0.5))
    config = backbone.get_config()
    assert json.loads(json.dumps({k: config[k] for k in sizes})) == sizes
    assert config["dropout"] == 0.5
    assert models.mini_gpt(**ours).count_params() == backbone.count_params()
