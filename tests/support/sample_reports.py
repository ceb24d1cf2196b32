"""Reports with everything that a report may hold, text from outside and long text among it."""

import io
import math

from case_records import accuracy_record, pair, record
from PIL import Image

from mpbench.errors import printable
from mpbench.records.measured import Measured
from mpbench.report import figures
from mpbench.report.content import Command, Drawing, Note, Number, Photograph, Report, Section, Sentence, Table
from mpbench.report.drawing import INK, stacked, style
from mpbench.report.figures import memory, throughput

PAYLOADS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"\' onmouseover=alert(1) x="',
    "</style></title></svg></script><script>alert(1)</script>",
    "javascript:alert(1)",
    "<!-- {{ 7 * 7 }} {% raw %} ]]> &lt;b&gt; &#x41;",
    "=HYPERLINK(1)",
)
HOSTILE = " ".join(PAYLOADS)
LONG = "x" * 600


def jpeg():
    file = io.BytesIO()
    Image.new("RGB", (96, 64), (200, 120, 40)).save(file, "JPEG")
    return file.getvalue()


def labelled(text):
    """A figure with text from outside wherever a figure has text."""
    drawn = printable(text)
    with style():
        figure, [panel] = stacked([1.0], left=1.0)
        panel.plot([1, 2], label=drawn, color=INK)
        panel.set_title(drawn)
        panel.set_xlabel(drawn)
        panel.set_yticks([1], [drawn])
        panel.legend()
        panel.annotate(drawn, (0, 1))
    return Drawing("labelled", text, text, figure)


TABLE = Table(
    "Cases",
    ("model", "median, ms", "note"),
    (
        ("vgg16", Number("1,000", 1000.0), "NOISY"),
        ("inception_v3", Number("9.5", 9.5), "case 10"),
        ("none", "", ""),
        ("resnet152_v2", Number("n/a", math.nan), "case 9"),
        ("=1+1", Number("-20", -20.0), "case 10"),
    ),
    sortable=True,
)


def a_report():
    cases = [*pair("vgg16", 100, 50), *pair("resnet152_v2", 90, 60, phase="inference")]
    cases += [Measured(record("inception_v3", noisy=True), [0.1, 0.2, 0.15] * 4)]
    drawings = [
        figures.speedups(cases),
        *figures.step_times(cases),
        memory(cases),
        throughput(cases),
        figures.accuracy_differences([accuracy_record()]),
    ]
    columns = tuple(f"column {i}, ms" for i in range(16))
    wide = Table("Wide", columns, (("vgg16", *(Number(str(i), i) for i in range(15))),) * 60, sortable=True)
    return Report(
        "Mixed precision on an NVIDIA V100",
        ["It pays in training.", "It pays in inference.", "Accuracy is the same."],
        [Note("CPU", "Not a GPU.")],
        [
            Section("speedup", "Speedup", drawings),
            Section(
                "raw",
                "Raw numbers",
                [
                    Note("NOISY", "One case."),
                    TABLE,
                    wide,
                    Table("Empty", ("model",), ()),
                    Command("pytest bench/ \\\n  -k 'vgg16 and \"training\"'"),
                    Photograph(jpeg(), "A dog: float32 was right."),
                    Photograph(jpeg(), "A cat: mixed_float16 was right."),
                ],
            ),
            Section("hostile", HOSTILE, hostile_blocks(HOSTILE)),
            Section("long", LONG, hostile_blocks(LONG)[:-1]),
            Section(
                "arabic", "\u0645\u0631\u062d\u0628\u0627", hostile_blocks("\u0645\u0631\u062d\u0628\u0627 v1")[:-1]
            ),
            Section("nothing", "Nothing"),
        ],
    )


def hostile_blocks(text):
    return [
        Sentence(text),
        Note(text, text),
        Table(text, (text, text), ((text, Number(text, 1.0)), (text, text)), sortable=True),
        Command(text),
        Photograph(jpeg(), text),
        labelled(text),
    ]
