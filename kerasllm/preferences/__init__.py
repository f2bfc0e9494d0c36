"""Comparisons of responses, to learn preferences from (section 16.4.1)."""

from kerasllm.preferences._preference import Preference

__all__ = ["Preference"]
