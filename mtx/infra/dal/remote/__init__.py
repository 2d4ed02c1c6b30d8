"""Storage layers for a bucket or another remote store that fsspec supports, with copies in a local cache folder."""


def __getattr__(name: str) -> object:
    from mtx.components.former_paths import former_attribute

    return former_attribute(__name__, name)
