#!/bin/sh
# Decoding on a GPU: three shapes, three batch sizes, against Hugging Face with
# its dynamic and its static, compiled cache.
#
#     sh tests/benchmarks/decode_on_gpu.sh [backend ...]
#
# It takes some ten minutes for each backend.
set -e
for backend in "${@:-jax}"; do
    for shape in book smollm2 gemma3_1b; do
        KERAS_BACKEND=$backend python -m tests.benchmarks.decode \
            --shape $shape --batch-size 1 8 64 --precision bfloat16 \
            --repeats 3 --static
    done
done
