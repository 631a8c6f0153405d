"""The errors of ovdecode: each names the thing, what it must be, what it is, and the likely fix."""

from __future__ import annotations


class OvdecodeError(Exception):
    """Base of every error that ovdecode raises on purpose."""


class ModelError(OvdecodeError, ValueError):
    """A model, a model folder or a model file is missing, broken or of the wrong kind."""


class ConfigurationError(OvdecodeError, ValueError):
    """A parameter is out of range, or a combination of parameters makes no sense."""


class ParameterError(ConfigurationError):
    """A parameter of a plugin is not what it must be.

    Args:
        plugin: the plugin's name.
        parameter: the parameter's.
        requirement: what it must be, in words.
        value: what it is, as it is shown.
    """

    def __init__(self, plugin: str, parameter: str, requirement: str, value: str) -> None:
        super().__init__(plugin, parameter, requirement, value)
        self.plugin, self.parameter, self.requirement, self.value = plugin, parameter, requirement, value

    def __str__(self) -> str:
        return f"`{self.parameter}` of `{self.plugin}` must be {self.requirement}, got {self.value}"


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


class DeadEnd(LogitsError):
    """No token is left possible: what a search drops, and what ends a draft; other strategies let it through."""


class PrecisionError(OvdecodeError, RuntimeError):
    """A named precision was asked for that the runner or the device cannot hold."""


class CacheError(OvdecodeError, RuntimeError):
    """One inference needs more key/value cache than the runner owns."""


class StoreError(OvdecodeError, RuntimeError):
    """A store of results can't be read or written; the message says why, and what was finished is kept."""
