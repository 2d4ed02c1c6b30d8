"""`python -m mtx` is `mtx`."""

from mtx.app import main

if __name__ == "__main__":
    main()
