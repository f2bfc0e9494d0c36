"""Images in a prompt: from a file to soft tokens (section 16.4.2).

A multimodal Gemma reads an image as a run of *soft tokens*: a vision encoder
turns the picture into, say, 256 vectors, and these take the places of as many
placeholder tokens `<img>` in the sequence. In a prompt the user writes one
mark, `<start_of_image>`, for each image; `place_images` puts the run in its
stead and `vision_inputs` tells the model where the runs are.
"""

import hashlib
import http.client
import io
import os
import string
import urllib.parse
import urllib.request

import numpy as np
from keras import ops
from PIL import Image, ImageOps

from kerasllm import files

IMAGE_MARK = "<start_of_image>"
SECONDS_TO_WAIT = 30


def load_image(source):
    """Return an image as an array, as a viewer would show it on white paper.

    A photograph is turned as its EXIF data say, 16 bits of grey become 8, and
    white is behind what is transparent.

    Args:
        source: str or path of a file, an `http(s)://` address, a
            `PIL.Image.Image`, or an array `(height, width)`,
            `(height, width, 3)` or `(height, width, 4)`, of ints or of
            floats, from 0 to 255.

    Returns:
        uint8 array `(height, width, 3)`, RGB.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the address does not answer.
        ValueError: it is no image, or its values are not in `[0, 255]`.
    """
    if isinstance(source, Image.Image):
        array = _decode(source, f"a {type(source).__name__}")
    elif isinstance(source, str | os.PathLike):
        array = _decode_bytes(_read(os.fspath(source)), source)
    else:
        array = _to_array(source)
    return _to_pixels(array)


def _to_pixels(array):
    """Return the uint8 RGB of an image's values, or refuse them."""
    if not array.size:
        raise ValueError(
            "An image must have pixels. Received: an image of shape "
            f"{array.shape}, without values. Look at how it was cut."
        )
    lowest, highest = array.min(), array.max()  # NaN if one of all is
    if not (lowest >= 0 and highest <= 255):
        raise ValueError(
            "The values of an image must be in [0, 255]. Received: an array "
            f"of shape {array.shape} with values from {lowest} to {highest}. "
            "Scale them, or cut them off with `numpy.clip(image, 0, 255)`."
        )
    if array.dtype.kind == "f" and 0 < highest <= 1:
        raise ValueError(
            "The values of an image must be in [0, 255], not in [0, 1]. "
            f"Received: floats of shape {array.shape} with values from "
            f"{lowest} to {highest}. Multiply them by 255."
        )
    return _to_rgb(Image.fromarray(array.astype("uint8")))


def is_image(source):
    """Tell whether something is one image, and not several.

    Args:
        source: anything. Of arrays those of rank 2 and 3 are images.
    """
    if isinstance(source, str | os.PathLike | Image.Image):
        return True
    return len(getattr(source, "shape", ())) in (2, 3)


def list_images(images):
    """Return a list of images.

    Args:
        images: an image, see `load_image`, several of them, or `None`.

    Raises:
        ValueError: it is none of these.
    """
    if images is None:
        return []
    if is_image(images):
        return [images]
    try:
        return list(images)
    except TypeError as error:
        raise ValueError(
            "`images` must be an image or a list of images. Received: "
            f"{type(images).__name__}. An image is a path, an address, a "
            "`PIL.Image.Image` or an array (height, width, 3)."
        ) from error


def place_images(segments, num_images, preprocessor):
    """Put a run of placeholder tokens where each image belongs.

    Args:
        segments: list of pairs `(text, is_mark)`, see
            `PromptTemplate.prompt_segments`. Each `<start_of_image>` in what
            the user wrote stands for an image, in order; to a model that
            takes no images it is text.
        num_images: int.
        preprocessor: the `Gemma3CausalLMPreprocessor` of the model.

    Returns:
        list of pairs `(text, is_mark)`.

    Raises:
        ValueError: there are not as many marks as images, or the model takes
            no images.
    """
    if not num_images and not _takes_images(preprocessor):
        return segments
    tokens_per_image = check_takes_images(preprocessor)
    num_marks = sum(
        text.count(IMAGE_MARK) for text, mark in segments if not mark
    )
    if num_marks != num_images:
        raise ValueError(
            f"A prompt must have one {IMAGE_MARK} for each image. Received: "
            f"{num_marks} in the prompt and {num_images} images. Write it "
            "where the image belongs, at the beginning for example, and pass "
            "the image; a text that only speaks of the mark must spell it "
            "otherwise."
        )
    tokenizer = preprocessor.tokenizer
    run = (
        f"\n\n{tokenizer.start_of_image_token}"
        + tokenizer.image_placeholder * tokens_per_image
        + f"{tokenizer.end_of_image_token}\n\n"
    )
    placed = []
    for text, is_mark in segments:
        if is_mark:
            placed.append((text, True))
            continue
        first, *others = text.split(IMAGE_MARK)
        placed.append((first, False))
        for other in others:
            placed += [(run, True), (other, False)]
    return [segment for segment in placed if segment[0]]


def check_takes_images(preprocessor):
    """Return the number of soft tokens of an image: an int.

    Raises:
        ValueError: the model takes no images.
    """
    if not _takes_images(preprocessor):
        raise ValueError(
            "Images need a model that takes them. Received: images for a "
            'text-only preset. "tiny", "gemma3_4b" and larger take images; '
            '"gemma3_270m" and "gemma3_1b" do not.'
        )
    return preprocessor.num_vision_tokens_per_image


def _takes_images(preprocessor):
    return getattr(preprocessor, "image_converter", None) is not None


def vision_inputs(token_ids, images, preprocessor, num_images=None):
    """Return what a multimodal Gemma needs to know about the images.

    Args:
        token_ids: int array `(batch_size, length)`.
        images: list of lists of images, one list a row, in the order of their
            marks; see `load_image`.
        preprocessor: the `Gemma3CausalLMPreprocessor` of the model.
        num_images: int. Places for images in a row; those without one are
            black and used by no token. Defaults to the longest list.

    Returns:
        A dict with `images`, float32
        `(batch_size, num_images, image_size, image_size, 3)`;
        `vision_mask`, bool `(batch_size, length)`, true where a soft token
        is; and `vision_indices`, int32 `(batch_size, num_images *
        tokens_per_image)`, the positions of these, filled up with 0.
    """
    batch_size = len(token_ids)
    if num_images is None:
        num_images = max(map(len, images), default=0)
    tokens_per_image = preprocessor.num_vision_tokens_per_image
    mask = token_ids == preprocessor.tokenizer.image_placeholder_id
    indices = np.zeros((batch_size, num_images * tokens_per_image), "int32")
    height, width = preprocessor.image_converter.image_size
    pixels = np.zeros((batch_size, num_images, height, width, 3), "float32")
    by_shape = {}  # one call for many images of a size
    for row, row_images in enumerate(images):
        places = np.flatnonzero(mask[row])
        indices[row, : len(places)] = places
        for i, image in enumerate(map(load_image, row_images)):
            by_shape.setdefault(image.shape, []).append(((row, i), image))
    for found in by_shape.values():
        rows, columns = zip(*(place for place, _ in found), strict=True)
        pixels[rows, columns] = convert_images(
            [image for _, image in found], preprocessor
        )
    return {"images": pixels, "vision_mask": mask, "vision_indices": indices}


def convert_image(image, preprocessor):
    """Return an image in the size and the scale that the model wants.

    Args:
        image: see `load_image`.
        preprocessor: the `Gemma3CausalLMPreprocessor` of the model.

    Returns:
        float32 array `(image_size, image_size, 3)`.
    """
    return convert_images([load_image(image)], preprocessor)[0]


def convert_images(arrays, preprocessor):
    """Convert many images of one size at once, as `load_image` returns them.

    Args:
        arrays: list of uint8 arrays `(height, width, 3)`.
        preprocessor: the `Gemma3CausalLMPreprocessor` of the model.

    Returns:
        float32 array `(len(arrays), image_size, image_size, 3)`.
    """
    batch = np.stack(arrays).astype("float32")
    return ops.convert_to_numpy(preprocessor.image_converter(batch))


def embed(causal_lm, token_ids, images):
    """Return the vectors that enter the decoder, from a real forward pass.

    Args:
        causal_lm: a `Gemma3CausalLM` that takes images.
        token_ids: sequence of ints, with a run of placeholders for each image.
        images: list of images, or one.

    Returns:
        `(pieces, embeddings, is_soft)`: a list of str, float32
        `(length, hidden_dim)`, and bool `(length,)`, true where a vector is
        the vision encoder's.
    """
    preprocessor, backbone = causal_lm.preprocessor, causal_lm.backbone
    token_ids = np.array([token_ids], "int32")
    vision = vision_inputs(token_ids, [list_images(images)], preprocessor)
    text = backbone.token_embedding(token_ids) * backbone.hidden_dim**0.5
    embeddings = backbone.interleave_embeddings(
        image_embeddings=backbone.vision_encoder(vision["images"]),
        text_embeddings=text,
        vision_indices=vision["vision_indices"],
    )
    tokenizer = preprocessor.tokenizer
    pieces = [tokenizer.id_to_token(int(i)) for i in token_ids[0]]
    return (
        pieces,
        ops.convert_to_numpy(embeddings)[0],
        vision["vision_mask"][0],
    )


def _to_array(source):
    """Return numbers as an array in the shape of an image."""
    rule = (
        "An image must be a path, an address, a `PIL.Image.Image` or an "
        "array (height, width, 3). Received: "
    )
    try:
        array = np.asarray(ops.convert_to_numpy(source))
    except (TypeError, ValueError) as error:  # rows of different lengths, ...
        raise ValueError(f"{rule}{type(source).__name__} ({error}).") from error
    is_number = array.dtype.kind in "uif"
    is_grey = array.ndim == 2
    is_color = array.ndim == 3 and array.shape[-1] in (3, 4)
    if not is_number or not (is_grey or is_color):
        raise ValueError(
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
    return ValueError(
        "An image must be something that Pillow can read, such as a PNG or "
        f"JPEG file. Received: {name} ({type(error).__name__}: {error}). Open "
        "it elsewhere and save it as PNG, and smaller if it is large."
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


def digest_of_image(image):
    """Return a hash of an image, or its address: it is not read for this."""
    if not isinstance(image, str | os.PathLike):
        array = load_image(image)
        content = str(array.shape).encode() + array.tobytes()
        return hashlib.sha256(content).hexdigest()
    return files.sha256(image) if os.path.isfile(image) else str(image)


def keep_image(source):
    """Return an image that can be read again and again, or refuse it.

    What is at an address is kept in the cache and not asked for again, even
    if it changes there.

    Args:
        source: see `load_image`.

    Returns:
        `source` or, of an address, the path of the copy.

    Raises:
        FileNotFoundError, OSError, ValueError: as `load_image`.
    """
    if isinstance(source, str | os.PathLike) and is_address(source):
        name = hashlib.sha256(os.fspath(source).encode()).hexdigest()
        copy = files.cache_dir("images") / name
        if not copy.exists():
            content = _read(os.fspath(source))
            _to_pixels(_decode_bytes(content, source))
            with files.whole_file(copy, "wb") as file:
                file.write(content)
        return copy
    # Whole: one that was cut short looks like an image at its beginning.
    load_image(source)
    return source


def _check_file(path):
    if not os.path.isfile(path):
        problem = "is no file" if os.path.exists(path) else "does not exist"
        raise FileNotFoundError(
            "An image must be a file or an address that begins with http:// "
            f"or https://. Received: {path}, which {problem}. Look at the "
            "path."
        )


def is_address(source):
    """Tell whether a path is an address of the web."""
    return os.fspath(source).lower().startswith(("http://", "https://"))


def _read(source):
    """Return the bytes of a file or an address."""
    if is_address(source):
        # A browser takes blanks and umlauts in an address, and so do we.
        address = urllib.parse.quote(source, safe=string.punctuation)
        try:
            with urllib.request.urlopen(
                address, timeout=SECONDS_TO_WAIT
            ) as response:
                return response.read()
        # The latter two: what is no answer, and what is no address.
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise OSError(
                "The address of an image must answer. Received: "
                f"{type(error).__name__}: {error} from {source}. Look at the "
                "address and the network."
            ) from error
    _check_file(source)
    with open(source, "rb") as file:
        return file.read()
