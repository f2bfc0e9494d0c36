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


def remember(path):
    """Remember a file as written by this package and not changed since.

    Args:
        path: str or path.
    """
    # A cache that cannot be written to costs a question later, no more.
    with contextlib.suppress(OSError), whole_file(_record_of(path)) as file:
        file.write(sha256(path))


def check_unchanged(paths, force=False):
    """Check that files may be replaced: they are absent, or as we wrote them.

    Args:
        paths: list of str or path.
        force: bool. Replace files that were changed, too.

    Raises:
        RunError: a file was changed since this package wrote it, or is of
            somebody else.
    """
    changed = [os.fspath(path) for path in paths if not _may_replace(path)]
    if changed and not force:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise RunError(
            "Only files that nobody has changed are replaced. Received: "
            f"{changed[0]}{more}, which is not as this command wrote it, or "
            "not written by it. Choose another folder, or say `force` to "
            "replace it."
        )


def _may_replace(path):
    if not os.path.lexists(path):
        return True
    try:
        return _record_of(path).read_text("utf-8") == sha256(path)
    except OSError:  # never written by us, or a folder of that name
        return False


def _record_of(path):
    """Return where the digest of a file is kept."""
    name = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()
    return pathlib.Path(cache_dir("written"), name[:32])
