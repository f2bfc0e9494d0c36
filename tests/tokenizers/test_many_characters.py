"""Text with more characters than a small vocabulary has room for."""

import random
import re
import warnings

import pytest

from kerasllm.checks import UserError
from kerasllm.tokenizers import train_sentence_piece
from tests.tokenizers.small_corpus import write

pytestmark = pytest.mark.any_backend

# The beginning of the Thousand Character Classic, in which no character comes
# twice (Zhou Xingsi, about 500), and of the Analects, in which many do.
CLASSIC = """
天地玄黃宇宙洪荒 日月盈昃辰宿列張 寒來暑往秋收冬藏 閏餘成歲律呂調陽
雲騰致雨露結為霜 金生麗水玉出崑岡 劍號巨闕珠稱夜光 果珍李柰菜重芥薑
海鹹河淡鱗潛羽翔 龍師火帝鳥官人皇 始制文字乃服衣裳 推位讓國有虞陶唐
弔民伐罪周發殷湯 坐朝問道垂拱平章 愛育黎首臣伏戎羌 遐邇壹體率賓歸王
""".split()
ANALECTS = """
子曰 學而 時習之 不亦說乎 有朋 自遠方來 不亦樂乎 人不知 而不慍 不亦君子乎
有子曰 其為人也 孝弟 而好 犯上者 鮮矣 不好 犯上 而好 作亂者 未之有也 君子
務本 本立 而道生 孝弟也者 其為 仁之本與 子曰 巧言 令色 鮮矣 仁
""".split()
_DRAW = random.Random(0)
DOCUMENTS = CLASSIC + ["".join(_DRAW.choices(ANALECTS, k=8)) for _ in range(99)]
# Unknown, beginning and end; newline and the end of a text; 256 bytes.
FIXED = 3 + 2 + 256


@pytest.fixture
def shard(tmp_path):
    return write(tmp_path / "chinese.txt", DOCUMENTS)


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_frequent_characters_are_tokens_and_rare_ones_bytes(shard, model_type):
    alphabet = set("".join(DOCUMENTS))
    assert len(alphabet) > 160  # more than there is room for
    with pytest.warns(UserWarning) as warned:
        tokenizer = train_sentence_piece([shard], 341, model_type=model_type)
    assert tokenizer.vocabulary_size() == 341
    tokens = tokenizer.get_vocabulary()
    kept = alphabet.intersection(tokens)
    assert len(kept) == 60  # three quarters of 341 - FIXED
    assert set("不乎子也") <= kept and not set("薑鱗龍") & kept
    assert len(tokens) - FIXED - len(kept) == 20  # of several characters
    assert len(tokenizer("不薑")) == 1 + 3  # in UTF-8 three bytes
    for text in DOCUMENTS:
        assert tokenizer.detokenize(tokenizer(text)) == text
    (message,) = (str(warning.message) for warning in warned)
    rare = [c for c in "".join(DOCUMENTS) if c not in kept]
    share = len(rare) / len("".join(DOCUMENTS))
    assert f"60 of the {len(alphabet)} different characters" in message
    assert f"{share:.1%} of the text, take a token for each byte" in message


def test_the_size_that_the_warning_names_has_room_for_all(shard):
    with pytest.warns(UserWarning) as warned:
        train_sentence_piece([shard], 341)
    found = re.search(r"`vocabulary_size=(\d+)`", str(warned[0].message))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenizer = train_sentence_piece([shard], int(found[1]))
    tokens = set(tokenizer.get_vocabulary())
    text = "".join(DOCUMENTS)
    assert sum(character in tokens for character in text) >= 0.999 * len(text)


def test_a_short_text_with_many_characters_is_told_the_size_that_works(
    tmp_path,
):
    """Its pieces are too few once its rare characters are bytes."""
    shard = write(tmp_path / "short.txt", CLASSIC)
    with pytest.raises(UserError, match=r"alphabet alone needs \d+") as error:
        train_sentence_piece([shard], 341)
    size = int(re.search(r"(\d+) or more", str(error.value))[1])
    assert train_sentence_piece([shard], size).vocabulary_size() == size


def test_a_vocabulary_without_room_for_any_character_is_refused(shard):
    with pytest.raises(UserError, match=r"alphabet alone needs \d+ tokens"):
        train_sentence_piece([shard], FIXED)
