"""The command `mtx`, also as `python -m mtx`."""

import sys


def main() -> None:
    """Answer a shell that asks how to complete a word; else run `mtx.app`."""
    if sys.argv[1:2] in (["-sc"], ["--shell-completion"]):
        from mtx.completion import answer

        if (told := answer(sys.argv[1:])) is not None:
            print(told)
            return
    from mtx.app import main as run

    run()


if __name__ == "__main__":
    main()
