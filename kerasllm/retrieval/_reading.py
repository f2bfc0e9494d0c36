"""Documents: the texts of files and their sections."""

import dataclasses
import importlib.util
import re

from kerasllm import files
from kerasllm.checks import MissingFileError, UserError, check_path, check_text

MARKDOWN = (".md", ".markdown")
TEXT = (".txt", ".text")
PDF = (".pdf",)
_PDF_CURE = "Install it with `pip install pypdf`"
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a document.

    Attributes:
        title: str. The headings above it, such as `"Guide > Installation"`,
            `"page 3"` of a PDF file, or `""`.
        start: int. Its first character, after the heading.
        end: int. The character after its last one.
    """

    title: str
    start: int
    end: int


@dataclasses.dataclass(frozen=True)
class Document:
    """A text and its sections.

    Attributes:
        text: str.
        source: str. Where the text comes from, such as the name of a file.
        sections: tuple of `Section`, in the order of the text.
    """

    text: str
    source: str
    sections: tuple


def read_document(path, source=None):
    """Read a text file, a Markdown file or a PDF file.

    Offsets count the characters of `Document.text`. For text and Markdown,
    that is what `pathlib.Path(path).read_text("utf-8")` returns; for PDF, what
    pypdf extracts from the pages, with an empty line between them.

    Args:
        path: str or path. Its suffix decides: `.md` and `.markdown` are
            Markdown, `.pdf` is PDF, and all others are text.
        source: str, the name for citations. `None` uses the path.

    Returns:
        A `Document`. The sections of Markdown begin at the headings that are
        written with `#`. A page of a PDF file is a section.

    Raises:
        MissingFileError: the file does not exist.
        UserError: the file is a folder, is not UTF-8, or is a PDF file that
            cannot be read. Or it is PDF, and pypdf is not installed.
    """
    path = check_path("path", path)
    if not path.is_file():
        kind = UserError if path.exists() else MissingFileError
        what = "is no file" if path.exists() else "does not exist"
        raise kind(
            f"`path` must be a file. Received: {path}, which {what}. "
            "`index_folder` reads folders."
        )
    source = str(path) if source is None else source
    suffix = path.suffix.lower()
    if suffix in PDF:
        return _read_pdf(path, source)
    text = _read_text(path)
    if suffix in MARKDOWN:
        return markdown(text, source)
    return plain(text, source)


def _read_text(path):
    with open(path, "rb") as file:
        start = file.read(4096)
    try:
        problem = files.other_encoding(start)
        text = "" if problem else path.read_text("utf-8")
    except UnicodeDecodeError as error:
        problem = str(error)
    if problem:
        raise UserError(
            f"A document must be UTF-8 text. Received: {path} ({problem}). "
            f"{files.encoding_cure(start)}"
        )
    return text


def plain(text, source=""):
    """Return a plain text as a `Document` with one section and no title."""
    check_text("text", text)
    return Document(text, source, (Section("", 0, len(text)),))


def markdown(text, source=""):
    """Return a Markdown text as a `Document` with one section per heading.

    Args:
        text: str. Headings begin with `#`. Lines in a code block, which is
            fenced by three backquotes or tildes, are not headings.
        source: str.
    """
    check_text("text", text)
    sections, titles = [], {}
    start = position = 0
    fence = None
    for line in text.splitlines(keepends=True):
        fence, was_fence = _fence_after(line, fence), fence
        # A byte order mark is no part of the first heading.
        heading = _HEADING.match(line.rstrip("\r\n").lstrip("\ufeff"))
        if heading and not (fence or was_fence):
            sections.append(Section(_path(titles), start, position))
            level = len(heading[1])
            titles = {n: t for n, t in titles.items() if n < level}
            titles[level] = heading[2].strip()
            start = position + len(line)
        position += len(line)
    sections.append(Section(_path(titles), start, position))
    # No text stands between a title and the first section in it.
    sections = tuple(s for s in sections if text[s.start : s.end].strip())
    return Document(text, source, sections)


def _path(titles):
    return " > ".join(title for _, title in sorted(titles.items()) if title)


def _fence_after(line, fence):
    """Return the fence of the block of code that is open after a line."""
    found = _FENCE.match(line)
    if fence is None:
        return found[1] if found else None
    ends = found and found[1].startswith(fence) and not found[2].strip()
    return None if ends else fence


def _read_pdf(path, source):
    check_can_read_pdf()
    import pypdf

    try:
        pages = [page.extract_text() for page in pypdf.PdfReader(path).pages]
    # pypdf raises many classes for a broken file, also Python's own.
    except Exception as error:
        raise UserError(
            "A PDF file must be whole and without a password. Received: "
            f"{path} ({type(error).__name__}: {error}). Export it again."
        ) from error
    sections, start = [], 0
    for number, page in enumerate(pages, 1):
        sections.append(Section(f"page {number}", start, start + len(page)))
        start += len(page) + 2
    sections = tuple(
        section
        for section, page in zip(sections, pages, strict=True)
        if page.strip()
    )
    return Document("\n\n".join(pages), source, sections)


def check_can_read_pdf():
    """Check that pypdf is installed.

    Raises:
        UserError: it is not.
    """
    if importlib.util.find_spec("pypdf") is None:
        raise UserError(
            "PDF files are read by pypdf. Received: a PDF file, and pypdf is "
            f"not installed. {_PDF_CURE}."
        )
