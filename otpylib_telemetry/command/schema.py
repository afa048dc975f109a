"""``otpylib-telemetry schema``: the JSON schema of the configuration, for editors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otpylib_telemetry.command.screen import GOOD

if TYPE_CHECKING:
    import argparse

    from otpylib_telemetry.command.screen import Screen

NAME: Final = "schema"
HELP: Final = "write the JSON schema of the configuration, for editors"
DESCRIPTION: Final = (
    "Write the JSON schema of config.toml: every section of the installed exporters and services, every key "
    "with its type, unit, default and meaning. An editor that knows it completes keys and marks mistakes: "
    "begin the file with the line '#:schema ./telemetry.schema.json'."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes: nothing."""
    del parser


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """Write the schema; return the exit status."""
    from otpylib_telemetry.command.json_schema import schema_of  # noqa: PLC0415  # it imports the exporters
    from otpylib_telemetry.command.known import installed  # noqa: PLC0415  # as above

    del arguments
    found = {name: each.settings_type for name, each in installed().items() if each.settings_type is not None}
    screen.json(schema_of(found))
    return GOOD
