"""Data frames as the registered models get them."""

import numpy as np
import pandas as pd
import pytest

from paeplatform.errors import BandSetError
from paeplatform.inference.files.photometry_frame import photometry_of_frame


def test_arrays_are_stacked_and_rows_numbered():
    frame = pd.DataFrame({"flux": [[1, 2], [3, 4]], "flux_err": [[0.1, 0.2], [0.3, np.inf]]})
    flux, flux_err, object_id = photometry_of_frame(frame, 2)
    assert flux.tolist() == [[1.0, 2.0], [3.0, 4.0]] and flux.dtype == flux_err.dtype == np.float64
    assert object_id.tolist() == [0, 1]
    named = photometry_of_frame(frame.assign(object_id=[7, -3]), 2)
    assert named.object_id.tolist() == [7, -3] and named.object_id.dtype == np.int64


def test_an_array_of_another_length_is_named():
    frame = pd.DataFrame({"flux": [[1.0, 2.0], [3.0]], "flux_err": [[0.1, 0.2], [0.3, 0.4]]})
    with pytest.raises(BandSetError, match=r"flux, row 1: shape \(1,\), expected \(2,\) numbers in uJy"):
        photometry_of_frame(frame, 2)
