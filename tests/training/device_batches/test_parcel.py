from __future__ import annotations

import pickle

import numpy as np
import torch

from samnet.training.device_batches.parcel import Parcel


def test_parcel_holds_arrays_of_any_type_and_shape() -> None:
    arrays = {
        "flags": np.array([True, False, True]),
        "numbers": np.arange(5),
        "values": np.random.default_rng(0).random((2, 3, 1), dtype=np.float32),
        "pixels": np.arange(7, dtype=np.int16)[None],
        "none": np.empty((0, 4), np.float32),
        "single": np.array(3.5),
    }
    parcel = Parcel.pack(arrays)
    for copy in (parcel, parcel.to(torch.device("cpu")), pickle.loads(pickle.dumps(parcel))):
        for name, array in arrays.items():
            assert name in copy
            found = copy[name].numpy()
            assert (found.dtype, found.shape) == (array.dtype, array.shape)
            assert np.array_equal(found, array)
    assert "others" not in parcel
    arrays["numbers"][0] = 9  # what is packed is a copy
    assert parcel["numbers"][0] == 0
