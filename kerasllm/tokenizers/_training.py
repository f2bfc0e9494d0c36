"""Training a SentencePiece vocabulary on a corpus."""

import collections
import io
import itertools
import re
import warnings

import sentencepiece

from kerasllm.checks import (
    UserError,
    check_choice,
    check_int,
    check_list,
    check_path,
    check_real,
    shown,
)
from kerasllm.files import check_writable, whole_file
from kerasllm.tokenizers._documents import (
    check_shards,
    count_bytes,
    is_dataset,
    read_documents,
)
from kerasllm.tokenizers._vocabularies import END_OF_TEXT, load_sentence_piece

NUM_BYTES = 256
SAMPLE_BYTES = 4_000_000
# The least share of a text whose characters are tokens, if there is room:
# SentencePiece's default.
COVERAGE = 0.9995
# A text with more bytes for each token fills its vocabulary, unless it repeats
# itself.
ENOUGH_BYTES = 128
# Patterns in SentencePiece's own errors, and the reasons that they indicate.
_REASONS = (
    (
        r"sentences_\.empty\(\)",
        "a corpus without text. Check the files",
    ),
    (
        r"a value <= (\d+)",
        "vocabulary_size={size} for a corpus that supports at most {found} "
        "tokens. Choose a `vocabulary_size` of {found} or less, or give more "
        "text",
    ),
    (
        r"\d+ vs (\d+)",
        "vocabulary_size={size} for a corpus whose alphabet alone needs "
        "{found} tokens. Choose a `vocabulary_size` of {found} or more",
    ),
)


def train_sentence_piece(
    files,
    vocabulary_size,
    *,
    special_tokens=(END_OF_TEXT,),
    control_tokens=None,
    path=None,
    model_type="unigram",
    sample_bytes=SAMPLE_BYTES,
):
    r"""Train a SentencePiece vocabulary on a corpus.

    Newlines and special tokens are single tokens and never part of another
    token. The same corpus and arguments give the same vocabulary, byte for
    byte.

    The characters that make up 99.95% of the text are tokens, and the others
    are encoded as bytes. Where a vocabulary is too small for that, as it may
    be for Chinese, three quarters of its room goes to the most frequent
    characters, and a warning says so.

    Args:
        files: list of shard paths (one document per line, newlines escaped as
            `\n`), or a finite `tf.data.Dataset` of documents (scalar strings).
            Documents are read one at a time and never held together.
        vocabulary_size: int, the number of tokens. Bytes, newline and
            SentencePiece's own tokens take 259 of them, and the alphabet
            takes about 100.
        special_tokens: sequence of str. Tokens that are never split.
        control_tokens: dict with the keys `"pad"`, `"eos"`, `"bos"` and
            `"unk"`, str, for models that need tokens for these purposes.
            Their ids are their positions in the dict. Text is never encoded
            as one of them. `None` keeps SentencePiece's own.
        path: str or path. Where to save the vocabulary; `None` saves nothing.
        model_type: `"unigram"` or `"bpe"`. With 4,096 tokens, both encode a
            text in the same number of tokens. BPE trains several times
            faster, which saves a few seconds once. Unigram tokenizes twice as
            fast, which saves time at every use.
        sample_bytes: int. From a larger corpus, lines are sampled at even
            intervals until they have about this many bytes. Sampling 4 MB out
            of 17 gave 0.4% more tokens.

    Returns:
        A `keras_hub.tokenizers.SentencePieceTokenizer`, `str` to int32.

    Raises:
        MissingFileError: a shard is missing.
        OSError: the folder of `path` cannot be written to.
        UserError: an argument is out of range, or the corpus is empty, is not
            UTF-8 or does not fit the vocabulary size.

    Source: Kudo, 2018, arXiv:1804.10959 (unigram); Kudo and Richardson, 2018,
    arXiv:1808.06226 (SentencePiece); chapter 16, listing 16.2.
    """
    settings = _settings(
        vocabulary_size, model_type, special_tokens, control_tokens
    )
    if path is not None:
        check_writable(check_path("path", path).parent)  # before training
    if not is_dataset(files):
        files = check_shards(files)
    proto = _train_on_sample(files, sample_bytes, settings)
    if path is not None:
        with whole_file(path, "wb") as file:
            file.write(proto)
    return load_sentence_piece(proto)


def check_vocabulary_size(files, vocabulary_size):
    """Refuse a vocabulary that a short text cannot fill, without a backend.

    It is trained for that, which takes a second at most. A text with more than
    `ENOUGH_BYTES` bytes for each token is not looked at.

    Args:
        files: list of shard paths.
        vocabulary_size: int.

    Raises:
        MissingFileError, UserError: as for `train_sentence_piece`.
    """
    settings = _settings(vocabulary_size, "unigram", (END_OF_TEXT,), None)
    size, files = settings["vocab_size"], check_shards(files)
    has_room = size > _num_fixed_tokens(settings)
    if has_room and count_bytes(files) > ENOUGH_BYTES * size:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the training says it
        _train_on_sample(files, SAMPLE_BYTES, settings)


def _settings(vocabulary_size, model_type, special_tokens, control_tokens):
    """Return SentencePiece's arguments, after checking ours."""
    vocabulary_size = check_int(
        "vocabulary_size",
        vocabulary_size,
        1,
        cure="4096 suits a small corpus, 32000 is the chapter's.",
    )
    check_choice("model_type", model_type, ("unigram", "bpe"))
    return {
        "vocab_size": vocabulary_size,
        "model_type": model_type,
        "user_defined_symbols": _check_symbols(special_tokens),
        **_control_arguments(control_tokens),
        # An exact round trip needs all of these.
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
        # Code is indented. One token for a run of spaces saves 8 to 12%.
        "allow_whitespace_only_pieces": True,
        # Training starts from this many pieces. The default, a million, takes
        # twice the time for the same tokens.
        "seed_sentencepiece_size": max(24 * vocabulary_size, 50_000),
        # Each thread computes its own sums, so a different number of threads
        # would round differently and give another vocabulary.
        "num_threads": 16,
        "minloglevel": 2,
    }


def _sample(files, sample_bytes):
    """Return an iterator over lines with about this many bytes in total."""
    check_real(
        "sample_bytes",
        sample_bytes,
        lambda number: number >= 1,
        "at least 1",
        cure="The default is 4 MB.",
    )
    share = sample_bytes / max(count_bytes(files), 1)
    return _sample_lines(read_documents(files), share)


def _train(sentences, settings):
    """Return the bytes of a vocabulary trained on sentences."""
    model = io.BytesIO()
    sentences = _Watched(sentences)
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences), model_writer=model, **settings
        )
    except RuntimeError as error:
        if sentences.error is not None:
            raise sentences.error from None
        raise _training_error(settings["vocab_size"], error) from error
    return model.getvalue()


def _train_on_sample(files, sample_bytes, settings):
    """Return the bytes of a vocabulary; see `train_sentence_piece`."""
    try:
        return _train(_sample(files, sample_bytes), settings)
    except _DoesNotFit:
        proto = _train_on_fewer_characters(files, sample_bytes, settings)
        if proto is None:
            raise
        return proto


class _DoesNotFit(UserError):
    """A vocabulary size does not fit the corpus."""


def _train_on_fewer_characters(files, sample_bytes, settings):
    """Train with tokens for the most frequent characters only.

    The lines are split at all other characters. SentencePiece's own option,
    `character_coverage`, covers 98% of a text at least.

    Args:
        files: see `train_sentence_piece`.
        sample_bytes: see `train_sentence_piece`.
        settings: dict of SentencePiece's arguments.

    Returns:
        The bytes of a vocabulary, or `None` if the number of characters is
        not what makes the vocabulary too small, or that does not help.
    """
    counts = collections.Counter(
        itertools.chain.from_iterable(_sample(files, sample_bytes))
    )
    size, own = settings["vocab_size"], _num_fixed_tokens(settings)
    needed = own + _alphabet_size(counts)
    kept = dict(counts.most_common(max(3 * (size - own) // 4, 0)))
    if needed <= size or not kept:
        return None
    rare = {
        ord(character): "\n" for character in counts if character not in kept
    }
    parts = (
        part
        for line in _sample(files, sample_bytes)
        for part in line.translate(rare).split("\n")
        if part
    )
    try:
        proto = _train(parts, settings | {"character_coverage": 1.0})
    except _DoesNotFit:  # too little text for this size
        return None
    share = 1 - sum(kept.values()) / counts.total()
    warnings.warn(
        f"The vocabulary has tokens for {len(kept):,} of the {len(counts):,} "
        f"different characters. The others, {share:.1%} of the text, take a "
        f"token for each byte. With `vocabulary_size={needed}` or more, "
        f"{COVERAGE:.2%} of the text has tokens of its own.",
        stacklevel=4,  # the caller of `train_sentence_piece`
    )
    return proto


def _num_fixed_tokens(settings):
    """Return how many tokens a vocabulary has before it sees any text."""
    roles = {"unk", "bos", "eos"}  # those that SentencePiece always has
    roles.update(key[:3] for key in settings if key.endswith("_piece"))
    return NUM_BYTES + len(roles) + len(settings["user_defined_symbols"])


def _alphabet_size(counts):
    """Return how many characters SentencePiece makes tokens of: an int."""
    covered = itertools.accumulate(
        (count for _, count in counts.most_common()), initial=0
    )
    return sum(before < COVERAGE * counts.total() for before in covered)


class _Watched:
    """An iterable that keeps the error raised by its source.

    SentencePiece replaces any error of an iterator with its own error.
    """

    def __init__(self, source):
        self.source = source
        self.error = None

    def __iter__(self):
        try:
            yield from self.source
        except Exception as error:
            self.error = error
            raise


def _check_symbols(special_tokens):
    if isinstance(special_tokens, str):
        special_tokens = [special_tokens]
    symbols = ["\n", *check_list("special_tokens", special_tokens)]
    # SentencePiece never finds a symbol that contains a space.
    usable = all(
        isinstance(symbol, str) and symbol and " " not in symbol
        for symbol in symbols
    )
    if not usable or len(set(symbols)) < len(symbols):
        raise UserError(
            "`special_tokens` must be distinct, not empty and without spaces, "
            "and must not include newline, which is always added. Received: "
            f"special_tokens={shown(special_tokens)}. Write <two_words>, for "
            "example."
        )
    return symbols


def _control_arguments(control_tokens):
    """Return SentencePiece's arguments for control tokens."""
    if not (control_tokens is None or isinstance(control_tokens, dict)):
        raise UserError(
            "`control_tokens` must be a dict, or `None`. Received: "
            f"control_tokens={shown(control_tokens)}. Leave it out for "
            "SentencePiece's own."
        )
    arguments = {}
    for token_id, (role, piece) in enumerate((control_tokens or {}).items()):
        check_choice("control_tokens", role, ("pad", "eos", "bos", "unk"))
        arguments[f"{role}_id"] = token_id
        arguments[f"{role}_piece"] = piece
    return arguments


def _sample_lines(documents, share):
    """Yield about a `share` of all lines, at even intervals."""
    # The trainer drops sentences with a tab or a NUL, and sentences of more
    # than 4,192 bytes, with a warning at most. The time for a long repetitive
    # line is quadratic. So lines are split. About one word in 1,000 characters
    # is split in two, which does no harm.
    due = 1.0  # however small the share, the first line is included
    for document in documents:
        for line in re.findall("[^\n\t\0]{1,1000}", document):
            if due >= 1:
                due -= 1
                yield line
            due += min(share, 1.0)


def _training_error(vocabulary_size, error):
    """Return the `UserError` that explains why training was impossible."""
    reason = f"vocabulary_size={vocabulary_size} and the error: {error}"
    for pattern, text in _REASONS:
        found = re.search(pattern, str(error))
        if found:
            reason = text.format(
                size=vocabulary_size, found=found[found.re.groups]
            )
            break
    return _DoesNotFit(
        f"`vocabulary_size` must fit the corpus. Received: {reason}."
    )
