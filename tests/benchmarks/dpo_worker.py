"""Takes steps of DPO in a process of its own, as many as it is asked to.

Ours is `tuning.dpo` itself, with a callback that waits between turns. The
other is a loop around a model of Hugging Face with what the `DPOTrainer` of
TRL 0.19.1 does in a step: one forward pass over the chosen and the rejected
sequences, `selective_log_softmax` of all positions, and the sigmoid loss. Its
formulas are written out here, because TRL pins versions of its own (see
"Losses of TRL" in NOTES.md: ours gives the same numbers).

Both have the log-probabilities of the reference from before the first step
(`precompute_ref_log_probs` in TRL), so a step has one forward pass, of twice
as many sequences as pairs. All sequences have the full length: no padding, and
no bucket for short ones.
"""

import itertools
import json
import os
import sys
import time

import numpy as np

from tests.benchmarks.training_worker import ANSWER

BETA, RATE, RANK = 0.1, 1e-5, 8
PAIRS = 64
# Sizes in the words of `Llama`; a quarter of each sequence is the prompt.
SMALL = {
    "length": 128,
    "vocabulary_size": 8192,
    "num_layers": 4,
    "hidden_dim": 256,
    "intermediate_dim": 768,
    "num_heads": 4,
    "num_key_value_heads": 2,
}
SIZES = {
    "small": SMALL,
    # The width and the vocabulary of SmolLM2, and four of its thirty layers.
    "wide": {"length": 128, "num_layers": 4},
    "smollm2": {"length": 128},
}


class Turns:
    """Waits for a number of steps, and tells how long one of them took.

    Args:
        clock: callable that returns seconds.
    """

    def __init__(self, clock):
        self.clock = clock
        self.steps = self.left = 0

    def begin(self):
        """Note that a step begins; wait if a turn is over."""
        if not self.left:
            self.steps = self.left = int(sys.stdin.readline())
            self.start = self.clock()

    def end(self, loss):
        """Note that a step is over, with a loss that may not be there yet."""
        self.left -= 1
        if not self.left:
            float(loss)
            seconds = (self.clock() - self.start) / self.steps
            print(ANSWER, seconds, flush=True)


def random_pairs(shape):
    """Return tokens `(pairs, 2, length)`, and how many are the prompt's."""
    rng = np.random.default_rng(0)
    size = PAIRS, 2, shape.length
    token_ids = rng.integers(1, shape.vocabulary_size, size, "int32")
    num_prompt = shape.length // 4
    token_ids[:, 1, :num_prompt] = token_ids[:, 0, :num_prompt]
    token_ids[:, :, -1] = 0  # the end token
    return token_ids, num_prompt


class Numbers:
    """Tokenizer and preprocessor of texts that are numbers: "3 14 15"."""

    end_token_id = 0

    def __init__(self):
        self.tokenizer = self

    def __call__(self, texts):
        return [np.array(text.split(), "int32") for text in texts]


def run_ours(shape, turns, batch_size, lora):
    """Tune with `tuning.dpo` forever."""
    import keras

    from kerasllm import backend, enable_lora
    from kerasllm.preferences import Preference
    from kerasllm.prompts import PromptTemplate
    from kerasllm.tuning import dpo

    class Gate(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            turns.begin()

        def on_train_batch_end(self, batch, logs=None):
            turns.end(logs["loss"])

    backend.keep_freed_memory()
    causal_lm = shape.ours("float32")
    causal_lm.preprocessor = Numbers()
    if lora:
        enable_lora(causal_lm, RANK)
    token_ids, num_prompt = random_pairs(shape)
    preferences = [
        Preference(
            " ".join(map(str, chosen[:num_prompt])),
            " ".join(map(str, chosen[num_prompt:-1])),
            " ".join(map(str, rejected[num_prompt:-1])),
        )
        for chosen, rejected in token_ids
    ]
    dpo(
        causal_lm,
        preferences,
        beta=BETA,
        template=PromptTemplate("numbers", "", "", "", ""),
        epochs=10**6,
        batch_size=batch_size,
        learning_rate=RATE,
        sequence_length=shape.length,
        callbacks=[Gate()],
        verbose=0,
    )


def run_hugging_face(shape, turns, batch_size, lora):
    """Tune a model of Hugging Face with the loss of TRL forever."""
    import torch

    model = shape.hugging_face().train()
    if lora:
        import peft

        model = peft.get_peft_model(
            model,
            peft.LoraConfig(
                r=RANK, lora_alpha=RANK, target_modules=["q_proj", "v_proj"]
            ),
        )
    weights = [w for w in model.parameters() if w.requires_grad]
    # Fused, as the trainer has it by default; without decay it is Adam.
    optimizer = torch.optim.AdamW(weights, RATE, weight_decay=0, fused=True)
    token_ids, num_prompt = random_pairs(shape)
    batches = [
        torch.tensor(
            np.concatenate([batch[:, 0], batch[:, 1]]), dtype=torch.long
        )
        for batch in np.split(token_ids, PAIRS // batch_size)
    ]
    with torch.no_grad():
        references = [logprobs_of(model, b, num_prompt) for b in batches]
    for i in itertools.cycle(range(len(batches))):
        turns.begin()
        chosen, rejected = (
            logprobs_of(model, batches[i], num_prompt) - references[i]
        ).chunk(2)
        loss = -torch.nn.functional.logsigmoid(BETA * (chosen - rejected))
        loss = loss.mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        turns.end(loss.detach())


def logprobs_of(model, token_ids, num_prompt):
    """Return the log-probabilities of responses, as `concatenated_forward`."""
    import torch

    logits = model(
        input_ids=token_ids,
        attention_mask=torch.ones_like(token_ids),
        use_cache=False,
    ).logits
    labels = torch.roll(token_ids, shifts=-1, dims=1)
    mask = torch.zeros_like(token_ids, dtype=torch.bool)
    mask[:, num_prompt - 1 : -1] = True
    # `selective_log_softmax`: a sequence at a time, which saves memory.
    chosen = torch.gather(logits, -1, labels[..., None]).squeeze(-1)
    normalizers = torch.stack([torch.logsumexp(x, dim=-1) for x in logits])
    scores = (chosen - normalizers).masked_fill(~mask, 0)
    return scores.sum(-1)  # (2 * batch_size,)


def main():
    job = json.loads(sys.argv[1])
    threads = job.pop("threads")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    from tests.benchmarks.shapes import Llama

    shape = Llama(**SIZES[job.pop("size")])
    turns = Turns(getattr(time, job.pop("clock")))
    run = run_hugging_face if job.pop("peer", False) else run_ours
    run(shape, turns, **job)


if __name__ == "__main__":
    main()
