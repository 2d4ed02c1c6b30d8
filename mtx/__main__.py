"""The command `mtx`, which `python -m mtx` also runs."""

import gc
import os
import sys

from mtx import own_process  # first, since it notes when the command started
from mtx.output_encoding import replace_missing_characters


def main() -> None:
    """Answer a shell completion, `--version` or `--help` without slow imports; otherwise run `mtx.app.command.main`."""
    replace_missing_characters()
    if sys.argv[1:2] in (["-sc"], ["--shell-completion"]):
        from mtx.app.completion import answer

        if (told := answer(sys.argv[1:])) is not None:
            print(told)
            return
    if sys.argv[1:] == ["--version"]:
        from mtx import __version__

        print(f"mtx {__version__}")
        return
    if sys.argv[1:] in (["--help"], ["-h"]):
        from mtx.app.help_text import help_text

        print(help_text())
        return
    os.environ[own_process.OWN_PROCESS_VARIABLE] = str(os.getpid())  # this process may fork
    gc.disable()  # until a job starts: nothing is garbage before, and collections take a tenth of the start-up time
    from mtx.app.command import main as run

    run()


if __name__ == "__main__":
    main()
