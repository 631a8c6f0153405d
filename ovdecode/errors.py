"""The errors of ovdecode: each names the thing, what it must be, what it is, and the likely fix."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

_PLACE = re.compile(r'^\s*File "(.+)", line (\d+)', re.MULTILINE)
_PACKAGE = Path(__file__).resolve().parent
_LIBRARY = Path(traceback.__file__).resolve().parent


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


class WorkerError(OvdecodeError, RuntimeError):
    """Workers can't decode an experiment, or end before they finish anything; what was finished is kept."""


def describe(error: BaseException) -> str:
    """What went wrong; for an error that is not one of ovdecode's own, also its kind and its place.

    The place is the last line outside of ovdecode and of Python's own library, if there is one: a method's own.
    """
    if isinstance(error, OvdecodeError):
        return str(error)
    said = traceback.format_exception_only(type(error), error)[-1].strip()
    # As text, since an engine keeps the traceback of a failed strategy only as text.
    places = _PLACE.findall("".join(traceback.format_exception(error)))
    outside = [place for place in places if _is_foreign(place[0])]
    if not places:
        return said
    file, line = (outside or places)[-1]
    return f"{said} ({Path(file).name}:{line})"


def _is_foreign(filename: str) -> bool:
    path = Path(filename)
    if filename.startswith("<"):
        return False
    return "site-packages" not in path.parts and not {_PACKAGE, _LIBRARY} & {*path.resolve().parents}
