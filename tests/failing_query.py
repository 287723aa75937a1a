"""An asset whose table is made by a query that can be told to fail."""

import dagster as dg
import polars as pl

TABLE = pl.DataFrame(
    {"object_id": [1, 2], "flux": pl.Series([[1.0, 2.0], [3.0, 4.0]], dtype=pl.Array(pl.Float32, 2))}
)


def queried_table(faults: list[str]) -> dg.AssetsDefinition:
    """`table`, whose query ends in an error while there are `faults`."""

    @dg.asset
    def table() -> pl.LazyFrame:
        def read(rows: pl.DataFrame) -> pl.DataFrame:
            if faults:
                raise OSError(faults[0])
            return rows

        return TABLE.lazy().map_batches(read, schema=TABLE.schema)

    return table
