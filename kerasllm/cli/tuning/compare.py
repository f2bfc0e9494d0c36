"""`kerasllm compare`: label pairs of responses, and compare two labellers."""

import contextlib
import pathlib
import shlex
from typing import Annotated

import typer

from kerasllm.checks import UserError
from kerasllm.cli._options import SeedOption, check_file, checked
from kerasllm.cli._start import UsageError

DataArgument = Annotated[
    pathlib.Path | None,
    typer.Argument(
        exists=True,
        dir_okay=False,
        callback=checked(check_file),
        metavar="DATA",
        help="JSONL with pairs: a prompt with responses, or with chosen and "
        "rejected, as texts, conversations or transcripts. Which response is "
        "better is not read.",
    ),
]
OutOption = Annotated[
    pathlib.Path | None,
    typer.Option(
        dir_okay=False, help="File of the labels. New ones are added to it."
    ),
]
AgreementOption = Annotated[
    tuple[pathlib.Path, pathlib.Path] | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        metavar="FILE FILE",
        help="Compare the labels in two files instead.",
    ),
]
PortOption = Annotated[
    int,
    typer.Option(min=0, max=65535, help="Where to serve the page; 0 for any."),
]


def compare(
    data: DataArgument = None,
    out: OutOption = None,
    agreement: AgreementOption = None,
    port: PortOption = 0,
    seed: SeedOption = 0,
):
    """Label which of two responses is better, on a page of this machine.

    The keys 1 and 2 prefer a response, and 0 is for a tie. Each label is
    written at once. End with Ctrl-C; the same command goes on.
    """
    if agreement is not None:
        if data is not None or out is not None:
            raise UsageError("--agreement must stand alone")
        _compare_labellers(*agreement)
    elif data is None or out is None:
        raise UsageError(
            "There must be a file of pairs and --out, or --agreement with two "
            "files of labels"
        )
    else:
        _label(data, out, port, seed)


def _label(data, out, port, seed):
    """Serve the page until Ctrl-C."""
    from kerasllm.preferences import LabellingServer

    with LabellingServer(data, out, port, seed) as server:
        print(f"Open {server.url} and press 1, 2, or 0 for a tie.")
        print("End with Ctrl-C.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    done, total = server.progress()
    print(f"{done} of {total} pairs are labelled, in {out}.")
    if done:
        print("Tune a model on them with")
        print(f"  {shlex.join(['kerasllm', 'dpo', '--data', str(out)])}")


def _compare_labellers(first, second):
    """Print how often two labellers agree."""
    from kerasllm.evaluation import Share, cohens_kappa
    from kerasllm.preferences import read_labels

    labels, others = read_labels(first), read_labels(second)
    both = [pair for pair in labels if pair in others]
    if not both:
        raise UserError(
            "Two labellers must have labelled the same pairs. Received: "
            f"{first} and {second}, which have no pair in common. Label the "
            "same file twice."
        )
    share = Share.of(labels[pair] == others[pair] for pair in both)
    low, high = share.interval()
    kappa = cohens_kappa(
        [labels[pair] for pair in both], [others[pair] for pair in both]
    )
    print(
        f"The two labellers agree on {share.hits} of {share.size} pairs: "
        f"{share:.1%} (95% interval {low:.1%} to {high:.1%}).\n"
        f"Cohen's kappa is {kappa:.2f}: 1 is full agreement, 0 is chance."
    )
