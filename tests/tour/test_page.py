"""The page of a tour, from numbers that no model had to be trained for."""

import html
import pathlib
import re
import shlex
import urllib.parse

import pytest
import typer

from kerasllm import cli
from kerasllm.cli.tour import FILES
from kerasllm.gguf import _names
from kerasllm.tour import _next, _pictures
from tests.tour import numbers
from tests.tour.numbers import commands_of

pytestmark = pytest.mark.any_backend


@pytest.fixture(scope="module")
def page(measured):
    return (measured / "report.html").read_text("utf-8")


def test_the_stages_come_in_order(page):
    titles = re.findall('<h2 id=".*?">(.*?)</h2>', page)
    assert titles == [
        *("Contents", "1. Text", "2. Pretraining"),
        *("3. Choosing the next token", "4. Writing"),
        *("5. Instructions and adapters", "6. Pictures", "7. A real model"),
        *("8. What next", "About this page"),
    ]
    assert page.count('src="data:image/png') == 2 + 5  # charts and pictures


def test_what_was_measured_is_on_the_page(page):
    text = html.unescape(re.sub("<.*?>", " ", page))
    for shown in (
        *("22,112 documents", "1,307,904 parameters", "Return a new : : :"),
        *("25.3%", "9,003", "95.0%", "89.5% to 97.7%, n = 120", "0.53 MB"),
        *("66,048", "1,756,992", "61 s", "5,200", "660 requests"),
        *("10% repeated", "0% to 20%", "240", "A <tensor>."),
        *("It lies on the river Calder.", "This answer is right."),
        *("“It is famous for its kites.”", "The capital of France is Paris."),
        *('{"name": "Ann", "age": 31}', "134,515,008", "This is valid JSON"),
    ):
        assert shown in text, shown
    # Whoever reads a speed can see on which machine it was measured.
    assert text.count(str(numbers.MACHINE)) == 4


def test_every_chapter_is_linked(page, measured):
    addresses = re.findall('href="([^#"].*?)"', page)
    paths = {
        (measured / urllib.parse.unquote(address)).resolve()
        for address in addresses
    }
    names = {path.stem for path in paths}
    assert names == {name for _, name in _next.CHAPTERS.values()}
    assert all(path.is_file() for path in paths)


def test_the_titles_of_chapters_are_theirs():
    root = pathlib.Path(__file__).parent.parent.parent / "chapters"
    for title, name in _next.CHAPTERS.values():
        assert f"# # {title}\n" in (root / f"{name}.py").read_text("utf-8")


def test_without_chapters_there_are_names_and_no_links(tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "kerasllm" / "__init__.py"
    monkeypatch.setattr(_next.kerasllm, "__file__", str(package))
    assert _next.chapter_address(1, tmp_path) is None


def test_every_command_is_one(page, measured, monkeypatch):
    """Options, values and files: all that can be told before a model."""
    prepare_files(measured, monkeypatch)
    commands = commands_of(page)
    assert len(commands) == 1 + 9 + 4 + 2 + 2 + 6 + 1, commands
    for command in commands:
        words = shlex.split(command)
        if words[:2] == ["python", "-m"]:
            assert words[2:] == ["kerasllm.tiny_gemma", "--measure"]
            continue
        if "|" in words:
            assert words[0] == "echo" and words[2] == "|" and words[1]
            words = words[3:]
        parse(words)


def prepare_files(directory, monkeypatch):
    """Make the files and folders that commands of the page name."""
    for folder in ("model", "adapters", "pictures", "my_model", "my_texts"):
        (directory / folder).mkdir()
    tuning, seen = numbers.tuning(directory), numbers.seen(directory)
    for folder in ("model", "my_model"):
        (directory / folder / "run.json").write_text("{}")
    for path in (*tuning.adapters.values(), *seen.paths):
        path.write_bytes(b"\x89HDF\r\n\x1a\n")
    (directory / "my_examples.jsonl").write_text("")
    smollm2 = directory / "smollm2.gguf"
    smollm2.write_bytes(b"GGUF")
    monkeypatch.setattr(_names, "find_smollm2", lambda: smollm2)
    monkeypatch.chdir(directory)


def parse(words):
    """Have the command line read a command, without running it."""
    program, name, *arguments = words
    assert program == "kerasllm"
    group = typer.main.get_command(cli.app)
    with group.make_context(program, [name]) as context:
        command = group.get_command(context, name)
        assert command is not None, name
        command.make_context(name, arguments, parent=context)


def test_an_option_that_is_none_is_found_out(tmp_path):
    with pytest.raises(typer.BadParameter.__base__):
        parse(
            ["kerasllm", "generate", "x", "--model", str(tmp_path), "--wrong"]
        )


def test_the_command_knows_what_a_tour_writes(measured):
    """And refuses to replace such a file if somebody has changed it."""
    tuning, seen = numbers.tuning(measured), numbers.seen(measured)
    written = [
        measured / "report.html",
        *tuning.adapters.values(),
        *seen.paths,
    ]
    assert written == [measured / name for name in FILES]
    assert len(seen.paths) == _pictures.NUM_SHOWN
