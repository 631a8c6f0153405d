"""The errors of ovdecode: each names the thing, what it must be, what it is, and the likely fix."""

from __future__ import annotations


class OvdecodeError(Exception):
    """Base of every error that ovdecode raises on purpose."""


class ModelError(OvdecodeError, ValueError):
    """A model, a model folder or a model file is missing, broken or of the wrong kind."""


class ConfigurationError(OvdecodeError, ValueError):
    """A parameter is out of range, or a combination of parameters makes no sense."""


class UnknownNameError(OvdecodeError, LookupError):
    """No plugin or parameter has that name; the message says which come near."""


class StrategyError(OvdecodeError, TypeError):
    """A strategy broke its contract; the message names the strategy, its file and its line."""


class TokenError(OvdecodeError, ValueError):
    """A token id lies outside the vocabulary."""


class PromptError(OvdecodeError, ValueError):
    """A prompt is empty, too long for the context, or of a kind that the model cannot read."""


class LogitsError(OvdecodeError, ArithmeticError):
    """Logits hold NaN, or leave no token possible."""


class PrecisionError(OvdecodeError, RuntimeError):
    """A named precision was asked for that the runner or the device cannot hold."""


class CacheError(OvdecodeError, RuntimeError):
    """One inference needs more key/value cache than the runner owns."""


class StoreError(OvdecodeError, RuntimeError):
    """A store of results can't be read or written; the message says why, and what was finished is kept."""
