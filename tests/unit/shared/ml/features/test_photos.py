from __future__ import annotations

import contextlib
import struct
import zipfile
from io import BytesIO

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rayonnage_shared.ml.base.model import Pixels
from rayonnage_shared.ml.features.photos import (
    SERVING_DECODER_BYTES,
    ImageTooLarge,
    NotAnImage,
    PhotoLimits,
    perceptual_hash,
    read_photo,
)
from tests.unit.shared.ml.features.drawn_photos import (
    BLUE,
    GREEN,
    RED,
    YELLOW,
    encoded,
    four_corners,
    png_chunk,
    png_of_size,
    textured,
)

LIMITS = PhotoLimits()
CORNERS = ((12, 12), (12, 52), (52, 12), (52, 52))


def read(data: bytes, size: int = 64) -> Pixels:
    return read_photo(data, size, LIMITS)


def assert_corners(pixels: Pixels, *colours: tuple[int, int, int], within: int = 12) -> None:
    for (row, column), colour in zip(CORNERS, colours, strict=True):
        found = pixels[row, column].astype(int)
        assert np.abs(found - colour).max() <= within, (row, column, found, colour)


WHOLE = {
    "jpeg": encoded(four_corners()),
    "progressive jpeg": encoded(four_corners(), progressive=True),
    "png": encoded(four_corners(), "PNG"),
    "webp": encoded(four_corners(), "WEBP"),
    "lossless webp": encoded(four_corners(), "WEBP", lossless=True),
}


@pytest.mark.parametrize("name", WHOLE)
def test_every_accepted_format_is_read_by_content(name: str) -> None:
    pixels = read(WHOLE[name])

    assert pixels.shape == (64, 64, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert_corners(pixels, RED, GREEN, BLUE, YELLOW)


def test_a_cmyk_jpeg_keeps_its_colours() -> None:
    assert_corners(read(encoded(four_corners().convert("CMYK"))), RED, GREEN, BLUE, YELLOW, within=30)


def test_a_grey_jpeg_is_read() -> None:
    pixels = read(encoded(Image.new("L", (70, 70), 90)))

    assert np.abs(pixels.astype(int) - 90).max() <= 2


def test_a_palette_is_resolved() -> None:
    assert_corners(read(encoded(four_corners().quantize(8), "PNG")), RED, GREEN, BLUE, YELLOW)


def test_a_bilevel_picture_is_black_and_white() -> None:
    pixels = read(encoded(Image.new("1", (64, 64), 1), "PNG"))

    assert (pixels == 255).all()


@pytest.mark.parametrize(("level", "right"), [(0, 0), (32768, 127), (65535, 255)])
def test_16_bit_grey_is_scaled_not_clipped(level: int, right: int) -> None:
    image = Image.fromarray(np.full((64, 64), level, dtype=np.uint16))

    assert (read(encoded(image, "PNG")) == right).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_white_stands_behind_transparency(mode: str, form: str) -> None:
    image = Image.new(mode, (64, 64), (0,) * len(mode))

    assert (read(encoded(image, form)) == 255).all()


def test_half_transparent_black_is_grey() -> None:
    pixels = read(encoded(Image.new("RGBA", (64, 64), (0, 0, 0, 128)), "PNG"))

    assert np.abs(pixels.astype(int) - 127).max() <= 1


def test_a_transparent_palette_entry_is_white() -> None:
    image = Image.new("P", (64, 64), 0)
    image.putpalette([10, 20, 30, 200, 0, 0])

    assert (read(encoded(image, "PNG", transparency=0)) == 255).all()
    assert (read(encoded(image, "PNG", transparency=b"\x00\xff")) == 255).all()


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_an_animation_is_read_by_its_first_frame(form: str) -> None:
    frames = [Image.new("RGB", (64, 64), BLUE)]
    data = encoded(four_corners(64, 64), form, save_all=True, append_images=frames, duration=50)

    assert_corners(read(data), RED, GREEN, BLUE, YELLOW)


TURNED = {
    1: (RED, GREEN, BLUE, YELLOW),
    2: (GREEN, RED, YELLOW, BLUE),
    3: (YELLOW, BLUE, GREEN, RED),
    4: (BLUE, YELLOW, RED, GREEN),
    5: (RED, BLUE, GREEN, YELLOW),
    6: (BLUE, RED, YELLOW, GREEN),
    7: (YELLOW, GREEN, BLUE, RED),
    8: (GREEN, YELLOW, RED, BLUE),
}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", TURNED)
def test_exif_orientation_is_applied(orientation: int, form: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation

    assert_corners(read(encoded(four_corners(), form, exif=exif)), *TURNED[orientation])


def test_damaged_exif_is_ignored() -> None:
    data = encoded(four_corners(), exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7f")

    assert_corners(read(data), RED, GREEN, BLUE, YELLOW)


def test_a_wide_photo_is_stretched_to_the_square() -> None:
    assert_corners(read(encoded(four_corners(400, 50))), RED, GREEN, BLUE, YELLOW)


def test_a_photo_smaller_than_the_square_is_enlarged() -> None:
    assert read(encoded(four_corners(3, 2), "PNG")).shape == (64, 64, 3)


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.98])
def test_a_truncated_photo_is_refused(name: str, share: float) -> None:
    data = WHOLE[name]

    with pytest.raises(NotAnImage):
        read(data[: int(share * len(data))])


@pytest.mark.parametrize("name", ["jpeg", "png", "webp"])
def test_a_photo_cut_anywhere_is_refused(name: str) -> None:
    for end in range(len(WHOLE[name])):
        with pytest.raises(NotAnImage):
            read(WHOLE[name][:end])


def zipped() -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "a")
    return file.getvalue()


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("tail", [zipped(), b"<script>alert(1)</script>", b"%PDF-1.7\n%%EOF", b"\x7fELF" + bytes(64)])
def test_a_photo_with_another_file_behind_it_is_refused(name: str, tail: bytes) -> None:
    with pytest.raises(NotAnImage):
        read(WHOLE[name] + tail)


@pytest.mark.parametrize(
    "tail", [b"\x00" * 40, b"\r\n", b"\xff" * 3, encoded(four_corners()), b"\0\0\0\x18ftypmp42film"]
)
def test_what_cameras_append_to_a_jpeg_is_accepted(tail: bytes) -> None:
    assert_corners(read(WHOLE["jpeg"] + tail), RED, GREEN, BLUE, YELLOW)


def test_a_picture_with_an_archive_in_its_film_is_refused() -> None:
    with pytest.raises(NotAnImage):
        read(WHOLE["jpeg"] + b"\0\0\0\x18ftypmp42" + zipped())


@pytest.mark.parametrize("form", ["GIF", "BMP", "TIFF", "ICO"])
def test_other_formats_are_refused(form: str) -> None:
    with pytest.raises(NotAnImage):
        read(encoded(four_corners(), form))


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"<svg/>", b"%PDF-1.4", b"PK\x05\x06"],
)
def test_what_is_no_photo_is_refused(data: bytes) -> None:
    with pytest.raises(NotAnImage) as caught:
        read(data)

    assert (caught.value.status, caught.value.code) == (422, "not_an_image")


@pytest.mark.parametrize("side", [5_001, 10_000, 15_000, 65_535, 2**31 - 1])
def test_a_bomb_is_refused_from_its_header(side: int) -> None:
    with pytest.raises(ImageTooLarge) as caught:
        read(png_of_size(side, side))

    assert (caught.value.status, caught.value.code) == (413, "image_too_large")


def test_a_jpeg_that_claims_too_many_pixels_is_refused() -> None:
    data = bytearray(WHOLE["jpeg"])
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 60_000, 60_000)

    with pytest.raises(ImageTooLarge):
        read(bytes(data))


def test_a_webp_that_claims_too_many_pixels_is_refused() -> None:
    canvas = bytes(4) + (16_000).to_bytes(3, "little") * 2
    chunk = b"VP8X" + struct.pack("<I", len(canvas)) + canvas

    with pytest.raises(ImageTooLarge):
        read(b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk)


def test_too_many_bytes_are_refused() -> None:
    with pytest.raises(ImageTooLarge):
        read_photo(WHOLE["png"], 64, PhotoLimits(max_bytes=len(WHOLE["png"]) - 1))


def test_the_limits_themselves_are_accepted() -> None:
    data = WHOLE["png"]

    assert read_photo(data, 64, PhotoLimits(max_bytes=len(data), max_pixels=120 * 80)).shape == (64, 64, 3)


def test_a_jpeg_of_endless_passes_is_refused_before_decoding() -> None:
    data = encoded(four_corners(), progressive=True)
    last = data.rindex(b"\xff\xda")
    scan = data[last:-2]

    with pytest.raises(NotAnImage):
        read(data[:-2] + scan * 200 + b"\xff\xd9")


SERVING = PhotoLimits(max_decoder_bytes=SERVING_DECODER_BYTES)
BIG = Image.new("RGB", (5000, 5000), RED)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (png_of_size(1, 25_000_000), "each side may have"),
        (png_of_size(25_000_000, 1), "each side may have"),
        (png_of_size(2900, 2900), "too many for PNG"),
        (encoded(Image.new("RGBA", (2100, 2100)), "WEBP", lossless=True, method=0), "too many for WEBP"),
        (encoded(BIG, progressive=True, subsampling=0), "too many for JPEG in several scans"),
    ],
)
def test_a_small_file_that_needs_much_memory_is_refused_from_its_header(data: bytes, reason: str) -> None:
    with pytest.raises(ImageTooLarge, match=reason):
        read_photo(data, 64, SERVING)


def test_photos_as_cameras_and_shops_make_them_are_within_the_limits() -> None:
    for data in (
        encoded(BIG),
        encoded(BIG, progressive=True),
        encoded(Image.new("CMYK", (2000, 2000))),
        encoded(Image.new("RGBA", (2800, 2800)), "PNG"),
        encoded(Image.new("RGB", (2000, 2000)), "WEBP"),
    ):
        assert read_photo(data, 64, SERVING).shape == (64, 64, 3)


def test_of_a_large_photo_with_countless_scans_only_the_first_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(BIG, progressive=True)
    last = data.rindex(b"\xff\xda")
    bomb = data[:-2] + data[last:-2] * 85 + b"\xff\xd9"
    decoded: list[bytes] = []
    decode = simplejpeg.decode_jpeg

    def noting(data: bytes, *rest: object, **more: object) -> object:
        decoded.append(data)
        return decode(data, *rest, **more)

    monkeypatch.setattr(simplejpeg, "decode_jpeg", noting)
    assert (read_photo(bomb, 64, SERVING)[32, 32] - np.array(RED) < 12).all()
    assert [one.count(b"\xff\xda") for one in (bomb, *decoded)] == [95, 8]


def test_the_scans_of_an_ordinary_photo_are_all_decoded() -> None:
    photo = textured(600, 600)
    complete = read(encoded(photo, progressive=True, quality=95))
    assert np.abs(complete.astype(int) - read(encoded(photo, quality=95)).astype(int)).max() <= 2


@pytest.mark.parametrize("frame", [0xC3, 0xC9, 0xCA])
def test_lossless_and_arithmetic_jpegs_are_refused(frame: int) -> None:
    with pytest.raises(NotAnImage, match="not supported"):
        read(WHOLE["jpeg"].replace(b"\xff\xc0", bytes((0xFF, frame)), 1))


def test_transparency_is_put_on_white_after_the_reduction() -> None:
    stripes = Image.new("RGBA", (128, 128), (0, 0, 0, 0))
    for column in range(0, 128, 2):
        stripes.paste((200, 0, 0, 255), (column, 0, column + 1, 128))
    found = read(encoded(stripes, "PNG"), 32).astype(int)
    assert np.abs(found[:, 1:-1] - [227, 127, 127]).max() <= 2, "half white, half red, as if composed before"


def test_a_compressed_text_bomb_in_a_png_is_refused() -> None:
    import zlib

    bomb = png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(20_000_000)))
    data = WHOLE["png"]

    with pytest.raises(NotAnImage):
        read(data[:33] + bomb * 8 + data[33:])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x20\0\0\0WEBP"]))
def test_any_bytes_are_read_or_refused(tail: bytes, start: bytes) -> None:
    with pytest.raises((NotAnImage, ImageTooLarge)):
        read(start + tail)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(sorted(WHOLE)), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6)
)
def test_a_mutated_photo_is_read_or_refused(name: str, changes: list[tuple[float, int]]) -> None:
    data = bytearray(WHOLE[name])
    for place, value in changes:
        # Squared, so that headers get as many changes as the long data behind them.
        data[int(place**2 * (len(data) - 1))] = value
    for reading in (read, perceptual_hash):
        with contextlib.suppress(NotAnImage, ImageTooLarge):
            reading(bytes(data))


def distance(first: bytes, second: bytes) -> int:
    hashes = perceptual_hash(first), perceptual_hash(second)
    assert hashes[0] is not None
    assert hashes[1] is not None
    return (hashes[0] ^ hashes[1]).bit_count()


def test_copies_of_a_photo_have_nearly_the_same_hash() -> None:
    photo = textured(1)
    original = encoded(photo)

    assert distance(original, encoded(photo, quality=40)) <= 4
    assert distance(original, encoded(photo.resize((300, 300)))) <= 4
    assert distance(original, encoded(photo, "PNG")) <= 4
    assert distance(original, encoded(photo, "WEBP")) <= 4


def test_different_photos_have_different_hashes() -> None:
    photos = [encoded(textured(seed, 200)) for seed in range(12)]

    assert min(distance(a, b) for i, a in enumerate(photos) for b in photos[:i]) > 12


def test_a_turned_copy_with_its_orientation_noted_has_nearly_the_same_hash() -> None:
    photo = textured(2, 240)
    exif = Image.Exif()
    exif[0x0112] = 6

    assert distance(encoded(photo), encoded(photo.rotate(90), exif=exif)) <= 4


@pytest.mark.parametrize("colour", ["white", "black", (120, 130, 140)])
def test_a_blank_photo_has_no_hash(colour: str | tuple[int, int, int]) -> None:
    assert perceptual_hash(encoded(Image.new("RGB", (200, 200), colour))) is None


def test_a_hash_of_what_is_no_photo_is_refused() -> None:
    with pytest.raises(NotAnImage):
        perceptual_hash(b"text")
