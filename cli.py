"""Launcher for a clone: `python cli.py render photo.jpg`, `torchrun cli.py train`. The commands live in argan/cli/."""

from argan.cli import main

if __name__ == "__main__":
    main()
