"""The server that forks the tests' subprocesses: what it has computed for all of them, and what it keeps from them."""

from pathlib import Path

import warm_process

CODE = """
import os, sys
print(sys.modules["warm_caches"].COMMANDS)
print(os.environ.get("PYTHONPATH"))
from mtx.page.render import TEMPLATE, jinja_environment
print(len(jinja_environment().cache))
"""


def test_a_subprocess_finds_the_caches_but_no_variable_of_the_server(tmp_path: Path) -> None:
    done = warm_process.run("-c", CODE, cwd=tmp_path, env={})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["([], ['task=prepare'], ['task=fit'])", "None", "2"]
