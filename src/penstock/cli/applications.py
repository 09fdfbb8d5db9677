"""The commands of applications: each is loaded when it is called, so that `penstock --help` imports none of them."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

import typer
from typer.core import TyperGroup


class CommandsOfAll(TyperGroup):
    """The commands of Penstock itself, and below the name of each application those that it has."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command of ours, or those of the application of this name."""
        return super().get_command(ctx, cmd_name) or _load(cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands of ours, and the names of the applications."""
        super().format_commands(ctx, formatter)
        with formatter.section("Applications"):
            formatter.write_text(
                f"`penstock NAME --help` shows the commands of one that has any: {', '.join(_names())}."
            )


def _names() -> list[str]:
    return sorted({entry.name for entry in entry_points(group="penstock.applications")})


def _load(name: str) -> Any:
    """Return the commands of an application; None for one without, or if no application has this name."""
    if name not in _names():
        return None
    from ..application import Application
    from ..errors import ConfigError

    try:
        commands = Application.parse(name).commands()
    except ValueError as error:  # its packages are missing
        raise ConfigError(str(error)) from error
    if commands is None:
        return None
    holder = typer.Typer(rich_markup_mode=None, add_completion=False)
    holder.callback()(lambda: None)
    holder.add_typer(commands, name=name)
    return typer.main.get_group(holder).commands[name]
