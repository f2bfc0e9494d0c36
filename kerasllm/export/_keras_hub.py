"""A model as a preset of KerasHub, a folder that `from_preset` loads."""

from kerasllm import files
from kerasllm.export._layouts import check_is_new, check_merged


def to_keras_hub(causal_lm, out):
    """Write a model as a preset of KerasHub, with its vocabulary.

    Args:
        causal_lm: any `CausalLM` with a preprocessor and without adapters
            (`merge_lora` merges them).
        out: str or path of a new folder. `ChatModel.from_preset(out)` and
            `--preset` on the command line load it.

    Raises:
        UserError: the model has adapters, or `out` is there already.
        EnvironmentFailure: the disk is full.
    """
    out = check_is_new(out)
    check_merged(causal_lm)
    with files.explaining_disk_errors(out), files.whole_folder(out) as folder:
        causal_lm.save_to_preset(str(folder))
