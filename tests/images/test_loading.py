"""Images: how they are read, whatever they come as."""

import base64
import http.server
import io
import os
import pathlib
import threading

import numpy as np
import pytest
from keras import ops
from PIL import Image

from kerasllm.checks import UserError
from kerasllm.images import (
    digest_of_image,
    keep_image,
    list_images,
    load_image,
)
from kerasllm.toyworld import pictures

pytestmark = pytest.mark.any_backend

PICTURE = pictures(1)[0].image


def test_all_sources_give_the_same_array(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(PICTURE).save(path)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=tmp_path)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        sources = [
            path,
            str(path),
            address + "picture.png",
            Image.fromarray(PICTURE),
            PICTURE,
            PICTURE.astype("float32"),
            np.dstack([PICTURE, np.full(PICTURE.shape[:2], 255, "uint8")]),
        ]
        for source in sources:
            np.testing.assert_array_equal(load_image(source), PICTURE)
        with pytest.raises(OSError, match="404"):
            load_image(address + "nothing.png")
        server.shutdown()
    with pytest.raises(OSError, match="must answer"):
        load_image(address + "picture.png")


def test_the_name_of_a_path_may_be_bytes(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "picture.png")
    (entry,) = os.scandir(os.fsencode(tmp_path))
    np.testing.assert_array_equal(load_image(entry), PICTURE)
    assert list_images(entry) == [entry] and keep_image(entry) is entry


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32"])
def test_a_tensor_is_an_image_in_any_dtype(dtype):
    tensor = ops.cast(ops.convert_to_tensor(PICTURE.astype("int32")), dtype)
    np.testing.assert_array_equal(load_image(tensor), PICTURE)


def test_a_grey_image_gets_three_channels():
    grey = PICTURE[..., 0]
    for source in (grey, Image.fromarray(grey)):
        np.testing.assert_array_equal(
            load_image(source), np.dstack([grey, grey, grey])
        )


def saved(image, kind="PNG", **kwargs):
    """Return a `PIL.Image.Image` as it is read again from a file."""
    file = io.BytesIO()
    image.save(file, kind, **kwargs)
    return Image.open(file)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_as_it_was_taken(tmp_path, orientation):
    """The oracle: what EXIF says of the first row and the first column."""
    top, left = {
        1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"),
        4: ("bottom", "left"), 5: ("left", "top"), 6: ("right", "top"),
        7: ("right", "bottom"), 8: ("left", "bottom"),
    }[orientation]  # fmt: skip
    upright = PICTURE[:30]
    stored = upright
    if top in ("left", "right"):
        stored = stored.swapaxes(0, 1)
    if "bottom" in (top, left):
        stored = np.flip(stored, 0 if top == "bottom" else 1)
    if "right" in (top, left):
        stored = np.flip(stored, 0 if top == "right" else 1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.png"
    Image.fromarray(stored).save(path, exif=exif)
    np.testing.assert_array_equal(load_image(path), upright)
    np.testing.assert_array_equal(load_image(Image.open(path)), upright)


def test_sixteen_bits_of_grey_become_eight():
    grey = PICTURE[..., 0]
    wide = grey.astype("uint16") * 257  # 255 becomes 65535
    expected = np.dstack([grey, grey, grey])
    for image in (
        Image.fromarray(wide),
        saved(Image.fromarray(wide)),
        Image.fromarray(wide.astype("int32")),  # mode I
        Image.fromarray(grey.astype("int32")),
        Image.fromarray(grey.astype("float32")),  # mode F
    ):
        np.testing.assert_array_equal(load_image(image), expected)
    near = Image.fromarray(wide - (wide > 0) * np.uint16(100))
    np.testing.assert_array_equal(load_image(near), expected)


def test_what_is_transparent_is_white():
    color = np.array([200, 100, 0], "uint8")
    alpha = np.array([[0, 255, 51]], "uint8")  # the last one fifth
    pixels = np.dstack([np.broadcast_to(color, (1, 3, 3)), alpha])
    mixed = 255 - (255 - color) // 5
    expected = [[[255, 255, 255], color, mixed]]
    rgba = Image.fromarray(pixels)
    for source in (pixels, pixels.astype("float32"), rgba, saved(rgba)):
        np.testing.assert_array_equal(load_image(source), expected)
    # Grey and alpha, and a palette with one transparent color.
    grey = Image.fromarray(np.dstack([np.zeros_like(alpha), alpha]), "LA")
    np.testing.assert_array_equal(
        load_image(saved(grey)), [[[255] * 3, [0] * 3, [204] * 3]]
    )
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 0, *color])
    palette.putpixel((1, 0), 1)
    np.testing.assert_array_equal(
        load_image(saved(palette, transparency=0)), [[[255] * 3, color]]
    )
    np.testing.assert_array_equal(
        load_image(saved(palette)), [[[0] * 3, color]]
    )


@pytest.mark.parametrize("make", [np.asarray, Image.fromarray])
def test_numbers_that_are_no_pixels_are_refused(make):
    def image(*values):
        return make(np.array([values], "float32"))

    for bad in (np.nan, np.inf, -np.inf, 256.0):
        with pytest.raises(ValueError, match=r"in \[0, 255\].*Received.*to"):
            load_image(image(3.0, bad))
    for scale in (1.0, 0.2):
        with pytest.raises(ValueError, match=r"not in \[0, 1\].*ply them by"):
            load_image(image(0.0, scale))
    # Black is black; and 1 of 255, an int, is nearly so.
    assert not load_image(image(0.0, 0.0)).any()
    assert load_image(np.ones((2, 2), "uint8")).max() == 1
    np.testing.assert_array_equal(
        load_image(image(0.0, 1.5, 255.0))[..., 0], [[0, 1, 255]]
    )


def test_what_is_no_image_is_refused(tmp_path):
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    with pytest.raises(ValueError, match="Pillow can read.*text.png, 13 bytes"):
        load_image(text)
    for path in (tmp_path / "missing.png", "//[x"):
        with pytest.raises(FileNotFoundError, match="does not exist"):
            load_image(path)
    with pytest.raises(FileNotFoundError, match="is no file"):
        load_image(tmp_path)
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        load_image([1, 2])
    with pytest.raises(ValueError, match=r"in \[0, 255\].*-1"):
        load_image(np.full((4, 4, 3), -1))
    for mode in ("RGB", "RGBA", "P", "L", "I", "F", "I;16"):
        with pytest.raises(ValueError, match="must have pixels"):
            load_image(Image.new(mode, (0, 0)))
    with pytest.raises(ValueError, match="without values"):
        load_image(np.zeros((0, 4, 3)))
    for nothing in (None, [[1], [1, 2]], {"a": 1}):
        with pytest.raises(ValueError, match="An image must be a path"):
            load_image(nothing)


@pytest.mark.filterwarnings("ignore")  # Pillow's, of what is broken
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "BMP"])
def test_a_broken_file_is_named(tmp_path, monkeypatch, kind):
    """Whatever is broken in it: an image or our error."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6)
    path = tmp_path / "broken"
    Image.fromarray(PICTURE).save(path, kind)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    errors = 0
    for number in range(60):
        content = bytearray(whole)
        if number < 10:
            del content[number * len(whole) // 10 :]
        for place in rng.integers(0, min(len(content), 100) or 1, 3):
            content[place : place + 1] = rng.bytes(1)
        path.write_bytes(content)
        try:
            assert load_image(path).dtype == "uint8"
        except ValueError as error:
            assert str(path) in str(error) and "Open it" in str(error)
            errors += 1
    assert errors


def test_a_file_that_would_fill_the_memory_is_named(tmp_path, monkeypatch):
    path = tmp_path / "large.png"
    Image.fromarray(PICTURE).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match="large.png.*BombError.*smaller"):
        load_image(path)


@pytest.fixture
def web():
    """A server: a dict of what it answers to which path, and its address.

    An answer with an empty line in it is sent as it stands.
    """
    content = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = content[self.path]
            if b"\r\n\r\n" not in found:
                self.send_response(200)
                self.end_headers()
            self.wfile.write(found)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield content, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_an_address_may_have_blanks_and_umlauts(web):
    content, address = web
    content["/a%20b/%C3%BC.png?q=%20%25"] = saved(
        Image.fromarray(PICTURE)
    ).fp.getvalue()
    for source in ("a b/ü.png?q= %25", "a%20b/%C3%BC.png?q=%20%25"):
        np.testing.assert_array_equal(load_image(address + source), PICTURE)


def test_an_address_that_does_not_answer_is_named(web):
    content, address = web
    content["/short"] = b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nabc"
    content["/odd"] = b"good morning\r\n\r\n"
    for source, reason in (
        (address + "short", "IncompleteRead"),
        (address + "odd", "BadStatusLine"),
        ("http://a b.invalid/x.png", "InvalidURL"),
        ("http://127.0.0.1:port/x.png", "InvalidURL"),
        ("http://[x/x.png", "ValueError"),
        (f"http://{'a' * 70}.invalid/x.png", "UnicodeError"),
        ("HTTP:///x.png", "no host"),
    ):
        with pytest.raises(OSError, match=f"must answer.*{reason}") as caught:
            load_image(source)
        assert source in str(caught.value)
        assert "Look at the address" in str(caught.value)


def test_one_image_stands_for_a_list_of_one():
    image = Image.fromarray(PICTURE)
    for one in ("x.png", pathlib.Path("x.png"), image, PICTURE,
                PICTURE[..., 0]):  # fmt: skip
        assert list_images(one)[0] is one and len(list_images(one)) == 1
        assert list_images([one, one])[1] is one
        assert list_images((one,))[0] is one
    assert list_images(None) == list_images([]) == list_images(()) == []
    assert len(list_images(np.stack([PICTURE] * 3))) == 3
    for number in (3, np.array(3), ops.convert_to_tensor(3)):
        with pytest.raises(ValueError, match="`images` must be.*Received: "):
            list_images(number)
    # The rows of a list, and the pixels of a row, are no images.
    for images in (PICTURE.tolist(), PICTURE[0, 0], [None], [["x.png"]]):
        with pytest.raises(UserError, match="Each of `images` must be an im"):
            list_images(images)


def png():
    return saved(Image.fromarray(PICTURE)).fp.getvalue()


def as_data_uri(content):
    return "data:image/png;base64," + base64.b64encode(content).decode()


def test_the_content_of_a_file_is_an_image(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(png())
    with open(path, "rb") as file:
        file.read(5)  # Pillow, too, reads from the start
        for source in (
            png(),
            bytearray(png()),
            memoryview(png()),
            io.BytesIO(png()),
            file,
            as_data_uri(png()),
        ):
            for _ in range(2):  # again and again
                np.testing.assert_array_equal(load_image(source), PICTURE)
            for images in (source, [source], (source, source)):
                found = list_images(images)
                assert len(found) in (1, 2)
                np.testing.assert_array_equal(load_image(found[0]), PICTURE)
        kept = [keep_image(file), *list_images(file)]
    for image in kept:  # though the file is closed
        np.testing.assert_array_equal(load_image(image), PICTURE)
        assert digest_of_image(image) == digest_of_image(PICTURE)


def test_whatever_can_be_read_is_an_open_file():
    class Answer:  # as of a library that knows the web
        read = staticmethod(png)

    np.testing.assert_array_equal(load_image(Answer()), PICTURE)
    assert list_images(Answer()) == [png()]


def test_a_dict_or_a_text_file_is_no_image(tmp_path):
    with pytest.raises(UserError, match="`images` must be.*Received: dict"):
        list_images({"bytes": png()})
    with pytest.raises(UserError, match=r"dict with the keys \['bytes'\]"):
        load_image({"bytes": png()})
    path = tmp_path / "x.png"
    path.write_text("text")
    with open(path) as file, pytest.raises(UserError, match='"rb"'):
        load_image(file)
    with pytest.raises(UserError, match="closed"):
        list_images(file)


def test_no_message_shows_more_than_the_beginning_of_an_image(tmp_path):
    long = "A" * 10**6
    for source in (
        "data:image/png;base64," + long,
        "data:" + long,
        "data:image/png;base64,!" + long,
        "picture" + long,
        b"\x89PNG" + long.encode(),
        "http://127.0.0.1:1/" + long,
    ):
        with pytest.raises((ValueError, OSError)) as caught:
            load_image(source)
        assert len(str(caught.value)) < 700, source[:20]
