"""``rolekey version``."""

import click

from rolekey._version import __version__


@click.command()
def version() -> None:
    """Print the version."""
    click.echo(__version__)
