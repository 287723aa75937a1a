"""The software-defined assets, one module a group; a body loads, calls one function, and records."""
