"""Which template a request's path has matched, as Starlette and FastAPI leave it in the scope.

Both are read by the names of what they have, and not imported: what is not there is no route.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping

#: How a mount's template ends, for whatever is behind it.
_REST: Final = "/{path}"


class Routed:
    """The way of one request through an application's routers.

    Args:
        app: The application.
        scope: The scope, before it is routed.
    """

    def __init__(self, app: Any, scope: MutableMapping[str, Any]) -> None:
        self._app = scope.get("app", app)
        self._root = str(scope.get("root_path") or "")
        path = str(scope.get("path") or "")
        self._path = path[len(self._root) :] if self._root and path.startswith(self._root) else path

    def route(self, scope: Mapping[str, Any]) -> str | None:
        """Return the template, from the scope once it was routed; None where no route has matched."""
        route = scope.get("route")
        template = _template(route, scope)
        if template is not None:
            if hasattr(route, "routes"):
                # A mount, and nothing known of what is behind it.
                return f"{self._mounted(scope, '')}{_REST}"
            return f"{self._mounted(scope, template)}{template}"
        endpoint = scope.get("endpoint")
        if endpoint is None:
            return None
        return _by_endpoint(_routes(scope, self._app), self._path, endpoint)

    def _mounted(self, scope: Mapping[str, Any], template: str) -> str:
        """Return the templates of the mounts that the path went through, empty where there were none.

        What is known of them is the path itself: values in it are replaced by their names.
        """
        root = str(scope.get("root_path") or "")
        mounted = root[len(self._root) :] if root.startswith(self._root) else ""
        if not mounted:
            return ""
        for name, value in (scope.get("path_params") or {}).items():
            if f"{{{name}}}" in template or f"{{{name}:" in template:
                continue
            before = mounted
            mounted = f"{mounted}/".replace(f"/{value}/", f"/{{{name}}}/", 1).removesuffix("/")
            if mounted == before:
                # It is written in another way than it was read, and must not be shown.
                return "/{mount}"
        return mounted


def _template(route: Any, scope: Mapping[str, Any]) -> str | None:
    """Return the template of the route that was taken last, by itself."""
    if route is None:
        return None
    own = scope.get("fastapi")
    included = own.get("effective_route_context") if isinstance(own, dict) else None
    if included is not None and getattr(included, "original_route", None) is route:
        # FastAPI puts the prefix of a router beside the route, not into it.
        behind = getattr(included, "starlette_route", None)
        path = getattr(behind, "path", None) or getattr(included, "path", None)
        path = path or getattr(included, "path_format", None)
        if isinstance(path, str):
            return path
    path = getattr(route, "path", None)
    return path if isinstance(path, str) else None


def _routes(scope: Mapping[str, Any], app: Any) -> Iterable[Any]:
    """Return the routes of the outermost router."""
    found = getattr(scope.get("router"), "routes", None)
    seen: set[int] = set()
    while found is None and app is not None and id(app) not in seen:
        seen.add(id(app))
        found = getattr(app, "routes", None)
        app = getattr(app, "app", None)
    return found or ()


def _by_endpoint(routes: Iterable[Any], path: str, endpoint: Any) -> str | None:
    """Look for the route to an endpoint, for versions that do not say which one they took."""
    for route in routes:
        regex = getattr(route, "path_regex", None)
        match = None if regex is None else regex.match(path)
        if regex is not None and match is None:
            continue
        template = getattr(route, "path", "")
        if getattr(route, "endpoint", None) is endpoint:
            return str(template)
        behind = getattr(route, "routes", None)
        if behind:
            rest = path if match is None else f"/{match.groupdict().get('path', '')}"
            found = _by_endpoint(behind, rest, endpoint)
            if found is not None:
                return f"{template}{found}"
        if getattr(route, "app", None) is endpoint:
            return f"{template}{_REST}"
    return None
