"""Sampling responses to learn from, many prompts at once."""

import dataclasses

import numpy as np

from kerasllm.checks import UserError, check_list, check_text, shown
from kerasllm.generation import TextGenerator, TokenizedPrompt, end_token_ids
from kerasllm.prompts import encode, encode_all, start_tokens
from kerasllm.samplers import chain
from kerasllm.tokenizers import token_id_of


@dataclasses.dataclass(frozen=True)
class Samples:
    """Responses that a model has sampled.

    Attributes:
        prompts: list of str. Each prompt comes once for each of its responses.
        responses: list of str, without white space around them. Those to one
            prompt are side by side.
        ended: list of bool. Whether the model ended a response, before the
            largest length cut it off.
        num_tokens: list of int. Tokens that were sampled for each response.
        logprobs: list of float, the log-probability of each response under the
            model, without its end token, in nats.
        num_generations: int. Responses to each prompt.
        token_ids: list of int32 arrays, the tokens that the model read and
            wrote, prompt and response in one; `None` if they come from a file.
        starts: list of int. Where in these each response begins; or `None`.
    """

    prompts: list
    responses: list
    ended: list
    num_tokens: list
    logprobs: list
    num_generations: int
    token_ids: list | None = None
    starts: list | None = None

    def __len__(self):
        return len(self.responses)


class ResponseSampler:
    """Samples responses of a model, in the form in which it is tuned on them.

    Args:
        causal_lm: any `keras_hub.models.CausalLM` with a cache and a
            preprocessor.
        template: `PromptTemplate`. It is put around each prompt.
        sequence_length: int. Largest number of tokens of a prompt with its
            response and the delimiters, as for `finetune`.
        temperature: float, positive; 0 for the likeliest response.
        batch_size: int. Sequences that are sampled together.

    Raises:
        UserError: the model has no cache or no preprocessor.
    """

    def __init__(
        self, causal_lm, template, sequence_length, temperature, batch_size
    ):
        self.generator = TextGenerator(causal_lm, chain(temperature))
        self.template = template
        self.sequence_length = sequence_length
        self.batch_size = batch_size
        tokenizer = causal_lm.preprocessor.tokenizer
        after = encode(tokenizer, template.response_segments(""))
        # With its delimiters and the end token, a response must fit, too.
        self.max_length = max(sequence_length - len(after), 2)
        stops = end_token_ids(tokenizer)
        self._end = next(
            (token for token in [*after, *sorted(stops)] if token in stops),
            None,
        )
        end = template.end_of_turn
        # Looking for a string takes time at each token. Most have a token.
        is_text = end and token_id_of(tokenizer, end) not in stops
        self._stop_strings = [end] if is_text else []

    def encode(self, prompts):
        """Return prompts with the template around them, tokenized.

        Args:
            prompts: list of str.

        Returns:
            list of `TokenizedPrompt`.

        Raises:
            UserError: a prompt leaves no room for a response.
        """
        tokenizer = self.generator.causal_lm.preprocessor.tokenizer
        start = start_tokens(tokenizer)
        encoded = [
            TokenizedPrompt((*start, *token_ids))
            for token_ids in encode_all(
                tokenizer, [self.template.prompt_segments(p) for p in prompts]
            )
        ]
        lengths = [len(prompt.token_ids) for prompt in encoded]
        longest = int(np.argmax(lengths))
        if lengths[longest] >= self.max_length:
            raise UserError(
                "`sequence_length` must leave room for a response after each "
                f"prompt. Received: sequence_length={self.sequence_length} and "
                f"a prompt of {lengths[longest]} tokens with its delimiters, "
                f"{shown(prompts[longest])}. Raise `sequence_length`, or leave "
                "out long prompts."
            )
        return encoded

    def sample(self, prompts, num_generations, seeds, temperature=None):
        """Return several responses to each prompt: `Samples`.

        Args:
            prompts: list of str.
            num_generations: int.
            seeds: list of int, one for each prompt; see `seeds_of`. A single
                one would give all prompts the same luck.
            temperature: float; `None` for that of the sampler.
        """
        encoded = self.encode(prompts)
        sampler = None if temperature is None else chain(temperature)
        at_once = max(1, self.batch_size // num_generations)
        results = []
        for first in range(0, len(prompts), at_once):
            part = slice(first, first + at_once)
            generations = self.generator.generate(
                encoded[part],
                self.max_length,
                seed=seeds[part],
                strip_prompt=True,
                return_logprobs=True,
                stop_strings=self._stop_strings,
                num_samples=num_generations,
                sampler=sampler,
            )
            if num_generations == 1:  # a single sample is no list
                generations = [[generation] for generation in generations]
            for prompt, its_own in zip(encoded[part], generations, strict=True):
                results += [(prompt.token_ids, own) for own in its_own]
        asked = [prompt for prompt in prompts for _ in range(num_generations)]
        return self._as_samples(asked, results, num_generations)

    def _as_samples(self, asked, results, num_generations):
        sequences = []
        for prompt_ids, generation in results:
            written = generation.token_ids
            if generation.finish_reason == "stop_token":
                written = (*written, self._end)
            sequences.append(np.array([*prompt_ids, *written], "int32"))
        starts = [len(prompt_ids) for prompt_ids, _ in results]
        return Samples(
            asked,
            [generation.text.strip() for _, generation in results],
            [g.finish_reason != "max_length" for _, g in results],
            [
                len(sequence) - start
                for sequence, start in zip(sequences, starts, strict=True)
            ],
            [float(sum(g.logprobs)) for _, g in results],
            num_generations,
            sequences,
            starts,
        )


def seeds_of(seed, number, count):
    """Return a seed for each of many prompts: a list of int.

    Args:
        seed: int. That of the run.
        number: int. The number of the round; 0 stands for measurements, which
            have the same draws in all rounds, so that differences between
            rounds are not due to luck.
        count: int. How many prompts there are.
    """
    states = np.random.SeedSequence([seed, number]).generate_state(count)
    return [int(state) >> 1 for state in states]  # within 31 bits


def check_prompts(name, prompts):
    """Return prompts as a list, after checking them.

    Args:
        name: str. Name of the argument.
        prompts: list of str.

    Raises:
        UserError: it is no list, it is empty, or one of them is no text or
            empty.
    """
    prompts = check_list(name, prompts, "a list of strings")
    if not prompts:
        raise UserError(
            f"`{name}` must have at least one prompt. Received: {name}=[]."
        )
    for prompt in prompts:
        check_text(name, prompt, "Pass prompts without their answers.")
        if not prompt:
            raise UserError(
                f"`{name}` must not have empty ones. Received: an empty "
                "string. Leave it out."
            )
    return prompts


def check_held_out(name, validation, prompts):
    """Refuse held-out prompts that are trained on.

    Args:
        name: str. What messages call them: `validation_` and so on.
        validation: iterable of str.
        prompts: iterable of str, those to train on.

    Raises:
        UserError: a prompt is on both sides.
    """
    both = set(prompts).intersection(validation)
    if both:
        trained = name.removeprefix("validation_")
        raise UserError(
            f"`{name}` must be held out. Received: {len(both)} that are among "
            f"`{trained}`, too, such as {shown(min(both))}. Leave them out "
            "there."
        )
