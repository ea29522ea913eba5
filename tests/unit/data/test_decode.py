import io

import numpy as np
import pytest
from PIL import Image

from framework.data.decode import PictureDecoder
from framework.data.labels import parse_label
from framework.data.pictures import picture_header
from tests.unit.data.stream_helpers import encode, picture


def decoded(data: bytes, side: int, channels: int, *, flip: bool = False, last: bool = False) -> np.ndarray:
    out = np.full((side, side, channels) if last else (channels, side, side), 7, np.uint8)
    decoder = PictureDecoder(resolution=side, channels=channels, channels_last=last)
    decoder.decode(data, out, flip=flip)
    return out.transpose(2, 0, 1) if last else out


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("encoding", ["jpg", "png", "webp"])
@pytest.mark.parametrize("side", [64, 12])
def test_pixels_are_pillows_in_every_layout(side: int, encoding: str, channels: int, last: bool) -> None:
    for stored in (1, 3):
        data = encode(picture(1, side, stored), encoding)
        with Image.open(io.BytesIO(data)) as image:
            expected = np.asarray(image.convert("RGB" if channels == 3 else "L")).reshape(side, side, channels)
        got = decoded(data, side, channels, last=last)
        # Grey out of a colour JPEG is its luma channel, without rounding and clipping on the way through RGB.
        tolerance = 4 if (encoding, stored, channels) == ("jpg", 3, 1) else 0
        assert np.abs(got.astype(int) - expected.transpose(2, 0, 1)).max() <= tolerance
        assert (decoded(data, side, channels, flip=True, last=last) == got[:, :, ::-1]).all()


@pytest.mark.parametrize("encoding", ["jpg", "png"])
@pytest.mark.parametrize("factor", [2, 4, 8, 16])
def test_lower_resolutions_are_box_filtered(encoding: str, factor: int) -> None:
    data = encode(picture(2, 128), encoding)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.reduce(factor), int).transpose(2, 0, 1)
    got = decoded(data, 128 // factor, 3)
    assert np.abs(got - expected).max() <= (4 if encoding == "jpg" else 0)
    assert (decoded(data, 128 // factor, 3, flip=True) == got[:, :, ::-1]).all()


@pytest.mark.parametrize("encoding", ["jpg", "png", "webp"])
@pytest.mark.parametrize("size", [(32, 48), (48, 48), (16, 16), (96, 96)])
def test_wrong_sizes_are_refused_before_decoding(encoding: str, size: tuple[int, int]) -> None:
    data = encode(np.zeros((*size, 3), np.uint8), encoding)
    with pytest.raises(ValueError, match=rf"picture is {size[1]}x{size[0]} pixels, need 32x32"):
        decoded(data, 32, 3)


@pytest.mark.parametrize("encoding", ["jpg", "png", "webp"])
def test_damaged_pictures_are_refused(encoding: str) -> None:
    data = encode(picture(3, 64), encoding)
    for bad in (b"", b"noise" * 50, data[: len(data) // 2], data[:40]):
        with pytest.raises(ValueError):
            decoded(bad, 64, 3)


def test_a_bomb_is_refused_by_its_header() -> None:
    buffer = io.BytesIO()
    Image.new("1", (9000, 9000)).save(buffer, "PNG")
    with pytest.raises(ValueError, match="picture is 9000x9000"):
        decoded(buffer.getvalue(), 8, 1)


def test_headers() -> None:
    for encoding in ("jpg", "png", "webp"):
        assert picture_header(encode(picture(1, 16, 3), encoding)) == (16, 16, 3)
    assert picture_header(encode(picture(1, 16, 1), "jpg")) == (16, 16, 1)
    with pytest.raises(ValueError):
        picture_header(b"no")


def test_labels() -> None:
    assert [parse_label(text, classes=10) for text in (b"0", b"9", b" 7\n", b"007")] == [0, 9, 7, 7]
    for text in (b"10", b"-1", b"", b"x", b"1.0", b"1_0", "²".encode(), "٣".encode()):
        with pytest.raises(ValueError, match="label is"):
            parse_label(text, classes=10)
