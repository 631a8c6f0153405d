"""Custom: any function as a criterion, alone and combined."""

from __future__ import annotations

import pytest

from ovdecode.errors import ConfigurationError, OvdecodeError
from ovdecode.spec import parse
from ovdecode.stopping import StopReason
from ovdecode.strategies.stopping.custom import When
from ovdecode.strategies.stopping.length import MaxNewTokens
from ovdecode.vocabulary import Vocabulary

PROMPT = Vocabulary(4).prompt([0])
ODD = When(lambda sequence: sequence.token % 2 == 1, "odd")


def test_a_function_decides():
    assert ODD(PROMPT + 2) is None
    assert ODD(PROMPT + 3) == StopReason("when", "odd")


def test_a_reason_is_passed_on():
    reason = StopReason("mine", text_end=3)
    assert When(lambda sequence: reason)(PROMPT) is reason


def test_it_combines():
    assert str((ODD | MaxNewTokens(2))(PROMPT + [2, 2])) == "max_new_tokens(2)"
    assert str((ODD | MaxNewTokens(2))(PROMPT + 1)) == "when(odd)"
    assert (ODD & MaxNewTokens(2))(PROMPT + 1) is None
    assert str((ODD & MaxNewTokens(2))(PROMPT + [1, 1])) == "when(odd) & max_new_tokens(2)"
    assert str((~ODD)(PROMPT + 2)) == "not when"
    assert (ODD | MaxNewTokens(2)).ends
    assert not ODD.ends


def test_it_says_that_it_has_no_spec_string():
    assert str(ODD) == "when(odd)"
    for text in (str(ODD), "when", "when:function=print"):
        with pytest.raises(OvdecodeError, match="when"):
            parse(text, "stopping")


def test_configuration_errors_name_the_parameter():
    with pytest.raises(ConfigurationError, match="`function`"):
        When("odd")
    with pytest.raises(ConfigurationError, match="`label`"):
        When(print, 3)
