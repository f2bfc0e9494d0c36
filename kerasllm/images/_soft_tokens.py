"""Soft tokens: where images stand in a prompt, and the inputs of the model."""

import numpy as np

from kerasllm.checks import UserError
from kerasllm.images._loading import list_images, load_image

IMAGE_TOKEN = "<start_of_image>"


def place_images(segments, num_images, preprocessor):
    """Replace each image marker in a prompt by a run of placeholder tokens.

    Args:
        segments: list of pairs `(text, is_delimiter)`, see
            `PromptTemplate.prompt_segments`. Each `<start_of_image>` in what
            the user wrote stands for an image, in order. For a model that
            takes no images it is plain text.
        num_images: int.
        preprocessor: the `Gemma3CausalLMPreprocessor` of the model.

    Returns:
        list of pairs `(text, is_delimiter)`.

    Raises:
        UserError: the prompt has not one `<start_of_image>` for each image, or
            the model takes no images.
    """
    if not num_images and not _takes_images(preprocessor):
        return segments
    tokens_per_image = check_takes_images(preprocessor)
    found = sum(
        text.count(IMAGE_TOKEN)
        for text, is_delimiter in segments
        if not is_delimiter
    )
    if found != num_images:
        raise UserError(
            f"A prompt must have one {IMAGE_TOKEN} for each image. Received: "
            f"{found} in the prompt and {num_images} images. Write it "
            "where the image belongs, at the start for example, and pass the "
            "image. A text that only mentions the token must spell it "
            "differently."
        )
    tokenizer = preprocessor.tokenizer
    run = (
        f"\n\n{tokenizer.start_of_image_token}"
        + tokenizer.image_placeholder * tokens_per_image
        + f"{tokenizer.end_of_image_token}\n\n"
    )
    placed = []
    for text, is_delimiter in segments:
        if is_delimiter:
            placed.append((text, True))
            continue
        first, *others = text.split(IMAGE_TOKEN)
        placed.append((first, False))
        for other in others:
            placed += [(run, True), (other, False)]
    return [segment for segment in placed if segment[0]]


def check_takes_images(preprocessor):
    """Return the number of soft tokens of an image: an int.

    Raises:
        UserError: the model takes no images.
    """
    if not _takes_images(preprocessor):
        raise UserError(
            "Images need a model that takes them. Received: images for a "
            'text-only preset. "tiny", "gemma3_4b" and larger take images; '
            '"gemma3_270m" and "gemma3_1b" do not.'
        )
    return preprocessor.num_vision_tokens_per_image


def _takes_images(preprocessor):
    converter = getattr(preprocessor, "image_converter", None)
    # Models that KerasHub prompts in another way have no such number.
    return converter is not None and hasattr(
        preprocessor, "num_vision_tokens_per_image"
    )


def vision_inputs(token_ids, images, preprocessor, num_images=None):
    """Return the inputs that tell a multimodal Gemma about its images.

    Args:
        token_ids: int array `(batch_size, length)`.
        images: list of lists of images, one list for each sequence, in the
            order in which they stand there; see `load_image`.
        preprocessor: the `Gemma3CausalLMPreprocessor` of the model.
        num_images: int. Images for each sequence. Missing ones are black
            and used by no token. Defaults to the longest list.

    Returns:
        A dict with `images`, float32
        `(batch_size, num_images, image_size, image_size, 3)`;
        `vision_mask`, bool `(batch_size, length)`, true where a soft token
        is; and `vision_indices`, int32 `(batch_size, num_images *
        tokens_per_image)`, the positions of these, filled up with 0.

    Raises:
        UserError: the model takes no images, or a sequence does not have a
            run of placeholders for each of its images.
    """
    batch_size = len(token_ids)
    if num_images is None:
        num_images = max(map(len, images), default=0)
    tokens_per_image = check_takes_images(preprocessor)
    mask = token_ids == preprocessor.tokenizer.image_placeholder_id
    indices = np.zeros((batch_size, num_images * tokens_per_image), "int32")
    height, width = preprocessor.image_converter.image_size
    pixels = np.zeros((batch_size, num_images, height, width, 3), "float32")
    by_shape = {}  # one call for many images of a size
    for i, its_images in enumerate(images):
        positions = np.flatnonzero(mask[i])
        if len(positions) != len(its_images) * tokens_per_image:
            raise UserError(
                f"A sequence must have {tokens_per_image} placeholder tokens "
                f"for each image. Received: {len(positions)} for "
                f"{len(its_images)} images. `place_images` writes them."
            )
        indices[i, : len(positions)] = positions
        for j, image in enumerate(map(load_image, its_images)):
            by_shape.setdefault(image.shape, []).append(((i, j), image))
    for found in by_shape.values():
        sequences, numbers = zip(*(index for index, _ in found), strict=True)
        pixels[sequences, numbers] = convert_images(
            [image for _, image in found], preprocessor
        )
    return {"images": pixels, "vision_mask": mask, "vision_indices": indices}


def convert_image(image, preprocessor):
    """Return an image with the size and the range that the model needs.

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
    from keras import ops  # reading an image needs no backend

    batch = np.stack(arrays).astype("float32")
    return ops.convert_to_numpy(preprocessor.image_converter(batch))


def embed(causal_lm, token_ids, images):
    """Return the vectors that enter the decoder in a forward pass.

    Args:
        causal_lm: a `Gemma3CausalLM` that takes images.
        token_ids: sequence of ints, with a run of placeholders for each image.
        images: list of images, or one.

    Returns:
        `(pieces, embeddings, is_soft)`: a list of str, float32
        `(length, hidden_dim)`, and bool `(length,)`, true where a vector is
        the vision encoder's.
    """
    from keras import ops

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
