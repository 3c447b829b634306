"""Networks that hold more than arrays, such as Equinox's own with their activation."""

from typing import Any, TypeVar

import equinox as eqx
import jax

from gorl.errors import ConfigError
from gorl.fields import structural
from gorl.runtime.trees import PyTree

_Module = TypeVar("_Module", bound=eqx.Module)


class Sealed(eqx.Module):
    """A module whose functions and plain numbers are static: a part of the program, and no inputs of it.

    Programs carry modules through loops, which take arrays alone. It is called, and has the attributes, as the module
    itself.
    """

    arrays: PyTree
    rest: PyTree = structural()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return eqx.combine(self.arrays, self.rest)(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:  # only what the class itself does not have
        if name.startswith("__") or name in ("arrays", "rest"):
            raise AttributeError(name)
        return getattr(eqx.combine(self.arrays, self.rest), name)


def sealed(module: _Module) -> _Module:
    """Returns a policy, critic or decoder whose networks are `Sealed` where they hold more than arrays.

    Raises ConfigError for a field of the module itself that is neither an array nor static, with the fix.
    """
    is_part = lambda x: x is not module and isinstance(x, eqx.Module)

    def seal(path: tuple, part: Any) -> Any:
        if isinstance(part, eqx.Module):
            return part if all(map(eqx.is_array, jax.tree.leaves(part))) else Sealed(*eqx.partition(part, eqx.is_array))
        if not eqx.is_array(part):
            raise ConfigError(_plain_field(type(module).__name__, jax.tree_util.keystr(path).removeprefix("."), part))
        return part

    return jax.tree_util.tree_map_with_path(seal, module, is_leaf=is_part)


def _plain_field(owner: str, field: str, value: Any) -> str:
    what = "function" if callable(value) else type(value).__name__
    name = field.partition("[")[0]
    fix = f"{name}: ... = gorl.fields.structural()"
    if isinstance(value, float):
        fix += f", or store a number that is trained as an array: self.{name} = jnp.asarray(...)"
    return (
        f"{owner}.{field} is a plain {what}. A compiled program would take it for an input, and not for a part of the"
        f" program. Declare the field in {owner} as static: {fix}."
    )
