"""`python -m argan` is the command `argan`."""

from argan.cli import main

if __name__ == "__main__":
    main()
