import io
import tarfile

import pytest

from acai_jax.alerts.archives import tar_members
from acai_jax.errors import PacketError
from tests.alerts.test_sources import long_number, pax, tar_bytes, tar_header


def members(raw):
    return [
        (name, content if isinstance(content, str) else content.read(2**20))
        for name, content in tar_members(io.BytesIO(raw))
    ]


def sound(count=2):
    return [(f"{i}.avro", bytes([i + 1]) * 700) for i in range(count)]


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_what_tarfile_reads(layout):
    files = [*sound(), ("é" * 60 + "/n.avro" if layout != tarfile.USTAR_FORMAT else "n", b"")]
    assert members(tar_bytes(files, format=layout)) == files


def test_a_member_need_not_be_read():
    assert [name for name, _ in tar_members(io.BytesIO(tar_bytes(sound(3))))] == [
        "0.avro",
        "1.avro",
        "2.avro",
    ]


def test_hidden_members_are_left_out():
    files = [("._0.avro", b"x"), sound()[0], ("./deep/._1.avro", b"x"), (".a/1.avro", b"y")]
    assert members(tar_bytes(files)) == [files[1], files[3]]


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        (pax(b"9" * 9000), "an extension header of 9000 bytes"),
        (tar_header(size=long_number(2**33), kind=b"L"), "an extension header of 8589934592"),
        (tar_header(size=long_number(2**62), kind=b"g"), "an extension header of"),
        (tar_header(size=b"%011o" % 512, kind=b"S") + b"data".ljust(512), "a sparse file"),
        (pax(b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n") + tar_header(), "a sparse file"),
        (tar_header(size=long_number(2**70)), "it claims to have 1180591620717411303424 bytes"),
        (tar_header(kind=b"Z"), "a link or a special file"),
    ],
)
def test_what_is_not_read_is_told_and_the_rest_is_read(before, reason):
    (_, told), *rest = members(before + tar_bytes(sound()))
    assert told.startswith(f"archive member not read: {reason}")
    assert rest == sound()


def test_an_extension_of_digits_is_taken_in_one_pass():
    text = b"1" * 8000
    assert members(pax(text) + tar_bytes(sound())) == sound()


def test_names_and_sizes_of_extensions_hold_for_one_member():
    raw = pax(b"17 path=new.avro\n") + tar_bytes(sound())
    assert [name for name, _ in members(raw)] == ["new.avro", "1.avro"]


@pytest.mark.parametrize("junk", [b"j" * 512, bytes(30 * 512), b"j" * 100_352])
def test_stretches_that_are_no_members_are_told(junk):
    raw = tar_bytes(sound())
    found = members(raw[:1536] + junk + raw[1536:])
    assert [content for _, content in found if isinstance(content, bytes)] == [
        b"\1" * 700,
        b"\2" * 700,
    ]
    assert found[1:-1] == [("", f"damaged archive: {len(junk)} bytes are no archive members")]


def test_cut_archives():
    raw = tar_bytes(sound())
    with pytest.raises(PacketError, match=r"truncated archive: it ends within 1\.avro"):
        members(raw[: 1536 + 512])
    assert members(raw[:1536])[-1][1] == "truncated archive: its end mark is missing"
