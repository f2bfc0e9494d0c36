"""`kerasllm homework`: hand out, check, and grade notebooks."""

import math
import pathlib
import sys
from typing import Annotated

import typer

from kerasllm import checks
from kerasllm.cli._options import ForceOption, at_least, checked, one_of
from kerasllm.cli._start import BACKENDS
from kerasllm.progress import working

app = typer.Typer(
    help="Hand out homework, check it, and grade it.", no_args_is_help=True
)

SourcesOption = Annotated[
    pathlib.Path | None,
    typer.Option(
        help="Folder with the assignments. Default: chapters/homework in the "
        "clone."
    ),
]
DirectoryArgument = Annotated[
    pathlib.Path,
    typer.Argument(metavar="DIR", file_okay=False, help="Where to write."),
]
TermSeedOption = Annotated[
    int | None,
    typer.Option(min=0, help="Seed that selects the data of this term."),
]
FileArgument = Annotated[
    pathlib.Path,
    typer.Argument(
        exists=True, dir_okay=False, metavar="FILE", help="Your notebook."
    ),
]
SubmissionsArgument = Annotated[
    pathlib.Path,
    typer.Argument(
        exists=True,
        file_okay=False,
        metavar="SUBMISSIONS",
        help="Folder with STUDENT.ipynb or STUDENT/.../NAME.ipynb.",
    ),
]
CsvOption = Annotated[
    pathlib.Path, typer.Option(dir_okay=False, help="Table to write.")
]
AssignmentOption = Annotated[
    str | None,
    typer.Option(
        help="Name of the assignment. Default: recognized by the file names."
    ),
]
HiddenSeedOption = Annotated[
    int | None,
    typer.Option(
        min=0, help="Seed of the hidden inputs. Default: a new one, printed."
    ),
]
FeedbackOption = Annotated[
    pathlib.Path | None,
    typer.Option(
        file_okay=False,
        help="Folder for the students' pages. Default: feedback, beside the "
        "table.",
    ),
]
CourseOption = Annotated[
    pathlib.Path | None,
    typer.Option(
        help="New folder to keep nbgrader's course in, for its formgrader."
    ),
]
MemoryOption = Annotated[
    float,
    typer.Option(
        callback=checked(
            checks.check_real,
            lambda gigabytes: 0 < gigabytes < math.inf,
            "positive and finite",
        ),
        help="Memory limit per submission, in GB.",
    ),
]
CellSecondsOption = Annotated[
    int, typer.Option(callback=at_least(1), help="Time limit per cell.")
]
CallSecondsOption = Annotated[
    int,
    typer.Option(callback=at_least(1), help="Time limit per call by a test."),
]
TotalSecondsOption = Annotated[
    int, typer.Option(callback=at_least(1), help="Time limit per submission.")
]
GradingBackendOption = Annotated[
    str | None,
    typer.Option(
        parser=one_of(BACKENDS),
        metavar=f"[{'|'.join(BACKENDS)}]",
        help="The backend of Keras. Default: Keras's own default, whatever "
        "$KERAS_BACKEND says, so that grades are the same everywhere.",
    ),
]
UnprotectedOption = Annotated[
    bool,
    typer.Option("--unprotected", help="Grade even without Landlock."),
]


@app.command()
def release(
    directory: DirectoryArgument,
    seed: TermSeedOption = None,
    sources: SourcesOption = None,
    force: ForceOption = False,
):
    """Write the students' notebooks, without solutions and hidden tests."""
    from kerasllm import homework

    with working("Writing the notebooks", at_once=False):
        paths = homework.release(directory, sources, seed, force)
    for path in paths:
        print(path)


@app.command()
def check(file: FileArgument):
    """Run your notebook and its visible tests, without nbgrader."""
    from kerasllm import homework
    from kerasllm.homework.shown import visible

    with working("Running the notebook"):
        result = homework.check(file)
    for question, score in result.scores.items():
        said = "graded by a person" if score is None else "passes"
        said = result.failures.get(question, said)
        if question in result.unwritten:
            said = homework.NOT_WRITTEN
        print(f"{visible(question):28} {said}")
    for note in result.notes:
        print(f"note: {note}")
    failing = len(result.failures.keys() - {*result.unwritten})
    print(
        f"{len(result.unwritten)} not written yet, {failing} tests fail; those "
        f"that pass give up to {result.total:g} points. Grading runs more "
        "tests than these."
    )
    if result.failures:
        raise typer.Exit(1)


@app.command()
def grade(
    submissions: SubmissionsArgument,
    csv: CsvOption,
    assignment: AssignmentOption = None,
    seed: HiddenSeedOption = None,
    feedback: FeedbackOption = None,
    course: CourseOption = None,
    memory: MemoryOption = 4.0,
    cell_seconds: CellSecondsOption = 60,
    call_seconds: CallSecondsOption = 20,
    total_seconds: TotalSecondsOption = 600,
    unprotected: UnprotectedOption = False,
    sources: SourcesOption = None,
    backend: GradingBackendOption = None,
    force: ForceOption = False,
):
    """Grade a class: write a table and pages, and say what failed most often.

    The exit status is 1 if a student was not graded or has no page.
    """
    from kerasllm import homework

    for line in homework.protections():
        print(f"in force: {line}")
    with working("Grading", at_once=False):
        results, seed = homework.grade(
            submissions,
            csv,
            sources,
            assignment,
            seed,
            feedback,
            course,
            memory_gb=memory,
            cell_seconds=cell_seconds,
            call_seconds=call_seconds,
            total_seconds=total_seconds,
            backend=backend,
            unprotected=unprotected,
            force=force,
            progress=_print_line,
        )
    print()
    for line in homework.summarize(results):
        print(line)
    print(f"{csv}; the same hidden inputs again: --seed {seed}")
    if not all(result.graded and result.is_complete for result in results):
        raise typer.Exit(1)


def _print_line(line):
    """Print a line; in a terminal, it replaces the progress line."""
    begin = "\r\x1b[K" if sys.stdout.isatty() else ""
    print(f"{begin}{line}", flush=True)
