"""What the collector got, put together again: traces, and which of their spans are whose children."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from examples.shop.receiver import Span

#: The operation every trace begins with.
ROOT = "shop.http.request"


@dataclass(slots=True)
class Trace:
    """Spans of one trace, as far as they arrived."""

    spans: dict[str, Span] = field(default_factory=dict)

    @property
    def root(self) -> Span | None:
        """The span without parent."""
        return next((span for span in self.spans.values() if not span.parent_id), None)

    @property
    def failed(self) -> bool:
        """Whether anything in it failed."""
        return any(span.failed for span in self.spans.values())

    @property
    def is_whole(self) -> bool:
        """Whether it has one root, and every other span's parent is there."""
        roots = [span for span in self.spans.values() if not span.parent_id]
        return len(roots) == 1 and all(
            span.parent_id in self.spans for span in self.spans.values() if span is not roots[0]
        )

    @property
    def duration_ns(self) -> int:
        """How long the root took."""
        root = self.root
        return 0 if root is None else root.end_ns - root.start_ns

    def walk(self) -> Iterator[tuple[Span, int]]:
        """Yield every span below the root and its depth, children after their parent in order of time."""
        children: dict[str, list[Span]] = {}
        for span in self.spans.values():
            children.setdefault(span.parent_id, []).append(span)
        pending = [(span, 0) for span in children.get("", [])]
        while pending:
            span, depth = pending.pop()
            yield span, depth
            below = sorted(children.get(span.span_id, []), key=lambda child: child.start_ns, reverse=True)
            pending.extend((child, depth + 1) for child in below)


class Archive:
    """Every span that arrived, by trace, with duplicates counted."""

    def __init__(self) -> None:
        self.traces: dict[str, Trace] = {}
        self.span_ids: set[str] = set()
        self.duplicates = 0

    def add(self, spans: Iterable[Span]) -> None:
        """Take spans in."""
        for span in spans:
            if span.span_id in self.span_ids:
                self.duplicates += 1
                continue
            self.span_ids.add(span.span_id)
            self.traces.setdefault(span.trace_id, Trace()).spans[span.span_id] = span

    def forget(self) -> None:
        """Start from nothing: a demonstration that stays must not grow."""
        self.traces.clear()
        self.span_ids.clear()
