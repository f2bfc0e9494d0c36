"""What a model looks at when it writes the number of its answer.

    python chapters/experiments/attention_to_steps.py --seed 0 --out FOLDER

The folder must have `steps_0.keras` and `dots_0.keras`, which `reasoning.py`
leaves there. Both solve the same held-out problems. Then they read their own
solutions again, and at the marker, where the next token is the number of the
answer, the attention of each head is added up over

- `question`: the tokens of the problem;
- `own`: the worked steps, or the dots, from the question to the marker;
- `last`: the last token of these, which after worked steps is a result;
- `marker`: the marker itself.

Rows are added to `assets/reasoning/attention.csv`, with `mass`, the mean over
problems, and `even`, what a head would have that attends to all tokens alike.
What is there already is not done again. The committed rows come from seeds 0 to
2.
"""

import argparse
import os
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from keras import ops
from more_samples import measured_problems
from reasoning import LENGTH
from reasoning_lab import Lab, add_arguments

from kerasllm import backend
from kerasllm.generation import TextGenerator

NAME = "attention.csv"
COLUMNS = "seed way layer head part mass even problems".split()
WAYS = ("steps", "dots")
PARTS = ("question", "own", "last", "marker")


def attention(backbone, token_ids):
    """Return the attention of each layer, head, query and key.

    Args:
        backbone: that of a `MiniGPTCausalLM`.
        token_ids: int `(batch_size, length)`. Padding at the end does no harm,
            because no earlier token sees it.

    Returns:
        list of float arrays `(batch_size, num_heads, length, length)`.
    """
    x, found = backbone.embedding(token_ids), []
    x = backbone.embedding_layernorm(x)
    for decoder in backbone.decoders:
        _, weights = decoder.self_attention(
            query=x, value=x, use_causal_mask=True, return_attention_scores=True
        )
        found.append(ops.convert_to_numpy(weights))
        x = decoder(x)
    return found


def spans(prompt, response, marker):
    """Return where each part is: slices of the tokens up to the marker.

    `None` if the response has not one marker with something before it.
    """
    words = response.split()
    if words.count(marker) != 1 or words.index(marker) == 0:
        return None
    start, end = len(prompt.split()), words.index(marker)
    end += start
    return {
        "question": slice(0, start),
        "own": slice(start, end),
        "last": slice(end - 1, end),
        "marker": slice(end, end + 1),
    }


def run_way(lab, way):
    """Measure the attention of a model, unless that is done."""
    if lab.rows(NAME, seed=lab.seed, way=way):
        print(f"{way}, seed {lab.seed}: done before", flush=True)
        return
    problems = measured_problems(lab, is_large=False)
    causal_lm, marker = lab.load(way), problems[0].marker
    tokenizer = causal_lm.preprocessor.tokenizer
    prompts = [problem.prompt for problem in problems]
    texts = TextGenerator(causal_lm).generate(
        prompts, LENGTH, strip_prompt=True
    )
    both = zip(prompts, texts, strict=True)
    pairs = [pair for pair in both if spans(*pair, marker)]
    token_ids = np.zeros((len(pairs), LENGTH), "int32")
    for row, (prompt, text) in zip(token_ids, pairs, strict=True):
        ids = [*tokenizer(prompt), *tokenizer(text)]
        if len(ids) != len(prompt.split()) + len(text.split()):
            raise ValueError("A word must be a token.")
        row[: len(ids)] = ids[:LENGTH]
    rows = []
    for layer, weights in enumerate(attention(causal_lm.backbone, token_ids)):
        for head in range(weights.shape[1]):
            for part in PARTS:
                where = [spans(*pair, marker) for pair in pairs]
                mass = [
                    weights[i, head, w["marker"].start, w[part]].sum()
                    for i, w in enumerate(where)
                ]
                even = [
                    (w[part].stop - w[part].start) / w["marker"].stop
                    for w in where
                ]
                rows.append(
                    {
                        "layer": layer,
                        "head": head,
                        "part": part,
                        "mass": float(np.mean(mass)),
                        "even": float(np.mean(even)),
                        "problems": len(pairs),
                    }
                )
    lab.put(NAME, COLUMNS, rows, seed=lab.seed, way=way)
    for row in rows:
        print(way, row, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    args = parser.parse_args()
    backend.set_up()
    lab = Lab(args)
    for way in WAYS:
        run_way(lab, way)
    return 0


if __name__ == "__main__":
    sys.exit(main())
