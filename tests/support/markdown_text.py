"""Markdown as a reader sees it, and text that tries to be more than text."""

from markdown_it import MarkdownIt

PARSER = MarkdownIt("gfm-like")

HOSTILE = [
    "a|b",
    "a\\|b\\",
    "``` `x` ```",
    "</code><script>alert(1)</script>",
    "[click](https://example.invalid) ![](https://example.invalid/x.png)",
    "line\n| --- |\n## heading\r\n- item",
    "@somebody #1 https://example.invalid www.example.invalid &lt;b&gt; **bold** $x$",
    "\u202egnp.exe \x1b[31m",
    "`",
    "",
]


def inline_types(tokens):
    for token in tokens:
        yield token.type
        yield from inline_types(token.children or [])


def cells(text):
    """Of each table its rows of cells, each as the text that a reader sees."""
    tables = []
    for token in PARSER.parse(text):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type == "inline" and tables and token.level > 3:
            tables[-1][-1].append("".join(child.content for child in token.children))
    return tables


def headings(text):
    tokens = PARSER.parse(text)
    return [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]


def visible(text):
    """What a code span shows of a text: one line of printable characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split()) or "(empty)"
