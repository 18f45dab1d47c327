"""The benchmark suite: every figure beside its reference of the same run. Started by `make bench`."""
