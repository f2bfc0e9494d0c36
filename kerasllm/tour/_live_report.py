"""A report that can be followed on the console while it is written."""

import contextlib
import time

from rich.console import Console

from kerasllm.report import Report
from kerasllm.tour._progress import Work, shown


class LiveReport(Report):
    """A `Report` whose stages and main figures are printed as they come.

    The contents of the page say how long each stage took.

    Args:
        title: str. Plain text.
        shows_work: bool. Whether `working` shows how far something is.
    """

    def __init__(self, title, shows_work=True):
        super().__init__(title)
        self._console = Console(highlight=False)
        self._shows_work = shows_work
        self._started = self._stage_began = time.perf_counter()

    @property
    def seconds(self):
        """Seconds since the report was begun, a float."""
        return time.perf_counter() - self._started

    def stage(self, title):
        """Begin a section, and print its title after the minutes so far."""
        self.end_stage()
        self._stage_began = time.perf_counter()
        self.announce(title)
        self.heading(title)

    def end_stage(self):
        """Note how long the stage took, unless there is none."""
        self.note(clock(time.perf_counter() - self._stage_began))

    def announce(self, title):
        """Print a line after the minutes so far."""
        self._console.print(f"[bold]{clock(self.seconds)}  {title}[/]")

    def say(self, line, markup=False):
        """Print a line that the page has in other words.

        Args:
            line: str.
            markup: bool. Whether square brackets in it are rich's styles.
        """
        self._console.print(f"  {line}", markup=markup)

    def working(self, what, total=None):
        """Show that something is going on; see `_progress.shown`."""
        if not self._shows_work:
            return contextlib.nullcontext(Work(what, total))
        return shown(self._console, what, total)


def clock(seconds):
    """Return seconds as minutes and seconds: `"06:41"`."""
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes:02}:{seconds:02}"
