"""A report that can be followed on the console while it is written."""

import time

from rich.console import Console

from kerasllm.report import Report


class LiveReport(Report):
    """A `Report` whose stages and main figures are printed as they come.

    Args:
        title: str. Plain text.
    """

    def __init__(self, title):
        super().__init__(title)
        self._console = Console(highlight=False)
        self._started = time.perf_counter()

    def stage(self, title):
        """Begin a section, and print its title after the minutes so far."""
        minutes, seconds = divmod(int(time.perf_counter() - self._started), 60)
        self._console.print(f"[bold]{minutes:02}:{seconds:02}  {title}[/]")
        self.heading(title)

    def say(self, line, markup=False):
        """Print a line that the page has in other words.

        Args:
            line: str.
            markup: bool. Whether square brackets in it are rich's styles.
        """
        self._console.print(f"  {line}", markup=markup)
