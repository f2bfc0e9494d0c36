"""`python -m kerasllm`, the same as the command `kerasllm`."""

from kerasllm.cli import main

if __name__ == "__main__":
    main()
