"""The software-defined assets, one module a group; each body loads, calls one function of `paeplatform`, and
records.
"""
