"""How tests ask the process that holds the stand-in Hub and the client (`hub_session.py`)."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

COMMIT = "a1b2c3d4" * 5


class Session:
    """The process that holds the client and the stand-in Hub."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the session ended; its traceback is in stderr, in its folder"
        return dict[str, Any](json.loads(answer))

    def fault(self, **fault: Any) -> None:
        self.ask(fault=fault)

    def info(self, dataset: str, language: str | None = None, **options: Any) -> dict[str, Any]:
        return self.result(info={"dataset": dataset, "language": language, **options})

    def rows(self, dataset: str, language: str | None = None, split: str = "train", **options: Any) -> list[list[str]]:
        answer = self.result(rows={"dataset": dataset, "language": language, **options}, split=split)
        return list(answer["rows"])

    def result(self, **request: Any) -> Any:
        answer = self.ask(**request)
        assert "error" not in answer, answer
        return answer["result"]

    def error(self, dataset: str, language: str | None = None, *, rows: bool = False, **options: Any) -> str:
        constants = options.pop("constants", None)
        asked: dict[str, Any] = {"rows" if rows else "info": {"dataset": dataset, "language": language, **options}}
        answer = self.ask(**asked, split="train", **({"constants": constants} if constants else {}))
        assert answer.get("error") in ("SourceError", "ConfigError", "MalformedPairError", "UnreachableError"), answer
        return str(answer["message"])


@contextmanager
def session(folder: Path, **variables: str) -> Iterator[Session]:
    """Start a process with a stand-in Hub in `folder`; it writes what it says elsewhere to `folder/stderr`."""
    known = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    env = {**known, "PYTHONPATH": os.pathsep.join(sys.path), **variables}
    command = [sys.executable, "-W", "error", str(Path(__file__).parent / "hub_session.py"), str(folder)]
    with (
        (folder / "stderr").open("w") as stderr,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True, env=env
        ) as running,
    ):
        yield Session(running)
        assert running.stdin is not None
        running.stdin.close()
        running.wait(60)


def numbered(*languages: str, numbers: range) -> list[list[str]]:
    return [[f"{language} {number}" for language in languages] for number in numbers]
