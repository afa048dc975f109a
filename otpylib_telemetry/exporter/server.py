"""The GenServer that runs any exporter: messages in, to an :class:`~.process.ExporterServer`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otpylib_telemetry.config import sections
from otpylib_telemetry.config.environment import is_name
from otpylib_telemetry.exporter.process import ExporterServer
from otpylib_telemetry.services.section_module import section_module

if TYPE_CHECKING:
    from otpylib_telemetry.exporter.base import Exporter


def exporter_module(  # noqa: PLR0913  # all of them by name
    class_name: str,
    exporter_type: type[Exporter[Any]],
    *,
    name: str,
    section: str,
    module: str,
    doc: str | None = None,
) -> Any:
    """Make the GenServer class that runs an exporter, ready for a child spec.

    Args:
        class_name: The class's own name, for instance ``StatsdExporter``.
        exporter_type: The exporter to run.
        name: The registered name where a child spec gives none, for instance ``statsd_exporter``.
        section: The configuration section, for instance ``telemetry.statsd``.
        module: ``__name__`` of the module the class is assigned in.
        doc: The class's docstring.

    Returns:
        An OTPModule class with the behaviour GEN_SERVER, and the attributes ``exporter_type``,
        ``settings_type``, ``section`` and ``registered_name``.

    Raises:
        pydantic.errors.PydanticSchemaGenerationError: A setting is of a type that cannot be checked.
    """

    async def begin(registered: str, argument: Any) -> ExporterServer:
        return ExporterServer(exporter_type, registered, section, argument)

    cls = section_module(
        class_name,
        exporter_type.settings_type,
        begin,
        name=name,
        section=section,
        module=module,
        doc=doc or f"GenServer that runs {exporter_type.__name__}, registered as ``{name}``.",
    )
    # Now, so that a setting of no usable type fails here, and nothing waits when the exporter starts. Types
    # are looked up where the class was written, and not here.
    exporter_type.settings_type.model_rebuild(_parent_namespace_depth=0)
    cls.exporter_type = exporter_type
    sections.declared.add(section.removeprefix("telemetry."))
    return cls


def instance_of(module: Any, name: str) -> Any:
    """Return the GenServer class of a further instance of an exporter.

    It is registered as ``<name>_exporter``, reads the section ``telemetry.<name>``, and has a queue, books
    and a breaker of its own.
    """
    if not is_name(name):
        raise ValueError(
            f"an exporter's name is made of letters, digits, - and _, and begins with a letter; got {name!r}"
        )
    section = f"telemetry.{name}"
    if section == module.section:
        return module
    known = _instances.get((module, name))
    if known is None:
        if name in sections.registered_exporters():
            raise ValueError(
                f"{name!r} is an exporter of its own; an instance of {module.__name__} needs another name"
            )
        class_name = "".join(part.capitalize() for part in name.replace("-", "_").split("_")) + "Exporter"
        known = exporter_module(
            class_name,
            module.exporter_type,
            name=f"{name}_exporter",
            section=section,
            module=module.__module__,
            doc=f"{module.__name__} again, registered as ``{name}_exporter``, configured by ``{section}``.",
        )
        _instances[module, name] = known
    return known


_instances: dict[tuple[Any, str], Any] = {}
