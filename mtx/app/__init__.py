"""The command-line application `mtx`: reads the command line and Hydra's config, and runs one task or one sweep."""


def __getattr__(name: str) -> object:
    from mtx.components.former_paths import former_attribute

    return former_attribute(__name__, name)
