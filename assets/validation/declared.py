"""How the assets of group validation are declared."""

from functools import partial

import dagster as dg

from paeplatform.assets.recording.partitions import COMPUTE

validation_asset = partial(dg.asset, group_name="validation")
table_asset = partial(validation_asset, kinds={"parquet", "polars"})
computed_asset = partial(validation_asset, kinds={"jax", "parquet"}, pool=COMPUTE)  # its step uses every core
