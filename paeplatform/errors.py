"""Errors a user can act on: one clear line, raised before work starts.

The command line turns every `InputError` into one line on stderr and exit code 2.
"""


class InputError(ValueError):
    """Something the user gave is wrong; the message names what, where and the accepted range."""


class ConfigError(InputError):
    """A preset is missing, has an unknown key, or a value outside its range."""


class TemplateError(InputError):
    """An SED template file is unreadable, not finite, or does not cover the rest-frame grid."""


class BandSetError(InputError):
    """A band set or photometry array has the wrong length, order, unit or value range."""


class CheckpointError(InputError):
    """A model file is missing, truncated, or does not match its recorded checksum or layout."""


class RegistryError(InputError):
    """A registered model, version or alias that is needed does not exist."""


class StoreError(RuntimeError):
    """A table cannot be kept or read: a full or read-only disk, a damaged file; the message names it and what to do."""


class TrainingError(RuntimeError):
    """Training met a non-finite loss; the message names model, epoch and step."""
