"""Token ids are those of training, to the last one."""

import numpy as np
import pytest

from kerasllm.checks import UserError
from kerasllm.gguf import GGUFFile, GGUFTokenizer, read_gguf
from kerasllm.prompts import encode, start_tokens
from tests.gguf.oracles import encode_by_hand, library_tokenizer
from tests.gguf.small_files import CONTROL, hard_texts, write

pytestmark = pytest.mark.any_backend
TEXTS = hard_texts(2000)


@pytest.fixture(scope="module")
def tokenizer(small):
    return read_gguf(small[0]).preprocessor.tokenizer


@pytest.fixture(scope="module")
def metadata(small):
    return GGUFFile(small[0]).metadata


def test_ids_are_those_of_the_library_and_of_the_published_rules(
    tokenizer, metadata
):
    library = library_tokenizer(metadata)
    ids = tokenizer(TEXTS)
    assert ids == [encoded.ids for encoded in library.encode_batch(TEXTS)]
    tokens, merges = (metadata[f"tokenizer.ggml.{x}"]
                      for x in ("tokens", "merges"))  # fmt: skip
    for text, found in zip(TEXTS[:300], ids, strict=False):
        assert encode_by_hand(tokens, merges, CONTROL, text) == found, text
    assert tokenizer.detokenize(ids) == TEXTS
    assert len({len(found) for found in ids}) > 20


def test_what_people_write_never_becomes_a_control_token(tokenizer):
    control = set(tokenizer.special_token_ids)
    assert control == {0, 1, 2, 3}
    spelled = 0
    for text in TEXTS:
        ids = encode(tokenizer, [(text, False)])
        assert not control.intersection(ids), text
        assert tokenizer.detokenize(ids) == text
        spelled += any(token in text for token in CONTROL)
    assert spelled > 100
    assert encode(tokenizer, [("<|im_end|>", True)]) == [2]


def test_a_tokenizer_has_what_kerashub_asks_for(tokenizer, metadata):
    tokens = metadata["tokenizer.ggml.tokens"]
    assert tokenizer.vocabulary_size() == len(tokens)
    assert list(tokenizer.get_vocabulary()) == tokens
    assert tokenizer.id_to_token(2) == "<|im_end|>"
    assert tokenizer.token_to_id("<|im_end|>") == tokenizer.end_token_id == 2
    assert tokenizer.start_token_id is None and start_tokens(tokenizer) == []
    assert tokenizer.pad_token_id == 0  # the file pads with the end token
    ids = tokenizer("the cat")
    assert ids.dtype == "int32" and ids.ndim == 1
    for same in (ids, ids.tolist(), list(ids)):
        assert tokenizer.detokenize(same) == "the cat"
    assert tokenizer.detokenize(np.stack([ids, ids])) == ["the cat"] * 2
    for wrong in (lambda: tokenizer.token_to_id("<none>"),
                  lambda: tokenizer.id_to_token(len(tokens))):  # fmt: skip
        with pytest.raises(UserError, match="must be in"):
            wrong()


def test_a_pipeline_gives_the_same_ids(tokenizer):
    import tensorflow as tf

    texts = TEXTS[:8]
    expected = [list(ids) for ids in tokenizer(texts)]
    dataset = tf.data.Dataset.from_tensor_slices(texts)
    one_by_one = [ids.numpy().tolist() for ids in dataset.map(tokenizer)]
    (together,) = dataset.batch(8).map(tokenizer)
    assert one_by_one == together.to_list() == expected
    assert tokenizer(tf.constant(texts)) == expected
    assert tokenizer(tf.constant("the")).tolist() == tokenizer("the").tolist()


def test_a_tokenizer_is_saved_and_loaded(tokenizer, tmp_path):
    tokenizer.save_to_preset(str(tmp_path))
    assets = tmp_path / "assets" / "tokenizer"
    loaded = GGUFTokenizer.from_config(tokenizer.get_config())
    loaded.load_assets(assets)
    assert loaded(TEXTS[:50]) == tokenizer(TEXTS[:50])
    assert loaded.get_config() == tokenizer.get_config()
    assert loaded.prompt_template["system"] == "You are kind"


def test_llama_3_splits_text_in_its_own_way(tmp_path):
    path = tmp_path / "llama3.gguf"
    write(path, tokenizer__ggml__pre="llama-bpe",
          tokenizer__ggml__add_bos_token=None)  # fmt: skip
    tokenizer = read_gguf(path).preprocessor.tokenizer
    assert start_tokens(tokenizer) == [1]
    from tokenizers import pre_tokenizers

    split = pre_tokenizers.Sequence([tokenizer.tokenizer.pre_tokenizer])
    words = [w for w, _ in split.pre_tokenize_str("It's 12345 a\n\n b  c")]
    assert words == [
        *("It", "'s", "Ġ", "123", "45", "Ġa", "ĊĊ", "Ġb", "Ġ", "Ġc"),
    ]
    assert tokenizer.detokenize(tokenizer(TEXTS)) == TEXTS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer__ggml__pre": "qwen2"}, "split as 'qwen2'"),
        ({"tokenizer__ggml__model": "t5"}, "vocabulary 't5'"),
        ({"tokenizer__ggml__tokens": None}, "tensors|have a vocabulary"),
        ({"tokenizer__ggml__merges": None}, "ggml.merges"),
        ({"tokenizer__ggml__merges": ["zz q"]}, "pairs of its tokens"),
        ({"tokenizer__ggml__eos_token_id": None}, "the token that ends"),
        ({"tokenizer__ggml__eos_token_id": 9999}, "in its vocabulary"),
    ],
)
def test_a_vocabulary_that_cannot_be_read_is_refused(
    tmp_path, changes, message
):
    path = tmp_path / "other.gguf"
    write(path, **changes)
    with pytest.raises(UserError, match=message):
        read_gguf(path)
