"""The server that forks the tests' subprocesses: what it has computed for all of them, and what it keeps from them."""

from pathlib import Path

import warm_process

CODE = """
import os, sys
print(sys.modules["warm_caches"].COMMANDS)
print(sys.argv[1] in sys.path, os.environ.get("PYTHONPATH"))
from mtx.page.render import TEMPLATE, jinja_environment
print(len(jinja_environment().cache))
"""


def test_a_subprocess_finds_the_caches_but_not_the_folder_of_the_tests(tmp_path: Path) -> None:
    done = warm_process.run("-c", CODE, Path(__file__).parent, cwd=tmp_path, env={})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["([], ['task=prepare'], ['task=fit'])", "False None", "2"]
