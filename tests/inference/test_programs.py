"""Traced programs that are kept: the same numbers, found again only by what they depend on."""

import json
import os
import subprocess
import sys
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from paeplatform.inference.batches.blocks import flow_block
from paeplatform.inference.batches.programs import FOLDER, Program, _described, _digest, _Unnamed
from paeplatform.inference.batches.runtime import source_mesh
from paeplatform.inference.batches.sharding import over_sources
from paeplatform.inference.model.priors import UniformPrior

traces = []


def scaled(x, factor, power=1):
    """A function of this module; notes each time that it is traced."""
    traces.append(factor)
    return jnp.sin(x) ** power * factor, {"sum": jnp.sum(x)}


def over_devices(mesh, x):
    """The sum over each source's numbers."""
    traces.append("mesh")
    return over_sources(lambda shift, row: jnp.sum(row) + shift, (jnp.float32(1.0),), mesh, (x,))


@pytest.fixture
def cache(tmp_path):
    """A cache of this test's own."""
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    traces.clear()
    yield tmp_path / FOLDER
    jax.config.update("jax_compilation_cache_dir", before)


def kept(cache):
    return sorted(cache.glob("*")) if cache.exists() else []


def test_the_next_process_finds_the_program_and_gets_the_same_numbers(cache):
    x = np.linspace(0, 3, 50, dtype=np.float32)
    first = Program(scaled)(x, 2.0)
    assert traces == [2.0] and len(kept(cache)) == 1
    again = Program(scaled)  # as a new process has it
    second = again(x, 2.0)
    assert traces == [2.0], "not traced again"
    again(x, 2.0)
    expected = jax.jit(lambda x: scaled(x, 2.0))(x)
    for found in (first, second):
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1]["sum"], expected[1]["sum"])


def test_whatever_changes_the_program_makes_another(cache):
    program = Program(scaled)
    x = np.ones(4, np.float32)
    program(x, 2.0)
    for n, (arguments, keywords) in enumerate(
        [
            ((x, 3.0), {}),
            ((x, 2), {}),  # an integer is another constant
            ((x[:3], 2.0), {}),
            ((x.astype(np.int32), 2.0), {}),
            ((x, 2.0), {"power": 2}),
        ],
        start=2,
    ):
        program(*arguments, **keywords)
        assert len(kept(cache)) == n
    with jax.enable_x64(True):
        found, _ = program(x.astype(np.float64), 2.0)
    assert found.dtype == np.float64 and len(kept(cache)) == n + 1
    program(x.astype(np.float64), 2.0)  # float32 without x64: known already
    assert len(kept(cache)) == n + 1


@pytest.mark.parametrize("harm", ["cut", "changed", "empty"])
def test_a_damaged_file_is_made_anew(cache, harm):
    x = np.ones(4, np.float32)
    expected = Program(scaled)(x, 2.0)[0]
    (path,) = kept(cache)
    sound = path.read_bytes()
    middle = len(sound) // 2
    path.write_bytes(
        {
            "cut": sound[:middle],
            "changed": sound[:middle] + bytes([sound[middle] ^ 1]) + sound[middle + 1 :],
            "empty": b"",
        }[harm]
    )
    np.testing.assert_array_equal(Program(scaled)(x, 2.0)[0], expected)
    assert traces == [2.0, 2.0]
    assert Program(scaled)(x, 2.0)[0].shape == (4,) and traces == [2.0, 2.0], "mended"


def test_a_folder_that_cannot_be_written_to_stops_nothing(cache):
    cache.write_text("a file in the folder's place")
    assert Program(scaled)(np.zeros(2, np.float32), 2.0)[0].tolist() == [0.0, 0.0]
    assert cache.is_file()


def called_back(x):
    """Calls Python, which no exported program can."""
    return jax.pure_callback(lambda x: np.asarray(x) + 1.0, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


def test_what_cannot_be_exported_is_traced_as_usual(cache):
    for _ in range(2):
        assert Program(called_back)(np.zeros(2, np.float32)).tolist() == [1.0, 1.0]
    assert not kept(cache)


def test_without_a_cache_nothing_is_written(cache):
    jax.config.update("jax_compilation_cache_dir", None)
    assert Program(scaled)(np.zeros(2, np.float32), 2.0)[0].tolist() == [0.0, 0.0]
    jax.config.update("jax_compilation_cache_dir", "gs://bucket/folder")
    assert Program(scaled).function is scaled and not kept(cache)


def applied(function, x):
    """What it is given, done."""
    return function(x)


def test_a_local_function_is_traced_as_usual(cache):
    x = np.ones(3, np.float32)
    for factor in (2.0, 5.0):
        assert Program(applied)(lambda x, factor=factor: factor * x, x).tolist() == [factor] * 3
    assert not kept(cache)
    assert Program(applied)(jnp.tanh, x).tolist() == jnp.tanh(x).tolist()
    assert len(kept(cache)) == 1


def test_sources_over_the_devices(cache):
    mesh = source_mesh()
    x = np.arange(6 * mesh.size, dtype=np.float32).reshape(2 * mesh.size, 3)
    for _ in range(2):
        np.testing.assert_array_equal(Program(over_devices)(mesh, x), x.sum(axis=1) + 1.0)
    assert traces == ["mesh"] and len(kept(cache)) == 1


# -- names -----------------------------------------------------------------------------------------------------------
class Foreign(eqx.Module):
    """A class that is not the package's: a change of its code would go unnoticed."""

    x: float


def test_names_tell_what_differs():
    prior = UniformPrior(0.1, 3.0)
    names = [
        _described(value)
        for value in (
            1,
            1.0,
            True,
            "1",
            None,
            (1, 2),
            [1, 2],
            {"a": 1},
            {"a": 2},
            jnp.tanh,
            jnp.sin,
            partial(jnp.sum, axis=0),
            partial(jnp.sum, axis=1),
            prior,
            np.dtype("f4"),
            Mesh(np.asarray(jax.devices()[:1]), ("lane",)),
            Mesh(np.asarray(jax.devices()[:1]), ("other",)),
        )
    ]
    assert len(set(names)) == len(names)
    assert _described(prior) == _described(UniformPrior(0.1, 3.0))


@pytest.mark.parametrize("value", [Foreign(1.0), lambda x: x, {1, 2}, object(), partial(lambda x: x, 1)])
def test_what_has_no_lasting_name_is_refused(value):
    with pytest.raises(_Unnamed):
        _described(("a", {"b": value}))


def test_functions_without_surroundings_go_by_their_code():
    """As the lambda that equinox has for "no activation"; with surroundings they are refused."""
    networks = [eqx.nn.MLP(2, 2, 4, 1, key=jax.random.key(seed)) for seed in (1, 2)]
    assert _described(networks[0]) == _described(networks[1]), "weights are no part of the program"
    relu = eqx.nn.MLP(2, 2, 4, 1, final_activation=jax.nn.relu, key=jax.random.key(1))
    tanh = eqx.nn.MLP(2, 2, 4, 1, final_activation=jnp.tanh, key=jax.random.key(1))
    assert len({_described(network) for network in (networks[0], relu, tanh)}) == 3


ELSEWHERE = """
import json, jax
from paeplatform.inference.batches.programs import _described
from paeplatform.answers.quick import estimator_of
model = estimator_of()
print(json.dumps(_described((model.posterior, model.proposal))))
"""


def test_the_reference_model_has_the_same_name_in_every_process(tmp_path):
    pytest.importorskip("paeplatform.reference.shipped").reference_bundle()
    found = []
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PAEPLATFORM_HOME": str(tmp_path)}
        run = [sys.executable, "-c", ELSEWHERE]
        found.append(json.loads(subprocess.run(run, capture_output=True, check=True, env=environment).stdout))
    assert found[0] == found[1] and " at 0x" not in found[0]


def test_the_digest_is_of_code_settings_and_shapes():
    base = ("name", (1,), ("a",), "shapes")
    one = _digest(*base)
    assert one == _digest(*base)
    for place, other in enumerate(["other", (2,), ("b",), "others"]):
        assert _digest(*base[:place], other, *base[place + 1 :]) != one


def test_the_blocks_of_importance_sampling_are_kept():
    assert isinstance(flow_block, Program) and flow_block.__name__ == "flow_block"
