"""Importing this splits the CPU into a JAX device a core. It comes before the samplers, whose import starts JAX."""

from __future__ import annotations

import os

from paeplatform.inference.batches.runtime import use_host_devices

use_host_devices(os.cpu_count() or 1)
