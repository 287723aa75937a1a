"""Process settings, each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from paeplatform.errors import ConfigError
from paeplatform.inference.batches.runtime import use_host_devices

CACHE_SCRIPT = """
import sys
from paeplatform.inference.batches.runtime import enable_compile_cache
enable_compile_cache(sys.argv[1])
import jax, jax.numpy as jnp
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name) if name.endswith("/cache_hits") else None)
jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((8, 8))).block_until_ready()
print(len(hits))
"""


def test_second_process_finds_the_compiled_programs_of_the_first(tmp_path):
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "JAX_PLATFORMS": "cpu"}
    del env["JAX_COMPILATION_CACHE_DIR"]
    command = [sys.executable, "-c", CACHE_SCRIPT, str(tmp_path / "new" / "cache")]
    hits = [
        int(subprocess.run(command, check=True, env=env, capture_output=True, timeout=120).stdout)
        for _ in range(2)
    ]
    assert hits[0] == 0 and hits[1] > 0
    # a folder of the caller's is used instead
    env["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / "given")
    subprocess.run(
        [*command[:-1], str(tmp_path / "other")], check=True, env=env, capture_output=True, timeout=120
    )
    assert not (tmp_path / "other").exists()


def test_devices_cannot_be_changed_once_jax_runs():
    n = jax.device_count()
    use_host_devices(n)
    with pytest.raises(ConfigError, match=f"{n} devices, not {n + 5}"):
        use_host_devices(n + 5)
    with pytest.raises(ConfigError, match="at least 1"):
        use_host_devices(0)
