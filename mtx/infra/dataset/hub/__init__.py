"""Read datasets of the Hugging Face Hub at a fixed commit, with retries and checks of the downloaded bytes."""


def __getattr__(name: str) -> object:
    from mtx.components.former_paths import former_attribute

    return former_attribute(__name__, name)
