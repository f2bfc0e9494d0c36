"""The folder of a finished run, and how to load it."""

import dataclasses
import pathlib

import keras
import keras_hub

from kerasllm import backend, files, tokenizers
from kerasllm.checks import check_path
from kerasllm.files import MODEL_FILE, VOCABULARY_FILE
from kerasllm.generation import TextGenerator
from kerasllm.models import MiniGPTCausalLM
from kerasllm.samplers import greedy_search
from kerasllm.training import read_run, write_run


@dataclasses.dataclass
class PretrainedModel:
    """The result of a finished run: a model, its vocabulary and its record.

    Attributes:
        model: the `mini_gpt`.
        tokenizer: its `keras_hub.tokenizers.SentencePieceTokenizer`.
        record: dict. The recipe, data and `vocabulary` (its SHA-256) that
            determined the run; its `backend`, `device`, `dtype` and
            `parameters`; and its `history`, as returned by `pretrain`.
        directory: `pathlib.Path`. The folder that holds all of it.
    """

    model: keras.Model
    tokenizer: keras_hub.tokenizers.SentencePieceTokenizer
    record: dict
    directory: pathlib.Path

    @classmethod
    def load(cls, directory):
        """Load what `pretrain_mini_gpt` wrote into `directory`.

        Raises:
            MissingFileError: `directory` does not hold a finished run.
            RunError: its record cannot be read.
        """
        files.check_finished_run(directory)
        directory = check_path("directory", directory)
        with backend.LoadedValues():
            # Do not compile it. Keras saves the `jit_compile` setting of the
            # backend that trained, and JAX's setting would make PyTorch
            # compile again for each length.
            model = keras.saving.load_model(
                directory / MODEL_FILE, compile=False
            )
        return cls(
            model,
            tokenizers.load_sentence_piece(directory / VOCABULARY_FILE),
            read_run(directory),
            directory,
        )

    def causal_lm(self):
        """Return the model as a KerasHub task: a `MiniGPTCausalLM`."""
        return MiniGPTCausalLM.from_mini_gpt(self.model, self.tokenizer)

    def generator(self, sampler=greedy_search):
        """Return a `TextGenerator` of the model.

        Args:
            sampler: see `TextGenerator`.
        """
        return TextGenerator(self.causal_lm(), sampler)


def write_result(directory, model, record):
    """Write the record of a finished run, and then its model.

    Raises:
        EnvironmentFailure: the disk is full.
    """
    write_run(directory, record)
    # The model comes last, because its presence marks the run as finished.
    # `whole_file` does not work here: Keras checks the file name extension.
    partial = directory / f".partial-{MODEL_FILE}"
    try:
        with files.explaining_disk_errors(directory / MODEL_FILE):
            model.save(partial)
            partial.replace(directory / MODEL_FILE)
    finally:
        partial.unlink(missing_ok=True)
