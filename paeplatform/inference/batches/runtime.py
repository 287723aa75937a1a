"""How JAX runs in a process: CPU devices and the compile cache. Called by entry points only, before other work."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from paeplatform.errors import ConfigError
from paeplatform.inference.batches.cores import usable_cores


def start_jax(cache: Path | str) -> None:
    """Prepares JAX for heavy work: every core a device, compiled programs kept under `cache`.

    To be called before the first array, and again without harm: a process that has already started JAX otherwise keeps
    its devices.
    """
    enable_compile_cache(cache)
    with suppress(ConfigError):
        use_host_devices(usable_cores())


def user_cache() -> Path:
    """Where compiled programs are kept for a user without a home of the platform: `$XDG_CACHE_HOME/paeplatform/jax`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paeplatform" / "jax"


def use_host_devices(n: int) -> None:
    """Splits the CPU into `n` JAX devices, so that the source axis is shared out over `n` cores.

    XLA on CPU uses one thread for graphs of small operations such as these; two devices keep two cores busy. To
    be called before JAX touches a device.

    Raises:
        ConfigError: `n` is not positive, or JAX has already started with another number of devices.
    """
    if n < 1:
        raise ConfigError(f"host devices: {n} must be at least 1")
    try:
        jax.config.update("jax_num_cpu_devices", n)
    except RuntimeError as error:
        if jax.local_device_count() != n:
            raise ConfigError(
                f"host devices: JAX already runs on {jax.local_device_count()} devices, not {n}"
            ) from error


def enable_compile_cache(folder: Path | str) -> None:
    """Keeps every compiled program under `folder`, so that the next process starts in seconds.

    A folder that JAX was already given (`JAX_COMPILATION_CACHE_DIR`) stays: pods, or tests, may share one.
    """
    if jax.config.values["jax_compilation_cache_dir"]:
        return
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def source_mesh() -> Mesh:
    """All devices of this process along one axis called `lane`."""
    return Mesh(np.asarray(jax.devices()), ("lane",))
