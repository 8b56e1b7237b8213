"""What a `.pt` may hold, and every trick that is refused before torch sees the file."""

import pickle
import zipfile
from collections import OrderedDict

import pytest
import torch

from extensions.published import archive
from extensions.published.archive import TensorInfo, find_weights, read_archive
from lavie.errors import BundleError


def read(path):
    return find_weights(path, read_archive(path))


def refused(path, *said):
    with pytest.raises(BundleError) as caught:
        read(path)
    message = str(caught.value)
    assert all(part in message for part in said), message
    assert "\n" not in message and len(message) < 500


def repacked(path, change=None, add=None, kind=zipfile.ZIP_STORED):
    """A file of torch with entries changed or added, these packed as told."""
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in (entries | (change or {})).items():
            file.writestr(name, content)
        for name, content in (add or {}).items():
            file.writestr(name, content, kind)
    return path


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(OrderedDict(a=torch.ones(3, 4), b=torch.ones(5, dtype=torch.bfloat16)), path)
    return path


def with_pickle(path, content: bytes):
    return repacked(path, change={"weights/data.pkl": content})


def test_names_types_and_shapes_are_read_without_running_anything(good):
    wrapper, found = read(good)
    assert wrapper is None
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in found.items()} == {
        "a": ("F32", (3, 4)),
        "b": ("BF16", (5,)),
    }
    assert all(isinstance(tensor, TensorInfo) for tensor in found.values())


@pytest.mark.parametrize("wrapper", ["ema", "state_dict"])
def test_a_module_as_people_save_it_is_read(tmp_path, wrapper):
    layer = torch.nn.Sequential(torch.nn.Linear(2, 3))
    torch.save({wrapper: layer.state_dict(), "step": 7, "loss": 0.5, "names": ["a"], "done": True}, tmp_path / "a.pt")
    assert read(tmp_path / "a.pt")[0] == wrapper
    assert read(tmp_path / "a.pt")[1].keys() == layer.state_dict().keys()
    torch.save(dict(layer.named_parameters()), tmp_path / "b.pt")
    assert read(tmp_path / "b.pt")[1].keys() == layer.state_dict().keys()


def test_views_of_a_shared_storage_are_read(tmp_path):
    whole = torch.arange(12.0).view(3, 4)
    torch.save({"row": whole[1], "turned": whole.t()}, tmp_path / "a.pt")
    assert {name: tensor.shape for name, tensor in read(tmp_path / "a.pt")[1].items()} == {
        "row": (4,),
        "turned": (4, 3),
    }


class Calls:
    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_pickle_that_calls_anything_is_refused(good, protocol):
    import os

    refused(
        with_pickle(good, pickle.dumps({"a": Calls(os.system, "true")}, protocol)), "weights.pt", "it was not opened"
    )


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02c__builtin__\neval\nX\x01\x00\x00\x001\x85R.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v3\n)R.",
        b"\x80\x02ccollections\nOrderedDict\n)\x81.",
        b"\x80\x02cos\nsystem\n.",
        b"(S'true'\nios\nsystem\n.",
        b"\x80\x02\x82\x01.",
    ],
)
def test_other_ways_to_name_code_are_refused(good, content):
    refused(with_pickle(good, content), "weights.pt", "it was not opened")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x02",
        b"\x80\x02N.",
        b"\x80\x02}.",
        b"\x80\x020.",
        b"\x80\x02h\x07.",
        b"\x80\x02K\x01Q.",
        b"\x80\x02}X\x01\x00\x00\x00aK\x01s.",
        b"\x80\x02ccollections\nOrderedDict\n(K\x01tR.",
        b"\x80\x02}(K\x01K\x02\x86K\x01u.",
        b"\xff\xff",
    ],
)
def test_a_pickle_of_something_else_is_refused(good, content):
    refused(with_pickle(good, content), "weights.pt")


def test_a_nested_bomb_of_tuples_is_no_name(good):
    doubled = b"\x80\x02)" + b"q\x00h\x00\x86" * 200
    refused(with_pickle(good, b"\x80\x02}" + doubled[2:] + b"K\x01s."), "weights.pt")
    refused(with_pickle(good, doubled + b"Q."), "weights.pt")


def test_packed_entries_are_refused_unread(good):
    refused(repacked(good, add={"weights/data/9": bytes(10**7)}, kind=zipfile.ZIP_DEFLATED), "unpacks from", "10000000")


def test_entries_that_torch_does_not_write_are_refused(good):
    refused(repacked(good, add={"weights/code/a.py": b"1"}), "'weights/code/a.py'", "no tensor")


def test_two_folders_or_names_are_refused(good, tmp_path):
    refused(repacked(good, add={"other/data/3": b"1"}), "two entries of one name, or two folders")


def test_too_many_entries_are_refused(good, monkeypatch):
    monkeypatch.setattr(archive, "MAX_ENTRIES", 20)
    refused(repacked(good, add={f"weights/data/1{n}": b"" for n in range(20)}), "more than 20")


def test_entries_over_one_another_are_refused(good):
    """The bomb of overlapping files: many names in the list, one content behind them."""
    content = bytearray(good.read_bytes())
    first = content.index(b"PK\x01\x02")
    second = content.index(b"PK\x01\x02", first + 4)
    content[second + 42 : second + 46] = content[first + 42 : first + 46]  # where its content begins
    good.write_bytes(content)
    refused(good, "weights.pt")


@pytest.mark.parametrize("content", [b"", b"PK", b"\x80\x02}q\x00.", b"PK\x03\x04" + bytes(100), b"not weights at all"])
def test_what_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "weights.pt").write_bytes(content)
    refused(tmp_path / "weights.pt", "weights.pt")


def test_a_file_cut_short_is_refused(good):
    good.write_bytes(good.read_bytes()[:-40])
    refused(good, "damaged or cut short")


def test_something_before_the_archive_is_refused(good):
    good.write_bytes(b"PK\x03\x04junk" + good.read_bytes())
    refused(good, "weights.pt")


def test_few_numbers_that_pretend_to_be_many_are_refused(tmp_path):
    torch.save({"a": torch.ones(1).expand(100_000, 100_000)}, tmp_path / "weights.pt")
    refused(tmp_path / "weights.pt", "'a' of shape [100000, 100000] is made of 1 numbers, too few")


def test_a_tensor_beyond_its_storage_is_refused(good):
    with zipfile.ZipFile(good) as file:
        content = file.read("weights/data.pkl")
    grown = content.replace(b"K\x03K\x04\x86", b"K\x03K\x05\x86", 1)
    assert grown != content
    refused(with_pickle(good, grown), "'a' of shape [3, 5]", "too few")


def test_a_storage_that_is_not_there_or_too_short_is_refused(good):
    refused(repacked(good, change={"weights/data/0": bytes(8)}), "'a' needs 12 numbers, of which 8 bytes are there")


def test_another_byte_order_is_refused(good):
    refused(repacked(good, change={"weights/byteorder": b"big"}), "byte order")


def test_a_very_long_number_is_no_shape(good):
    with zipfile.ZipFile(good) as file:
        content = file.read("weights/data.pkl")
    longer = content.replace(b"K\x03K\x04\x86", b"K\x03\x8a\xff" + b"\x7f" * 255 + b"\x86", 1)
    assert longer != content
    refused(with_pickle(good, longer), "'a' of shape", "too few")
