"""One picture in `pack`: modes, orientation, crops, filters, and when its bytes stay untouched."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageCms

from framework.data.packing.images import Target, encode, open_upright
from framework.data.readers import BadImageError

TARGET = Target(
    sides=(8,),
    resize=True,
    channels=3,
    grey_only=False,
    encoding="png",
    crop="center",
    resize_filter="lanczos",
    pyramid_filter="box",
    pad=None,
)
NOISE = np.random.default_rng(3).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def as_file(image: Image.Image, kind: str = "PNG", **settings) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def pixels(content: bytes | np.ndarray, target: Target = TARGET) -> np.ndarray:
    (file,) = encode(content, target).files
    return np.asarray(Image.open(io.BytesIO(file)))


@pytest.mark.parametrize(
    ("kind", "settings", "encoding"),
    [("PNG", {}, "png"), ("WEBP", {"quality": 30}, "webp"), ("JPEG", {"quality": 30}, "jpg")],
)
def test_bytes_that_fit_stay_untouched(kind, settings, encoding):
    content = as_file(Image.fromarray(NOISE), kind, **settings)
    assert encode(content, replace(TARGET, encoding=encoding)).files == (content,)
    assert encode(content, replace(TARGET, encoding=encoding, sides=(4, 8))).files[1] == content
    assert encode(content, replace(TARGET, encoding=encoding, channels=1))[0] != content
    assert encode(content, replace(TARGET, encoding=encoding, sides=(4,)))[0] != content


def test_grey_bytes_stay_untouched_too():
    grey = Image.fromarray(NOISE[..., 0])
    for kind, encoding in (("PNG", "png"), ("JPEG", "jpg")):
        content = as_file(grey, kind)
        assert encode(content, replace(TARGET, encoding=encoding, channels=1)).files == (content,)
    stored_as_rgb = as_file(grey.convert("RGB"), "WEBP", lossless=True, quality=1, method=0)
    assert encode(stored_as_rgb, replace(TARGET, encoding="webp", channels=1, grey_only=True)).files == (stored_as_rgb,)


def test_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right by 90 degrees to see it upright
    content = as_file(Image.fromarray(NOISE), exif=exif)
    assert np.array_equal(pixels(content), np.rot90(NOISE, -1))


def test_transparency_is_laid_on_white():
    alpha = np.where(np.arange(64).reshape(8, 8) % 2, 255, 0).astype(np.uint8)
    expected = np.where(alpha[..., None] == 255, NOISE, 255)
    assert np.array_equal(pixels(as_file(Image.fromarray(np.dstack([NOISE, alpha])))), expected)
    grey = Image.merge("LA", [Image.fromarray(NOISE[..., 0]), Image.fromarray(alpha)])
    image, plain, _ = open_upright(as_file(grey))
    assert (image.mode, plain) == ("L", False)
    assert np.array_equal(np.asarray(image), np.where(alpha == 255, NOISE[..., 0], 255))
    marked = as_file(Image.fromarray(NOISE), transparency=tuple(NOISE[2, 5].tolist()))
    assert pixels(marked)[2, 5].tolist() == [255, 255, 255]


def test_deep_and_shallow_pictures_become_8_bit():
    deep = (np.arange(64, dtype=np.uint16) * 1040).reshape(8, 8)
    content = as_file(Image.fromarray(deep))
    assert np.array_equal(pixels(content, replace(TARGET, channels=1)), np.round(deep / 257).astype(np.uint8))
    bits = np.arange(64).reshape(8, 8) % 3 == 0
    shallow = as_file(Image.fromarray(bits))
    assert np.array_equal(pixels(shallow, replace(TARGET, channels=1)), np.where(bits, 255, 0))
    palette = Image.fromarray(NOISE // 128 * 255).quantize(8)
    assert np.array_equal(pixels(as_file(palette)), np.asarray(palette.convert("RGB")))
    with pytest.raises(BadImageError, match="mode F"):
        pixels(as_file(Image.fromarray(deep.astype(np.float32)), "TIFF"))


def test_16_bit_colour_is_not_kept_as_it_is():
    """Pillow shows such a PNG as 8-bit RGB; its bytes would be a 16-bit data set to other readers."""
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in NOISE.astype(np.uint16) * 257)
    head = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (file,) = encode(content, TARGET).files
    assert file != content
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(file))), NOISE)


def test_cmyk_becomes_rgb():
    content = as_file(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100)
    red = pixels(content)
    assert red.shape == (8, 8, 3)
    assert np.abs(red.astype(int) - [255, 0, 0]).max() <= 2


def test_colour_profiles_and_comments_are_not_written():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    large = Image.fromarray(NOISE).resize((16, 16))
    content = as_file(large, "JPEG", icc_profile=profile, comment=b"by me")
    for encoding in ("png", "webp", "jpg"):
        (file,) = encode(content, replace(TARGET, encoding=encoding)).files
        assert "icc_profile" not in Image.open(io.BytesIO(file)).info
        assert b"by me" not in file


def test_the_first_picture_of_an_animation_is_taken():
    frames = [Image.fromarray(NOISE), Image.fromarray(255 - NOISE)]
    content = as_file(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    (file,) = encode(content, replace(TARGET, encoding="webp")).files
    assert file != content
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(file)).convert("RGB")), NOISE)


def test_centre_crop_takes_the_middle():
    wide = np.zeros((8, 14, 3), np.uint8)
    wide[:, 3:11] = NOISE
    assert np.array_equal(pixels(wide), NOISE)
    assert np.array_equal(pixels(wide.transpose(1, 0, 2)), NOISE.transpose(1, 0, 2))
    mean = pixels(wide.repeat(2, 0).repeat(2, 1), replace(TARGET, resize_filter="box"))
    assert np.array_equal(mean, NOISE)


def test_wide_crop_is_4_to_3_between_black_bars():
    picture = np.full((30, 80, 3), 200, np.uint8)
    picture[:, :20] = picture[:, 60:] = 90  # cut away: the middle 40 of 80 columns are 4:3
    result = pixels(picture, replace(TARGET, sides=(16,), crop="wide"))
    assert (result[:2] == 0).all()
    assert (result[14:] == 0).all()
    assert (result[2:14] == 200).all()


def test_no_crop_takes_everything():
    picture = np.zeros((8, 16, 3), np.uint8)
    picture[:, 8:] = 255
    result = pixels(picture, replace(TARGET, crop="none", resize_filter="box"))
    assert (result[:, :4] == 0).all()
    assert (result[:, 4:] == 255).all()


@pytest.mark.parametrize("side", [5, 6])
def test_pad_adds_zeros_on_all_sides(side):
    small = NOISE[:side, :side]
    result = pixels(small, replace(TARGET, resize=False, pad=8))
    start = (8 - side) // 2
    expected = np.zeros((8, 8, 3), np.uint8)
    expected[start : start + side, start : start + side] = small
    assert np.array_equal(result, expected)
    with pytest.raises(BadImageError, match="is 8x8, larger than pad = 7"):
        pixels(NOISE, replace(TARGET, sides=(7,), resize=False, pad=7))


def test_pictures_that_do_not_match_the_first_are_bad():
    with pytest.raises(BadImageError, match="is 7x8, the first picture is 8x8"):
        pixels(NOISE[:, :7], replace(TARGET, resize=False))
    with pytest.raises(BadImageError, match="has colour, but the first picture is grey"):
        pixels(NOISE, replace(TARGET, channels=1, grey_only=True))
    assert pixels(NOISE, replace(TARGET, channels=1)).shape == (8, 8), "grey on request is no error"


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_truncated_files_are_bad(kind):
    content = as_file(Image.fromarray(NOISE).resize((64, 64)), kind)
    assert pixels(content).shape == (8, 8, 3)
    for end in (len(content) // 2, 20, 0):
        with pytest.raises(BadImageError, match="cannot be decoded"):
            pixels(content[:end])


def test_formats_that_run_programs_are_not_opened():
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    with pytest.raises(BadImageError, match="cannot identify image file"):
        pixels(content)


def test_a_bomb_is_a_bad_picture(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(BadImageError, match="decompression bomb"):
        pixels(as_file(Image.new("RGB", (64, 64))))
