r"""A document as one line of a shard, and back.

In a shard, a newline is the two characters `\n`, as in the chapter's mini-C4.
A text may hold these two characters itself, as `\nabla` does. Then U+0010,
"data link escape", goes between the two, so that they are no newline. Shards
that know nothing of this read as before.
"""

import re

_ESCAPE = "\x10"


def escape_line(text):
    r"""Return a text in which no two characters `\n` mean a newline.

    Args:
        text: str.

    Returns:
        str, whose newlines may now be written as `\n`.
    """
    return re.sub(rf"(\\{_ESCAPE}*)n", rf"\1{_ESCAPE}n", text)


def restore_line(line):
    r"""Return the document of a line of a shard, with its newlines.

    Args:
        line: str, without the newline at its end.
    """
    text = line.replace("\\n", "\n")
    return re.sub(rf"(\\{_ESCAPE}*){_ESCAPE}n", r"\1n", text)
