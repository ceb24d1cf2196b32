"""Drawings as files and as SVG that stands in a page: text as text, colours as the page's variables, no styles."""

from __future__ import annotations

import io
import re
from pathlib import Path
from xml.etree import ElementTree

from mpbench.report.content import Drawing
from mpbench.report.drawing import FAINT, INK, PAPER, SERIES, style
from mpbench.system.storage import write_file

PICTURE_DPI = 220

COLOUR_VARIABLES = {
    INK: "--figure-ink",
    PAPER: "--figure-paper",
    FAINT: "--figure-faint",
    **{colour: f"--figure-{i}" for i, colour in enumerate(SERIES, 1)},
}
"""The page's variable for each colour that figures are drawn in."""

DARK = ("#e8e8e8", "#16181c", "#4a4f57", "#4db3f0", "#ff8a3d", "#35c9a0", "#e7a3cb", "#f3bf4b", "#9fd8ff")
"""In the order of COLOUR_VARIABLES."""

_LIGHT_CSS = "".join(f"{variable}:{colour};" for colour, variable in COLOUR_VARIABLES.items())
_DARK_CSS = "".join(f"{variable}:{colour};" for variable, colour in zip(COLOUR_VARIABLES.values(), DARK, strict=True))

FIGURE_CSS = f"""\
:root{{{_LIGHT_CSS}}}
@media (prefers-color-scheme:dark){{:root{{{_DARK_CSS}}}}}
@media print{{:root{{{_LIGHT_CSS}}}}}
svg.figure{{display:block;width:100%;height:auto;max-width:36rem;\
font-family:"DejaVu Sans",Verdana,system-ui,sans-serif;color:var(--figure-ink)}}
"""
"""What a page must hold in its style sheet for `svg_text`'s figures. `--figure-paper` is what a figure lies on."""

SVG = "http://www.w3.org/2000/svg"
HREF = "{http://www.w3.org/1999/xlink}href"
LEFT_OUT = (f"{{{SVG}}}metadata", f"{{{SVG}}}style")
ElementTree.register_namespace("", SVG)  # names are bare, as HTML wants them

_FONT = re.compile(r"(?:(?P<weight>bold|\d{3})\s+)?(?P<size>[\d.]+)px\s")
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


def svg_text(drawing: Drawing) -> str:
    """A drawing as SVG to stand in an HTML page of a strict content security policy.

    No prolog, no style attribute or element, no script, nothing from elsewhere; ids differ from those of drawings of
    other names. Its title and its alternative are its <title> and <desc>.

    Raises:
        ValueError: it is drawn in a colour that is none of COLOUR_VARIABLES.
    """
    file = io.StringIO()
    unstamped = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with style(salt=drawing.name):  # ids are made of it
        drawing.figure.savefig(file, format="svg", metadata=unstamped)
    root = ElementTree.fromstring(file.getvalue())
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag in LEFT_OUT]:
            parent.remove(child)
    for element in root.iter():
        _as_attributes(element)
    title_id, text_id = f"{drawing.name}-title", f"{drawing.name}-desc"
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
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
    return ElementTree.tostring(root, encoding="unicode")


def _as_attributes(element: ElementTree.Element) -> None:
    """An element's style as attributes, its colours as variables, its coordinates in hundredths of a point."""
    if element.tag == f"{{{SVG}}}g":
        element.attrib.pop("id", None)  # `axes_1` and the like stand in every drawing, and nothing refers to them
    if HREF in element.attrib:
        element.set("href", element.attrib.pop(HREF))
    for declaration in element.attrib.pop("style", "").split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font" and (font := _FONT.match(value)):
            element.set("font-size", font["size"])
            if font["weight"]:
                element.set("font-weight", font["weight"])
        elif value and name not in ("font", "font-family"):  # that is the page's
            element.set(name, value.removesuffix("px"))
    for name in ("fill", "stroke"):
        if name in element.attrib:
            element.set(name, _COLOUR.sub(_variable, element.attrib[name]))
    for name in ("d", "x", "y", "transform"):
        if name in element.attrib:
            element.set(name, " ".join(_LONG_NUMBER.sub(_shortened, element.attrib[name]).split()))


def _variable(colour: re.Match[str]) -> str:
    name = colour[0].lower()
    if name not in COLOUR_VARIABLES:
        raise ValueError(f"a figure is drawn in {name}: valid are {', '.join(COLOUR_VARIABLES)}")
    return f"var({COLOUR_VARIABLES[name]})"


def _shortened(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


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
