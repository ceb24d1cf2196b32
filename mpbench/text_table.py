"""Tables of text for a terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def render(rows: Sequence[dict[str, str]], left: Collection[str] = ()) -> list[str]:
    """Aligned columns, the first two and those in `left` to the left, others to the right; named by the rows' keys."""
    headers = list(dict.fromkeys(header for row in rows for header in row))
    lines = [headers, ["-" * max(len(h), *(len(row.get(h, "")) for row in rows)) for h in headers]]
    lines += [[row.get(header, "") for header in headers] for row in rows]
    widths = [len(rule) for rule in lines[1]]
    return [
        "  ".join(
            c.ljust(w) if i < 2 or h in left else c.rjust(w)
            for i, (h, c, w) in enumerate(zip(headers, cells, widths, strict=True))
        ).rstrip()
        for cells in lines
    ]
