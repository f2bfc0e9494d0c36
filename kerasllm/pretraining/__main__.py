"""`python -m kerasllm.pretraining`: train the mini-GPT in `assets/` again."""

from kerasllm.pretraining._docs_preset import main

if __name__ == "__main__":
    main()
