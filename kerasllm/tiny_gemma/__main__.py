"""`python -m kerasllm.tiny_gemma`: train both presets, or measure them."""

from kerasllm.tiny_gemma import main

if __name__ == "__main__":
    main()
