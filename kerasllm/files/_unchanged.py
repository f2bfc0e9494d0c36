"""What this package has written, so that it replaces nothing else unasked.

The digest of each such file is kept in the cache, under the file's path. A file
with another digest was changed, or is of somebody else.
"""

import contextlib
import hashlib
import os
import pathlib

from kerasllm.checks import RunError
from kerasllm.files._digests import sha256
from kerasllm.files._folders import cache_dir
from kerasllm.files._whole import whole_file


def remember(path, of=""):
    """Remember a file as written by this package and not changed since.

    Args:
        path: str or path.
        of: str. What the file is about, if a file about something else may
            come to have the same path.
    """
    # A cache that cannot be written to costs a question later, no more.
    with contextlib.suppress(OSError), whole_file(_record_of(path)) as file:
        file.write(_record(path, of))


def check_unchanged(paths, force=False, of=""):
    """Check that files may be replaced: they are absent, or as we wrote them.

    Args:
        paths: list of str or path.
        force: bool. Replace files that were changed, too.
        of: str, as for `remember`.

    Raises:
        RunError: a file was changed since this package wrote it, or is of
            somebody else, or about something else. Folders are never replaced.
    """
    for path in filter(os.path.isdir, paths):
        raise RunError(
            "What is replaced must be a file. Received: the folder "
            f"{os.fspath(path)}. Choose another, or remove it."
        )
    changed = [os.fspath(path) for path in paths if not _may_replace(path, of)]
    if changed and not force:
        what = f" for {of}" if of else ""
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise RunError(
            "Only files that nobody has changed are replaced. Received: "
            f"{changed[0]}{more}, which is not as this command wrote it{what}, "
            "or not written by it. Choose another folder, or say `force` to "
            "replace it."
        )


def _may_replace(path, of):
    if not os.path.lexists(path):
        return True
    try:
        return _record_of(path).read_text("utf-8") == _record(path, of)
    except OSError:  # never written by us, or a folder of that name
        return False


def _record(path, of):
    """Return what is kept about a file."""
    return f"{sha256(path)} {of}".strip()


def _record_of(path):
    """Return where the digest of a file is kept."""
    name = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()
    return pathlib.Path(cache_dir("written"), name[:32])
