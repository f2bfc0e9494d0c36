"""Reading images from a file, an address, or an array as RGB pixels."""

import hashlib
import http.client
import io
import os
import string
import urllib.parse
import urllib.request

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from kerasllm import files
from kerasllm.checks import (
    EnvironmentFailure,
    MissingFileError,
    UserError,
    check_list,
    shown,
)

SECONDS_TO_WAIT = 30
_CURE = (
    "An image is a path, an address, bytes, an open file, a "
    "`PIL.Image.Image` or an array (height, width, 3)."
)


def load_image(source):
    """Return an image as an RGB array, on a white background.

    A photograph is rotated as its EXIF data say, 16-bit gray values become
    8-bit ones, and transparent pixels become white.

    Args:
        source: str or path of a file, an `http(s)://` address, a `data:` URI,
            the bytes of an image file, an open binary file, a
            `PIL.Image.Image`, or an array `(height, width)`,
            `(height, width, 3)` or `(height, width, 4)`, of ints or of
            floats, from 0 to 255.

    Returns:
        uint8 array `(height, width, 3)`, RGB.

    Raises:
        MissingFileError: there is no such file.
        EnvironmentFailure: the address does not answer.
        UserError: it is no image, or its values are not in `[0, 255]`.
    """
    if isinstance(source, Image.Image):
        array = _decode(source, f"a {type(source).__name__}")
    elif isinstance(source, str | os.PathLike):
        # The names of some paths are bytes.
        array = _decode_bytes(_read(os.fsdecode(source)), _name(source))
    elif is_file_content(source):
        array = _decode_bytes(_content(source), type(source).__name__)
    else:
        array = _to_array(source)
    return _to_pixels(array)


def is_image(source):
    """Tell whether something is one image, and not several.

    Args:
        source: anything. Of arrays those of rank 2 and 3 are images.
    """
    if isinstance(source, str | os.PathLike | Image.Image):
        return True
    if is_file_content(source):
        return True
    return len(getattr(source, "shape", ())) in (2, 3)


def is_file_content(source):
    """Tell whether something is bytes, or an open file that gives them."""
    is_bytes = isinstance(source, bytes | bytearray | memoryview)
    return is_bytes or callable(getattr(source, "read", None))


def list_images(images):
    """Return a list of images that can be read again and again.

    Args:
        images: an image, see `load_image`, several of them, or `None`. Open
            files are read here, and may be closed then.

    Raises:
        UserError: it is none of these.
    """
    if images is None:
        return []
    if is_image(images):
        images = [images]
    try:
        # A scalar tensor has a method to iterate over it, which fails.
        listed = None if isinstance(images, dict) else list(images)
    except TypeError:
        listed = None
    if listed is None:
        raise UserError(
            "`images` must be an image or a list of images. Received: "
            f"{type(images).__name__}. {_CURE}"
        )
    for image in listed:
        # The rows of one image, as a list of lists, would count as images.
        if not is_image(image):
            raise UserError(
                "Each of `images` must be an image. Received: a list with "
                f"{shown(image)}. {_CURE}"
            )
    return [_content(i) if is_file_content(i) else i for i in listed]


def images_of_each(images, count, name):
    """Return a list of images for each of several texts.

    Args:
        images: list with an entry for each text, which is a list of images,
            an image or `None`; or `None` for no images at all.
        count: int. Number of texts.
        name: str. What a message calls a text.

    Raises:
        UserError: there is not an entry for each text.
    """
    if images is None:
        return [[] for _ in range(count)]
    rule = f"`images` must have a list of images for each {name}. Received: "
    if is_image(images):
        raise UserError(
            f"{rule}one image for {count} {name}s. Write `[[image], ...]`."
        )
    images = check_list("images", images)
    if len(images) != count:
        raise UserError(f"{rule}{len(images)} for {count} {name}s.")
    return list(map(list_images, images))


def keep_image(source):
    """Return an image that can be read again and again, or refuse it.

    What is at an address is kept in the cache and not asked for again, even
    if it changes there.

    Args:
        source: see `load_image`.

    Returns:
        `source` or, of an address, the path of the copy.

    Raises:
        MissingFileError, EnvironmentFailure, UserError: as `load_image`.
    """
    if isinstance(source, str | os.PathLike) and is_address(source):
        name = hashlib.sha256(os.fsdecode(source).encode()).hexdigest()
        copy = files.cache_dir("images") / name
        if not copy.exists():
            content = _read(os.fsdecode(source))
            _to_pixels(_decode_bytes(content, _name(source)))
            with files.whole_file(copy, "wb") as file:
                file.write(content)
        return copy
    if is_file_content(source):
        source = _content(source)
    # Read it whole: a file that was cut short begins like a good one.
    load_image(source)
    return source


def digest_of_image(image):
    """Return a hash of an image, or its address: it is not read for this."""
    if not isinstance(image, str | os.PathLike):
        array = load_image(image)
        content = str(array.shape).encode() + array.tobytes()
        return hashlib.sha256(content).hexdigest()
    return files.sha256(image) if os.path.isfile(image) else str(image)


def is_address(source):
    """Tell whether a path is an address of the web or a `data:` URI."""
    start = os.fsdecode(source)[:8].lower()
    return start.startswith(("http://", "https://", "data:"))


def _name(source):
    """Return what a message calls a path or an address: a short str."""
    name = os.fsdecode(source)
    longest = 60 if name[:5].lower() == "data:" else 300
    return name if len(name) <= longest else f"{name[:longest]}..."


def _content(source):
    """Return the bytes of an open file, from its start, or bytes as such.

    Raises:
        UserError: the file is closed, or it was opened as text.
    """
    if not hasattr(source, "read"):
        return bytes(source)
    rule = "An open file must give the bytes of an image. Received: "
    try:
        # Not all that has `read` has `seekable`.
        if getattr(source, "seekable", bool)():
            source.seek(0)  # as `PIL.Image.open` does
        content = source.read()
    except (AttributeError, OSError, ValueError) as error:
        name = type(source).__name__
        raise UserError(f"{rule}a {name} ({error}). Open it anew.") from error
    if not isinstance(content, bytes):
        raise UserError(
            f"{rule}a {type(source).__name__}, which gives "
            f'{type(content).__name__}. Open it with `open(path, "rb")`.'
        )
    return content


def _to_pixels(array):
    """Return the uint8 RGB of an image's values, or refuse them."""
    if not array.size:
        raise UserError(
            "An image must have pixels. Received: an image of shape "
            f"{array.shape}, without values. Look at how it was cut."
        )
    lowest, highest = array.min(), array.max()  # NaN if one of all is
    if not (lowest >= 0 and highest <= 255):
        raise UserError(
            "The values of an image must be in [0, 255]. Received: an array "
            f"of shape {array.shape} with values from {lowest} to {highest}. "
            "Scale them, or cut them off with `numpy.clip(image, 0, 255)`."
        )
    if array.dtype.kind == "f" and 0 < highest <= 1:
        raise UserError(
            "The values of an image must be in [0, 255], not in [0, 1]. "
            f"Received: floats of shape {array.shape} with values from "
            f"{lowest} to {highest}. Multiply them by 255."
        )
    return _to_rgb(Image.fromarray(array.astype("uint8")))


def _to_array(source):
    """Return numbers as an array in the shape of an image."""
    from keras import ops  # reading a file needs no backend

    rule = (
        "An image must be a path, an address, bytes, an open file, a "
        "`PIL.Image.Image` or an array (height, width, 3). Received: "
    )
    if isinstance(source, dict):
        raise UserError(
            f"{rule}dict with the keys {shown(list(source))}. Pass the bytes "
            "or the address that it holds."
        )
    try:
        array = np.asarray(ops.convert_to_numpy(source))
        if array.dtype.name == "bfloat16":  # which NumPy takes for no number
            array = array.astype("float32")
    # Lists of unequal lengths, another backend's tensors with gradients, ...
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{rule}{type(source).__name__} ({error}).") from error
    is_number = array.dtype.kind in "uif"
    is_grey = array.ndim == 2
    is_color = array.ndim == 3 and array.shape[-1] in (3, 4)
    if not is_number or not (is_grey or is_color):
        raise UserError(
            f"{rule}{type(source).__name__} of shape {array.shape}, "
            f"{array.dtype}."
        )
    return array


def _decode_bytes(content, name):
    return _decode(io.BytesIO(content), f"{name}, {len(content)} bytes")


def _decode(source, name):
    """Return what Pillow reads as an array, or say that it cannot.

    Args:
        source: a `PIL.Image.Image`, or a file.
        name: str. What to call it.
    """
    try:
        if not isinstance(source, Image.Image):
            source = Image.open(source)
        image = ImageOps.exif_transpose(source)
        is_wide = image.mode in ("F", "I") or image.mode.startswith("I;16")
        array = np.asarray(image) if is_wide else _to_rgb(image)
    except MemoryError:
        raise
    # A broken file raises whatever its decoder trips over.
    except Exception as error:
        raise _unreadable(name, error) from error
    # Older versions of Pillow call 16 bits of grey "I", as they do 32 bits.
    is_16_bits = image.mode == "I" and 255 < array.max(initial=0) < 2**16
    if image.mode.startswith("I;16") or is_16_bits:
        array = np.round(array / 257).astype("uint8")
    return array


def _unreadable(name, error):
    problem = f"{type(error).__name__}: {error}"
    if isinstance(error, UnidentifiedImageError):
        problem = "no format that it knows"  # Pillow names an object in memory
    return UserError(
        "An image must be something that Pillow can read, such as a PNG or "
        f"JPEG file. Received: {name} ({problem}). Open it elsewhere and save "
        "it as PNG, and smaller if it is large."
    )


def _to_rgb(image):
    """Return a `PIL.Image.Image` as an array, on white if it has an alpha."""
    # Not `has_transparency_data`, which Pillow has from 10.1 on only.
    with_alpha = image.mode in ("RGBA", "LA", "PA", "RGBa")
    if with_alpha or "transparency" in image.info:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image)
    return np.array(image.convert("RGB"))


def _read(source):
    """Return the bytes of a file or an address."""
    if source[:5].lower() == "data:":
        return _decode_uri(source)
    if is_address(source):
        # As a browser does for blanks and umlauts in an address.
        address = urllib.parse.quote(source, safe=string.punctuation)
        try:
            with urllib.request.urlopen(
                address, timeout=SECONDS_TO_WAIT
            ) as response:
                return response.read()
        # The last two: what came is no answer, or this is no address.
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise EnvironmentFailure(
                "The address of an image must answer. Received: "
                f"{type(error).__name__}: {error} from "
                f"{_name(source)}. Look at the address and the network."
            ) from error
    _check_file(source)
    with open(source, "rb") as file:
        return file.read()


def _decode_uri(uri):
    """Return the bytes in a `data:` URI, as of a page or an API request."""
    try:
        with urllib.request.urlopen(uri) as response:  # no network is asked
            return response.read()
    except ValueError as error:
        raise UserError(
            "A data URI must hold an image in base64, such as "
            f"data:image/png;base64,iVBO... Received: {_name(uri)} ({error}). "
            "Pass the bytes of the image, or its path."
        ) from error


def _check_file(path):
    if not os.path.isfile(path):
        problem = "is no file" if os.path.exists(path) else "does not exist"
        raise MissingFileError(
            "An image must be a file or an address that begins with http:// "
            f"or https://. Received: {_name(path)}, which {problem}. "
            "Look at the path."
        )
