"""`python -m kerasllm`, the same as the command `kerasllm`."""

import signal


def main():
    """Run the command line; Ctrl-C at its start or end is no mistake of ours.

    A second Ctrl-C, while the first one is handled, ends the process, too.
    """
    try:
        from kerasllm import cli  # takes a moment

        cli.main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    finally:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()
