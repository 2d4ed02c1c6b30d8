"""The plug-in as Hydra finds it: in any application of the environment, where it does nothing."""

import subprocess
import sys
from pathlib import Path

OTHER_APPLICATION = """
import sys
import hydra

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    print("mtx" in sys.modules, hydra.core.hydra_config.HydraConfig.get().sweeper._target_)

main()
"""


def test_another_application_sweeps_by_its_own_sweeper_and_imports_nothing_of_mtx(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(OTHER_APPLICATION)
    command = [sys.executable, "-W", "error", "other.py", "-m", "+x=1,2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    told = [line for line in done.stdout.splitlines() if line.startswith(("True", "False"))]
    assert told == ["False hydra._internal.core_plugins.basic_sweeper.BasicSweeper"] * 2
    assert "hydra_plugins.mtx_sweeper" not in done.stderr


def test_the_namespace_of_plug_ins_is_left_open_to_other_packages() -> None:
    assert not (Path(__file__).parents[2] / "hydra_plugins" / "__init__.py").exists()
