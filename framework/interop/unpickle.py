"""A reader for foreign pickles as data; no code in them, and no code they name, ever runs.

Two kinds of files are pickles. `.pth` files go through `torch.load(weights_only=True)`. The network pickles of NVlabs
(StyleGAN2-ADA, StyleGAN3) and R3GAN hold whole modules, with the source text of their classes; they are read by the
unpickler below. It knows a closed list of names. A name on the list becomes an *inert record* that keeps what the
pickle said about the object (its arguments, its state) and can do nothing; any other name is refused. Source text in
the file is skipped like any other string. `framework.interop.modules` makes tensors of the records.
"""

from __future__ import annotations

import io
import os
import pickle
import re
import zipfile
from typing import Any, BinaryIO

import torch

from framework.interop.inert import PERSISTENT, TORCH_NAMES, Record, TorchPickle, counted
from framework.interop.operations import check_operations
from framework.utils.archives import check_archive, check_members
from framework.utils.bounded import decoding
from framework.utils.errors import FrameworkError

_DICTS = {"collections.OrderedDict", "dnnlib.util.EasyDict", "dnnlib.EasyDict"}
_SETS = {f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("set", "frozenset")}
_RECORDS = {
    PERSISTENT,
    "_codecs.encode",  # bytes, in pickles of protocol 2
    "copyreg._reconstructor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch.storage._load_from_bytes",
    "torch.Size",
    "torch.device",
    "torch.float32",
    "torch.float16",
    "builtins.object",
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.float32",
    "numpy.float64",
    "numpy.int64",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")),
}
_MODULE_CLASSES = ("torch.nn.modules.", "R3GAN.")
"""Modules whose names may all be classes of layers; they become inert records, too."""

_TENSORFLOW = "dnnlib.tflib."
_CONFIGURATIONS = ("argparse.Namespace", "models.utils.config.BaseConfig", "training.config.EasyDict")
"""Classes of options that lie beside the weights in public `.pth` files (rosinality, pytorch_GAN_zoo)."""

_LEGACY_PICKLES = 4
"""The first pickles of a file of `torch.save` that is no zip archive: magic number, version, machine, and content.

A fifth one follows, the keys of the storages.
"""


class _Unpickler(pickle.Unpickler):
    """Builds numbers, strings, bytes, plain containers and records.

    Args:
        file: the pickle.
        torch_pickle: the check of storages and tensors, for a pickle of `torch.save`.
    """

    def __init__(self, file: BinaryIO, torch_pickle: TorchPickle | None = None) -> None:
        super().__init__(file)
        self._torch_pickle = torch_pickle
        self._dict, self._set = counted()

    def find_class(self, module: str, name: str) -> Any:
        """Return the record class for a known name; nothing is imported.

        Raises:
            FrameworkError: the name is not known.
        """
        origin = f"{module}.{name}"
        if origin in _DICTS:
            return self._dict
        if origin in _SETS:
            return self._set
        if origin.startswith(_TENSORFLOW):
            raise FrameworkError(
                f"the file is a pickle of the TensorFlow programs (it names {origin}): convert it first with the "
                "authors' legacy.py of stylegan2-ada-pytorch or stylegan3"
            )
        if self._torch_pickle is not None:
            if origin in TORCH_NAMES or origin in _CONFIGURATIONS:
                return self._torch_pickle.holder(origin)
        elif origin in _RECORDS or origin.startswith(_MODULE_CLASSES):
            return type("Record", (Record,), {"origin": origin})
        raise FrameworkError(_refusal(origin))

    def persistent_load(self, pid: Any) -> Any:
        """Return the record of a storage of torch's files.

        Raises:
            FrameworkError: the id is no storage's, or the pickle is not torch's.
        """
        if self._torch_pickle is not None:
            return self._torch_pickle.storage(pid)
        raise FrameworkError("the file refers to objects outside it (persistent ids): refused")


def read_torch(file: BinaryIO, *, source: object) -> Any:
    """Return what `torch.save` wrote: tensors, plain containers, numbers and strings; option holders become records.

    Args:
        file: the file, which is read from its beginning.
        source: its name, for the messages.

    Raises:
        FrameworkError: the file holds anything else; the message names the file and what it asked for.
    """
    with decoding(source):
        _check_torch(file, source=source)
        file.seek(0)
    holders: list[Any] = [(type("Record", (Record,), {"origin": origin}), origin) for origin in _CONFIGURATIONS]
    try:
        with torch.serialization.safe_globals(holders):
            return torch.load(file, map_location="cpu", weights_only=True)
    except KeyboardInterrupt:
        raise
    except Exception as error:  # torch raises any type of error for a damaged file
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named is not None:
            raise FrameworkError(f"{source}: {_refusal(named[1])}") from None
        reason = str(error).rpartition("WeightsUnpickler error:")[2].strip().split("\n")[0]
        raise FrameworkError(f"{source}: not a file of weights ({type(error).__name__}: {reason})") from None


def _check_torch(file: BinaryIO, *, source: object) -> None:
    """Compare storages and tensors of a file with its bytes, and those of a zip archive with their checksums."""
    num_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(2) != b"PK":
        file.seek(0)
        for _ in range(_LEGACY_PICKLES):
            read_pickle(file, source=source, torch_pickle=TorchPickle(num_bytes=num_bytes))
        keys = read_pickle(file, source=source, torch_pickle=TorchPickle(num_bytes=num_bytes))
        if not (isinstance(keys, list) and all(isinstance(key, str) for key in keys)):
            raise FrameworkError(f"{source}: the keys of its storages are no texts: it is damaged")
        return
    with zipfile.ZipFile(file) as archive:
        check_archive(archive, num_bytes=num_bytes, source=source)
        check_members(archive, source=source)
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1:
            raise FrameworkError(f"{source} holds {len(names)} members data.pkl: torch.save writes one")
        root = names[0].removesuffix("data.pkl") + "data/"
        stored = {m.filename.removeprefix(root): m.file_size for m in archive.infolist() if m.filename.startswith(root)}
        data = io.BytesIO(archive.read(names[0]))
        checked = TorchPickle(num_bytes=sum(stored.values()), stored=stored)
        read_pickle(data, source=source, torch_pickle=checked)


def _refusal(name: str) -> str:
    return f"the file names {name}, which is not part of a network's weights: refused"


def read_pickle(file: BinaryIO, *, source: object, torch_pickle: TorchPickle | None = None) -> Any:
    """Return the next pickle in a file as records, plain containers, numbers and strings.

    Args:
        file: a file at the beginning of the pickle.
        source: its name, for the messages.
        torch_pickle: the check of storages and tensors, for a pickle of `torch.save`.

    Raises:
        FrameworkError: the pickle is damaged, or names anything else.
    """
    begin = file.tell()
    try:
        check_operations(file)
        file.seek(begin)
        return _Unpickler(file, torch_pickle).load()
    except FrameworkError as error:
        raise FrameworkError(f"{source}: {error}") from None
    except KeyboardInterrupt:
        raise
    except Exception as error:  # a damaged or hostile pickle causes almost any type of error
        raise FrameworkError(f"{source}: not a network pickle ({type(error).__name__}: {error})") from None
