"""Messages about options of mtx whose Hydra plug-in is not installed, with the command that installs it."""

# How to install the Hydra plug-in that an option of mtx needs.
PLUG_IN_PACKAGES = {
    "hydra/launcher/joblib": "pip install 'mtx[joblib]'",
    "hydra/launcher/submitit_local": "pip install 'mtx[submitit]'",
    "hydra/launcher/submitit_slurm": "pip install 'mtx[submitit]'",
    "hydra/launcher/ray": "pip install 'mtx[ray]', in its own environment, since it needs an older cloudpickle",
    "hydra/sweeper/optuna": (
        "pip install 'mtx[optuna]', and then pip install --no-deps hydra-optuna-sweeper==1.3.0, whose version pin "
        "excludes the Optuna that works"
    ),
}


def missing_plug_in_message(error: Exception) -> str | None:
    """Return how to install the Hydra plug-in that an option needs, or None if the error has another cause."""
    wanted = str(getattr(error, "missing_cfg_file", ""))
    if (needed := PLUG_IN_PACKAGES.get(wanted)) is None:
        return None
    group, _, name = wanted.rpartition("/")
    return needed_plug_in_message(group, name, needed)


def needed_plug_in_message(group: str, name: str, needed: str) -> str:
    """Return how to install the Hydra plug-in that an option needs."""
    return f"{group.removeprefix('hydra/')}={name} needs a Hydra plug-in that is not installed: {needed}"
