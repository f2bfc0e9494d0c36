"""What `generate` and `chat` share: a sampler, a model, and printed text."""

import dataclasses
import sys

from kerasllm.cli._start import starting


@dataclasses.dataclass(frozen=True)
class Sampling:
    """The options that say how the next token is chosen."""

    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    frequency_penalty: float
    presence_penalty: float

    def sampler(self):
        """Return the sampler that the options describe.

        Without any of them it is greedy search.

        Raises:
            UserError: a number is out of range.
        """
        from kerasllm import samplers

        arguments = dataclasses.asdict(self)
        if self.temperature is None:
            filters = (self.top_k, self.top_p, self.min_p)
            draws = any(number is not None for number in filters)
            arguments["temperature"] = 1.0 if draws else 0.0
        return samplers.chain(**arguments)


def load_generator(directory, backend, sampling):
    """Return the generator of a pretrained model, and its longest text."""
    with starting(backend):
        from kerasllm import pretraining

    # Before the model is loaded, so that a wrong number shows at once.
    sampler = sampling.sampler()
    trained = pretraining.PretrainedModel.load(directory)
    return (
        trained.generator(sampler),
        trained.record["recipe"]["sequence_length"],
    )


def print_pieces(pieces, generator):
    """Print a text as it is written, and its speed on stderr."""
    for piece in pieces:
        print(piece, end="", flush=True)
    print()
    speed = generator.tokens_per_second
    if speed is not None:
        print(f"{speed:,.0f} tokens/s", file=sys.stderr)
