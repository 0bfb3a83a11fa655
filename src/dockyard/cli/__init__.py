"""The commands, one file each."""


def main() -> None:
    """Run the command line of this process, and end it with the command's exit status."""
    from dockyard.cli.importing import importing  # noqa: PLC0415 -- importing the package stays free

    with importing():
        from dockyard.cli.main import run  # noqa: PLC0415 -- likewise

    run()
