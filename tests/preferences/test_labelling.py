"""The page that asks which response is better, through a client of its own."""

import contextlib
import html.parser
import json
import threading
import urllib.error
import urllib.parse
import urllib.request

import pytest

from kerasllm.checks import RunError, UserError
from kerasllm.preferences import (
    TIE,
    Comparison,
    LabellingServer,
    Preference,
    read_comparisons,
    read_labels,
    read_preferences,
)

pytestmark = pytest.mark.any_backend

EVIL = '</p><script>alert("&amp;")</script>$nonce'


class Page(html.parser.HTMLParser):
    """What a page has: the fields of its form, its texts, and its scripts."""

    def __init__(self, text):
        super().__init__()
        self.fields, self.choices, self.texts = {}, [], []
        self.num_scripts, self.is_text = 0, False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "input":
            self.fields[attributes["name"]] = attributes["value"]
        if tag == "button":
            self.choices.append(attributes["value"])
        self.num_scripts += tag == "script"
        self.is_text = attributes.get("class") == "text"
        if self.is_text:
            self.texts.append("")

    def handle_data(self, text):
        if self.is_text:
            self.texts[-1] += text

    def handle_endtag(self, tag):
        self.is_text = False


@contextlib.contextmanager
def labelling(*arguments, **named):
    with LabellingServer(*arguments, **named) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def look(server, path=""):
    with urllib.request.urlopen(server.url + path) as response:
        return response.read().decode()


def choose(server, choice, page=None, **fields):
    """Press a button on a page, and return the next page."""
    page = page or Page(look(server))
    form = page.fields | {"choice": str(choice)} | fields
    data = urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(server.url, data) as response:
        return Page(response.read().decode())


def prefer(server, response):
    """Press the button of a response."""
    page = Page(look(server))
    return choose(server, page.texts[-2:].index(response) + 1, page)


@pytest.fixture
def files(tmp_path):
    path, out = tmp_path / "pairs.jsonl", tmp_path / "new" / "labels.jsonl"
    lines = [
        {"prompt": "Which?", "responses": ["a", "c", "b"]},
        {"prompt": [{"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "Who?"}],
         "chosen": EVIL, "rejected": "b"},
        {"prompt": "Which?", "responses": ["b", "a"], "ranks": [2, 1]},
        {"prompt": "Last?", "responses": ["x", "y"], "scores": [1, 1]},
    ]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, lines)))
    return path, out


SYSTEM = (("system", "Be brief."),)
AB, AC, BC, OF_EVIL, XY = (
    Comparison((), "Which?", ("a", "b")),
    Comparison((), "Which?", ("a", "c")),
    Comparison((), "Which?", ("b", "c")),
    Comparison(SYSTEM, "Who?", (EVIL, "b")),
    Comparison((), "Last?", ("x", "y")),
)


def test_what_is_to_be_labelled(files):
    """All pairs of a ranking, each pair once, whatever its former label."""
    assert read_comparisons(files[0]) == [AC, AB, BC, OF_EVIL, XY]


def test_choices_become_labels_and_preferences(files):
    path, out = files
    with labelling(path, out) as server:
        assert not out.exists()
        page = Page(look(server))
        assert page.choices == ["1", "2", "0"]
        assert page.texts[0] == "Which?" and sorted(page.texts[1:]) == [
            "a",
            "c",
        ]
        prefer(server, "c")
        assert read_labels(out) == {AC: 2}, "at once"
        prefer(server, "a")
        choose(server, 0)
        prefer(server, EVIL)
        assert "4 of 5 pairs" in look(server)
        assert read_labels(out) == {AC: 2, AB: 1, BC: TIE, OF_EVIL: 1}
    # Another start goes on.
    with labelling(path, out) as server:
        prefer(server, "y")
        assert "All 5 pairs are labelled" in look(server)
        assert Page(look(server)).choices == []
    assert read_labels(out) == {AC: 2, AB: 1, BC: TIE, OF_EVIL: 1, XY: 2}
    assert read_preferences(out) == [
        Preference("Which?", "c", "a"),
        Preference("Which?", "a", "b"),
        Preference("Who?", EVIL, "b", messages=SYSTEM),
        Preference("Last?", "y", "x"),
    ]


def test_texts_are_escaped(files):
    with labelling(*files) as server:
        for _ in range(3):
            page = choose(server, 0)
        assert page.num_scripts == 1
        assert page.texts[:2] == ["Be brief.", "Who?"]
        assert sorted(page.texts[2:]) == [EVIL, "b"]


def test_sides_are_random_and_the_same_again(tmp_path):
    lines = [
        json.dumps({"prompt": f"{i}?", "responses": ["a", "b"]})
        for i in range(200)
    ]
    path, out = tmp_path / "pairs.jsonl", tmp_path / "labels.jsonl"
    path.write_text("\n".join(lines))

    def sides(seed):
        with LabellingServer(path, out, seed=seed) as server:
            return [server.left(number) for number in range(200)]

    # 200 tosses: 100 with a deviation of 7.
    assert abs(sides(0).count(1) - 100) < 35
    assert sides(0) == sides(0) != sides(1)
    with LabellingServer(path, out) as server:
        for number in range(20):
            server.choose(number, 1)  # always the left one
    labels = read_labels(out)
    assert list(labels.values()) == sides(0)[:20]
    lefts = [json.loads(line)["left"] for line in out.read_text().splitlines()]
    assert lefts == sides(0)[:20]


def test_a_key_that_is_pressed_twice_counts_once(files):
    with labelling(*files) as server:
        page = Page(look(server))
        choose(server, 0, page)
        after = choose(server, 1, page)
        assert server.labels == {AC: TIE} == read_labels(files[1])
        assert after.fields["pair"] != page.fields["pair"]


def status(call, *arguments, **named):
    with pytest.raises(urllib.error.HTTPError) as caught:
        call(*arguments, **named)
    caught.value.close()
    return caught.value.code


def test_only_the_page_itself_can_label(files):
    with labelling(*files) as server:
        assert status(choose, server, 1, token="guessed") == 403
        assert status(choose, server, 1, token="ü") == 403
        assert status(choose, server, 3) == 400
        assert status(choose, server, 1, pair="5") == 400
        assert status(choose, server, 1, pair="-1") == 400
        assert status(choose, server, 1, more="x" * 2000) == 403
        assert status(look, server, "labels.jsonl") == 404
        # A page elsewhere, whose name leads here.
        elsewhere = urllib.request.Request(
            server.url, headers={"Host": f"evil.test:{server.server_port}"}
        )
        assert status(urllib.request.urlopen, elsewhere) == 403
        assert server.labels == {} and not files[1].exists()


def test_what_is_not_written_is_said_and_asked_again(files, monkeypatch):
    def fail(*arguments):
        raise OSError(28, "No space <left>")

    with labelling(*files) as server:
        with monkeypatch.context() as patched:
            patched.setattr(
                "kerasllm.preferences._labelling.append_label", fail
            )
            assert status(choose, server, 1) == 500
        assert server.labels == {}
        prefer(server, "a")
    assert read_labels(files[1]) == {AC: 1}


def test_a_last_line_without_an_end_is_kept(files):
    path, out = files
    out.parent.mkdir()
    line = {"prompt": "Last?", "responses": ["y", "x"], "ranks": [1, 2]}
    out.write_text(json.dumps(line))
    with labelling(path, out) as server:
        prefer(server, "a")
    assert read_labels(out) == {XY: 2, AC: 1}


def test_only_labels_are_added_to(files):
    path, out = files
    before = path.read_text()
    with pytest.raises(RunError, match="`out` must be.*pairs.jsonl, line 1"):
        LabellingServer(path, path)
    out.parent.mkdir()
    for text in ("not mine", '{"prompt": "a", "responses": ["b", "b"]}', "{}"):
        out.write_text(text)
        with pytest.raises(RunError, match="`out` must be a new file"):
            LabellingServer(path, out)
        assert out.read_text() == text
    with pytest.raises(RunError, match="`out` must be"):
        LabellingServer(path, out.parent)
    assert path.read_text() == before


def test_mistakes_are_named_before_the_page_is_served(files, tmp_path):
    path, out = files
    with LabellingServer(path, out) as server:
        with pytest.raises(UserError, match="`port` must be free.*port="):
            LabellingServer(path, out, server.server_port)
    for arguments, message in (
        ({"port": -1}, "`port` must be an int"),
        ({"seed": -1}, "`seed` must be an int"),
        ({"path": tmp_path / "gone"}, "Pairs to label must be in a JSONL"),
        ({"out": path / "labels.jsonl"}, "must be a folder"),
    ):
        with pytest.raises(UserError, match=message):
            LabellingServer(**({"path": path, "out": out} | arguments))
    path.write_text('{"prompt": "a", "chosen": "b", "rejected": "b"}')
    with pytest.raises(UserError, match="at least one pair of different"):
        LabellingServer(path, out)
