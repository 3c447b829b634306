"""What an annotation takes: only what is surely wrong is refused."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pytest
from gin import config_parser
from gin.config import ParserDelegate
from jaxtyping import Array, Float32

from gorl.algorithms.on_policy import OnPolicy
from gorl.config import kinds
from gorl.fields import Factory
from gorl.objectives.trust_region import AbstractTrustRegion
from gorl.optimizers import Chain, OptimizerCall, Schedule
from gorl.phases.base import AbstractPhase

NUMBER = float | int | np.ndarray
ARRAY = Float32[Array | np.ndarray, ""]


def value(text):
    """A value as a file would say it."""
    return config_parser.ConfigParser(text, ParserDelegate()).parse_value()


@pytest.mark.parametrize(
    "hint, label",
    [
        (int, "int"),
        (bool, "bool"),
        (NUMBER, "float"),
        (ARRAY, "array"),
        (float | None, "float | None"),
        (str | int, "str | int"),
        (Any, "anything"),
        (Callable, "function or class (no parentheses)"),
        (Callable | None, "function or class (no parentheses) | None"),
        (Factory, "class (no parentheses)"),
        (list[AbstractPhase], "list of AbstractPhase"),
        (tuple[int, ...], "list of int"),
        (Sequence, "list"),
        (Mapping[str, float], "dict"),
        (Literal["best", "last"], "'best' | 'last'"),
    ],
)
def test_types_in_words(hint, label):
    assert kinds.label(hint) == label


@pytest.mark.parametrize(
    "hint, takes, refuses",
    [
        (int, "3 -1 10_000", "1e6 1.5 True '3' None [3] @Clip() @Clip"),
        (float, "3 0.5 1e999", "True '0.5' None [0.5] @Clip()"),
        (NUMBER, "3 0.5 [0.5,1.0] @optax.linear_schedule()", "True '0.5' None"),
        (ARRAY, "3 0.5 [0.5]", "True '0.5' None"),
        (float | None, "3 None", "'x' True"),
        (bool, "True False", "1 0 'True' None @optax.adam()"),
        (
            float | Schedule,
            "3 0.5 @optax.linear_schedule()",
            "True [0.5] {} @optax.adam() @optax.linear_schedule @Clip()",
        ),
        (OptimizerCall | Chain, "@optax.sgd() @Chain()", "0.5 @optax.constant_schedule() @optax.clip() @optax.sgd"),
        (str, "'x' ''", "3 None ['x'] @Clip %jax.nn.silu"),
        (Any, "3 None 'x' @Clip @Clip() [{}]", ""),
        (Callable, "@Clip %jax.nn.silu @FourierTime()", "'silu' 3 None [@Clip] @optax.adam @optax.adam()"),
        (Callable | None, "None @Clip", "'silu' 3"),
        (Factory, "@MLP @policy/MLP %jax.nn.silu", "@MLP() @Clip() 'MLP' None 3"),
        (AbstractTrustRegion, "@Clip() @stage0/Clip()", "@Clip @MLP() 'Clip' None 0.2 [@Clip()] %jax.nn.silu"),
        (AbstractTrustRegion | None, "@Clip() None", "@Clip 0.2"),
        (list[AbstractPhase], "[] [@Evaluate()] (@Evaluate(),)", "@Evaluate() [@Evaluate] [@Evaluate(),3] None 'x'"),
        (tuple[int, ...], "[1,2] (1,)", "[1,2.5] 1 None"),
        (tuple[int, str], "(1,'a') ['a',1]", "1 None"),
        (Sequence, "[] (1,'a')", "1 None 'abc'"),
        (Mapping[str, float], "{} {'a':1}", "1 None 'x' [1]"),
        (Literal["best", "last"], "'best' 'last'", "'bset' 3 None"),
        (pathlib.Path, "'some/file' 3 None", ""),  # a class of another library: its converter may take anything
    ],
)
def test_values_that_a_type_cannot_take_are_refused(hint, takes, refuses):
    for text in takes.split():
        assert kinds.mismatch(hint, value(text)) is None, text
    for text in refuses.split():
        assert kinds.mismatch(hint, value(text)) is not None, text


def test_a_hyperparameter_is_one_number():
    """Its converter takes arrays too, since a program's hyperparameters are arrays; a file has no arrays."""
    hints = kinds.annotations(OnPolicy)
    for text in ("[0.9]", "[]", "[[1.0]]", "(2,)", "{}", "True", "'0.5'", "None", "@optax.adam()"):
        for name in ("discount", "value_cost", "learning_rate"):
            assert kinds.mismatch(hints[name], value(text)) is not None, (name, text)
    assert hints["discount"] is float and kinds.label(hints["learning_rate"]) == "float | Schedule"


def test_the_part_that_is_wrong_is_named():
    assert kinds.mismatch(list[AbstractPhase], value("[@Evaluate(), @Clip()]"))[0] == "[1]"
    path, hint, part = kinds.mismatch(list[list[int]], [[1, 2], [3, 4.5]])
    assert (path, hint, part) == ("[1][1]", int, 4.5)


@pytest.mark.parametrize(
    "hint, text, fix",
    [
        (int, "1e6", " Write 1_000_000."),
        (int, "1.5", ""),
        (int, "'3'", " Write it without quotes: 3."),
        (float, "'1e-3'", " Write it without quotes: 0.001."),
        (float, "'x'", ""),
        (bool, "1", " Write True."),
        (bool, "2", ""),
        (str, "3", " Write '3'."),
        (Literal["best", "last"], "'bset'", " Did you mean best?"),
        (AbstractTrustRegion, "@Clip", " Did you forget '()'? Write @Clip()."),
        (AbstractTrustRegion, "@stage0/Clip", " Did you forget '()'? Write @stage0/Clip()."),
        (AbstractTrustRegion, "'Clip()'", " Write @Clip()."),
        (Factory, "@policy/MLP()", " Write it without (): @policy/MLP."),
        (list[AbstractPhase], "@Evaluate()", " Write it in brackets: [@Evaluate()]."),
    ],
)
def test_the_fix_is_written_out(hint, text, fix):
    assert kinds.fix(hint, value(text)) == fix
