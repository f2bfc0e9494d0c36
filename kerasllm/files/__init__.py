"""Files that are either complete or absent, and verified downloads.

Everything that this package writes for later use (corpora, vocabularies,
checkpoints, reports) is written under a temporary name beside its final one
and renamed when it is complete. A rename within one file system is atomic, so
a reader never sees an incomplete file, even if the writer is killed.
"""

from kerasllm.files._digests import sha256, sha256_once
from kerasllm.files._downloads import download
from kerasllm.files._encodings import encoding_cure, other_encoding
from kerasllm.files._folders import (
    assets_dir,
    cache_dir,
    check_may_write,
    check_writable,
    keras_home,
    locked,
)
from kerasllm.files._lines import escape_line, restore_line
from kerasllm.files._records import read_records
from kerasllm.files._runs import (
    CHECKPOINT_FILE,
    HISTORY_FILE,
    MODEL_FILE,
    RUN_FILE,
    VOCABULARY_FILE,
    check_finished_run,
    check_same_run,
    has_results,
    read_run,
)
from kerasllm.files._unchanged import check_unchanged, remember
from kerasllm.files._whole import (
    explaining_disk_errors,
    remove_partial,
    whole_file,
    whole_folder,
)

__all__ = [
    "CHECKPOINT_FILE",
    "HISTORY_FILE",
    "MODEL_FILE",
    "RUN_FILE",
    "VOCABULARY_FILE",
    "assets_dir",
    "cache_dir",
    "check_finished_run",
    "check_may_write",
    "check_same_run",
    "check_unchanged",
    "check_writable",
    "download",
    "encoding_cure",
    "escape_line",
    "explaining_disk_errors",
    "has_results",
    "keras_home",
    "locked",
    "other_encoding",
    "read_records",
    "read_run",
    "remember",
    "remove_partial",
    "restore_line",
    "sha256",
    "sha256_once",
    "whole_file",
    "whole_folder",
]
