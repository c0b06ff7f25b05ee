"""`python -m runtime.cli` is `ramet`."""

from runtime.cli import main

if __name__ == "__main__":
    main()
