"""The command line: `kerasllm tour`, `pretrain`, `finetune`, `dpo`, `grpo`, ...

Each command has a file with its options, the command, and the functions that
do its work. `KERAS_BACKEND` must be set before Keras is imported, and help
must appear at once. So nothing heavy is imported at the top of a file: the
functions import what they use.
"""

from kerasllm.cli import (
    asking,
    export,
    homework,
    pretrain,
    tour,
    tuning,
)
from kerasllm.cli._start import app, main

__all__ = ["app", "main"]

# In the order in which help lists them.
app.command()(tour.tour)
app.command()(pretrain.pretrain)
app.command()(asking.generate.generate)
app.command()(tuning.finetune.finetune)
app.command()(tuning.dpo.dpo)
app.command()(tuning.grpo.grpo)
app.command()(asking.chat.chat)
app.command()(asking.index.index)
app.command()(tuning.compare.compare)
app.command()(export.export)
app.command()(tour.info)
app.add_typer(homework.app, name="homework")
