"""A self-contained HTML page for reports.

The page needs no other file and no network. It has a light and a dark look,
and it can be read on a phone.
"""

from kerasllm.report._report import Report

__all__ = ["Report"]
