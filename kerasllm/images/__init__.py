"""Images in a prompt, from a file to soft tokens (section 16.4.2).

A multimodal Gemma reads an image as a run of *soft tokens*. A vision encoder
turns the picture into, say, 256 vectors, and these replace as many
placeholder tokens `<img>` in the sequence. In a prompt the user writes one
special token, `<start_of_image>`, for each image. `place_images` replaces it
with the run, and `vision_inputs` tells the model where the runs are.
"""

from kerasllm.images._loading import (
    SECONDS_TO_WAIT,
    digest_of_image,
    images_of_each,
    is_address,
    is_image,
    keep_image,
    list_images,
    load_image,
)
from kerasllm.images._soft_tokens import (
    IMAGE_TOKEN,
    check_takes_images,
    convert_image,
    convert_images,
    embed,
    place_images,
    vision_inputs,
)

IMAGE_MARK = IMAGE_TOKEN  # its name in the first version

__all__ = [
    "IMAGE_MARK",
    "IMAGE_TOKEN",
    "SECONDS_TO_WAIT",
    "check_takes_images",
    "convert_image",
    "convert_images",
    "digest_of_image",
    "embed",
    "images_of_each",
    "is_address",
    "is_image",
    "keep_image",
    "list_images",
    "load_image",
    "place_images",
    "vision_inputs",
]
