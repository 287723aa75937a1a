"""Compiled functions whose traced programs are kept on disk, beside JAX's cache of compiled ones.

JAX keeps what its compiler made, but traces the Python functions of a program anew in every process, which for a
normalising flow under derivatives and maps takes longer than a single galaxy's inference. So the traced program is
exported (`jax.export`: StableHLO, no pickle) and loaded by the next process of the same code, the same libraries and
the same shapes. Without a cache (`batches.runtime.enable_compile_cache`), and for arguments that have no name of their
own, such as a local function or a class from elsewhere, a program is traced as usual. Both ways give the same program.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import sys
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FunctionType
from typing import Any

import equinox as eqx
import jax
import jax.export
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from paeplatform.files import replaced

FOLDER = "traced"  # in the cache of compiled programs
LIBRARIES = ("jax", "jaxlib", "equinox", "flowjax", "paramax", "numpy")  # whose code is in the programs
KNOWN = {"paeplatform", "builtins", "functools", *LIBRARIES}  # whose code is part of a program's name
# Settings of JAX that change what is traced.
SETTINGS = ("jax_enable_x64", "jax_default_matmul_precision", "jax_numpy_dtype_promotion")
_PACKAGE = Path(__file__).parents[2]
_CONSTANTS = (type(None), bool, int, float, complex, str, bytes)
_HASH_LENGTH = hashlib.sha256().digest_size


class _Unnamed(Exception):
    """An argument that another process could not tell from a different one."""


class Program:
    """A function that is compiled once for each set of static arguments and shapes; made by `program`."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self._compiled: dict[Hashable, Callable[..., Any]] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As the function itself."""
        leaves, tree = jax.tree.flatten((args, kwargs))
        dynamic = [leaf for leaf in leaves if eqx.is_array(leaf)]
        static = tuple(_Place if eqx.is_array(leaf) else leaf for leaf in leaves)
        settings = tuple(jax.config.values[name] for name in SETTINGS)
        # with types, since 2 equals 2.0
        key = (tree, static, tuple(map(type, static)), settings, tuple(_shape(leaf) for leaf in dynamic))
        if key not in self._compiled:
            self._compiled[key] = self._made((args, kwargs), tree, static, dynamic, settings)
        return self._compiled[key](*dynamic)

    def _made(
        self, arguments: Any, tree: Any, static: tuple, dynamic: list, settings: tuple
    ) -> Callable[..., Any]:
        def flat(*arrays: Any) -> Any:
            rest = iter(arrays)
            leaves = [next(rest) if leaf is _Place else leaf for leaf in static]
            args, kwargs = jax.tree.unflatten(tree, leaves)
            return self.function(*args, **kwargs)

        flat.__name__ = self.function.__name__
        traced = jax.jit(flat)
        folder = jax.config.values["jax_compilation_cache_dir"]
        if not folder or "://" in folder:
            return traced
        shapes = [_shape(leaf) for leaf in dynamic]
        try:
            name = _digest(
                f"{self.function.__module__}.{self.function.__qualname__}", arguments, settings, str(shapes)
            )
        except _Unnamed:
            return traced
        path = Path(folder) / FOLDER / f"{name}.stablehlo"
        exported = _load(path)
        if exported is None:
            try:
                exported = jax.export.export(traced)(*(jax.ShapeDtypeStruct(*shape) for shape in shapes))
            except (ValueError, NotImplementedError):  # it calls what JAX does not promise to keep
                return traced
            with suppress(OSError):  # a folder that cannot be written to costs the next process some seconds
                _save(path, exported)
        return self._loaded(exported, next((leaf for leaf in static if isinstance(leaf, Mesh)), None))

    def _loaded(self, exported: jax.export.Exported, mesh: Mesh | None) -> Callable[..., Any]:
        def call(*arrays: Any) -> Any:
            return exported.call(*arrays)

        call.__name__ = self.function.__name__  # what profiles and logs show
        if mesh is None:
            return jax.jit(call)
        # An exported program must be told that it is for several devices; it splits what it splits itself.
        return jax.jit(call, in_shardings=NamedSharding(mesh, PartitionSpec()))


def program(function: Callable[..., Any]) -> Program:
    """Makes a module's function one whose program is kept: arrays in its arguments are traced, all else is static.

    The function returns arrays, or tuples, lists and dicts of arrays. As with `equinox.filter_jit`, another value of a
    static argument, or another shape, makes another program.
    """
    return Program(function)


class _Place:
    """Stands where an array was."""


def _shape(array: Any) -> tuple[tuple[int, ...], np.dtype]:
    return array.shape, jax.dtypes.canonicalize_dtype(array.dtype)


# -- what a program depends on -----------------------------------------------------------------------------------------
def _digest(name: str, arguments: Any, settings: tuple, shapes: str) -> str:
    text = "\n".join([name, _CODE, jax.default_backend(), repr(settings), shapes, _described(arguments)])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _of_code() -> str:
    """Digest of the package's code and the versions of Python and the libraries."""
    digest = hashlib.sha256(sys.version.encode())
    for library in LIBRARIES:
        digest.update(f"{library} {importlib.metadata.version(library)}\n".encode())
    for path in sorted(_PACKAGE.rglob("*.py")):
        digest.update(str(path.relative_to(_PACKAGE)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


# Of the code that this process runs: read now, since a long process may outlive its files.
_CODE = _of_code()


def _described(value: Any) -> str:
    """What is static in a value, as text that is the same in every process.

    Raises:
        _Unnamed: it has a part of which only its address is known.
    """
    if eqx.is_array(value):
        return "array"
    if isinstance(value, (*_CONSTANTS, np.dtype)):
        return f"{type(value).__name__}:{value!r}"
    if isinstance(value, Mesh):
        return f"mesh:{dict(value.shape)!r}"
    if isinstance(value, functools.partial):
        return f"partial:{_described((value.func, value.args, value.keywords))}"
    if isinstance(value, Mapping):
        parts = [f"{_described(key)}={_described(part)}" for key, part in value.items()]
    elif isinstance(value, tuple | list):
        parts = [_described(part) for part in value]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = [
            f"{field.name}={_described(getattr(value, field.name, None))}"
            for field in dataclasses.fields(value)
        ]
    else:
        return _name(value)
    return f"{_name(type(value))}({','.join(parts)})"


def _name(value: Any) -> str:
    """Module and name of a class or function, if it is found there; of a function without surroundings, its code.

    Raises:
        _Unnamed: it is neither, or of a module whose changes would go unnoticed.
    """
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not module or module.partition(".")[0] not in KNOWN:
        raise _Unnamed(f"{value!r} is of {module}")
    found = sys.modules.get(module)
    for part in (name or "?").split("."):
        found = getattr(found, part, None)
    if found is value:
        return f"{module}.{name}"
    if isinstance(value, FunctionType) and not any(
        (value.__closure__, value.__defaults__, value.__kwdefaults__)
    ):
        code = value.__code__
        if all(isinstance(part, _CONSTANTS) for part in code.co_consts):
            # equinox.nn.MLP has a lambda for "no activation"
            return f"{module}.{name}:{code.co_code.hex()}{code.co_names}{code.co_varnames}{code.co_consts}"
    raise _Unnamed(f"{value!r} is not found as {module}.{name}")


# -- files -------------------------------------------------------------------------------------------------------------
def _load(path: Path) -> jax.export.Exported | None:
    """A kept program; None where there is none, or the file is damaged."""
    try:
        whole = path.read_bytes()
    except OSError:
        return None
    digest, kept = whole[:_HASH_LENGTH], whole[_HASH_LENGTH:]
    if hashlib.sha256(kept).digest() != digest:
        return None
    return jax.export.deserialize(bytearray(kept))


def _save(path: Path, exported: jax.export.Exported) -> None:
    kept = bytes(exported.serialize())
    with replaced(path) as unfinished:
        unfinished.write_bytes(hashlib.sha256(kept).digest() + kept)
