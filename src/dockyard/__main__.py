"""``python -m dockyard``: the same as the command ``registry``."""

from dockyard.cli import main


if __name__ == "__main__":
    main()
