"""Drawings as files and as SVG that stands in a page: text as text, colours as the page's variables, no styles."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from mpbench.report.content import Drawing
from mpbench.report.drawing import FAINT, INK, PAPER, SERIES, style
from mpbench.system.storage import write_file

PICTURE_DPI = 220

VARIABLES = {
    INK: "--figure-ink",
    PAPER: "--figure-paper",
    FAINT: "--figure-faint",
    **{colour: f"--figure-{i}" for i, colour in enumerate(SERIES, 1)},
}
"""The page's variable for each colour that figures are drawn in."""

DARK_SERIES = ("#4db3f0", "#ff8a3d", "#35c9a0", "#e7a3cb", "#f3bf4b", "#9fd8ff")

_LIGHT = "".join(f"{variable}:{colour};" for colour, variable in VARIABLES.items())
_DARK = "--figure-ink:#e8e8e8;--figure-paper:#16181c;--figure-faint:#4a4f57;" + "".join(
    f"--figure-{i}:{colour};" for i, colour in enumerate(DARK_SERIES, 1)
)

FIGURE_CSS = f"""\
:root{{{_LIGHT}}}
@media (prefers-color-scheme:dark){{:root{{{_DARK}}}}}
@media print{{:root{{{_LIGHT}}}}}
svg.figure{{display:block;width:100%;height:auto;max-width:36rem;\
font-family:"DejaVu Sans",Verdana,system-ui,sans-serif;color:var(--figure-ink)}}
"""
"""What a page must hold in its style sheet for `svg_text`'s figures. `--figure-paper` is what a figure lies on."""

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
KEPT_PROPERTIES = frozenset(
    (
        "fill",
        "fill-opacity",
        "fill-rule",
        "font-size",
        "font-weight",
        "opacity",
        "stroke",
        "stroke-dasharray",
        "stroke-dashoffset",
        "stroke-linecap",
        "stroke-linejoin",
        "stroke-miterlimit",
        "stroke-opacity",
        "stroke-width",
        "text-anchor",
    )
)
"""Of CSS, those that SVG has as attributes too and figures need; the page's own font is not among them."""

_FONT = re.compile(r"(?:(?P<weight>bold|\d{3})\s+)?(?P<size>[\d.]+)px\s")
_REFERENCE = re.compile(r"(?:url\()?#([^)]+)\)?")
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


def svg_text(drawing: Drawing) -> str:
    """A drawing as SVG to stand in an HTML page of a strict content security policy.

    No prolog, no style attribute or element, no script, nothing from elsewhere; every id begins with the drawing's
    name. Its title and its alternative are its <title> and <desc>.

    Raises:
        ValueError: it is drawn in a colour that is none of VARIABLES.
    """
    file = io.StringIO()
    with style():
        drawing.figure.savefig(
            file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    root = ElementTree.fromstring(file.getvalue())
    _strip(root)
    for element in root.iter():
        _as_attributes(element)
        _shorten(element)
    _own_ids(root, drawing.name)
    for parent in root.iter(f"{{{SVG}}}g"):
        _raise_shared(parent)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    title_id, text_id = f"{drawing.name}-title", f"{drawing.name}-desc"
    root.attrib |= {
        "class": "figure",
        "role": "img",
        "aria-labelledby": f"{title_id} {text_id}",
        "fill": "var(--figure-ink)",
        "stroke-linejoin": "round",
        "stroke-linecap": "butt",
    }
    for tag, id, text in (("desc", text_id, drawing.alternative), ("title", title_id, drawing.title)):
        element = ElementTree.Element(f"{{{SVG}}}{tag}", {"id": id})
        element.text = text
        root.insert(0, element)
    ElementTree.indent(root, "")
    return _serialised(root)


def save(drawing: Drawing, folder: Path) -> list[Path]:
    """Write a drawing as PNG, PDF and SVG in plain colours, for a paper or slides; the same bytes every time.

    Args:
        folder: made where it is missing.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for suffix, metadata in (
        ("png", {"Software": None}),
        ("pdf", {"Creator": None, "Producer": None, "CreationDate": None}),
        ("svg", {"Date": None}),
    ):
        path, picture = folder / f"{drawing.name}.{suffix}", io.BytesIO()
        with style():
            drawing.figure.savefig(picture, format=suffix, dpi=PICTURE_DPI, metadata=metadata)
        write_file(path, picture.getvalue())
        paths.append(path)
    return paths


def _strip(root: ElementTree.Element) -> None:
    """Leave out metadata and style sheets."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style") or (
                child.tag == f"{{{SVG}}}defs" and all(of.tag == f"{{{SVG}}}style" for of in child)
            ):
                parent.remove(child)


def _as_attributes(element: ElementTree.Element) -> None:
    """An element's style as attributes, its colours as variables."""
    properties = dict(_declarations(element.attrib.pop("style", "")))
    if font := _FONT.match(properties.pop("font", "")):
        properties["font-size"] = font["size"]
        if font["weight"]:
            properties["font-weight"] = font["weight"]
    element.attrib |= {name: value.removesuffix("px") for name, value in properties.items() if name in KEPT_PROPERTIES}
    for name in ("fill", "stroke"):
        if name in element.attrib:
            element.set(name, _COLOUR.sub(_variable, element.attrib[name]))


def _declarations(text: str) -> Iterator[tuple[str, str]]:
    for declaration in text.split(";"):
        name, colon, value = declaration.partition(":")
        if colon:
            yield name.strip(), value.strip()


def _variable(colour: re.Match[str]) -> str:
    name = colour[0].lower()
    if name == "#000000":  # what matplotlib takes where nothing is said
        name = INK
    if name not in VARIABLES:
        raise ValueError(f"a figure is drawn in {name}: valid are {', '.join(VARIABLES)}")
    return f"var({VARIABLES[name]})"


def _shorten(element: ElementTree.Element) -> None:
    """Coordinates in hundredths of a point; no turn by nothing."""
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    for name in ("d", "x", "y", "transform"):
        if name in element.attrib:
            text = _LONG_NUMBER.sub(
                lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), element.attrib[name]
            )
            element.set(name, " ".join(text.split()))


def _own_ids(root: ElementTree.Element, name: str) -> None:
    """Short ids that begin with the drawing's name, where something refers to them."""
    for element in root.iter():
        if (target := element.attrib.pop(f"{{{XLINK}}}href", None)) is not None:
            element.set("href", target)
    used = {
        match[1]
        for element in root.iter()
        for value in element.attrib.values()
        if (match := _REFERENCE.fullmatch(value))
    }
    own = {id: f"{name}-{i}" for i, id in enumerate(sorted(used))}
    for element in root.iter():
        if (id := element.attrib.pop("id", None)) in own:
            element.set("id", own[id])
        for key, value in element.attrib.items():
            if match := _REFERENCE.fullmatch(value):
                element.set(key, value.replace(match[1], own[match[1]]))


def _raise_shared(parent: ElementTree.Element) -> None:
    """What all marks of a line say of their look stands once, at their group: rounds may be many."""
    marks = [child for child in parent if child.tag == f"{{{SVG}}}use"]
    if len(marks) < 2 or len(marks) != len(parent):
        return
    for name in ("href", "fill", "stroke", "stroke-width"):
        values = {mark.get(name) for mark in marks}
        if name != "href" and len(values) == 1 and (value := values.pop()) is not None and parent.get(name) is None:
            parent.set(name, value)
            for mark in marks:
                del mark.attrib[name]


def _serialised(root: ElementTree.Element) -> str:
    """With SVG's names bare, as HTML wants them."""
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{SVG}}}")
        if element.tag not in ("text", "tspan", "title", "desc"):
            element.text = None
        element.tail = None
    root.set("xmlns", SVG)
    return ElementTree.tostring(root, encoding="unicode")
