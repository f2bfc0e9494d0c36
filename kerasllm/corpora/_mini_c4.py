"""The chapter's corpus, a part of the C4 web crawl."""

from kerasllm import files
from kerasllm.checks import UserError
from kerasllm.corpora._shards import check_shard

MINI_C4_URL = (
    "https://hf.co/datasets/mattdangerw/mini-c4/resolve/main/mini-c4.zip"
)


def mini_c4(directory=None, sha256=None, url=MINI_C4_URL):
    """Download the chapter's corpus, or find it again and check it.

    Mini-C4 is a part of the C4 web crawl: 50 shards of about 75 MB. They are
    checked at each call, which takes about 15 seconds.

    Args:
        directory: str or path. The folder for all corpora. Defaults to
            `$KERAS_HOME/kerasllm/corpora`.
        sha256: str. The expected SHA-256 of the archive. Defaults to that of
            the first complete download, which is recorded beside it.
        url: str. The address of the ZIP archive, in case you use a mirror.

    Returns:
        A sorted list of str, the paths of the shards.

    Raises:
        EnvironmentFailure: the network is not available, the disk is full, or
            the transfer was interrupted.
        UserError: the archive or a shard is not the expected one, or is not
            UTF-8.

    Source: chapter 16, listing 16.1.
    """
    directory = directory or files.cache_dir("corpora")
    folder = files.download(url, directory, sha256=sha256, extract=True)
    shards = sorted(str(path) for path in folder.rglob("shard*.txt"))
    if not shards:
        raise UserError(
            "The archive must hold files named shard*.txt. Received: "
            f"{url}, unpacked in {folder}, without any. Check `url`."
        )
    for shard in shards:
        check_shard(shard)
    return shards
