"""Reading files, and splitting them into chunks that can be cited."""

import random

import pytest

from kerasllm.checks import MissingFileError, UserError
from kerasllm.retrieval import (
    Section,
    chunk_document,
    markdown,
    plain,
    read_document,
)

pytestmark = pytest.mark.any_backend

GUIDE = """\
Before any heading.

# Guide

## Installation #

Type this. Then wait!

```sh
# no heading
```

Setup
-----

## Use

Ask it.
# Index
"""


def titles_and_texts(text):
    document = markdown(text)
    return [
        (s.title, document.text[s.start : s.end].strip())
        for s in document.sections
    ]


def test_markdown_has_a_section_for_each_heading_with_text():
    assert titles_and_texts(GUIDE) == [
        ("", "Before any heading."),
        (
            "Guide > Installation",
            "Type this. Then wait!\n\n```sh\n# no heading\n```\n\nSetup\n-----",
        ),
        ("Guide > Use", "Ask it."),
    ]


@pytest.mark.parametrize(
    "text, sections",
    [
        (
            "# A\nx\n### B\ny\n## C\nz",
            [("A", "x"), ("A > B", "y"), ("A > C", "z")],
        ),
        ("### B\ny\n# A\nz", [("B", "y"), ("A", "z")]),
        ("#no\n####### no", [("", "#no\n####### no")]),
        (
            "~~~\n# a\n```\n# b\n~~~\n# C\nx",
            [("", "~~~\n# a\n```\n# b\n~~~"), ("C", "x")],
        ),
        (
            "````\n```\n# a\n````\n# C\nx",
            [("", "````\n```\n# a\n````"), ("C", "x")],
        ),
        ("```\n# open to the end", [("", "```\n# open to the end")]),
        ("#\nx", [("", "#\nx")]),
        ("# \nx", [("", "x")]),
        ("# A\r\nx\r\n", [("A", "x")]),
        ("\ufeff# A\nx", [("A", "x")]),
        ("", []),
    ],
)
def test_headings(text, sections):
    assert titles_and_texts(text) == sections


# Sentences.


@pytest.mark.parametrize(
    "sentences",
    [
        ["One two.", "Three four!", "Five?", "Six"],
        ["Dr. Smith met J. Smith, i.e. Mr. X. at 3.14 p.m. today.", "He left."],
        ['He said "Stop."', "(They did.)", "It e.g. rained."],
        ["Wait...", "What?!", "So…", "Yes."],
        ["A title without a stop", "And a paragraph."],
        ["No border.here or there, etc. and so on."],
    ],
)
def test_sentences_are_whole(sentences):
    longest = max(len(s.split()) for s in sentences)
    separator = "\n\n" if "title" in sentences[0] else " "
    text = separator.join(sentences)
    # Two of them never fit if a chunk has one token for each sentence.
    chunks = chunk_document(
        text,
        max_tokens=longest,
        overlap=0,
        tokenizer=lambda t: [1] * (longest if t in sentences else 99),
    )
    assert [chunk.text for chunk in chunks] == sentences


def test_sentences_of_other_scripts():
    chunks = chunk_document(
        "これはペンです。本です！「はい。」終わり", 8, 0, tokenizer=list
    )
    assert [c.text for c in chunks] == [
        "これはペンです。",
        "本です！",
        "「はい。」終わり",
    ]


def test_chunks_overlap_by_whole_sentences():
    text = "A b. C d. E f. G h. I j."
    find = [c.text for c in chunk_document(text, max_tokens=6, overlap=2)]
    assert find == ["A b. C d. E f.", "E f. G h. I j."]
    find = [c.text for c in chunk_document(text, max_tokens=6, overlap=5)]
    assert find == ["A b. C d. E f.", "C d. E f. G h.", "E f. G h. I j."]
    find = [c.text for c in chunk_document(text, max_tokens=6, overlap=1)]
    assert find == ["A b. C d. E f.", "G h. I j."]


def test_the_title_stands_in_front_and_counts():
    document = markdown("# Red kites\n\nA b. C d. E f.", "kites.md")
    first, second = chunk_document(document, max_tokens=6, overlap=0)
    assert first.titled == "Red kites\n\nA b. C d."
    assert (second.text, second.title) == ("E f.", "Red kites")
    assert (first.source, first.start, first.end) == ("kites.md", 13, 22)
    # A title that would take more than half is left out.
    assert chunk_document(document, max_tokens=3, overlap=0)[0].title == ""


def test_long_sentences_are_split_between_words():
    text = "word " * 100 + "end"
    chunks = chunk_document(text, max_tokens=30, overlap=0)
    assert all(len(c.text.split()) <= 30 for c in chunks)
    assert " ".join(c.text for c in chunks) == text
    chunks = chunk_document("x" * 100, max_tokens=30, overlap=0, tokenizer=list)
    assert "".join(c.text for c in chunks) == "x" * 100
    with pytest.raises(UserError, match="enough for one character"):
        chunk_document("abc", max_tokens=1, overlap=0, tokenizer=lambda t: "ab")


def random_text(draw):
    pieces = ["word", "Word", "a.b", "é", "日本。", "🙂", "e\u0301", "\u00a0"]
    pieces += [". ", "! ", "\n", "\n\n", "\n \n", " ", "\t", "\r\n", "\ufeff"]
    pieces += [
        "\n# Title\n",
        "\n## Sub title\n",
        "\n```\n",
        "x" * 40,
        ".",
        "  ",
    ]
    return "".join(draw.choices(pieces, k=draw.randint(0, 120)))


@pytest.mark.parametrize("tokenizer", [str.split, list, str.encode])
def test_chunks_are_parts_of_their_source(tokenizer):
    """Whatever the text: chunks can be cited, fit, and leave nothing out."""
    draw = random.Random(0)
    for _ in range(150):
        text = random_text(draw)
        document = draw.choice([markdown, plain])(text, "source")
        # A character has at most four bytes.
        max_tokens = draw.randint(8, 60)
        overlap = draw.randrange(max_tokens)
        chunks = chunk_document(document, max_tokens, overlap, tokenizer)
        covered = set()
        for chunk in chunks:
            assert document.text[chunk.start : chunk.end] == chunk.text
            assert 0 < len(tokenizer(chunk.titled)) <= max_tokens
            assert chunk.text == chunk.text.strip() != ""
            covered.update(range(chunk.start, chunk.end))
        for section in document.sections:
            for place in range(section.start, section.end):
                is_space = text[place].isspace() or text[place] == "\ufeff"
                assert is_space or place in covered
        starts = [chunk.start for chunk in chunks]
        assert starts == sorted(set(starts))
        ends = [chunk.end for chunk in chunks]  # each says something new
        assert ends == sorted(set(ends))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"max_tokens": 0}, "`max_tokens` must be a positive int"),
        ({"overlap": 200}, r"`overlap` must be an int in \[0, 199\]"),
        ({"tokenizer": "words"}, "`tokenizer` must be callable"),
        ({"document": None}, "`document` must be a Document or a str"),
    ],
)
def test_arguments_that_break_a_rule_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        chunk_document(**{"document": "A text."} | arguments)


# Files.


def test_the_suffix_decides_how_a_file_is_read(tmp_path):
    for name, titles in {
        "a.md": ["A"],
        "a.MARKDOWN": ["A"],
        "a.txt": [""],
        "README": [""],
    }.items():
        path = tmp_path / name
        path.write_bytes("\ufeff\r\n# A\r\nText.\r\n".encode())
        document = read_document(path)
        assert document.text == path.read_text("utf-8")
        assert document.source == str(path)
        assert [s.title for s in document.sections if s.title] == [
            title for title in titles if title
        ]
        last = chunk_document(document)[-1]
        assert last.text.endswith("Text.") and "\ufeff" not in last.text
    assert read_document(path, "guide").source == "guide"


def test_what_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(MissingFileError, match="which does not exist"):
        read_document(tmp_path / "gone.md")
    with pytest.raises(UserError, match="which is no file"):
        read_document(tmp_path)
    for encoding in ("utf-16", "utf-16-le"):
        (tmp_path / "wide.md").write_text("# Title\ntext", encoding)
        with pytest.raises(UserError, match="wide.md.*iconv -f UTF-16"):
            read_document(tmp_path / "wide.md")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match="must be UTF-8 text. .*latin.txt"):
        read_document(tmp_path / "latin.txt")


def pdf(*pages):
    """Return a PDF file with a line of text on each page."""
    kids = " ".join(f"{3 + 2 * i} 0 R" for i in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} /Resources << "
        "/Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica "
        ">> >> >> /MediaBox [0 0 300 300] >>",
    ]
    for i, text in enumerate(pages):
        content = f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET"
        objects += [
            f"<< /Type /Page /Parent 2 0 R /Contents {4 + 2 * i} 0 R >>",
            f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
        ]
    data, offsets = "%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(data))
        data += f"{number} 0 obj\n{body}\nendobj\n"
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    return (
        f"{data}xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
        f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\n"
        f"startxref\n{len(data)}\n%%EOF\n"
    ).encode()


def test_each_page_of_a_pdf_file_is_a_section(tmp_path):
    pytest.importorskip("pypdf", reason='`pip install -e ".[pdf]"`')
    path = tmp_path / "kites.pdf"
    path.write_bytes(pdf("A kite flies.", "", "A fish swims."))
    document = read_document(path)
    assert document.sections == (
        Section("page 1", 0, 13),
        Section("page 3", 17, 30),
    )
    chunks = chunk_document(document)
    assert [c.titled for c in chunks] == [
        "page 1\n\nA kite flies.",
        "page 3\n\nA fish swims.",
    ]
    assert document.text[17:30] == "A fish swims."


def test_a_broken_pdf_file_is_refused(tmp_path):
    pytest.importorskip("pypdf", reason='`pip install -e ".[pdf]"`')
    path = tmp_path / "broken.pdf"
    path.write_bytes(b"%PDF-1.4\nnothing")
    with pytest.raises(UserError, match="whole and without a password"):
        read_document(path)


def test_pdf_files_need_an_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf("A kite."))
    with pytest.raises(UserError, match="pip install pypdf"):
        read_document(path)
