"""mpbench.data.decoding: every file decodes as Pillow would, or gives one line that says why, in bounded memory."""

import io
import os
import random
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from image_files import GOOD, RED, encoded, noise
from PIL import Image

from mpbench.data import decoding
from mpbench.data.decoding import UndecodableImage, decode, read
from mpbench.data.generated import CLASSES, picture


def decoded(tmp_path, content, size_px=8):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    return decode(read(path), size_px)


def refused(tmp_path, content, *words):
    with pytest.raises(UndecodableImage) as caught:
        decoded(tmp_path, content)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def uniform(mode):
    """An image of one colour, which no writer has to approximate, and that colour."""
    if mode == "I;16":
        return Image.fromarray(np.full((5, 9), 200 << 8, np.uint16)), (200,) * 3
    if mode in ("L", "LA"):
        return Image.new("L", (9, 5), 200).convert(mode), (200,) * 3
    if mode == "1":
        return Image.new("1", (9, 5), 1), (255,) * 3
    image = Image.new("RGB", (9, 5), RED)
    return image.quantize(4) if mode == "P" else image.convert(mode), RED


@pytest.mark.parametrize(
    ("kind", "modes"),
    [
        ("JPEG", ["RGB", "L", "CMYK", "YCbCr"]),
        ("PNG", ["RGB", "RGBA", "P", "L", "LA", "1", "I;16"]),
        ("BMP", ["RGB", "RGBA", "P", "L", "1"]),
        ("GIF", ["P", "L", "1"]),
        ("TIFF", ["RGB", "RGBA", "P", "L", "LA", "1", "CMYK", "I;16"]),
        ("WEBP", ["RGB", "RGBA", "L"]),
    ],
)
def test_every_mode_of_every_format(tmp_path, kind, modes):
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(kind, {})
    for mode in modes:
        image, colour = uniform(mode)
        pixels = decoded(tmp_path, encoded(image, kind, **options))
        np.testing.assert_allclose(pixels, np.broadcast_to(colour, (8, 8, 3)), atol=4, err_msg=mode)


def test_big_endian_and_32_bits(tmp_path):
    values = np.full((5, 9), 77 << 8)
    for image in (Image.fromarray(values.astype(">u2")), Image.fromarray(values.astype(np.int32))):
        assert decoded(tmp_path, encoded(image, "TIFF")).ravel().tolist() == [77] * 192


def test_transparency_in_a_palette_is_no_warning(tmp_path, recwarn):
    content = encoded(noise("P"), "PNG", transparency=bytes(range(256)))
    decoded(tmp_path, content)
    assert not recwarn.list


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_first_frame(tmp_path, kind):
    frames = [Image.new("RGB", (5, 5), colour) for colour in (RED, (0, 0, 255), (0, 255, 0))]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert decoded(tmp_path, content)[0, 0].tolist() == list(RED)


def test_what_is_not_an_image(tmp_path, monkeypatch):
    refused(tmp_path, b"", "empty file")
    refused(tmp_path, b"GIF", "not an image")
    refused(tmp_path, b"<html>" * 100, "not an image")
    refused(tmp_path, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image")
    refused(tmp_path, encoded(noise(), "PPM"), "not an image")
    for path in (tmp_path, tmp_path / "missing.jpg"):
        with pytest.raises(UndecodableImage):
            read(path)
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UndecodableImage, match="not a file"):
        read(tmp_path / "pipe.jpg")

    def denied(path, *args, **options):
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "b.jpg").write_bytes(GOOD)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", denied)
        with pytest.raises(UndecodableImage, match="cannot be read: Permission denied"):
            read(tmp_path / "b.jpg")
    monkeypatch.setattr(decoding, "MAX_IMAGE_BYTES", 10)
    refused(tmp_path, GOOD, "bytes, more than 10")


def test_cut_off_files(tmp_path):
    for kind in ("JPEG", "PNG", "BMP", "TIFF", "WEBP"):
        content = encoded(noise(), kind)
        refused(tmp_path, content[: len(content) // 2])
        refused(tmp_path, content[:20])


def png_of(width, height):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("size", "word"),
    [
        ((1, 1_000_000), "1x1000000 pixels"),
        ((9500, 9500), "9500x9500 pixels"),  # Pillow only warns
        ((60_000, 60_000), "DecompressionBombError"),
        ((8950, 8950), "8950x8950 pixels"),  # Pillow says nothing
    ],
)
@pytest.mark.parametrize("action", ["error", "default"])
def test_bombs(tmp_path, size, word, action):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter(action)
        refused(tmp_path, png_of(*size), word)
    assert not caught


SCAN = b"\xff\xda"


def with_scans(content, count):
    """A progressive JPEG with its last scan so many times more."""
    last = content.rindex(SCAN)
    return content[:-2] + content[last:-2] * count + content[-2:]


def test_a_jpeg_of_endless_scans(tmp_path, monkeypatch):
    content = encoded(noise(), "JPEG", progressive=True)
    assert decoded(tmp_path, with_scans(content, 20)).shape == (8, 8, 3)
    refused(tmp_path, with_scans(content, 500), "scans")
    pixels = 20 * 14
    monkeypatch.setattr(decoding, "MAX_SCANNED_PIXELS", 30 * pixels)
    assert decoded(tmp_path, with_scans(content, 20)).shape == (8, 8, 3)
    refused(tmp_path, with_scans(content, 21), "31 scans", str(30 * pixels))
    assert decoded(tmp_path, with_scans(content, 20) + SCAN * 100).shape == (8, 8, 3)  # what follows the image


def with_chunks(png, at, kind, body, count):
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    at = png.index(at) - 4
    return png[:at] + chunk * count + png[at:]


def with_blocks(gif, block):
    at = gif.index(b",\0\0\0\0")
    return gif[:at] + block + gif[at:]


def of_pieces(kind, count):
    """A file made of so many pieces besides a few, and the image in it."""
    jpeg, png, gif = (
        encoded(noise().quantize() if name == "GIF" else noise(), name) for name in ("JPEG", "PNG", "GIF")
    )
    tags = b"".join(struct.pack("<HHII", i, 1, 1, 0) for i in range(count))
    return {
        "padding alone": b"\xff\xd8\xff" + b"\xff" * count,
        "escapes": b"\xff\xd8\xff" + b"\xff\0" * count,
        "junk": b"\xff\xd8\xff" + b"\0" * count,
        "segments": jpeg[:2] + b"\xff\xfe\0\2" * count + jpeg[2:],
        "segments of a grey one": jpeg[:2] + b"\xff\xfe\0\2" * count + encoded(noise("L"), "JPEG")[2:],
        "chunks": with_chunks(png, b"IDAT", b"abCd", b"", count),
        "comments": with_blocks(gif, b"!\xfe\1a\0" * count),
        "long comments": with_blocks(gif, (b"!\xfe\xff" + b"a" * 255 + b"\0") * count),
        "sub-blocks": with_blocks(gif, b"!\xfe" + b"\1a" * count + b"\0"),
        "tags": b"II*\0" + struct.pack("<IH", 8, count) + tags + bytes(4),
    }[kind]


PIECES = (
    "padding alone", "escapes", "junk", "segments", "segments of a grey one", "chunks", "comments", "long comments",
    "sub-blocks", "tags",
)  # fmt: skip


@pytest.mark.parametrize("kind", PIECES)
def test_a_file_of_too_many_pieces(tmp_path, kind):
    refused(tmp_path, of_pieces(kind, 30_000), "10000 segments" if kind == "segments" else "too many pieces")
    if kind not in ("padding alone", "escapes", "junk", "tags"):
        assert decoded(tmp_path, of_pieces(kind, 200)).shape == (8, 8, 3)


def test_a_file_of_too_many_pieces_after_its_size(tmp_path, monkeypatch):
    png = encoded(noise(), "PNG")
    monkeypatch.setattr(decoding, "MAX_READS", 1000)
    refused(tmp_path, with_chunks(png, b"IDAT", b"IDAT", b"", 1000), "too many pieces")
    refused(tmp_path, with_chunks(png, b"IEND", b"abCd", b"", 1000), "too many pieces")
    assert decoded(tmp_path, with_chunks(png, b"IEND", b"abCd", b"", 100)).shape == (8, 8, 3)


def test_odd_proportions_are_fine(tmp_path):
    assert decoded(tmp_path, encoded(noise(size=(1, 3000)), "PNG")).shape == (8, 8, 3)
    assert decoded(tmp_path, encoded(noise(size=(1, 1)), "JPEG")).shape == (8, 8, 3)


def damaged(content, rng):
    content = bytearray(content)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(min(len(content), rng.choice([40, 200, 10_000])))
        match rng.randrange(4):
            case 0:
                del content[at : at + rng.randint(1, 30)]
            case 1:
                del content[max(1, at) :]
            case _:
                content[at] = rng.randrange(256)
        if not content:
            break
    return bytes(content)


def test_damaged_files_never_raise_anything_else(tmp_path):
    wholes = [
        encoded(noise(), "JPEG"),
        encoded(noise(), "JPEG", progressive=True),
        encoded(noise("CMYK"), "JPEG"),
        encoded(noise(), "PNG"),
        encoded(noise("P"), "PNG", transparency=bytes(200)),
        encoded(noise(), "GIF", save_all=True, append_images=[noise("L")]),
        encoded(noise(), "TIFF"),
        encoded(noise(), "TIFF", compression="tiff_lzw"),
        encoded(noise(), "WEBP"),
        encoded(noise("RGBA"), "WEBP", lossless=True),
        encoded(noise(), "BMP"),
    ]
    rng = random.Random(0)
    reasons = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2000):
            try:
                pixels = decode(damaged(rng.choice(wholes), rng), 8)
                assert pixels.shape == (8, 8, 3)
            except UndecodableImage as error:
                reasons.append(str(error))
    assert 500 < len(reasons) < 2000
    assert all(reason.isprintable() and "object at 0x" not in reason for reason in reasons)


def by_pillow(content, size_px):
    with Image.open(io.BytesIO(content)) as image:
        resized = image.convert("RGB").resize((size_px, size_px), Image.Resampling.BILINEAR)
    return np.asarray(resized).astype(int)


@pytest.fixture
def slow(monkeypatch):
    """Names of the files left to Pillow."""
    quickly, left = decoding._quickly, []
    monkeypatch.setattr(decoding, "_quickly", lambda data, out: quickly(data, out) or bool(left.append(data)))
    return left


@pytest.mark.parametrize("size_px", [16, 96, 224, 600])
def test_generated_pictures_agree_with_pillow(size_px, slow):
    """Smaller, and larger than the pictures."""
    for kind in CLASSES:
        for index in range(2):
            content = picture(kind, index, seed=0)
            difference = np.abs(decode(content, size_px) - by_pillow(content, size_px))
            assert difference.max() <= decoding.RESIZED_TOLERANCE_LEVELS
            assert difference.mean() < 0.25
    assert not slow


@pytest.mark.parametrize("size_px", [8, 21])
@pytest.mark.parametrize(
    "options", [{"subsampling": s, "progressive": p} for s in (0, 1, 2) for p in (False, True)] + [{"keep_rgb": True}]
)
def test_kinds_of_jpeg_agree_with_pillow(options, size_px):
    for size in ((21, 21), (64, 33), (1, 50), (7, 3)):
        content = encoded(noise(size=size), "JPEG", **options)
        np.testing.assert_allclose(decode(content, size_px), by_pillow(content, size_px), atol=1)


def test_odd_and_damaged_jpegs_are_left_to_pillow(slow):
    whole = encoded(noise(size=(64, 48)), "JPEG")
    for content in (
        encoded(noise("CMYK"), "JPEG"),
        encoded(noise("L"), "JPEG"),
        encoded(noise(), "JPEG", keep_rgb=True),
    ):
        np.testing.assert_array_equal(decode(content, 8), by_pillow(content, 8))
    assert len(slow) == 3
    without_end = whole[:-2]
    with pytest.raises(UndecodableImage, match="truncated"):
        decode(without_end[:-200], 8)
    assert len(slow) == 4
    decode(whole, 8)
    assert len(slow) == 4


def test_without_the_fast_filter_pillow_resizes(monkeypatch):
    content = encoded(noise(size=(64, 48)), "JPEG")
    monkeypatch.setattr(decoding, "cykooz_resizer", None)
    np.testing.assert_array_equal(decode(content, 8), by_pillow(content, 8))


def test_scans_are_counted_as_libjpeg_reads_them(monkeypatch):
    sequential, progressive = encoded(noise(), "JPEG"), encoded(noise(), "JPEG", progressive=True)
    monkeypatch.setattr(decoding, "MAX_JPEG_SCANS", 1)
    decoding._check_scans(sequential, 1)
    scan = sequential.index(SCAN)
    # All colours are in the first one: libjpeg reads no other.
    decoding._check_scans(sequential[:-2] + sequential[scan:-2] * 600 + sequential[-2:], 1)
    decoding._check_scans(encoded(noise("L"), "JPEG"), 1)
    fewer = sequential[: scan + 4] + b"\1" + sequential[scan + 5 : -2]
    decoding._check_scans(fewer, 1)
    for between in (b"", b"\xff\xff", b"junk", b"\xff\0", b"\xff\xd0", b"\xff\xfe\0\6" + b"\xff\xd9ab"):
        with pytest.raises(UndecodableImage, match="of 2 scans or more"):
            decoding._check_scans(fewer + between + sequential[scan:], 1)
    with pytest.raises(UndecodableImage, match="of 2 scans or more"):
        decoding._check_scans(progressive, 1)
    for end in range(len(sequential)):
        decoding._check_scans(sequential[:end], 1)
